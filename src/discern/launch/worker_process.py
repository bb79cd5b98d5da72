"""The worker's command line, and the two ways to start one: become it, or run it as a child."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol

from discern.config.request import Request, write_request

_PR_SET_PDEATHSIG = 1
_STDERR = 2
# No block of its own for a large tensor, no heap given back, 256 MiB taken from the kernel at a
# time, in pages of 2 MiB where the kernel has them (`madvise`).
_KEEP_FREED_MEMORY = ":".join((
    "glibc.malloc.mmap_max=0",
    f"glibc.malloc.trim_threshold={1 << 40}",
    f"glibc.malloc.top_pad={256 << 20}",
    "glibc.malloc.hugetlb=1",
))  # fmt: skip


def worker_command(verb: str, request: Path, run: Path | None = None) -> list[str]:
    """The command that every launcher uses: CLI, torchrun, schedulers, sweeps."""
    command = [sys.executable, "-m", "discern.worker", verb, "--request", str(request)]
    return command if run is None else [*command, "--run", str(run)]


def request_file(request: Request) -> Path:
    """Write `request` to a temporary file of this user; the worker removes it once read."""
    handle, name = tempfile.mkstemp(prefix="discern-request-", suffix=".json")
    os.close(handle)
    path = Path(name)
    write_request(path, request)
    return path


def become_worker(request: Request) -> NoReturn:
    """Replace this process by the worker: same pid, signals and exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    command = worker_command(request.verb, request_file(request))
    os.execve(command[0], command, worker_environment())  # noqa: S606


def worker_environment() -> dict[str, str]:
    """This process's environment, with what lets a worker's cores do arithmetic alone.

    Waiting threads spin briefly, then sleep: GNU OpenMP's own 300,000 spins made a small network's
    training more than ten times slower where other programs used the cores, and no spins at all
    half as fast where none did; 2,000 cost neither. Memory that is freed stays with the worker: by
    default glibc gives a block above 32 MB back to the kernel, which clears it again at the next
    step, more than a third of the CPU time of a photo network (docs/lab-log.md has both
    measurements). Values set by the user stay; other C libraries know neither name.
    """
    return {"GOMP_SPINCOUNT": "2000", "GLIBC_TUNABLES": _KEEP_FREED_MEMORY, **os.environ}


class RunHandle(Protocol):
    """A worker that was started."""

    def wait(self) -> int:
        """Wait for its end; gives its exit code."""

    def stop(self) -> None:
        """Ask it to save and stop."""


class Executor(Protocol):
    """Starts workers somewhere."""

    def submit(self, request: Request) -> RunHandle:
        """Start a worker for `request`."""


@dataclass(slots=True)
class ChildHandle:
    """A worker that runs as a child of this process."""

    process: subprocess.Popen[bytes]

    def wait(self) -> int:
        """Wait for its end; an interrupt is passed on once, and the child's end awaited."""
        try:
            return self.process.wait()
        except KeyboardInterrupt:
            self.stop()
            return self.process.wait()

    def stop(self) -> None:
        """Ask it to finish its step, save and stop."""
        self.process.send_signal(signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class ChildExecutor:
    """Runs each worker as a child in its own process group, which dies with this process.

    `aside`: what the children print goes to stderr, for a parent whose stdout is one object.
    """

    aside: bool = False

    def submit(self, request: Request) -> ChildHandle:
        """Start a worker for `request`."""
        command = worker_command(request.verb, request_file(request))
        process = subprocess.Popen(
            command,
            env=worker_environment(),
            start_new_session=True,
            preexec_fn=die_with_parent(),
            stdout=_STDERR if self.aside else None,
        )
        return ChildHandle(process)


def die_with_parent() -> Callable[[], None] | None:
    """A call after which the kernel ends this process when its parent is gone; None off Linux."""
    if not sys.platform.startswith("linux"):
        return None
    library = ctypes.CDLL(None, use_errno=True)

    def ask_kernel() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)

    return ask_kernel
