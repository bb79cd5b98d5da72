"""A child of the warm parent (`warm_parent.py`), with the interface of `subprocess.Popen`."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TextIO

import warm_parent
from first_environment import FIRST, without_imports


def environment(**extra: str) -> dict[str, str]:
    """This process's environment for a child: our sources first, one thread, no color."""
    return _for_child(without_imports(), extra)


def _for_child(given: Mapping[str, str], extra: Mapping[str, str]) -> dict[str, str]:
    ours = {"PYTHONPATH": str(Path(__file__).resolve().parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    whole = {**given, **ours, **extra}
    whole.pop("PYTHONWARNINGS", None)
    return whole


def fits_warm(wanted: Mapping[str, str]) -> bool:
    """True if a child of the warm parent may have this environment: only our own variables differ.

    What else differs, something may have read when it was imported.
    """
    if not sys.platform.startswith("linux") or os.environ.get("DISCERN_TEST_COLD"):
        return False
    return _foreign(wanted) == WARM_ENVIRONMENT


def _foreign(variables: Mapping[str, str]) -> dict[str, str]:
    ours = ("DISCERN_", "PYTEST_", "CUBLAS_")  # cuBLAS reads at its first use on a GPU
    return {name: text for name, text in variables.items() if not name.startswith(ours)}


# What the warm parent gets: the environment before any test, or import of one, has changed it.
WARM_ENVIRONMENT = _foreign(_for_child(FIRST, {}))


@functools.cache
def warm_socket() -> Path:
    """The socket of this process's warm parent, which is started now and ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="discern-warm-")
    path = Path(folder.name) / "socket"
    command = [sys.executable, warm_parent.__file__, str(path)]
    parent = subprocess.Popen(command, env=WARM_ENVIRONMENT, stdin=subprocess.PIPE)

    @atexit.register
    def end() -> None:
        parent.terminate()
        parent.communicate()
        folder.cleanup()

    while not path.exists():
        if parent.poll() is not None:
            raise RuntimeError(f"the warm parent ended with code {parent.returncode}")
        time.sleep(0.02)
    return path


class WarmChild:
    """`discern WORDS`, started. `returncode` is None until its end has been waited for."""

    def __init__(self, words: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        given, self._stdin = os.pipe()
        stdout, out = os.pipe()
        stderr, err = os.pipe()
        self.stdout: TextIO = os.fdopen(stdout, encoding="utf-8")
        self.stderr: TextIO = os.fdopen(stderr, encoding="utf-8")
        self.returncode: int | None = None
        self._told: tuple[str, str] | None = None
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(str(warm_socket()))
        wish = {"module": warm_parent.COMMAND, "arguments": words}
        wish |= {"cwd": str(cwd), "env": dict(env)}
        warm_parent.send(self._connection, wish, [given, out, err])
        for stream in (given, out, err):
            os.close(stream)
        self.pid = int(warm_parent.receive(self._connection)[0])

    def poll(self) -> int | None:
        """The exit code, or None while it runs."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; gives the exit code. Raises TimeoutError."""
        if self.returncode is None:
            self._connection.settimeout(timeout)
            self.returncode = int(warm_parent.receive(self._connection)[0])
            self._connection.close()
        return self.returncode

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Give `text`, and wait for the end; (stdout, stderr). Raises TimeoutError."""
        if self._told is not None:
            return self._told
        read: dict[TextIO, str] = {}
        streams = (self.stdout, self.stderr)
        readers = [
            threading.Thread(target=lambda s=stream: read.update({s: s.read()}), daemon=True)
            for stream in streams
        ]
        for reader in readers:
            reader.start()
        if self._stdin >= 0:
            with contextlib.suppress(BrokenPipeError), os.fdopen(self._stdin, "w") as stdin:
                self._stdin = -1
                stdin.write(text)
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        for stream in streams:
            stream.close()
        self._told = read[self.stdout], read[self.stderr]
        return self._told

    def send_signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
