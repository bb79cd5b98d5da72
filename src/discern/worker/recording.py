"""Joins the trainer to the run folder: metrics, event files, log; and opens users' callbacks."""

from __future__ import annotations

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.config.schema import TrackingConfig
from discern.track.run import RunWriter
from discern.training.callbacks import Callback


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

    def warn(self, text: str) -> None:
        """Tell the terminal and the log."""
        self._writer.log(f"warning: {text}")
        self._console.warn(text)


def user_callbacks(tracking: TrackingConfig) -> list[Callback]:
    """The callbacks that the config names, made with their arguments. Raises ConfigError."""
    opened = []
    for place, spec in enumerate(tracking.callbacks):
        where = f"tracking.callbacks.{place}"
        if not is_import_path(spec.name):
            raise ConfigError(
                "a callback is named by its import path",
                where=where,
                got=spec.name,
                expected="package.module:name or ./my_file.py:name",
            )
        target = open_import_path(spec.name, where=where)
        check_arguments(target, spec.args, where=where)
        callback = target(**spec.args)
        if not isinstance(callback, Callback):
            raise ConfigError(
                "not a callback", where=where, got=type(callback).__name__,
                expected="a class derived from discern.training.callbacks.Callback",
            )  # fmt: skip
        opened.append(callback)
    return opened
