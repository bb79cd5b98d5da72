"""GoogLeNet, the first Inception, with batch norm as it is built today; no auxiliary heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.nets.conv_blocks import conv_norm, pool_maps, share_dropout, start_convolutions
from discern.models.nets.headed import HeadedNetwork, Row, require_size

SMALLEST_SIDE = 15
_WIDTH = 1024
# Widths of a block's branches: 1x1; 1x1 then 3x3; 1x1 then the wide one; pooling then 1x1.
# None is a pooling by 2 between blocks. Source: Szegedy et al. 2014, table 1.
_Widths = tuple[int, int, int, int, int, int]
_BLOCKS: tuple[_Widths | None, ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    None,
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    None,
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


class Inception(nn.Module):
    """Four branches side by side, joined over channels."""

    def __init__(self, width_in: int, widths: _Widths) -> None:
        super().__init__()
        one, middle_in, middle, wide_in, wide, pooled = widths
        self.branches = nn.ModuleList(
            (
                conv_norm(width_in, one, 1),
                nn.Sequential(conv_norm(width_in, middle_in, 1), conv_norm(middle_in, middle, 3)),
                # 3x3 where the paper has 5x5: so do the published weights and counts of torchvision
                nn.Sequential(conv_norm(width_in, wide_in, 1), conv_norm(wide_in, wide, 3)),
                nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_norm(width_in, pooled, 1)),
            )
        )
        self.width = one + middle + wide + pooled

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width_in, H, W] to [N, width, H, W]."""
        return torch.cat([branch(x) for branch in self.branches], 1)


class GoogLeNet(HeadedNetwork):
    """Stem, nine Inception blocks, average, dropout; D = 1024."""

    def __init__(self, num_classes: int, channels: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            conv_norm(channels, 64, 7, stride=2),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
            conv_norm(64, 64, 1),
            conv_norm(64, 192, 3),
            nn.MaxPool2d(3, stride=2, ceil_mode=True),
        ]
        width = 192
        for place, widths in enumerate(_BLOCKS):
            if widths is None:
                kernel = 3 if place == 2 else 2  # the second pooling as in torchvision
                layers.append(nn.MaxPool2d(kernel, stride=2, ceil_mode=True))
                continue
            block = Inception(width, widths)
            layers.append(block)
            width = block.width
        self.body = Row(*layers)
        self.dropout = share_dropout(dropout)
        self.head = nn.Linear(_WIDTH, num_classes)
        start_convolutions(self)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        maps: Tensor = self.body(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, 1024] of `images` [N, C, H, W]."""
        features: Tensor = self.dropout(pool_maps(self.maps(images)))
        return features


def googlenet(
    num_classes: int, channels: int, image_size: tuple[int, int], dropout: float = 0.2
) -> GoogLeNet:
    """GoogLeNet for images of at least 15 pixels a side; made for 224.

    6,624,904 parameters at 1,000 classes. Source: Szegedy et al., Going deeper with convolutions
    (2014), with the batch norm, 3x3 kernels, dropout and count of torchvision.
    """
    require_size("googlenet", image_size, SMALLEST_SIDE)
    return GoogLeNet(num_classes, channels, dropout)
