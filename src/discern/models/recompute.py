"""Activations computed twice instead of kept: less memory for the same loss and weights.

Blocks keep their inputs only; the backward pass computes the rest again, under the random state
of the first pass, so that dropout drops the same. Batch norm would take the second pass for
another batch: there it writes into copies of its running statistics.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from discern.base.errors import ConfigError, ModelError
from discern.models.classifier import Classifier
from discern.models.embedding import EmbeddingNetwork

_WHERE = "compute.grad_checkpointing"
_SWITCH = "set_grad_checkpointing"
_KEPT = "_statistics_of_first_pass"


def recompute_activations(model: Classifier) -> None:
    """Let `model` keep its blocks' inputs only and compute the rest again in the backward pass.

    timm's networks, and others whose `set_grad_checkpointing` works, do it their way; else the
    rows of blocks (`nn.Sequential`) at the network's top level are cut into segments. Names and
    values of parameters stay as they are. Raises ConfigError for a network with neither.
    """
    network = model.network
    if not _switched_on(network) and not _cut_rows(network):
        raise ConfigError(
            "the network cannot compute its activations again",
            where=_WHERE,
            got=type(network).__name__,
            expected=f"a network with {_SWITCH}, or with rows (nn.Sequential) of blocks",
            hint="leave --grad-checkpointing out; --grad-accum-steps saves memory with any network",
        )
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_leave_statistics)
            module.register_forward_hook(_take_statistics, always_call=True)


def _switched_on(network: nn.Module) -> bool:
    """Switch on the network's own recomputation; False where it has none: timm's VGG asserts, own
    networks without rows of blocks raise ModelError.
    """
    switch = getattr(network, _SWITCH, None)
    if switch is None:
        return False
    try:
        switch(True)
    except (AssertionError, NotImplementedError, ModelError):
        return False
    return True


def can_recompute(model: Classifier) -> bool:
    """Whether `recompute_activations` would find something to do."""
    network = model.network
    if _switched_on(network):
        cast("Any", network).set_grad_checkpointing(False)
        return True
    return any(len(bounds) > 2 for _, bounds in _rows(network))


class RecomputedRow(nn.Sequential):
    """A row of blocks whose segments are computed again in the backward pass.

    `bounds`: where segments begin, and the end. A row of another class becomes one in place, so
    that copies of the network (its moving average) keep their own blocks.
    """

    bounds: tuple[int, ...]

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as nn.Sequential calls it
        """As `nn.Sequential`; without gradients nothing is kept anyway."""
        if not (self.training and torch.is_grad_enabled()):
            return _run(list(self), input)
        blocks, values = list(self), input
        for begin, end in itertools.pairwise(self.bounds):
            values = checkpoint(_run, blocks[begin:end], values, use_reentrant=False)
        return values


def _run(segment: list[nn.Module], values: Tensor) -> Tensor:
    for block in segment:
        values = block(values)
    return values


def _rows(network: nn.Module) -> Iterator[tuple[nn.Sequential, tuple[int, ...]]]:
    """The rows of blocks at the network's top level, and where their segments would begin."""
    network = network.encoder if isinstance(network, EmbeddingNetwork) else network
    for row in [network] if type(network) is nn.Sequential else network.children():
        if type(row) is nn.Sequential:
            yield row, tuple(_segments(list(row)))


def _cut_rows(network: nn.Module) -> int:
    """Make the network's rows of blocks recomputed ones; gives how many there are."""
    rows = [(row, bounds) for row, bounds in _rows(network) if len(bounds) > 2]
    for row, bounds in rows:
        row.__class__ = RecomputedRow
        cast("RecomputedRow", row).bounds = bounds
    return len(rows)


def _segments(blocks: list[nn.Module]) -> Iterator[int]:
    """Places where segments begin, and the end: at each block of several layers, else at every
    sqrt(n)-th layer or so, which keeps least (Chen et al., Training deep nets with sublinear memory
    cost, 2016, section 4).

    None begins at a layer without parameters: one that works in place would spoil what is kept.
    """
    least = math.isqrt(max(len(blocks) - 1, 0)) + 1
    last = 0
    yield 0
    for place, block in enumerate(blocks):
        if place == 0 or not any(True for _ in block.parameters()):
            continue
        if any(True for _ in block.children()) or place - last >= least:
            last = place
            yield place
    yield len(blocks)


def _leave_statistics(module: nn.Module, _: Any) -> None:
    # Inside a backward pass a forward pass is the second one. torch's own recomputation tells it by
    # the same means (torch.utils.checkpoint); compiled graphs write no buffer there.
    if torch.compiler.is_compiling() or torch._C._current_graph_task_id() == -1:
        return
    if module.training:
        module.__dict__[_KEPT] = dict(module._buffers)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.clone()


def _take_statistics(module: nn.Module, *_: Any) -> None:
    kept = module.__dict__.pop(_KEPT, None)
    if kept is not None:
        module._buffers.update(kept)
