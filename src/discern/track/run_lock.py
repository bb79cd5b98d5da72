"""The lock that makes one process the only writer of a run. Owns `.lock` and its contents.

The lock is flock(2): the kernel drops it when its holder dies, at `kill -9` too, so a dead run is
never taken for a live one. The file's text only says who holds it. Forked children give up their
copy at once: else a data-loading worker that outlives a killed run would keep the run locked.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import RunError

LOCK_FILE: Final = ".lock"
# A reader that asks whether a run is alive holds the lock for some microseconds; a writer that
# meets it tries again for this long before it believes in another writer.
_PATIENCE_S: Final = 0.5
_PAUSE_S: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds a run: process, host, the host's boot, and the fencing number (the attempt)."""

    pid: int
    host: str
    boot_id: str
    fence: int


def boot_id() -> str:
    """A name of this boot of this host; 'unknown' where the system gives none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "unknown"


def this_process(fence: int) -> Holder:
    """This process as the holder of a lock."""
    return Holder(pid=os.getpid(), host=socket.gethostname(), boot_id=boot_id(), fence=fence)


def call_in_forked_child(method: Callable[[], None]) -> None:
    """Call the bound `method` in every process forked from this one while its object lives."""
    reference = weakref.WeakMethod(method)

    def call() -> None:
        alive = reference()
        if alive is not None:
            alive()

    os.register_at_fork(after_in_child=call)


class RunLock:
    """The held lock of the run folder `folder`; released by `close` or by the process's end.

    Raises RunError, naming process and host of the holder, when another process has it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_FILE
        self._handle: int | None = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(self._handle)
        except BaseException:
            self.close()
            raise
        call_in_forked_child(self.close)

    @property
    def held(self) -> bool:
        """True until `close`, and in the process that took the lock only."""
        return self._handle is not None

    def sign(self, fence: int) -> Holder:
        """Write who holds the lock, with the fencing number `fence`; gives what was written."""
        if self._handle is None:
            raise RunError("the run's lock is not held any more", where=self._path)
        holder = this_process(fence)
        text = json.dumps(asdict(holder)).encode()
        os.pwrite(self._handle, text, 0)
        os.ftruncate(self._handle, len(text))
        return holder

    def close(self) -> None:
        """Give up the lock; a forked child only closes its copy, its parent keeps the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _acquire(self, handle: int) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while not _try_lock(handle, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                holder = read_holder(self._path.parent)
                who = f"process {holder.pid} on {holder.host}" if holder else "another process"
                raise RunError(
                    f"{who} is working on this run",
                    where=self._path.parent,
                    hint="wait until it ends, stop it, or start a run under a new name",
                )
            time.sleep(_PAUSE_S)


def is_locked(folder: Path) -> bool:
    """True while a living process holds the lock of the run `folder`."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(handle, fcntl.LOCK_SH)
    finally:
        os.close(handle)


def read_holder(folder: Path) -> Holder | None:
    """Who last signed the lock of `folder`; None when nobody did, or the text is torn."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        record: dict[str, Any] = json.loads((folder / LOCK_FILE).read_bytes())
        with contextlib.suppress(TypeError):
            return Holder(**record)
    return None


def _try_lock(handle: int, kind: int) -> bool:
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
