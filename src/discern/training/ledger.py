"""The scores of a run's evaluations: which checkpoint is best, which are kept."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Entry:
    """One evaluation on the images that the model is chosen by."""

    step: int
    stage: str
    epoch: int
    accuracy: float
    loss: float


class Ledger:
    """Every evaluation so far, and the ranking by the monitored figure."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Note one evaluation."""
        self.entries.append(entry)

    def ranked(self, monitor: str) -> list[Entry]:
        """Best first. Equal accuracy is decided by the loss, equal both by the later step."""

        def rank(entry: Entry) -> tuple[float, float, int]:
            loss = entry.loss if math.isfinite(entry.loss) else math.inf
            if monitor == "loss":
                return (loss, -entry.accuracy, -entry.step)
            return (-entry.accuracy, loss, -entry.step)

        return sorted(self.entries, key=rank)

    def state(self) -> list[dict[str, Any]]:
        """The entries as JSON values."""
        return [asdict(entry) for entry in self.entries]

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Take back what `state` gave."""
        self.entries = [Entry(**entry) for entry in state]
