"""Where a trainer's readings go."""

from __future__ import annotations

from typing import Protocol


class Recorder(Protocol):
    """Where readings go: a run folder, or nowhere."""

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Take plain figures of one step."""

    def flush(self) -> None:
        """Make what was recorded durable."""

    def rewind(self, step: int) -> None:
        """Forget the figures of later steps: training goes on from `step`."""

    def say(self, text: str) -> None:
        """Tell the user how things stand."""

    def warn(self, text: str) -> None:
        """Tell the user something that must not be missed."""


class NoRecorder:
    """Keeps nothing: of several ranks the first records for all."""

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Forget."""

    def flush(self) -> None:
        """Nothing to flush."""

    def rewind(self, step: int) -> None:
        """Nothing to rewind."""

    def say(self, text: str) -> None:
        """Rank 0 tells the same."""

    def warn(self, text: str) -> None:
        """Rank 0 tells the same."""
