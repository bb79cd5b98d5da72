"""Inception with batch norm: the form for 224 pixels, and the standard one for small images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.models.nets.conv_blocks import conv_norm, pool_maps, start_convolutions
from discern.models.nets.headed import HeadedNetwork, Row, require_size

SMALLEST_SIDE = 8
# Up to this side the small form is built. Source: MXNet's example builds it up to 28, and trained
# CIFAR-10 with it on crops of 28; whole CIFAR images of 32 belong to it.
LARGEST_SMALL_SIDE = 32

# Widths: 1x1; 1x1 then 3x3; 1x1 then two 3x3; pooling then 1x1 (0 keeps the pooled channels).
# A block with 0 for its first branch halves the size. Source: Ioffe and Szegedy 2015, figure 5.
_Widths = tuple[int, int, int, int, int, int]
_BLOCKS: tuple[tuple[_Widths, str], ...] = (
    ((64, 64, 64, 64, 96, 32), "mean"),
    ((64, 64, 96, 64, 96, 64), "mean"),
    ((0, 128, 160, 64, 96, 0), "max"),
    ((224, 64, 96, 96, 128, 128), "mean"),
    ((192, 96, 128, 96, 128, 128), "mean"),
    ((160, 128, 160, 128, 160, 128), "mean"),
    ((96, 128, 192, 160, 192, 128), "mean"),
    ((0, 128, 192, 192, 256, 0), "max"),
    ((352, 192, 320, 160, 224, 128), "mean"),
    ((352, 192, 320, 192, 224, 128), "max"),
)
# The small form: (1x1, 3x3) widths side by side, or one width of a block that halves the size.
# Source: inception-bn of MXNet's image-classification example, "a simper version".
_SMALL: tuple[tuple[int, int] | int, ...] = (
    (32, 32),
    (32, 48),
    80,
    (112, 48),
    (96, 64),
    (80, 80),
    (48, 96),
    96,
    (176, 160),
    (176, 160),
)
_SMALL_STEM = 96


# The convolutions have biases, which the norms after them make idle: the published count has them.


class Branches(nn.Module):
    """Branches side by side on the same maps, joined over channels."""

    def __init__(self, branches: list[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to the channels of all branches."""
        return torch.cat([branch(x) for branch in self.branches], 1)


def _block(width_in: int, widths: _Widths, pooling: str) -> tuple[Branches, int]:
    """One block of the large form, and its width."""
    one, middle_in, middle, double_in, double, pooled = widths
    halving = one == 0
    stride = 2 if halving else 1
    branches: list[nn.Module] = [] if halving else [conv_norm(width_in, one, 1, bias=True)]
    branches.append(
        nn.Sequential(
            conv_norm(width_in, middle_in, 1, bias=True),
            conv_norm(middle_in, middle, 3, stride=stride, bias=True),
        )
    )
    branches.append(
        nn.Sequential(
            conv_norm(width_in, double_in, 1, bias=True),
            conv_norm(double_in, double, 3, bias=True),
            conv_norm(double, double, 3, stride=stride, bias=True),
        )
    )
    pool: nn.Module = nn.AvgPool2d(3, stride=1, padding=1)
    if pooling == "max":
        pool = nn.MaxPool2d(3, stride=stride, padding=1)
    branches.append(
        pool if halving else nn.Sequential(pool, conv_norm(width_in, pooled, 1, bias=True))
    )
    return Branches(branches), one + middle + double + (width_in if halving else pooled)


def _large_body(channels: int) -> tuple[Row, int]:
    layers: list[nn.Module] = [
        conv_norm(channels, 64, 7, stride=2, bias=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        conv_norm(64, 64, 1, bias=True),
        conv_norm(64, 192, 3, bias=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    width = 192
    for widths, pooling in _BLOCKS:
        block, width = _block(width, widths, pooling)
        layers.append(block)
    return Row(*layers), width


def _small_body(channels: int) -> tuple[Row, int]:
    layers: list[nn.Module] = [conv_norm(channels, _SMALL_STEM, 3, bias=True)]
    width = _SMALL_STEM
    for widths in _SMALL:
        if isinstance(widths, int):
            halved = conv_norm(width, widths, 3, stride=2, bias=True)
            layers.append(Branches([halved, nn.MaxPool2d(3, stride=2, padding=1)]))
            width += widths
            continue
        one, three = widths
        sides: list[nn.Module] = [
            conv_norm(width, one, 1, bias=True),
            conv_norm(width, three, 3, bias=True),
        ]
        layers.append(Branches(sides))
        width = one + three
    return Row(*layers), width


class InceptionBn(HeadedNetwork):
    """Stem, ten blocks, average; D = 1024, or 336 in the small form."""

    def __init__(self, num_classes: int, channels: int, *, small: bool) -> None:
        super().__init__()
        self.body, width = _small_body(channels) if small else _large_body(channels)
        self.head = nn.Linear(width, num_classes)
        start_convolutions(self)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        maps: Tensor = self.body(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        return pool_maps(self.maps(images))


def inception_bn(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    small: bool | None = None,  # noqa: FBT001 - a builder argument, always given by name
) -> InceptionBn:
    """Inception with batch norm for images of at least 8 pixels a side; made for 224.

    `small`: the form with a 3x3 stem that keeps the size; None takes it up to 32 pixels a side.
    11,295,240 parameters at 1,000 classes in the large form. Source: Ioffe and Szegedy, Batch
    normalization (2015); count of the Caffe model as converted in pretrained-models.pytorch.
    """
    require_size("inception_bn", image_size, SMALLEST_SIDE)
    if small is None:
        small = max(image_size) <= LARGEST_SMALL_SIDE
    return InceptionBn(num_classes, channels, small=small)
