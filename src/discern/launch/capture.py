"""Running any program as a run: its output shown and kept, its figures logged, its end told on.

What the program writes goes first into `stdout.log` and `stderr.log` of the run's folder, byte for
byte, then to where this process writes. Figures are read from those files by a thread of its own,
which may lag behind: the program never waits for it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.launch.worker_process import die_with_parent
from discern.track.meter.system import meter_run
from discern.track.model_summary import write_summary
from discern.track.printed.axes import SeriesAxes
from discern.track.printed.output import OutputReader
from discern.track.run_folder import FAILED, FINISHED, INTERRUPTED
from discern.track.run_writer import RunWriter

STREAMS: Final = ("stdout", "stderr")
_PIECE_BYTES: Final = 1 << 16
_PIPE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = 1031
_FORWARDED: Final = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
# What a program leaves running behind it may hold its output open; this long after its end, and
# after the last byte, nobody listens any more.
_LINGER_S: Final = 1.0
# While the disk is full, output waits in memory up to this size.
_MOST_WAITING: Final = 16 << 20


def output_file(folder: Path, stream: str) -> Path:
    """Where a run's `stdout` or `stderr` is kept."""
    return folder / f"{stream}.log"


class _Pump(threading.Thread):
    """Moves one stream of the program into its file, and to where this process writes."""

    def __init__(self, source: int, path: Path, shown: int | None, moved: threading.Event) -> None:
        super().__init__(name=f"output {path.name}", daemon=True)
        self._source = source
        self._path = path
        self._shown = shown
        self._moved = moved
        self._waiting = b""
        self._lost = 0
        self.last_byte = time.monotonic()
        self.problem: str | None = None
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def run(self) -> None:
        while data := _read(self._source):
            self.last_byte = time.monotonic()
            self._keep(data)
            self._show(data)
            self._moved.set()
        self._keep(b"")
        os.close(self._file)

    def _keep(self, data: bytes) -> None:
        left = memoryview(self._waiting + data if self._waiting else data)
        try:
            while left:
                left = left[os.write(self._file, left) :]
        except OSError as error:
            self.problem = f"{self._path.name} cannot be written: {error.strerror}"
        else:
            if self._waiting and not self._lost:
                self.problem = None
        self._waiting = bytes(left)
        over = len(self._waiting) - _MOST_WAITING
        if over > 0:
            self._lost += over
            self._waiting = self._waiting[over:]
            self.problem = f"{self._path.name} lacks {self._lost} bytes: the disk was full"

    def _show(self, data: bytes) -> None:
        left = memoryview(data)
        while left and self._shown is not None:
            try:
                left = left[os.write(self._shown, left) :]
            except OSError:
                self._shown = (
                    None  # whoever looked has gone, as `head` does; it is kept all the same
                )


class _Figures(threading.Thread):
    """Reads the kept output as it grows, and logs what it tells."""

    def __init__(self, writer: RunWriter, moved: threading.Event) -> None:
        super().__init__(name="printed figures", daemon=True)
        self._writer = writer
        self._moved = moved
        self.ended = threading.Event()
        self.axes = SeriesAxes()
        self.problem: str | None = None
        self._readers = {stream: OutputReader(self.axes) for stream in STREAMS}

    def run(self) -> None:
        try:
            with contextlib.ExitStack() as files:
                streams = {
                    name: files.enter_context(open(output_file(self._writer.path, name), "rb"))
                    for name in STREAMS
                }
                ended = False
                while not ended:
                    ended = self.ended.is_set()  # asked first: what was moved before is read below
                    self._moved.wait(0.2)
                    self._moved.clear()
                    for name, file in streams.items():
                        while data := file.read(_PIPE_BYTES):
                            self._log(self._readers[name], self._readers[name].feed(data))
                for reader in self._readers.values():
                    self._log(reader, reader.end())
        except Exception as error:  # noqa: BLE001 - the program goes on; told as the run's problem
            self.problem = f"figures were not read to the end: {type(error).__name__}: {error}"

    def _log(self, reader: OutputReader, points: Sequence[Any]) -> None:
        moment = time.time()
        for name, step, value in points:
            self._writer.metrics.add(name, step, value, moment)
        if reader.summary is not None:
            write_summary(self._writer.path, reader.summary)
            reader.summary = None


class _Watched:
    """The output and its figures as a part of the run, which tells what went wrong with them."""

    def __init__(self, pumps: Sequence[_Pump], figures: _Figures) -> None:
        self._pumps = pumps
        self._figures = figures

    def flush(self) -> None:
        """All that came is in its file, or waits for space."""

    def problems(self) -> list[str]:
        """What is not kept, or not read."""
        told = [pump.problem for pump in self._pumps] + [self._figures.problem]
        left_out = self._figures.axes.left_out
        if left_out:
            told.append(f"{left_out} printed figures of further names were left out")
        return [problem for problem in told if problem is not None]

    def close(self) -> None:
        """The threads end with the program's output."""


def check_program(name: str) -> None:
    """Raises ConfigError unless `name` is a program that can be run."""
    if shutil.which(name) is None:
        raise ConfigError(
            "there is no such program",
            where="discern capture",
            got=name,
            expected="a program in PATH, or the path of one that may be executed",
            hint="`discern capture python train.py` runs a script",
        )


def capture(
    writer: RunWriter,
    command: Sequence[str],
    *,
    shown: dict[str, int | None],
    metered: bool = True,
) -> int:
    """Run `command` to its end as the run of `writer`, and end the run; gives the exit code.

    `shown`: where `stdout` and `stderr` go besides the run's folder: file descriptors, or None. The
    code of a program that a signal ended is 128 + its number, as a shell has it. Signals to this
    process go to the program. Raises ConfigError if the program cannot be started.
    """
    moved = threading.Event()
    alone = not sys.stdin.isatty()
    process = _start(command, alone=alone)
    stops: list[int] = []
    with _forwarding(process, stops, alone=alone):
        if metered:
            meter_run(writer, process.pid)
        pipes = {"stdout": process.stdout, "stderr": process.stderr}
        pumps = [
            _Pump(pipe.fileno(), output_file(writer.path, name), shown[name], moved)
            for name, pipe in pipes.items()
            if pipe is not None
        ]
        figures = _Figures(writer, moved)
        writer.join(_Watched(pumps, figures))
        for thread in (*pumps, figures):
            thread.start()
        code = process.wait()
        _drain(pumps, writer)
    figures.ended.set()
    moved.set()
    figures.join()
    _end(writer, code, stops, figures.axes)
    return code if code >= 0 else 128 - code


def _start(command: Sequence[str], *, alone: bool) -> subprocess.Popen[bytes]:
    # Python would keep back what it prints into a pipe until there are 8 kB of it.
    environment = {"PYTHONUNBUFFERED": "1", **os.environ}
    try:
        process = subprocess.Popen(
            list(command),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # At a terminal it stays in our group, so that it may read there and Ctrl-C reaches it.
            start_new_session=alone,
            preexec_fn=die_with_parent(),
            bufsize=0,
        )
    except OSError as error:
        raise ConfigError(
            f"the program cannot be started: {error.strerror}",
            where="discern capture",
            got=command[0],
            expected="a program in PATH, or the path of one that may be executed",
        ) from error
    if sys.platform.startswith("linux"):
        import fcntl

        for pipe in (process.stdout, process.stderr):
            with contextlib.suppress(OSError):  # a smaller pipe serves, too
                fcntl.fcntl(pipe.fileno() if pipe else -1, _F_SETPIPE_SZ, _PIPE_BYTES)
    return process


@contextlib.contextmanager
def _forwarding(
    process: subprocess.Popen[bytes], stops: list[int], *, alone: bool
) -> Iterator[None]:
    """Signals to this process go to the program; `stops` gets those that ask it to end."""

    def forward(number: int, _frame: FrameType | None) -> None:
        if number in _STOPPING:
            stops.append(number)
        if process.returncode is not None or (number == signal.SIGINT and not alone):
            return  # Ctrl-C at the terminal has reached the program by itself
        with contextlib.suppress(ProcessLookupError):
            if alone:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)

    before = {number: signal.signal(number, forward) for number in _FORWARDED}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _drain(pumps: Sequence[_Pump], writer: RunWriter) -> None:
    """Wait for the rest of the output, but not for processes that the program left behind."""
    ended = time.monotonic()
    for pump in pumps:
        while pump.is_alive():
            pump.join(0.05)
            if time.monotonic() - max(ended, pump.last_byte) > _LINGER_S:
                writer.log("warning: a process that the program left behind holds its output open")
                break


def _end(writer: RunWriter, code: int, stops: list[int], axes: SeriesAxes) -> None:
    writer.update(metrics=axes.last_values(), axes=axes.axes, program_code=code)
    reason = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    failure = INTERRUPTED if stops or -code == signal.SIGINT else FAILED
    status = failure if code else FINISHED
    writer.finish(status, reason, exit_code=code if code >= 0 else 128 - code)


def _read(source: int) -> bytes:
    try:
        return os.read(source, _PIECE_BYTES)
    except OSError:
        return b""
