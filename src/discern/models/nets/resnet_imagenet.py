"""Residual networks for photographs at every depth of the older zoos, with groups for ResNeXt.

Four stages after a 7x7 stem and a pooling. 18 and 34 layers: two 3x3 convolutions a block; from 50
on: bottlenecks. timm has most of them with weights; these are the depths that it lacks (269, and
the pre-activation 200). For small images see `resnet_cifar`, which `resnet` chooses itself.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.nets.conv_blocks import pool_maps, start_convolutions
from discern.models.nets.headed import HeadedNetwork, Row, require_size
from discern.models.nets.resnet_cifar import resnet_cifar

SMALLEST_SIDE = 8
# Up to this side `resnet` builds the form for small images. Source: MXNet's example does so up to
# 28 pixels; whole CIFAR images of 32 belong to it.
LARGEST_SMALL_SIDE = 32
# Blocks of the four stages. Source: He et al. 2015, table 1; 200 and 269 as in MXNet's example.
STAGES: dict[int, tuple[int, int, int, int]] = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    269: (3, 30, 48, 8),
}
_FIRST_BOTTLENECK_DEPTH = 50
_STEM = 64
_EXPANSION = 4  # a bottleneck's outputs for each of its middle channels, without groups


class Block(nn.Module):
    """x + f(x): two 3x3 convolutions, or 1x1, (grouped) 3x3, 1x1 through `middle` channels.

    Version 2 normalizes and activates before each convolution, version 1 after it.
    """

    def __init__(self, widths: tuple[int, ...], stride: int, groups: int, version: int) -> None:
        super().__init__()
        deep = len(widths) == 4
        kernels = (1, 3, 1) if deep else (3, 3)
        strided = 1 if deep else 0  # in the 3x3 of a bottleneck: He's 1x1 drops 3 pixels of 4
        self.pre_activated = version == 2
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[place],
                widths[place + 1],
                kernel,
                stride=stride if place == strided else 1,
                padding=kernel // 2,
                groups=groups if deep and kernel == 3 else 1,
                bias=False,
            )
            for place, kernel in enumerate(kernels)
        )
        normed = widths[:-1] if self.pre_activated else widths[1:]
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in normed)
        self.projection: nn.Module | None = None
        if stride != 1 or widths[0] != widths[-1]:
            conv = nn.Conv2d(widths[0], widths[-1], 1, stride=stride, bias=False)
            norm = nn.BatchNorm2d(widths[-1])
            self.projection = conv if self.pre_activated else nn.Sequential(conv, norm)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, C, H, W] to [N, C', H / stride, W / stride]."""
        return self._version_2(x) if self.pre_activated else self._version_1(x)

    def _version_1(self, x: Tensor) -> Tensor:
        kept = x if self.projection is None else self.projection(x)
        inner = x
        last = len(self.convs) - 1
        for place, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            inner = norm(conv(inner))
            if place < last:
                inner = torch.relu(inner)
        return torch.relu(kept + inner)

    def _version_2(self, x: Tensor) -> Tensor:
        inner = torch.relu(self.norms[0](x))
        kept = x if self.projection is None else self.projection(inner)
        inner = self.convs[0](inner)
        for norm, conv in zip(list(self.norms)[1:], list(self.convs)[1:], strict=True):
            inner = conv(torch.relu(norm(inner)))
        total: Tensor = kept + inner
        return total


class ResNetImageNet(HeadedNetwork):
    """Stem, four stages, average; D = 512, or 2048 with bottlenecks."""

    def __init__(
        self,
        num_classes: int,
        channels: int,
        num_layers: int,
        version: int,
        groups: int,
        group_width: int,
    ) -> None:
        super().__init__()
        deep = num_layers >= _FIRST_BOTTLENECK_DEPTH
        # Version 2 normalizes the data itself, so that no mean or std has to be known.
        self.data_norm = nn.BatchNorm2d(channels) if version == 2 else nn.Identity()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, _STEM, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(_STEM),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        blocks = []
        width_in = _STEM
        for stage, count in enumerate(STAGES[num_layers]):
            base = _STEM * 2**stage
            width = base * _EXPANSION if deep else base
            middle = groups * group_width * 2**stage if groups > 1 else base
            for block in range(count):
                widths = (width_in, middle, middle, width) if deep else (width_in, width, width)
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(Block(widths, stride, groups, version))
                width_in = width
        self.blocks = Row(*blocks)
        last = nn.Sequential(nn.BatchNorm2d(width_in), nn.ReLU(inplace=True))
        self.last = last if version == 2 else nn.Identity()
        self.head = nn.Linear(width_in, num_classes)
        start_convolutions(self)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        maps: Tensor = self.last(self.blocks(self.stem(self.data_norm(images))))
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        return pool_maps(self.maps(images))


def resnet(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    num_layers: int = 50,
    version: int = 2,
) -> HeadedNetwork:
    """A residual network by its number of layers; the form follows the size of the images.

    Up to 32 pixels a side it is `resnet_cifar` (6n + 2 layers, or 9n + 2 from 164 on), above it has
    18, 34, 50, 101, 152, 200 or 269 layers. `version` 2 is pre-activation, 1 the original. Raises
    ConfigError for another depth or version. Source: He et al., Deep residual learning (2015) and
    Identity mappings (2016); the choice by size and depths as in MXNet's resnet example.
    """
    if max(image_size) <= LARGEST_SMALL_SIDE:
        return resnet_cifar(num_classes, channels, image_size, num_layers, version)
    return resnet_imagenet(num_classes, channels, image_size, num_layers, version)


def resnet_imagenet(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    num_layers: int = 50,
    version: int = 2,
) -> ResNetImageNet:
    """The form for photographs at every size from 8 pixels a side; made for 224.

    Raises ConfigError for a depth or version that there is not. Source: as of `resnet`.
    """
    require_size("resnet_imagenet", image_size, SMALLEST_SIDE)
    _check_depth(num_layers, tuple(STAGES))
    if version not in (1, 2):
        raise ConfigError(
            "a residual network has version 1 or 2",
            where="model argument 'version'",
            got=version,
            expected="1 or 2",
        )
    return ResNetImageNet(num_classes, channels, num_layers, version, 1, _STEM)


def resnext(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    num_layers: int = 50,
    num_group: int = 32,
    group_width: int = 4,
) -> ResNetImageNet:
    """ResNeXt: `num_group` groups of `group_width` channels in the first stage's 3x3 convolutions.

    At least 50 layers: without bottlenecks there is nothing to group. Made for 224 pixels; takes 8
    and more. Raises ConfigError for other settings. Source: Xie et al., Aggregated residual
    transformations (2016); depths as in MXNet's resnext example.
    """
    require_size("resnext", image_size, SMALLEST_SIDE)
    _check_depth(num_layers, tuple(d for d in STAGES if d >= _FIRST_BOTTLENECK_DEPTH))
    for argument, value in (("num_group", num_group), ("group_width", group_width)):
        least = 2 if argument == "num_group" else 1
        if value < least:
            raise ConfigError(
                "ResNeXt needs at least two groups of at least one channel",
                where=f"model argument '{argument}'",
                got=value,
                expected=f"{least} or more",
            )
    return ResNetImageNet(num_classes, channels, num_layers, 1, num_group, group_width)


def _check_depth(num_layers: int, known: tuple[int, ...]) -> None:
    if num_layers not in known:
        near = min(known, key=lambda depth: abs(depth - num_layers))
        raise ConfigError(
            f"there is no such network of {num_layers} layers for photographs",
            where="model argument 'num_layers'",
            got=num_layers,
            expected=", ".join(str(depth) for depth in known),
            hint=f"the nearest is {near}",
        )
