"""AlexNet in its one-column form: five convolutions, then two layers of 4,096 units."""

from __future__ import annotations

from torch import Tensor, nn

from discern.models.nets.conv_blocks import share_dropout, start_convolutions
from discern.models.nets.headed import HeadedNetwork, require_size

SMALLEST_SIDE = 63  # below, the third pooling has no pixel left
_UNITS = 4096
_GRID = 6  # pixels a side in front of the first linear layer: 224 pixels give exactly these


class AlexNet(HeadedNetwork):
    """Convolutions 64@11/4, 192@5, 384@3, 256@3, 256@3 with three poolings; D = 4096."""

    def __init__(
        self, num_classes: int, channels: int, image_size: tuple[int, int], dropout: float
    ) -> None:
        super().__init__()
        require_size("alexnet", image_size, SMALLEST_SIDE)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 64, 11, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.Conv2d(192, 384, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(384, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, 256, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.AdaptiveAvgPool2d(_GRID),
            nn.Flatten(),
        )
        self.units = nn.Sequential(
            share_dropout(dropout),
            nn.Linear(256 * _GRID * _GRID, _UNITS),
            nn.ReLU(inplace=True),
            share_dropout(dropout),
            nn.Linear(_UNITS, _UNITS),
            nn.ReLU(inplace=True),
        )
        self.head = nn.Linear(_UNITS, num_classes)
        start_convolutions(self, normalized=False)

    def features(self, images: Tensor) -> Tensor:
        """Features [N, 4096] of `images` [N, C, H, W]."""
        features: Tensor = self.units(self.body(images))
        return features


def alexnet(
    num_classes: int, channels: int, image_size: tuple[int, int], dropout: float = 0.5
) -> AlexNet:
    """AlexNet for images of at least 63 pixels a side; made for 224.

    61,100,840 parameters at 1,000 classes. Source: Krizhevsky, One weird trick for parallelizing
    convolutional networks (2014), the widths and the count of torchvision and Gluon.
    """
    return AlexNet(num_classes, channels, image_size, dropout)
