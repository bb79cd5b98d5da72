"""Gradients of a batch whose images lie on several ranks: the exact mean over all of them.

Owns the exchange of one step. Each rank's gradients are weighed by its number of images, so that
parts of 17 and 16 images count as 33 do in one process. Where images do not count alike (missing
labels, class weights), every rank has the labels of all, so that its loss is its share of the
batch's, and the shares are summed. Batch norm sees its rank's part alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from discern.base.errors import RunError
from discern.compute.world import World
from discern.feed.batch import Batch, HeadTargets
from discern.training.objective_terms import MISSING


class SharedGradients:
    """Averages gradients over the ranks of `world`, once an update; made anew for each stage.

    The first call settles which parameters have gradients, by asking all ranks. `unit` is any
    number near a rank's images per batch: weights are counted in it, so that they are near 1.
    `by_labels`: images do not count alike, so the losses are shares by `whole_targets`.
    """

    def __init__(self, world: World, unit: float, *, by_labels: bool = False) -> None:
        self.by_labels = by_labels
        self._world = world
        self._unit = unit
        self._used: list[torch.nn.Parameter] = []
        self._unused: list[torch.nn.Parameter] = []
        self._flat: dict[torch.dtype, Tensor] = {}
        self._parts: list[Tensor] = []  # one view into the flat memory for each used parameter

    def whole_targets(self, batch: Batch) -> Tensor:
        """The targets of all ranks' images, of the form of the batch's own.

        They are as many on each rank as on the one with the most: rows without a label fill up,
        which no loss counts. Nothing is read off the device.
        """
        rows = -(-batch.whole // self._world.ranks)
        targets: Any = batch.targets
        if isinstance(targets, dict):
            return HeadTargets({name: self._gathered(own, rows) for name, own in targets.items()})  # type: ignore[return-value]
        return self._gathered(batch.targets, rows)

    def _gathered(self, targets: Tensor, rows: int) -> Tensor:
        missing = torch.nan if targets.is_floating_point() else MISSING
        filled = targets.new_full((rows, *targets.shape[1:]), missing)
        filled[: len(targets)] = targets
        return self._world.gather_rows(filled)

    def average_(
        self, parameters: Sequence[torch.nn.Parameter], loss: Tensor, count: int
    ) -> Tensor:
        """Make each gradient the mean over all ranks' images; gives the mean loss of them all.

        `loss` []: the mean over this rank's `count` images; `by_labels`, its share of the batch's
        loss, and the ranks' gradients and losses are summed. Not finite on one rank, it is not
        finite on any. Nothing is read off the device but in the first call. Raises RunError for a
        parameter that learns in some steps only.
        """
        if not self._used:
            self._settle(parameters)
        if any(parameter.grad is not None for parameter in self._unused):
            raise RunError(
                "a parameter has a gradient now that had none in the first step",
                where="training on several ranks",
                hint="freeze it with --trainable, or train in one process",
            )
        for parameter in self._used:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in self._used if p.grad is not None]
        torch._foreach_copy_(self._parts, gradients)
        share = 1.0 if self.by_labels else count / self._unit
        tail = self._flat[torch.float32][-2:]
        tail[0], tail[1] = loss.detach(), 1.0
        for flat in self._flat.values():
            flat.mul_(share)
            self._world.sum_(flat)
        if not self.by_labels:
            weight = tail[1].clone()
            for flat in self._flat.values():
                flat.div_(weight)
        torch._foreach_copy_(gradients, self._parts)
        return tail[0].clone()

    def _settle(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Find the parameters that have a gradient on any rank, and lay out room for them."""
        counts = self._world.sum_values([float(p.grad is not None) for p in parameters])
        for parameter, there in zip(parameters, counts, strict=True):
            (self._used if there else self._unused).append(parameter)
        if not self._used:
            raise RunError("no parameter has a gradient", hint="--trainable chooses what learns")
        device = self._used[0].device
        sizes = {torch.float32: 2}  # loss and weight lie behind the gradients
        for parameter in self._used:
            sizes[parameter.dtype] = sizes.get(parameter.dtype, 0) + parameter.numel()
        self._flat = {
            dtype: torch.empty(size, dtype=dtype, device=device) for dtype, size in sizes.items()
        }
        begins = dict.fromkeys(sizes, 0)
        for parameter in self._used:
            begin = begins[parameter.dtype]
            begins[parameter.dtype] = begin + parameter.numel()
            part = self._flat[parameter.dtype][begin : begins[parameter.dtype]]
            self._parts.append(part.view(parameter.shape))
