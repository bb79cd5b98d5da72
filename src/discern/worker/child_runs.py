"""Runs that are children of a worker: folds, trials. Started one by one, waited for, stopped."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import USAGE, ConfigError, Interrupted, RunError
from discern.config.request import Request
from discern.launch.ranks import ranks_of, start_ranks
from discern.launch.worker_process import ChildExecutor, RunHandle
from discern.track.run import Run, read_run
from discern.track.run_folder import RUN_FILE
from discern.training.accord import StopRequest


def start_child(request: Request, console: Console) -> RunHandle:
    """Start one process for the run, or as many ranks as are asked for."""
    aside = console.json or console.quiet
    ranks = ranks_of(request)
    if ranks > 1:
        return start_ranks(request, ranks, aside=aside)
    return ChildExecutor(aside=aside).submit(request)


# The folder of a group with the features that its runs share; removed when the group has ended.
KEPT_FEATURES: Final = "features"


def shared_arguments(group: Path, first: Run | None) -> dict[str, Any]:
    """What each run of the group in `group` is given of the others' work.

    Features of a frozen network, and the precision that its `first` finished run has found out by
    trying: timed anew, chance could choose another one for some of the runs.
    """
    shared: dict[str, Any] = {"kept_features": str(group / KEPT_FEATURES)}
    if first is not None:
        value = first.record["choices"]["precision"]["value"]
        shared["choices"] = {"precision": {"value": value, "reason": f"as in {first.id}"}}
    return shared


def forget_features(group: Path) -> None:
    """Remove what the runs of the group have shared."""
    if (group / KEPT_FEATURES).is_dir():
        shutil.rmtree(group / KEPT_FEATURES)


def failed_run(path: Path, name: str, code: int) -> RunError | ConfigError:
    """What the run in `path`, called `name`, ended with, told as its parent's own end."""
    end = read_run(path).exit_record() if (path / RUN_FILE).is_file() else None
    told = (end or {}).get("error") or {}
    kind = ConfigError if code == USAGE else RunError
    return kind(
        f"the run of {name} failed: {told.get('what') or f'exit code {code}'}",
        where=told.get("where") or path,
        got=told.get("got"),
        expected=told.get("expected"),
        hint=told.get("hint")
        or "its own words stand above; the same command again goes on with it",
    )


def stopped_group(where: str, unfinished: str) -> Interrupted:
    """The end of a group of runs that was asked to stop in `unfinished`."""
    return Interrupted(
        "stopped as asked; everything is saved",
        where=where,
        hint=f"give the same command again to go on with the unfinished {unfinished}",
    )


@contextlib.contextmanager
def stop_while_waiting() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM end the wait for a child, to which the wait passes them on."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python hands signals to the main thread alone
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        stop.requested = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
