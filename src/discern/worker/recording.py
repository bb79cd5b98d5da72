"""Joins the trainer to the run folder: metrics, event files, log; and opens its callbacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from discern.base.console import Console
from discern.config.schema import TrackingConfig
from discern.track.run import RunWriter
from discern.training.callbacks import Callback, Place
from discern.training.stock.bottleneck import Bottleneck
from discern.training.stock.names import open_callback
from discern.training.stock.time_limit import TimeLimit


class RunRecorder:
    """The trainer's recorder that writes into a run folder."""

    def __init__(self, writer: RunWriter, console: Console) -> None:
        self._writer = writer
        self._console = console

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Add each figure to its series, and to the event files if the run has them."""
        for name, value in readings.items():
            self._writer.metrics.add(name, step, value)
            if self._writer.events is not None:
                self._writer.events.add_scalar(name, value, step)
        if "val/accuracy" in readings:
            self._writer.log(
                f"step {step}: val accuracy {readings['val/accuracy']:.4f}, "
                f"loss {readings['val/loss']:.4f}"
            )

    def flush(self) -> None:
        """Make what was recorded durable."""
        self._writer.flush(sync=True)

    def rewind(self, step: int) -> None:
        """Later points no longer count: training goes on from `step`."""
        self._writer.metrics.rewind(step)
        if self._writer.events is not None:
            self._writer.events.rewind(step)
        self._writer.log(f"going on from step {step}")

    def say(self, text: str) -> None:
        """Tell the terminal and the log."""
        self._writer.log(text)
        self._console.say(text)

    def warn(self, text: str) -> None:
        """Tell the terminal and the log."""
        self._writer.log(f"warning: {text}")
        self._console.warn(text)


def open_callbacks(tracking: TrackingConfig) -> list[Callback]:
    """The callbacks that the config asks for, by name and by its own keys. Raises ConfigError."""
    opened: list[Callback] = [Bottleneck()]
    if tracking.time_limit is not None:
        opened.append(TimeLimit(tracking.time_limit))
    if tracking.profile is not None:
        opened.append(open_callback("profiler", {"steps": tracking.profile}, where="--profile"))
    for place, spec in enumerate(tracking.callbacks):
        opened.append(open_callback(spec.name, spec.args, where=f"tracking.callbacks.{place}"))
    return opened


def attach_callbacks(callbacks: Sequence[Callback], folder: Path, console: Console) -> None:
    """Tell the callbacks which run they work for."""
    place = Place(folder=folder, say=console.say, warn=console.warn)
    for callback in callbacks:
        callback.attach(place)
