"""Writing and ending one run. Owns the writing of `run.json` and `exit.json`.

`run.json` (version 1) is rewritten atomically by the holder of the run's lock only; its `attempt`
is the fencing number: a writer whose number is not the newest may commit nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, Self

from discern.base.errors import INTERRUPTED as EXIT_INTERRUPTED
from discern.base.errors import OK, RUN_FAILURE, DiscernError, Interrupted, PartError, RunError
from discern.base.faults import as_told
from discern.base.files import write_json, write_text
from discern.track.event_files import EventFiles
from discern.track.metrics_log import MetricsLog
from discern.track.plain_values import to_plain
from discern.track.run_folder import (
    CONFIG_FILE,
    EVENTS,
    EXIT_FILE,
    FAILED,
    FINISHED,
    INTERRUPTED,
    LOG_FILE,
    RUN_FILE,
    Run,
    read_run,
)
from discern.track.run_lock import RunLock
from discern.track.run_log import RunLog

_END_STATES: Final = {FINISHED: OK, FAILED: RUN_FAILURE, INTERRUPTED: EXIT_INTERRUPTED}
# Kept by this floor; a caller's fields may not set them.
_OWN_FIELDS: Final = ("format", "version", "status", "attempt", "attempts", "created")


def utc_now() -> str:
    """This moment: ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def plain_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A caller's fields of `run.json` as JSON values. Raises ValueError for a field of ours."""
    own = [name for name in fields if name in _OWN_FIELDS]
    if own:
        raise ValueError(f"not to be set: {', '.join(own)}")
    return {name: to_plain(value) for name, value in fields.items()}


@contextlib.contextmanager
def saving(path: Path) -> Iterator[None]:
    """Tell a failed write of `path` as a RunError: the old file, if there was one, is whole."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path.name} cannot be written: {error}",
            where=path.parent,
            hint="free some disk space; what was saved before is whole",
        ) from error


class RunPart(Protocol):
    """What writes into the run besides its own files, and ends with it. Nothing here raises."""

    def flush(self) -> None:
        """Bring everything into its files."""

    def problems(self) -> list[str]:
        """What is not being written, and why."""

    def close(self) -> None:
        """Flush and close."""


class RunWriter:
    """The one writer of a run: `with` it, and the run is ended and unlocked in every case.

    `path`: the run's folder; `attempt`: from 1; `metrics`: the log of figures; `events`: the
    TensorBoard files, which a caller may set to None. Leaving the block by an error ends the run
    as failed (interrupted for `Interrupted` and KeyboardInterrupt), unless `finish` was called.
    """

    def __init__(self, path: Path, lock: RunLock, record: dict[str, Any]) -> None:
        self.path = path
        self.attempt = int(record["attempt"])
        self._lock = lock
        self._record = record
        self._guard = threading.RLock()
        self._ended = False
        self._log = RunLog(path / LOG_FILE)
        self.metrics = MetricsLog(path, self.attempt)
        self._events = EventFiles(path / EVENTS)
        # A caller that sets `events` to None wants none; what was opened is closed all the same.
        self.events: EventFiles | None = self._events
        self._parts: list[RunPart] = []
        if self.metrics.cut_bytes:
            self.log(
                f"warning: the metrics ended in {self.metrics.cut_bytes} bytes that are no whole "
                f"block; they were set aside in metrics.bin.cut-{self.attempt}"
            )

    @property
    def record(self) -> dict[str, Any]:
        """The contents of `run.json` as last written; change them by `update` only."""
        return dict(self._record)

    @property
    def run(self) -> Run:
        """This run as readers see it now."""
        return read_run(self.path)

    def log(self, text: str) -> None:
        """Append lines to `log.txt`; while the disk is full they wait and `problems` tells."""
        self._log.add(text)

    def join(self, part: RunPart) -> None:
        """Flush `part` with this run, tell its problems, and close it before the run ends."""
        self._parts.append(part)

    def update(self, **fields: Any) -> None:
        """Set fields of `run.json`; the file is replaced whole.

        Paths and numpy numbers become plain; a number that is not finite becomes "nan", "inf" or
        "-inf". Raises RunError if another attempt has taken over the run, ValueError for a field
        that only this module may set.
        """
        self._write(plain_fields(fields))

    def write_config(self, text: str) -> None:
        """Replace `config.yaml`, the resolved config that makes this run again."""
        self.check_fence()
        with saving(self.path / CONFIG_FILE):
            write_text(self.path / CONFIG_FILE, text)

    def check_fence(self) -> None:
        """Call before each commit: raises RunError if this attempt is not the run's newest."""
        if not self._lock.held:
            raise RunError("this process has given up the run", where=self.path)
        try:
            newest = read_run(self.path)
        except FileNotFoundError as error:
            raise RunError(
                "the run's folder is gone: it was moved or deleted while the run went on",
                where=self.path,
                hint="put it back, or go on under its new name: discern train --resume RUN",
            ) from error
        if newest.problem is not None or newest.attempt != self.attempt:
            raise RunError(
                "another process has taken over this run",
                where=self.path,
                got=newest.problem or f"attempt {newest.attempt}",
                expected=f"attempt {self.attempt}",
            )

    def flush(self, *, sync: bool = False) -> None:
        """Bring metrics, log and events into their files; with `sync` onto the disk.

        Raises RunError if metrics or log cannot be written: they are kept in memory meanwhile.
        """
        for part in self._parts:
            part.flush()
        self._log.flush(sync=sync)
        self.metrics.flush(sync=sync)
        self._events.flush()

    def problems(self) -> list[str]:
        """What is not being written at the moment, and why; to be shown to the person."""
        parts = (
            ("metrics wait in memory", self.metrics.failure),
            ("log lines wait in memory", self._log.failure),
        )
        told = [f"{what}: {why}" for what, why in parts if why is not None]
        told += [problem for part in self._parts for problem in part.problems()]
        events = self._events.problem
        return told if events is None else [*told, events]

    def keep_problems(self) -> None:
        """Write the problems of the moment into `run.json`, if it can be written at all."""
        with contextlib.suppress(RunError):  # it is the same disk: the end of the run tells
            self._write({"problems": self.problems()})

    def finish(
        self,
        status: str,
        reason: str,
        error: BaseException | None = None,
        *,
        exit_code: int | None = None,
    ) -> None:
        """End the attempt as finished, failed or interrupted, and unlock the run.

        Writes `exit.json` {status, reason, exit_code, error, attempt, time}, then `run.json`. What
        could not be flushed is told in `problems` of both and raised afterwards.
        """
        if status not in _END_STATES:
            raise ValueError(f"{status!r} is none of {', '.join(_END_STATES)}")
        with self._guard:
            if self._ended:
                return
            self._ended = True
        code = error.exit_code if isinstance(error, DiscernError) else _END_STATES[status]
        try:
            failures = self._close_files()
            self.check_fence()
            end = {
                "status": status,
                "reason": reason,
                "exit_code": code if exit_code is None else exit_code,
                "error": _error_record(error),
                "attempt": self.attempt,
                "time": utc_now(),
                "problems": [str(failure) for failure in failures] + self.problems(),
            }
            with saving(self.path / EXIT_FILE):
                write_json(self.path / EXIT_FILE, to_plain(end))
            attempts = [*self._record["attempts"][:-1], dict(self._record["attempts"][-1])]
            attempts[-1].update(end=end["time"], status=status, reason=reason)
            fields = {"status": status, "attempts": attempts, "problems": end["problems"]}
            self._write(fields)
        finally:
            self._lock.close()
        if failures and error is None:
            raise failures[0]

    def close(self) -> None:
        """End a run that nobody ended: as failed."""
        self.finish(FAILED, "closed before its end")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.finish(FINISHED, "done")
        elif isinstance(error, (Interrupted, KeyboardInterrupt)):
            self._finish_by(INTERRUPTED, error)
        else:
            self._finish_by(FAILED, error)

    def _finish_by(self, status: str, error: BaseException) -> None:
        """Finish because of `error`; a second failure on the way is added to it, not put first."""
        self.log(f"{status}: {type(error).__name__}: {error}")
        try:
            self.finish(status, str(error) or type(error).__name__, error)
        except RunError as second:
            error.add_note(f"and the run's end could not be written: {second}")

    def _write(self, fields: Mapping[str, Any]) -> None:
        with self._guard:
            self.check_fence()
            record = {**self._record, **fields}
            with saving(self.path / RUN_FILE):
                write_json(self.path / RUN_FILE, record)
            self._record = record

    def _close_files(self) -> list[RunError]:
        failures = []
        for part in self._parts:
            part.close()
        for close in (self.metrics.close, self._log.close):
            try:
                close()
            except RunError as error:
                failures.append(error)
        self._events.close()
        return failures


def _error_record(error: BaseException | None) -> dict[str, Any] | None:
    if error is None:
        return None
    told = as_told(error)
    if isinstance(error, DiscernError) or isinstance(told, PartError):
        return told.record()
    return RunError(f"{type(error).__name__}: {error}").record()
