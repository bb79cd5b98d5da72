"""How much memory an optimizer's state takes, without a step of the real parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import torch
from torch import Tensor, nn

from discern.optim.layer_depth import Named
from discern.optim.lookahead import Lookahead

# The small stand-in of a parameter has at most this many values along an axis.
_SIDE: Final = 2


def optimizer_state_bytes(
    build: Callable[[list[Named]], torch.optim.Optimizer], named: Iterable[Named]
) -> int | None:
    """Bytes that the optimizer of `build` keeps for those of `named` that learn, once it stepped.

    `build` gives it for (name, parameter) pairs. It is built and stepped over small parameters of
    the same names and numbers of axes; of each, a state tensor of the parameter's own form counts
    at full size, a single number as it is. None for an optimizer whose state has or may have other
    forms (Adafactor factors large matrices; one from elsewhere is not known), and for one that
    fails on small parameters. No random generator changes.
    """
    pairs = [(name, real, _small(real)) for name, real in named if real.requires_grad]
    if not pairs:
        return 0
    with torch.random.fork_rng(devices=[]):
        try:
            optimizer = build([(name, small) for name, _, small in pairs])
            optimizer.step()
        except (RuntimeError, ValueError, ArithmeticError, IndexError):
            return None
    if not _keeps_whole_tensors(optimizer):
        return None
    total = 0
    for _, real, small in pairs:
        for value in optimizer.state.get(small, {}).values():
            if not isinstance(value, Tensor):
                continue
            if value.shape == small.shape and value.dim():
                total += real.numel() * value.element_size()
            elif value.numel() == 1:
                total += value.element_size()
            else:
                return None
    return total


def _keeps_whole_tensors(optimizer: torch.optim.Optimizer) -> bool:
    inner = optimizer.base if isinstance(optimizer, Lookahead) else optimizer
    home = type(inner).__module__.split(".")[0]
    return home in ("torch", "discern") and type(inner).__name__ != "Adafactor"


def _small(real: Tensor) -> nn.Parameter:
    small = nn.Parameter(torch.ones([min(side, _SIDE) for side in real.shape], dtype=real.dtype))
    small.grad = torch.zeros_like(small)
    scale = getattr(real, "lr_scale", None)
    if scale is not None:
        small.lr_scale = scale  # type: ignore[attr-defined]
    return small
