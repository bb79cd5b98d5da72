"""The writers by name, and how they are opened for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import is_import_path, open_import_path
from discern.track.run_writer import RunWriter
from discern.track.tracked_records import TrackWriter
from discern.track.tracker_outlet import RunOutlet

NATIVE: Final = "native"

OpenWriter = Callable[[RunWriter], TrackWriter]


def _events(run: RunWriter) -> TrackWriter:
    from discern.track.event_files import EventFiles
    from discern.track.run_folder import EVENTS
    from discern.track.writers.event_writer import EventWriter

    return EventWriter(EventFiles(run.path / EVENTS) if run.events is None else run.events)


def _sqlite(run: RunWriter) -> TrackWriter:
    from discern.track.writers.sqlite_writer import SqliteWriter

    return SqliteWriter(run.path)


def _jsonl(run: RunWriter) -> TrackWriter:
    from discern.track.writers.text_writers import JsonLinesWriter

    return JsonLinesWriter(run.path)


def _csv(run: RunWriter) -> TrackWriter:
    from discern.track.writers.text_writers import CsvWriter

    return CsvWriter(run.path)


def _wandb(run: RunWriter) -> TrackWriter:
    from discern.track.writers.wandb_writer import WandbWriter

    return WandbWriter(run)


def _mlflow(run: RunWriter) -> TrackWriter:
    from discern.track.writers.mlflow_writer import MlflowWriter

    return MlflowWriter(run)


_WRITERS: Final[dict[str, OpenWriter]] = {
    "tensorboard": _events,
    "sqlite": _sqlite,
    "jsonl": _jsonl,
    "csv": _csv,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def open_outlet(run: RunWriter, names: Iterable[str]) -> RunOutlet:
    """An outlet into `run` that also writes through the writers named; the run closes it.

    A name is one of this module's, or an import path of a function that takes the RunWriter and
    gives a TrackWriter. The native log, `metrics.bin`, is always written. Raises ConfigError for a
    name that is not known, or a library that is not installed.
    """
    writers = {name: _open_writer(name, run) for name in dict.fromkeys(names) if name != NATIVE}

    def warn(text: str) -> None:
        run.log(f"warning: {text}")
        Console().warn(text)

    outlet = RunOutlet(run.path, run.metrics, writers, warn)
    run.join(outlet)
    return outlet


def _open_writer(name: str, run: RunWriter) -> TrackWriter:
    if name in _WRITERS:
        return _WRITERS[name](run)
    if is_import_path(name):
        opened: TrackWriter = open_import_path(name, where="writers")(run)
        return opened
    known = [NATIVE, *_WRITERS]
    raise ConfigError(
        f"there is no writer '{name}'",
        where="writers",
        got=name,
        expected=f"{', '.join(known)}, or package.module:name",
        hint=did_you_mean(name, known),
    )
