"""The scores of a run's evaluations: which checkpoint is best, which are kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from discern.training.monitor import LAST_EPOCH, Monitor, open_monitor


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation on the images that the model is chosen by; `figures`: all of it, by name."""

    step: int
    stage: str
    epoch: int
    accuracy: float
    loss: float
    figures: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """The figure of this name; NaN if it was not computed then.

        `last` is the step, but of an evaluation without a finite loss: such weights are not kept.
        """
        if name == LAST_EPOCH:
            return float(self.step) if math.isfinite(self.loss) else math.nan
        if name == "accuracy":
            return self.accuracy
        return self.loss if name == "loss" else self.figures.get(name, math.nan)

    def record(self) -> dict[str, Any]:
        """The entry as JSON values: None for what is not a number."""
        figures = {"accuracy": self.accuracy, "loss": self.loss, **self.figures}
        told = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        return {"step": self.step, "stage": self.stage, "epoch": self.epoch, **told}


def new_entry(step: int, stage: str, epoch: int, figures: Mapping[str, float]) -> Entry:
    """The entry of one evaluation's `figures`, `accuracy` and `loss` among them."""
    further = {name: figures[name] for name in figures if name not in ("accuracy", "loss")}
    return Entry(step, stage, epoch, figures["accuracy"], figures["loss"], further)


class Ledger:
    """Every evaluation so far, and the ranking by the monitored figure.

    `monitors`: each stage's own, by the stage's name, for the best of each stage.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.monitors: dict[str, Monitor] = {}

    def add(self, entry: Entry) -> None:
        """Note one evaluation."""
        self.entries.append(entry)

    def ranked(self, monitor: Monitor | str, *, stage: str | None = None) -> list[Entry]:
        """Best first, of all stages or one. Equal ones: by the loss, then by the later step."""
        by = open_monitor(monitor) if isinstance(monitor, str) else monitor

        def rank(entry: Entry) -> tuple[float, float, float, int]:
            loss = entry.loss if math.isfinite(entry.loss) else math.inf
            return (-by.merit(entry.value(by.name)), loss, -entry.accuracy, -entry.step)

        return sorted((e for e in self.entries if stage in (None, e.stage)), key=rank)

    def stage_bests(self) -> list[Entry]:
        """The best entry of each stage by its own monitor: later stages may start from it."""
        ranked = [self.ranked(monitor, stage=name) for name, monitor in self.monitors.items()]
        return [entries[0] for entries in ranked if entries]

    def state(self) -> list[dict[str, Any]]:
        """The entries as JSON values."""
        return [asdict(entry) for entry in self.entries]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take back what `state` gave."""
        self.entries = [Entry(**entry) for entry in state]
