"""SqueezeNet 1.0 and 1.1: fire modules, which squeeze to few channels and expand with 1x1 and 3x3.

The published classifier is a 1x1 convolution, ReLU and average pooling. Here the average comes
first and the ReLU over class scores is left out, so that the head is a linear layer: the same
number of parameters, and the same scores wherever they are positive before the pooling.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.nets.conv_blocks import pool_maps, share_dropout, start_convolutions
from discern.models.nets.headed import HeadedNetwork, Row, require_size

VERSIONS = ("1.0", "1.1")
SMALLEST_SIDE = {"1.0": 21, "1.1": 17}
_WIDTH = 512
# (squeeze, half of the expanded width) of fire modules 2 to 9; both versions share them.
_FIRES = ((16, 64), (16, 64), (32, 128), (32, 128), (48, 192), (48, 192), (64, 256), (64, 256))
_STEM = {"1.0": (96, 7), "1.1": (64, 3)}  # width and kernel of the first convolution
_POOL_BEFORE = {"1.0": (0, 3, 7), "1.1": (0, 2, 4)}  # index into _FIRES


class Fire(nn.Module):
    """Squeeze to `squeezed` channels, then 1x1 and 3x3 convolutions of `half` channels, joined."""

    def __init__(self, width_in: int, squeezed: int, half: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(width_in, squeezed, 1)
        self.expand_1 = nn.Conv2d(squeezed, half, 1)
        self.expand_3 = nn.Conv2d(squeezed, half, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width_in, H, W] to [N, 2 * half, H, W]."""
        x = torch.relu(self.squeeze(x))
        return torch.relu(torch.cat([self.expand_1(x), self.expand_3(x)], 1))


class SqueezeNet(HeadedNetwork):
    """Stem, eight fire modules, dropout, average; D = 512."""

    def __init__(self, num_classes: int, channels: int, version: str, dropout: float) -> None:
        super().__init__()
        width, kernel = _STEM[version]
        layers: list[nn.Module] = [
            nn.Conv2d(channels, width, kernel, stride=2),
            nn.ReLU(inplace=True),
        ]
        for place, (squeezed, half) in enumerate(_FIRES):
            if place in _POOL_BEFORE[version]:
                layers.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            layers.append(Fire(width, squeezed, half))
            width = 2 * half
        self.body = Row(*layers, share_dropout(dropout))
        self.head = nn.Linear(_WIDTH, num_classes)
        start_convolutions(self, normalized=False)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        maps: Tensor = self.body(images)
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, 512] of `images` [N, C, H, W]."""
        return pool_maps(self.maps(images))


def squeezenet(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    version: str | float = "1.1",
    dropout: float = 0.5,
) -> SqueezeNet:
    """SqueezeNet `version` 1.0 or 1.1 (less work, same accuracy); made for 224 pixels.

    1,248,424 and 1,235,496 parameters at 1,000 classes. Source: Iandola et al., SqueezeNet (2016),
    and the authors' release of 1.1; counts as in torchvision and Gluon.
    """
    version = str(version)  # a config file says 1.1, which is a number there
    if version not in VERSIONS:
        raise ConfigError(
            "SqueezeNet has version 1.0 or 1.1",
            where="model argument 'version'",
            got=version,
            expected="'1.0' or '1.1'",
        )
    require_size("squeezenet", image_size, SMALLEST_SIDE[version])
    return SqueezeNet(num_classes, channels, version, dropout)
