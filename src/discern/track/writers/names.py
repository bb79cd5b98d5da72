"""The writers by name, and how they are opened for a run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Final

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import is_import_path, open_import_path
from discern.track.run_writer import RunWriter
from discern.track.tracked_records import TrackWriter
from discern.track.tracker_outlet import RunOutlet
from discern.track.writers.web_address import SCHEMES, split_address

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


def _web(run: RunWriter, address: str) -> TrackWriter:
    from discern.track.writers.web_writer import WebWriter

    return WebWriter(run, address)


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
# Those that come with an extra of their own name.
_LIBRARIES: Final = ("wandb", "mlflow")


def check_writers(names: Iterable[str], *, where: str) -> None:
    """Raise ConfigError for a writer that is not known, or whose library is not installed."""
    for name in names:
        if name.startswith(SCHEMES):
            split_address(name)
        elif is_import_path(name):
            open_import_path(name, where=where)
        elif name != NATIVE and name not in _WRITERS:
            raise _unknown(name, where)
        elif name in _LIBRARIES and not sys.modules.get(name) and find_spec(name) is None:
            raise ConfigError(
                f"the writer '{name}' needs a library that is not installed",
                where=where,
                got=name,
                hint=f"pip install 'discern[{name}]'",
            )


def open_outlet(
    run: RunWriter,
    names: Iterable[str],
    warn: Callable[[str], None] | None = None,
    *,
    drops_when_full: bool = True,
) -> RunOutlet:
    """An outlet into `run` that also writes through the writers named; the run closes it.

    A name is one of this module's, the address of an HTTP server, or an import path of a function
    that takes the RunWriter and gives a TrackWriter. The native log, `metrics.bin`, is always
    written. Raises ConfigError for a name that is not known, or a library that is not installed.
    Any other writer that cannot be opened, or that fails later, is left out: `warn` (default: log
    and terminal) is told, and `run.json` keeps it among its problems. `drops_when_full`: see
    `RunOutlet`.
    """
    writers, failed = {}, {}
    for name in dict.fromkeys(names):
        if name == NATIVE:
            continue
        try:
            writers[name] = _open_writer(name, run)
        except ConfigError:
            raise
        # A writer may be anybody's: whatever it raises must not end the training.
        except Exception as error:  # noqa: BLE001
            failed[name] = error
    tell = warn or _log_and_terminal(run)

    def tell_and_keep(text: str) -> None:
        tell(text)
        run.keep_problems()

    outlet = RunOutlet(
        run.path, run.metrics, writers, tell_and_keep, drops_when_full=drops_when_full
    )
    run.join(outlet)
    for name, why in failed.items():
        outlet.report(name, why)
    return outlet


def _log_and_terminal(run: RunWriter) -> Callable[[str], None]:
    def warn(text: str) -> None:
        run.log(f"warning: {text}")
        Console().warn(text)

    return warn


def _open_writer(name: str, run: RunWriter) -> TrackWriter:
    if name in _WRITERS:
        return _WRITERS[name](run)
    if name.startswith(SCHEMES):
        return _web(run, name)
    if is_import_path(name):
        opened: TrackWriter = open_import_path(name, where="writers")(run)
        return opened
    raise _unknown(name, "writers")


def _unknown(name: str, where: str) -> ConfigError:
    known = [NATIVE, *_WRITERS]
    return ConfigError(
        f"there is no writer '{name}'",
        where=where,
        got=name,
        expected=f"{', '.join(known)}, http://host/path, or package.module:name",
        hint=did_you_mean(name, known),
    )
