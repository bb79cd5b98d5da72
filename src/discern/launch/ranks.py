"""Starting a training on several ranks of this machine, and telling how it ended, once.

The ranks are children of torchrun, which is a child of this process: each dies with its parent. A
signal that this process gets goes to every rank once; the second ends them at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import (
    INTERRUPTED,
    OK,
    DiscernError,
    Interrupted,
    RunError,
    error_from_record,
)
from discern.config.assemble import resolve_request
from discern.config.device_text import wanted_ranks
from discern.config.request import Request, write_request
from discern.launch.rank_outcomes import (
    FOLDER_VARIABLE,
    Outcome,
    rank_processes,
    read_failures,
    read_outcomes,
)
from discern.launch.resumed import named_run, with_stored_config
from discern.launch.worker_process import die_with_parent, worker_environment
from discern.track.run import runs_root

# What a rank gets, after another has failed, before torchrun kills it: time to say why it ends.
_LAST_SECONDS: Final = 15
_POLL_S: Final = 0.05
_STDERR: Final = 2


def ranks_of(request: Request) -> int:
    """How many ranks `request` asks for, by its flags, its files, or the run that it goes on with.

    Raises ConfigError for what cannot be.
    """
    root = runs_root(request.arguments.get("runs"))
    run = named_run(request, root)
    whole = request if run is None else with_stored_config(request, run)
    compute = resolve_request(whole).config.compute
    return wanted_ranks(compute.nproc, compute.device) or 1


def start_ranks(request: Request, ranks: int, *, aside: bool = False) -> RanksHandle:
    """Start `ranks` workers for `request`; with `aside` they print to stderr."""
    folder = Path(tempfile.mkdtemp(prefix="discern-ranks-"))
    write_request(folder / "request.json", request)
    command = [
        sys.executable, "-m", "discern.worker.torchrun",
        "--standalone", f"--nproc-per-node={ranks}", "--local-addr=127.0.0.1",
        "--monitor-interval=0.1", f"--shutdown-timeout={_LAST_SECONDS}",
        "-m", "discern.worker", request.verb, "--request", str(folder / "request.json"),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        env=_environment(folder, ranks),
        start_new_session=True,
        preexec_fn=die_with_parent(),
        stdout=_STDERR if aside else None,
    )
    return RanksHandle(process, folder, request)


def _environment(folder: Path, ranks: int) -> dict[str, str]:
    """The cores shared out over the ranks, and the machine's own loopback as their network."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    loopback = "lo0" if sys.platform == "darwin" else "lo"
    return {
        "OMP_NUM_THREADS": str(max(1, (cores or 1) // ranks)),
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        **worker_environment(),
        FOLDER_VARIABLE: str(folder),
    }


@dataclass(slots=True)
class RanksHandle:
    """Ranks that were started. `wait` or `result` must be called: they clear up."""

    process: subprocess.Popen[bytes]
    folder: Path
    request: Request
    _signals: int = field(default=0, init=False)

    def wait(self) -> int:
        """Wait for the end of all ranks; tells a failure, and gives the exit code."""
        try:
            self.result()
        except DiscernError as error:
            given = self.request
            console = Console(json=given.json, quiet=given.quiet, debug=given.debug)
            return console.last_door(error)
        return OK

    def result(self) -> dict[str, Any]:
        """Wait for the end of all ranks; gives what the first one answers.

        Raises the DiscernError of the rank that failed first; Interrupted after a stop.
        """
        try:
            with self._forwarding():
                self.process.wait()
                while self._living():  # torchrun itself was killed: the ranks save and end
                    time.sleep(_POLL_S)
            return self._judge(read_outcomes(self.folder))
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask all ranks to finish their step, save and stop; the second time, end them."""
        self._signals += 1
        processes = self._living()
        if self._signals > 1:
            number = signal.SIGKILL
        if not processes or self._signals > 1:
            processes = [*processes, self.process.pid]
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, number)

    def _living(self) -> list[int]:
        return [pid for pid in rank_processes(self.folder).values() if _runs(pid)]

    @contextlib.contextmanager
    def _forwarding(self) -> Iterator[None]:
        """Hand on SIGINT and SIGTERM inside the block."""
        if threading.current_thread() is not threading.main_thread():
            yield  # Python hands signals to the main thread alone
            return

        def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
            self.stop(number)

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, handle) for number in numbers}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)

    def _judge(self, outcomes: list[Outcome]) -> dict[str, Any]:
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        causes = [outcome for outcome in failed if not outcome.consequence]
        causes.sort(key=lambda outcome: outcome.exit_code == INTERRUPTED)
        if causes:
            if causes[0].traceback is not None:
                print(causes[0].traceback, file=sys.stderr, flush=True)  # noqa: T201
            raise error_from_record(causes[0].error or {})
        if self._signals:
            raise Interrupted(
                "stopped before there was anything to save",
                hint="give the same command again; what was saved before is whole",
            )
        results = [outcome.result for outcome in outcomes if outcome.result is not None]
        if results and not failed:
            return results[0]
        raise self._unexplained({outcome.rank for outcome in outcomes})

    def _unexplained(self, told: set[int]) -> RunError:
        """Ranks that ended without a word: the kernel or a person killed them."""
        codes = read_failures(self.folder)
        silent = {rank: code for rank, code in codes.items() if rank not in told} or codes
        killed = {rank: code for rank, code in silent.items() if code == -signal.SIGKILL} or silent
        ends = ", ".join(f"rank {rank} {_end(code)}" for rank, code in sorted(killed.items()))
        return RunError(
            "a rank ended without telling why, so all have ended",
            got=ends or f"torchrun {_end(self.process.returncode)}",
            hint="give the same command again: it goes on from the last checkpoint; ranks are "
            "killed when the machine's memory is used up",
        )


def _end(code: int) -> str:
    return f"ended with code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"


def _runs(process: int) -> bool:
    """True while the process is there and no zombie."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
