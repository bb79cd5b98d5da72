"""Residual networks for small images at any depth 6n + 2, or 9n + 2 from 164 on.

Three stages at full, half and quarter size. Below 164 layers: two 3x3 convolutions a block and
16/16/32/64 channels; from 164 on: bottlenecks and 16/64/128/256 channels.
"""

from __future__ import annotations

from itertools import count

from torch import Tensor, nn
from torch.nn import functional

from discern.base.errors import ConfigError
from discern.models.nets.headed import HeadedNetwork, Row, require_size

FIRST_BOTTLENECK_DEPTH = 164
NAMED_DEPTHS = (20, 32, 44, 56, 110, 164)
_STEM = 16
_BASIC_WIDTHS = (16, 32, 64)
_BOTTLENECK_WIDTHS = (64, 128, 256)
_SHRINK = 4  # a bottleneck works on a quarter of its channels


def is_valid_depth(depth: int) -> bool:
    """True for 6n + 2 below 164 and for 9n + 2 from 164 on (n >= 1)."""
    if depth >= FIRST_BOTTLENECK_DEPTH:
        return (depth - 2) % 9 == 0
    return depth >= 8 and (depth - 2) % 6 == 0


def nearest_depths(depth: int) -> list[int]:
    """The valid depths just below and just above `depth` (one of them where no other exists)."""
    above = next(d for d in count(max(depth, 8)) if is_valid_depth(d))
    below = next((d for d in range(depth, 7, -1) if is_valid_depth(d)), None)
    return [above] if below is None else [below, above]


class Residual(nn.Module):
    """One block: x + f(x), where f is two 3x3 convolutions or a 1x1, 3x3, 1x1 bottleneck.

    Version 2 normalizes and activates before each convolution, version 1 after it.
    """

    def __init__(self, width_in: int, width: int, stride: int, version: int, *, deep: bool) -> None:
        super().__init__()
        middle = width // _SHRINK if deep else width
        kernels = (1, 3, 1) if deep else (3, 3)
        widths = (width_in, middle, middle, width) if deep else (width_in, width, width)
        strided = 1 if deep else 0
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[i],
                widths[i + 1],
                kernel,
                stride=stride if i == strided else 1,
                padding=kernel // 2,
                bias=False,
            )
            for i, kernel in enumerate(kernels)
        )
        normed = widths[:-1] if version == 2 else widths[1:]
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for channels in normed)
        self.pre_activated = version == 2
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or width_in != width:
            projection = nn.Conv2d(width_in, width, 1, stride=stride, bias=False)
            self.shortcut = (
                projection
                if self.pre_activated
                else nn.Sequential(projection, nn.BatchNorm2d(width))
            )

    def forward(self, x: Tensor) -> Tensor:
        """Maps [N, width_in, H, W] to [N, width, H / stride, W / stride]."""
        return self._version_2(x) if self.pre_activated else self._version_1(x)

    def _version_2(self, x: Tensor) -> Tensor:
        inner = functional.relu(self.norms[0](x))
        # A projection reads the activated input, an identity the raw one (He et al. 2016, fig. 4e).
        identity = isinstance(self.shortcut, nn.Identity)
        kept: Tensor = x if identity else self.shortcut(inner)
        inner = self.convs[0](inner)
        for norm, conv in zip(self.norms[1:], self.convs[1:], strict=True):
            inner = conv(functional.relu(norm(inner)))
        total: Tensor = kept + inner
        return total

    def _version_1(self, x: Tensor) -> Tensor:
        inner = x
        for position, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            inner = norm(conv(inner))
            if position + 1 < len(self.convs):
                inner = functional.relu(inner)
        return functional.relu(self.shortcut(x) + inner)


class ResNetCifar(HeadedNetwork):
    """Stem, three stages, average pool; D = 64, or 256 with bottlenecks."""

    def __init__(self, num_classes: int, channels: int, num_layers: int, version: int) -> None:
        super().__init__()
        deep = num_layers >= FIRST_BOTTLENECK_DEPTH
        blocks = (num_layers - 2) // (9 if deep else 6)
        widths = _BOTTLENECK_WIDTHS if deep else _BASIC_WIDTHS
        last = widths[-1]
        # Version 2 normalizes the data itself, so that no mean or std has to be known.
        self.data_norm = nn.BatchNorm2d(channels) if version == 2 else nn.Identity()
        self.stem = nn.Conv2d(channels, _STEM, 3, padding=1, bias=False)
        self.stem_norm = nn.Identity() if version == 2 else nn.BatchNorm2d(_STEM)
        self.stem_activation = nn.Identity() if version == 2 else nn.ReLU()
        stages = []
        width_in = _STEM
        for stage, width in enumerate(widths):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                stages.append(Residual(width_in, width, stride, version, deep=deep))
                width_in = width
        self.blocks = Row(*stages)
        self.last_norm = nn.BatchNorm2d(last) if version == 2 else nn.Identity()
        self.last_activation = nn.ReLU() if version == 2 else nn.Identity()
        self.head = nn.Linear(last, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def maps(self, images: Tensor) -> Tensor:
        """Feature maps [N, D, H', W'] of `images` [N, C, H, W], before they are pooled."""
        x = self.stem_activation(self.stem_norm(self.stem(self.data_norm(images))))
        maps: Tensor = self.last_activation(self.last_norm(self.blocks(x)))
        return maps

    def features(self, images: Tensor) -> Tensor:
        """Features [N, D] of `images` [N, C, H, W]."""
        pooled: Tensor = self.maps(images).mean((2, 3))
        return pooled


def resnet_cifar(
    num_classes: int,
    channels: int,
    image_size: tuple[int, int],
    num_layers: int = 20,
    version: int = 2,
) -> ResNetCifar:
    """A residual network of `num_layers` layers; `version` 2 is pre-activation, 1 the original.

    Depth 110 has 1.7 million parameters. Raises ConfigError for a depth that is not 6n + 2 or
    9n + 2, naming the two nearest. Source: He et al., Deep residual learning (2015), section 4.2,
    and Identity mappings (2016); depth rule as in MXNet's resnet example.
    """
    require_size("resnet_cifar", image_size, 8)
    if not is_valid_depth(num_layers):
        near = nearest_depths(num_layers)
        raise ConfigError(
            f"a residual network for small images cannot have {num_layers} layers",
            where="model argument 'num_layers'",
            got=num_layers,
            expected="6n + 2 below 164, or 9n + 2 from 164 on",
            hint="the nearest are " + " and ".join(str(depth) for depth in near),
        )
    if version not in (1, 2):
        raise ConfigError(
            "a residual network has version 1 or 2",
            where="model argument 'version'",
            got=version,
            expected="1 or 2",
        )
    return ResNetCifar(num_classes, channels, num_layers, version)
