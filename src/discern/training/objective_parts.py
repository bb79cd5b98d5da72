"""Objectives of several parts, and of a batch that comes in several passes.

Owns the weighted sum, what a part of a batch adds to the batch's loss, and the search for parts
that have weights of their own. Names and formulas are in `objectives` and `objective_terms`.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import cache, wraps
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.models.classifier import Output
from discern.models.named_heads import head_logits
from discern.training import objective_terms as formulas
from discern.training.objective_terms import Objective


class Parted(Protocol):
    """An objective that is the sum of named parts."""

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of `parts`, in their order."""
        ...

    def parts(
        self, output: Output, targets: Tensor, whole: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The parts [] by name, each with its weight; see `share_of_batch` for `whole`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightedSum:
    """An objective of several, each times its weight; those of weight 0 are not computed.

    `terms` are (name, weight, objective), each name once.
    """

    terms: tuple[tuple[str, float, Objective], ...]

    def __call__(self, output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        """The sum of `parts`."""
        return torch.stack(list(self.parts(output, targets, whole).values())).sum()

    def parts(
        self, output: Output, targets: Tensor, whole: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each term's weighted value [], by its name: their sum is the loss.

        `whole`: the targets of the batch that these are a part of, see `share_of_batch`.
        """
        return {
            name: weight * share_of_batch(part, output, targets, whole)
            for name, weight, part in self.terms
            if weight
        }

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of `parts`, in their order."""
        return tuple(name for name, weight, _ in self.terms if weight)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadsObjective:
    """The objective of several heads: of each head its own, times its weight, summed.

    `terms` are (head, weight, objective); a head of weight 0 is not trained. Each objective gets
    its head's logits and targets, and the features that all heads share. A head without a label in
    the batch adds 0.
    """

    terms: tuple[tuple[str, float, Objective], ...]

    def __call__(self, output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        """The sum of `parts`; logits and targets are mappings by head name."""
        return torch.stack(list(self.parts(output, targets, whole).values())).sum()

    def parts(
        self, output: Output, targets: Tensor, whole: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Each head's weighted loss [] by its name; of a head with parts `HEAD/PART` each."""
        found: dict[str, Tensor] = {}
        logits = head_logits(output)
        wanted: Any = targets
        every: Any = whole
        for head, weight, objective in self.terms:
            if not weight:
                continue
            own = Output(logits[head], output.features)
            rest = None if every is None else every[head]
            if isinstance(objective, WeightedSum):
                for name, value in objective.parts(own, wanted[head], rest).items():
                    found[f"{head}/{name}"] = weight * value
            else:
                found[head] = weight * share_of_batch(objective, own, wanted[head], rest)
        return found

    @property
    def part_names(self) -> tuple[str, ...]:
        """The names of `parts`, in their order."""
        names: list[str] = []
        for head, weight, objective in self.terms:
            if weight and isinstance(objective, WeightedSum):
                names += [f"{head}/{name}" for name in objective.part_names]
            elif weight:
                names.append(head)
        return tuple(names)


def fed_in_full(objective: Objective, name: str) -> Objective:
    """One's own objective, given float32 where the network computes in half precision.

    As autocast gives it to torch's losses; Discern's own formulas see to it themselves. Raises
    ConfigError, telling `name`, when it is called and gives anything but one number.
    """
    if isinstance(objective, nn.Module):
        objective.register_forward_pre_hook(lambda _, given: (_in_full(given[0]), *given[1:]))
        objective.register_forward_hook(lambda _, __, loss: _one_number(loss, name))
        return objective

    @wraps(objective)
    def called(output: Output, targets: Tensor, **more: Any) -> Tensor:
        return _one_number(objective(_in_full(output), targets, **more), name)

    return called


def _one_number(loss: Any, name: str) -> Tensor:
    if isinstance(loss, Tensor) and loss.numel() == 1:
        return loss
    raise ConfigError(
        "an objective gives one number, as a tensor",
        where=f"objective '{name}'",
        got=f"a tensor {list(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__,
        expected="a tensor of one element, such as the mean over the batch",
    )


def _in_full(output: Output) -> Output:
    full = formulas.in_full_precision
    return output._replace(logits=full(output.logits), features=full(output.features))


def share_of_batch(
    objective: Objective, output: Output, targets: Tensor, whole: Tensor | None
) -> Tensor:
    """What a part of a batch adds to its loss; `whole`: the targets of all of it, None: all here.

    An objective that takes `whole` divides by what is labeled in it, class weights and all, so that
    the parts' losses and gradients add up to the batch's. Another one's mean counts by the labeled
    samples of the part. Losses over pairs of samples have the pairs within a part only.
    """
    if whole is None:
        return objective(output, targets)
    if takes_whole(objective):
        return objective(output, targets, whole=whole)
    loss = objective(output, targets)
    own, every = formulas.labeled_count(targets), formulas.labeled_count(whole)
    return loss * (own.to(loss.dtype) / every.clamp(min=1))


@cache
def takes_whole(objective: Objective) -> bool:
    """True for an objective with a parameter `whole`, see `share_of_batch`."""
    inside = objective.forward if isinstance(objective, nn.Module) else objective
    return "whole" in inspect.signature(inside).parameters


def learned_parts(objective: Objective) -> nn.ModuleDict:
    """What in `objective` has parameters of its own (ArcFace's centers), by term; empty for most.

    The caller moves it to the device, adds its parameters to the optimizer and saves its state.
    """
    if isinstance(objective, WeightedSum | HeadsObjective):
        found = nn.ModuleDict()
        for label, _, part in objective.terms:
            inner = learned_parts(part)
            if len(inner):
                found[re.sub(r"\W", "_", label)] = inner
        return found
    if isinstance(objective, nn.Module) and any(True for _ in objective.parameters()):
        return nn.ModuleDict({"objective": objective})
    return nn.ModuleDict()
