"""MobileNet and MobileNetV2 at any width: for the multipliers that timm lacks.

Widths are cut to whole channels, not rounded to multiples of 8, as in Gluon's model zoo.
"""

from __future__ import annotations

from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.nets.conv_blocks import conv_norm, pool_maps, start_convolutions
from discern.models.nets.headed import HeadedNetwork, Row, require_size

SMALLEST_SIDE = 8
_LEAST_MULTIPLIER = 0.25  # as in Gluon: below it the first layers have too few channels
_LARGEST_MULTIPLIER = 8.0
# (width, stride) of the separable convolutions. Source: Howard et al. 2017, table 1.
_V1 = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *(((512, 1),) * 5),
    (1024, 2),
    (1024, 1),
)
_V1_STEM = 32
# (expansion, width, blocks, stride of the first). Source: Sandler et al. 2018, table 2.
_V2 = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_V2_STEM = 32
_V2_LAST = 1280


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, linear 1x1; added to its input where the shapes agree."""

    def __init__(self, width_in: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = width_in * expansion
        self.body = nn.Sequential(
            _relu6(conv_norm(width_in, inner, 1)),
            _relu6(conv_norm(inner, inner, 3, stride=stride, groups=inner)),
            nn.Conv2d(inner, width, 1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.is_added = stride == 1 and width_in == width

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width_in, H, W] to [N, width, H / stride, W / stride]."""
        out: Tensor = self.body(x)
        return x + out if self.is_added else out


def _relu6(layers: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(*list(layers)[:-1], nn.ReLU6(inplace=True))


class MobileNet(HeadedNetwork):
    """A body of convolutions, average, linear head."""

    def __init__(self, num_classes: int, body: Row, width: int) -> None:
        super().__init__()
        self.body = body
        self.head = nn.Linear(width, num_classes)
        start_convolutions(self)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        maps: Tensor = self.body(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        return pool_maps(self.maps(images))


def mobilenet_v1(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    multiplier: float = 1.0,
) -> MobileNet:
    """MobileNet of `multiplier` times its widths; D = 1024 * multiplier; made for 224 pixels.

    Source: Howard et al., MobileNets (2017), ReLU as in Gluon's model zoo.
    """
    _check(multiplier, image_size, "mobilenet_v1")
    width = int(_V1_STEM * multiplier)
    layers: list[nn.Module] = [conv_norm(channels, width, 3, stride=2)]
    for base, stride in _V1:
        scaled = int(base * multiplier)
        layers += [
            conv_norm(width, width, 3, stride=stride, groups=width),
            conv_norm(width, scaled, 1),
        ]
        width = scaled
    return MobileNet(num_classes, Row(*layers), width)


def mobilenet_v2(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    multiplier: float = 1.0,
) -> MobileNet:
    """MobileNetV2 of `multiplier` times its widths; made for 224 pixels.

    D = 1280, times a multiplier above 1. Source: Sandler et al., MobileNetV2 (2018), with the
    expansion of the first block too, as in Gluon's model zoo.
    """
    _check(multiplier, image_size, "mobilenet_v2")
    width = int(_V2_STEM * multiplier)
    layers: list[nn.Module] = [_relu6(conv_norm(channels, width, 3, stride=2))]
    for expansion, base, blocks, stride in _V2:
        for block in range(blocks):
            scaled = int(base * multiplier)
            layers.append(InvertedResidual(width, scaled, expansion, stride if block == 0 else 1))
            width = scaled
    last = int(_V2_LAST * max(multiplier, 1.0))
    layers.append(_relu6(conv_norm(width, last, 1)))
    return MobileNet(num_classes, Row(*layers), last)


def _check(multiplier: float, image_size: tuple[int, int], name: str) -> None:
    require_size(name, image_size, SMALLEST_SIDE)
    if not _LEAST_MULTIPLIER <= multiplier <= _LARGEST_MULTIPLIER:
        raise ConfigError(
            "a MobileNet has a quarter of its widths, up to eight times as much",
            where="model argument 'multiplier'",
            got=multiplier,
            expected="0.25 to 8",
        )
