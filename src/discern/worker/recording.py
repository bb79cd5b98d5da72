"""Joins the trainer to the run folder: metrics, event files, log; and opens its callbacks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from discern.base.console import Console
from discern.config.schema import TrackingConfig
from discern.track.run import RunWriter
from discern.track.tracker_outlet import AddPoint
from discern.track.writers.names import open_outlet
from discern.training.callbacks import Callback, Place
from discern.training.stock.bottleneck import Bottleneck
from discern.training.stock.histograms import Histograms
from discern.training.stock.names import open_callback
from discern.training.stock.time_limit import TimeLimit


def writer_names(tracking: TrackingConfig) -> list[str]:
    """The writers besides the run's own log, each once."""
    events = ["tensorboard"] if tracking.tensorboard else []
    return list(dict.fromkeys([*events, *tracking.writers]))


class RunRecorder:
    """The trainer's recorder that writes into a run folder, and through the `writers` named.

    Without the writer `tensorboard` the run gets no event files. Raises ConfigError for a writer
    that is not known or not installed.
    """

    def __init__(self, writer: RunWriter, console: Console, writers: Sequence[str] = ()) -> None:
        self._writer = writer
        self.console = console
        if "tensorboard" not in writers:
            writer.events = None
        # A full disk is an error of a training: its checkpoints need the same disk.
        self._outlet = open_outlet(writer, writers, self.warn, drops_when_full=False)
        self._series: dict[str, AddPoint] = {}

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Add each figure to its series."""
        moment = time.time()
        for name, value in readings.items():
            add = self._series.get(name)
            if add is None:
                add = self._series[name] = self._outlet.series(name)
            add(step, float(value), moment)
        if "val/accuracy" in readings:
            self._writer.log(
                f"step {step}: val accuracy {readings['val/accuracy']:.4f}, "
                f"loss {readings['val/loss']:.4f}"
            )

    def distribution(self, name: str, step: int, values: NDArray[Any]) -> None:
        """Hand flat `values` to the writers that keep distributions."""
        self._outlet.distribution(name, step, time.time(), values)

    def flush(self) -> None:
        """Make what was recorded durable."""
        self._writer.flush(sync=True)

    def rewind(self, step: int) -> None:
        """Later points no longer count: training goes on from `step`."""
        self._outlet.rewind(step)
        self._writer.log(f"going on from step {step}")

    def say(self, text: str) -> None:
        """Tell the terminal and the log."""
        self._writer.log(text)
        self.console.say(text)

    def warn(self, text: str) -> None:
        """Tell the terminal and the log."""
        self._writer.log(f"warning: {text}")
        self.console.warn(text)


def open_callbacks(tracking: TrackingConfig) -> list[Callback]:
    """The callbacks that the config asks for, by name and by its own keys. Raises ConfigError."""
    opened: list[Callback] = [Bottleneck()]
    if tracking.time_limit is not None:
        opened.append(TimeLimit(tracking.time_limit))
    if tracking.profile is not None:
        opened.append(open_callback("profiler", {"steps": tracking.profile}, where="--profile"))
    if tracking.histograms is not None:
        opened.append(Histograms(tracking.histograms))
    for place, spec in enumerate(tracking.callbacks):
        opened.append(open_callback(spec.name, spec.args, where=f"tracking.callbacks.{place}"))
    return opened


def attach_callbacks(callbacks: Sequence[Callback], folder: Path, recorder: RunRecorder) -> None:
    """Tell the callbacks which run they work for."""
    place = Place(
        folder=folder, say=recorder.console.say, warn=recorder.console.warn,
        distribute=recorder.distribution,
    )  # fmt: skip
    for callback in callbacks:
        callback.attach(place)
