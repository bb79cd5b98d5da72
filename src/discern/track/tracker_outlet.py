"""Where a tracker's figures go: the run's own log at once, further writers through a queue."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DiscernError
from discern.track.artifact_files import ArtifactFiles
from discern.track.artifact_image import encode_png
from discern.track.metrics_log import MetricsLog
from discern.track.run_lock import call_in_forked_child
from discern.track.tracked_records import (
    Artifact,
    Distribution,
    Point,
    Record,
    SampleValues,
    TrackWriter,
)

# Writers besides the native one get what was saved this often.
_WAKE_S: Final = 0.2
# Beyond this many records that wait for slow writers, the caller waits for them, too.
_MOST_WAITING: Final = 100_000

AddPoint = Callable[[int, float, float], None]


class Nowhere:
    """Without a run: figures are shown and forgotten."""

    def series(self, name: str) -> AddPoint:  # noqa: ARG002
        """Forgets points."""
        return _forget

    def distribution(self, name: str, step: int, time: float, values: Any) -> None:
        """Forgets a distribution."""

    def indexed(self, name: str, step: int, time: float, indices: Any, values: Any) -> None:
        """Forgets values of samples."""

    def artifact(self, kind: str, name: str, step: int, time: float, content: Any) -> None:
        """Forgets an image, a text or a tensor."""


def _forget(step: int, value: float, time: float) -> None:
    """No place to write to."""


class RunOutlet:
    """Writes into the run at `folder`: `log` gets points at once, `writers` by name from a thread.

    A writer that raises is left out from then on; `warn` is told once, `problems` keeps it. The
    caller closes `log`, which may be None for none. `drops_when_full`: points that a full disk does
    not take for too long are lost and told, instead of being raised in the caller's loop.
    """

    def __init__(
        self,
        folder: Path,
        log: MetricsLog | None,
        writers: Mapping[str, TrackWriter],
        warn: Callable[[str], None],
        *,
        drops_when_full: bool = True,
    ) -> None:
        self._log = log
        self._artifacts = ArtifactFiles(folder)
        self._writers = dict(writers)
        self._warn = warn
        self._problems: dict[str, str] = {}
        self._queue: list[Record] = []
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        if log is not None:
            log.drops_when_full = drops_when_full
        if writers:
            self._thread = threading.Thread(target=self._run, name="writers", daemon=True)
            self._thread.start()
        call_in_forked_child(self._forget_in_child)
        atexit.register(self.close)

    def series(self, name: str) -> AddPoint:
        """The way of the points of one series."""
        native = None if self._log is None else self._log.series(name).add
        if not self._writers:
            return native or _forget
        put = self._put

        def add(step: int, value: float, time: float) -> None:
            if native is not None:
                native(step, value, time)
            put(Point(name, step, time, value))

        return add

    def distribution(self, name: str, step: int, time: float, values: Any) -> None:
        """For the writers that keep distributions."""
        self._put(Distribution(name, step, time, values))

    def indexed(self, name: str, step: int, time: float, indices: Any, values: Any) -> None:
        """For the writers that keep values of samples."""
        self._put(SampleValues(name, step, time, indices, values))

    def artifact(self, kind: str, name: str, step: int, time: float, content: Any) -> None:
        """Write the file at once, then tell the writers."""
        if kind == "image":
            content = encode_png(name, content)
        try:
            file = self._artifacts.save(kind, name, step, time, content)
        except OSError as error:
            self._tell("artifacts", f"'{name}' of step {step} is lost: {error}")
            return
        self._put(Artifact(name, step, time, kind, file, content))

    def problems(self) -> list[str]:
        """What is not being written, and why."""
        self._ask_writers()
        return [f"{name}: {text}" for name, text in self._problems.items()]

    def report(self, name: str, error: Exception) -> None:
        """Tell that the writer `name` does not write: because of `error`."""
        what = error.what if isinstance(error, DiscernError) else str(error)
        self._tell(name, f"stopped by {type(error).__name__}: {what}")

    def rewind(self, step: int) -> None:
        """Training goes on from `step`: figures of later steps do not count any more."""
        with self._lock:
            self._drain()
            if self._log is not None:
                self._log.rewind(step)
            self._artifacts.rewind(step)
            for name in list(self._writers):
                self._guard(name, lambda writer: writer.rewind(step))

    def flush(self) -> None:
        """Bring everything into the files of all writers; the caller flushes the log."""
        with self._lock:
            self._drain()
            for name in list(self._writers):
                self._guard(name, lambda writer: writer.flush())

    def close(self) -> None:
        """Flush and close the writers; a second call does nothing."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)
        with self._lock:
            self._drain()
            for name in list(self._writers):
                self._guard(name, lambda writer: writer.close())
            self._ask_writers()
            self._writers.clear()

    def _ask_writers(self) -> None:
        """A writer that goes on in spite of a problem tells it by `problem`, if it has one."""
        for name, writer in list(self._writers.items()):
            problem = getattr(writer, "problem", None)
            if isinstance(problem, str):
                self._problems[name] = problem
            elif problem is None and hasattr(writer, "problem"):
                self._problems.pop(name, None)

    def _put(self, record: Record) -> None:
        if self._writers:
            self._queue.append(record)
            if len(self._queue) > _MOST_WAITING:
                self._drain()

    def _run(self) -> None:
        while not self._stop.wait(_WAKE_S):
            self._drain()

    def _drain(self) -> None:
        with self._lock:
            count = len(self._queue)
            records = self._queue[:count]
            del self._queue[:count]
            if records:
                for name in list(self._writers):
                    self._guard(name, lambda writer: writer.write(records))

    def _guard(self, name: str, action: Callable[[TrackWriter], None]) -> None:
        try:
            action(self._writers[name])
        # A writer may be anybody's: whatever it raises must not end the training.
        except Exception as error:  # noqa: BLE001
            del self._writers[name]
            self.report(name, error)

    def _tell(self, name: str, text: str) -> None:
        is_new = name not in self._problems
        self._problems[name] = text
        if is_new:
            self._warn(f"the writer '{name}': {text}; training goes on")

    def _forget_in_child(self) -> None:
        """In a forked child: files, connections and what waits belong to the parent."""
        self._lock = threading.RLock()
        self._queue = []
        self._writers = {}
        self._thread = None
        atexit.unregister(self.close)
