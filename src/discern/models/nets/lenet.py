"""LeNet with tanh, and the spatial transformer that may stand before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from discern.models.nets.headed import HeadedNetwork, require_size

# The localization network learns at this share of the rate: it moves every pixel at once.
# Source: lr_mult of the localization layer in MXNet's lenet example.
LOCALIZATION_LR_SCALE = 0.01


class SpatialTransformer(nn.Module):
    """Shifts, scales and turns images [N, C, H, W] by an affine map that it reads off them.

    It starts as the identity. Its parameters carry `lr_scale`, which `build_optimizer` obeys.
    Source: Jaderberg et al., Spatial transformer networks (2015); widths 30@5 stride 2, 60@3 as in
    MXNet's lenet example.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.localization = nn.Sequential(
            nn.Conv2d(channels, 30, 5, stride=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(30, 60, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.affine = nn.Linear(60, 6)
        # The identity is where it begins, whatever initializer the rest is given.
        self.affine.fixed_start = True  # type: ignore[assignment]
        nn.init.zeros_(self.affine.weight)
        with torch.no_grad():
            self.affine.bias.copy_(torch.tensor([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]))
        for parameter in self.parameters():
            parameter.lr_scale = LOCALIZATION_LR_SCALE  # type: ignore[attr-defined]

    def forward(self, images: Tensor) -> Tensor:
        """The images, resampled bilinearly; same shape."""
        maps = self.affine(self.localization(images)).view(-1, 2, 3)
        # The sampling grid needs float32: in bfloat16 its 8 bits are coarser than a pixel.
        grid = functional.affine_grid(maps.float(), list(images.shape), align_corners=False)
        moved = functional.grid_sample(images.float(), grid, align_corners=False)
        return moved.to(images.dtype)


class LeNet(HeadedNetwork):
    """Convolutions 20@5 and 50@5 with tanh and max pooling by 2, then 500 units; D = 500."""

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: tuple[int, int],
        stn: bool = False,  # noqa: FBT001, FBT002 - a builder argument, always given by name
    ) -> None:
        super().__init__()
        require_size("lenet", image_size, 16)
        self.transformer = SpatialTransformer(channels) if stn else nn.Identity()
        height, width = (((side - 4) // 2 - 4) // 2 for side in image_size)
        self.body = nn.Sequential(
            nn.Conv2d(channels, 20, 5),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Conv2d(20, 50, 5),
            nn.Tanh(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(50 * height * width, 500),
            nn.Tanh(),
        )
        self.head = nn.Linear(500, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Features [N, 500] of `images` [N, C, H, W]."""
        features: Tensor = self.body(self.transformer(images))
        return features


def lenet(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    stn: bool = False,  # noqa: FBT001, FBT002 - a builder argument, always given by name
) -> LeNet:
    """LeNet as in MXNet's examples, for images of at least 16 pixels a side.

    `stn=True` puts a spatial transformer before it.
    """
    return LeNet(num_classes, channels, image_size, stn)
