"""From feature maps [N, C, H, W] to features [N, D]: pooling by name.

Owns Catalyst's global poolings: average, maximum, both side by side, and attention, alone or beside
them. Attention weighs each pixel by the sigmoid of a learned 1x1 convolution and sums.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments


class GlobalAvg(nn.Module):
    """The mean of each map; D = C."""

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, C] of `maps` [N, C, H, W]."""
        return maps.mean((2, 3))


class GlobalMax(nn.Module):
    """The largest value of each map; D = C."""

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, C] of `maps` [N, C, H, W]."""
        return maps.amax((2, 3))


class GlobalAttn(nn.Module):
    """Each map summed under one learned weight in 0 to 1 a pixel; D = C."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.score = nn.Conv2d(channels, 1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, C] of `maps` [N, C, H, W]."""
        return (maps * torch.sigmoid(self.score(maps))).sum((2, 3))


class SideBySide(nn.Module):
    """The features of several poolings joined, in their order; D = their sum."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, D] of `maps` [N, C, H, W]."""
        return torch.cat([part(maps) for part in self.parts], 1)


class MaxPool(nn.Module):
    """The largest value of each window of each map, flattened; 7 covers the maps of 224 pixels."""

    def __init__(self, kernel_size: int = 7, stride: int | None = None) -> None:
        super().__init__()
        if kernel_size < 1 or (stride is not None and stride < 1):
            raise ConfigError(
                "a window has a side and a stride of at least 1 pixel",
                where="model.pooling",
                got=f"kernel_size {kernel_size}, stride {stride}",
            )
        self.pool = nn.MaxPool2d(kernel_size, stride or kernel_size)

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, C * H' * W'] of `maps` [N, C, H, W]."""
        pooled: Tensor = self.pool(maps)
        return pooled.flatten(1)


def _avg(channels: int) -> nn.Module:  # noqa: ARG001 - one signature for all of them
    return GlobalAvg()


def _max(channels: int) -> nn.Module:  # noqa: ARG001
    return GlobalMax()


def _concat(channels: int) -> nn.Module:  # noqa: ARG001
    return SideBySide(GlobalAvg(), GlobalMax())


def _avg_attn(channels: int) -> nn.Module:
    return SideBySide(GlobalAvg(), GlobalAttn(channels))


def _max_attn(channels: int) -> nn.Module:
    return SideBySide(GlobalMax(), GlobalAttn(channels))


def _concat_attn(channels: int) -> nn.Module:
    return SideBySide(GlobalAvg(), GlobalMax(), GlobalAttn(channels))


def _windows(channels: int, kernel_size: int = 7, stride: int | None = None) -> nn.Module:  # noqa: ARG001
    return MaxPool(kernel_size, stride)


POOLINGS: dict[str, Callable[..., nn.Module]] = {
    "avg": _avg,
    "max": _max,
    "concat": _concat,
    "attn": GlobalAttn,
    "avg_attn": _avg_attn,
    "max_attn": _max_attn,
    "concat_attn": _concat_attn,
    "max_pool": _windows,
}
# Catalyst's names of the same.
ALIASES = {
    "GlobalAvg": "avg",
    "GlobalMax": "max",
    "GlobalConcat": "concat",
    "GlobalAttn": "attn",
    "GlobalAvgAttn": "avg_attn",
    "GlobalMaxAttn": "max_attn",
    "GlobalConcatAttn": "concat_attn",
    "MaxPool2d": "max_pool",
}


def build_pooling(name: str, channels: int, arguments: Mapping[str, Any]) -> nn.Module:
    """The pooling `name` over maps of `channels`; Catalyst's `GlobalAvgPool2d` is `avg`.

    Raises ConfigError for an unknown name or argument.
    """
    plain = name if name in ALIASES else name.removesuffix("Pool2d")
    known = ALIASES.get(plain, name)
    if known not in POOLINGS:
        raise ConfigError(
            f"unknown pooling '{name}'",
            where="model.pooling",
            got=name,
            expected=", ".join(POOLINGS),
            hint=did_you_mean(name, [*POOLINGS, *ALIASES]),
        )
    build = POOLINGS[known]
    check_arguments(build, dict(arguments), where=f"pooling '{name}'", given=("channels",))
    return build(channels, **arguments)
