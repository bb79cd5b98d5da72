"""What a layer inside a network gives: found by name, caught in a pass, averaged to one row.

Axes: N images, C channels, H height, W width, T tokens, D features.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from discern.base.errors import ConfigError, ModelError
from discern.base.names import did_you_mean


def find_layer(network: nn.Module, name: str) -> nn.Module:
    """The module `name` of `network`, as `discern models show --layers` calls it.

    Raises ConfigError with the nearest name.
    """
    known: dict[str, nn.Module] = {key: module for key, module in network.named_modules() if key}
    if name not in known:
        raise ConfigError(
            "the network has no such layer",
            where="--layer",
            got=name,
            expected=f"one of {len(known)} modules of {type(network).__name__}",
            hint=did_you_mean(name, list(known)) or "`discern models show NAME --layers`",
        )
    return known[name]


@contextlib.contextmanager
def caught(layer: nn.Module) -> Iterator[list[Tensor]]:
    """A list that each pass inside the block appends the output of `layer` to."""
    outputs: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    handle = layer.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def channels_last(network: nn.Module) -> bool:
    """Whether the network's maps are [N, H, W, C], as those of timm's hierarchical transformers."""
    return any(str(getattr(m, "output_fmt", "")) == "NHWC" for m in network.modules())


def one_row(output: Tensor, *, last: bool) -> Tensor:
    """A layer's output as features [N, D]: the average over places of a map, or over tokens.

    `last`: maps are [N, H, W, C]. Raises ModelError for an output of another shape.
    """
    if output.ndim == 2:
        return output
    if output.ndim == 3:
        return output.mean(1)
    if output.ndim == 4:
        return output.mean((1, 2)) if last else output.mean((2, 3))
    raise ModelError(
        "this layer's output is no row, map or row of tokens an image",
        where="--layer",
        got=f"shape {tuple(output.shape)}",
        expected="[N, D], [N, C, H, W] or [N, T, D]",
    )
