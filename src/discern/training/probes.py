"""Looking into chosen steps: figures of gradients, weights and outputs for callbacks.

Owns `Probe` and the list that does a step with the probes that are due. A training without probes
never comes here: the trainer chooses its step function before the loop. A probe reads; it changes
no batch, weight or gradient. Its figures stay on the device until they are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from discern.feed.batch import Batch
from discern.training.step import StepResult, StepRules, TrainState, train_step


class Probe(Protocol):
    """Looks into the steps that are multiples of `every` (None: of the steps between readings)."""

    every: int | None

    def open(self, state: TrainState) -> None:
        """Before such a step: hooks may be set. Raises ConfigError if it cannot be looked into."""

    def look(self, state: TrainState) -> dict[str, Tensor]:
        """Between the backward pass and the clipping of gradients: figures [] by reading name."""
        ...

    def close(self) -> None:
        """After the step, also after a failed one: hooks are taken off again."""


class ProbeList:
    """Does steps, looked into by those of `probes` that are due, and keeps what they saw."""

    def __init__(self, probes: Sequence[Probe], log_every: int) -> None:
        self._probes = [(probe.every or log_every, probe) for probe in probes]
        self._seen: list[tuple[int, dict[str, Tensor]]] = []

    def __bool__(self) -> bool:
        return bool(self._probes)

    def step(self, state: TrainState, batch: Batch, rules: StepRules) -> StepResult:
        """`train_step`, with the probes that are due for the step that it becomes."""
        number = state.step + 1
        due = [probe for every, probe in self._probes if number % every == 0]
        if not due:
            return train_step(state, batch, rules)
        figures: dict[str, Tensor] = {}

        def look(now: TrainState) -> None:
            for probe in due:
                figures.update(probe.look(now))

        try:
            for probe in due:
                probe.open(state)
            result = train_step(state, batch, rules, look)
        finally:
            for probe in due:
                probe.close()
        self._seen.append((number, figures))
        return result

    def record(self, record: Callable[[int, dict[str, float]], None]) -> dict[str, float]:
        """Hand what was seen to `record`, each at its step; gives the latest figures.

        Waits for the device once for each step that was looked into.
        """
        latest: dict[str, float] = {}
        for step, figures in self._seen:
            if figures:
                values = torch.stack([figure.float() for figure in figures.values()]).tolist()
                named = dict(zip(figures, values, strict=True))
                record(step, named)
                latest.update(named)
        self._seen.clear()
        return latest

    def forget(self) -> None:
        """Drop what was seen: training goes on from an earlier step."""
        self._seen.clear()
