"""Figures of outputs, weights and gradients, layer by layer: the monitor of a network's insides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.training.callbacks import Callback
from discern.training.probes import Probe
from discern.training.step import TrainState
from discern.training.stock.grad_norms import gradient_scale, name_pattern

PARTS: Final = ("outputs", "weights", "gradients")
FIGURES: Final = ("norm", "rms", "mean", "std", "max")


class LayerStatistics(Callback):
    """Figures of the tensors inside a network, every so many steps.

    Readings: `PART/FIGURE/NAME`. Parts: `outputs` of the layers that have no layers inside, over
    all images of the batch; `weights` as the step finds them; `gradients` before clipping.
    Figures: `norm` (Euclidean), `rms` (the norm over the square root of the number of values),
    `mean`, `std` (over all values), `max` (of absolute values). `every`: steps between looks, None:
    those between readings. `match`: regular expression for the whole names of layers (outputs) and
    parameters (weights, gradients).
    """

    def __init__(
        self,
        every: int | None = None,
        match: str = ".*",
        parts: Sequence[str] = PARTS,
        figures: Sequence[str] = ("norm",),
    ) -> None:
        where = "layer_statistics"
        if every is not None and every < 1:
            raise ConfigError("not a number of steps", where=where, got=every, expected=">= 1")
        _check_names(parts, PARTS, f"{where}.parts")
        _check_names(figures, FIGURES, f"{where}.figures")
        self.every = every
        self._parts, self._figures = tuple(parts), tuple(figures)
        self._pattern = name_pattern(match, f"{where}.match")
        self._hooks: list[RemovableHandle] = []
        self._outputs: dict[str, _Sums] = {}

    def probe(self) -> Probe:
        """It looks by itself."""
        return self

    def open(self, state: TrainState) -> None:
        """Listen to the layers' outputs. Raises ConfigError for a compiled network."""
        if "outputs" not in self._parts:
            return
        if state.network is not state.model and hasattr(state.network, "_orig_mod"):
            raise ConfigError(
                "a compiled network does not show the outputs of its layers",
                where="layer_statistics.parts",
                got="outputs, with compute.compile",
                expected="weights, gradients",
                hint="leave out --compile, or outputs",
            )
        self._outputs = {}
        for name, module in state.model.named_modules():
            if not list(module.children()) and self._pattern.fullmatch(name):
                self._hooks.append(module.register_forward_hook(self._listener(name)))

    def _listener(self, name: str) -> Any:
        def note(module: torch.nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001
            # Recomputed activations come a second time, during the backward pass.
            if isinstance(output, Tensor) and torch._C._current_graph_task_id() == -1:
                self._outputs.setdefault(name, _Sums(self._figures)).add(output.detach())

        return note

    def look(self, state: TrainState) -> dict[str, Tensor]:
        """The figures: float32 []."""
        found: dict[str, Tensor] = {}
        for name, sums in self._outputs.items():
            found |= self._named("outputs", name, sums)
        for name, parameter in state.model.named_parameters():
            if not self._pattern.fullmatch(name):
                continue
            if "weights" in self._parts:
                found |= self._named("weights", name, _Sums(self._figures).add(parameter.detach()))
            if "gradients" in self._parts and parameter.grad is not None:
                gradient = parameter.grad.detach() / gradient_scale(state)
                found |= self._named("gradients", name, _Sums(self._figures).add(gradient))
        return found

    def _named(self, part: str, name: str, sums: _Sums) -> dict[str, Tensor]:
        return {f"{part}/{figure}/{name}": sums.figure(figure) for figure in self._figures}

    def close(self) -> None:
        """Stop listening."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self._outputs = [], {}


class _Sums:
    """Figures of one tensor, or of several that are parts of one; only what is asked for is summed.

    Parts are joined by the means and squared distances of Chan et al. 1983, so that the spread of
    values far from zero is not lost in rounding.
    """

    def __init__(self, figures: Sequence[str]) -> None:
        self._figures = figures
        self._sizes: list[int] = []
        self._parts: dict[str, list[Tensor]] = {"norm": [], "max": [], "mean": [], "distance": []}

    def add(self, values: Tensor) -> _Sums:
        """Take the values of a tensor of any shape in; one without values changes nothing."""
        if not values.numel():
            return self
        values, parts = values.float(), self._parts
        self._sizes.append(values.numel())
        if "norm" in self._figures or "rms" in self._figures:
            parts["norm"].append(torch.linalg.vector_norm(values))
        if "max" in self._figures:
            parts["max"].append(values.abs().max())
        if "mean" in self._figures or "std" in self._figures:
            mean = values.mean()
            parts["mean"].append(mean)
            if "std" in self._figures:
                parts["distance"].append((values - mean).square().sum())
        return self

    def figure(self, name: str) -> Tensor:
        """One of the figures asked for, of all values taken in; NaN of none."""
        if not self._sizes:
            return torch.tensor(math.nan)
        columns = {part: torch.stack(found) for part, found in self._parts.items() if found}
        count = sum(self._sizes)
        if name == "max":
            return columns["max"].max()
        if name in ("norm", "rms"):
            norm: Tensor = torch.linalg.vector_norm(columns["norm"])
            return norm if name == "norm" else norm / count**0.5
        means = columns["mean"]
        sizes = torch.tensor(self._sizes, dtype=means.dtype, device=means.device)
        mean = (means * sizes).sum() / count
        if name == "mean":
            return mean
        between = (sizes * (means - mean).square()).sum()
        spread: Tensor = ((columns["distance"].sum() + between) / count).sqrt()
        return spread


def _check_names(given: Sequence[str], known: Sequence[str], where: str) -> None:
    for name in given:
        if name not in known:
            raise ConfigError(
                f"there is no '{name}' here", where=where, got=name, expected=", ".join(known),
                hint=did_you_mean(name, known),
            )  # fmt: skip
    if not given:
        raise ConfigError("nothing is asked for", where=where, expected=", ".join(known))
