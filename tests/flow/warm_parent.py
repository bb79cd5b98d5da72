"""A parent that has imported everything once, and forks a child for each `discern` command.

Importing torch is most of a small command's time. A forked child shares the imports and nothing
else: it has its own process number, arguments, environment, folder, streams, random state and
end, so that a test sees what it sees of a command started from nothing. Where the command line
would replace itself by the worker, the child goes on as the worker; where a command would start a
worker as its own child (a fold, a trial, a run again), that one is forked, too.

Run as a script: `python warm_parent.py SOCKET`. Each connection to the socket asks for one command:
its arguments, folder and environment as JSON, with the three standard streams beside it. It is
answered with the child's process number, then with its exit code (below 0: the signal).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import socket
import sys
import threading
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

HEAVY = (
    "torch", "torch._dynamo", "torchvision", "timm", "numpy", "matplotlib.figure",
    "matplotlib.backends.backend_agg", "PIL.JpegImagePlugin", "PIL.PngImagePlugin",
    "sklearn.linear_model", "tensorboard.compat.proto.event_pb2",
)  # fmt: skip
COMMAND = "discern.cli.main"
WORKER = ("-m", "discern.worker")
_STREAMS = 3
_socket = ""
_PIECE = 1 << 20


def send(connection: socket.socket, value: object, streams: Sequence[int] = ()) -> None:
    """One JSON value on a line, and open files beside it."""
    data = json.dumps(value).encode() + b"\n"
    sent = socket.send_fds(connection, [data], list(streams)) if streams else 0
    connection.sendall(data[sent:])


def receive(connection: socket.socket, streams: int = 0) -> tuple[Any, list[int]]:
    """What `send` sent; EOFError if the other side is gone.

    Without streams it reads byte for byte: the next line is another value.
    """
    data, opened = b"", []
    while not data.endswith(b"\n"):
        if streams and not opened:
            more, opened, _, _ = socket.recv_fds(connection, _PIECE, streams)
        else:
            more = connection.recv(_PIECE if streams else 1)
        if not more:
            raise EOFError
        data += more
    return json.loads(data), list(opened)


def import_all() -> None:
    """Everything that a command may want, imported and never called."""
    for name in HEAVY:
        importlib.import_module(name)
    discern = importlib.import_module("discern")
    for module in pkgutil.walk_packages(discern.__path__, "discern."):
        importlib.import_module(module.name)


def serve(path: str) -> None:
    """Fork a child for each connection, for as long as stdin is open."""
    global _socket
    _socket = path
    import_all()
    if threading.active_count() != 1:
        raise RuntimeError(f"an import started a thread: {threading.enumerate()}")
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    attending = 0
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                _attend(connection)
            connection.close()
            attending += 1
            while attending and os.waitpid(-1, os.WNOHANG)[0]:
                attending -= 1
    for _ in range(attending):
        os.wait()


def _attend(connection: socket.socket) -> NoReturn:
    """Fork the command or the worker, wait for its end, and tell its exit code."""
    wish, streams = receive(connection, _STREAMS)
    worker = wish["module"] != COMMAND
    child = os.fork()
    if child == 0:
        connection.close()
        if worker:
            os.setsid()
        _leave(_become, wish, streams)
    for stream in streams:
        os.close(stream)
    with contextlib.suppress(BrokenPipeError):
        send(connection, child)
        if worker:
            _end_with_parent(connection, child)
        send(connection, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    os._exit(0)


def _end_with_parent(parent: socket.socket, child: int) -> None:
    """Return at the child's end; ask it to stop when its parent is gone before."""
    ended = os.pidfd_open(child)
    if ended not in select.select([parent, ended], [], [])[0]:
        os.kill(child, signal.SIGTERM)


class ForkedWorker:
    """What `subprocess.Popen` is to a command that starts a worker as its child."""

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], stdout: int | None, **_: Any
    ) -> None:
        if tuple(command[1:3]) != WORKER:
            raise RuntimeError(f"not the worker: {command}")
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.connect(_socket)
        wish = {"module": "discern.worker.__main__", "arguments": list(command[3:])}
        wish |= {"cwd": str(Path.cwd()), "env": dict(env)}
        send(self._connection, wish, [0, 1 if stdout is None else stdout, 2])
        self._pid = int(receive(self._connection)[0])
        self._code: int | None = None

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        if self._code is None:
            self._code = int(receive(self._connection)[0])
        return self._code

    def send_signal(self, number: int) -> None:
        """Send a signal, if its end is not known."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)


def _become(wish: Mapping[str, Any], streams: Sequence[int]) -> Any:
    """Make this process what `python -m MODULE ARGUMENTS` is, and run it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(wish["cwd"])
    _take_environment(wish["env"])
    sys.path[0] = wish["cwd"]
    importlib.invalidate_caches()
    random.seed()
    importlib.import_module("numpy").random.seed()
    os.execve = _go_on_as_worker  # type: ignore[assignment]
    importlib.import_module("discern.launch.worker_process").subprocess = FORKING
    _take_arguments(wish["module"], wish["arguments"])
    return importlib.import_module(wish["module"]).main()


# In place of the module `subprocess` where workers are started, and nowhere else.
FORKING = types.SimpleNamespace(Popen=ForkedWorker)


def _go_on_as_worker(path: str, command: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """What `os.execve` does to the one command that `discern` replaces itself by."""
    if (path, tuple(command[1:3])) != (sys.executable, WORKER):
        raise RuntimeError(f"not the worker: {command}")
    _take_environment(env)
    _take_arguments("discern.worker.__main__", command[3:])
    _leave(importlib.import_module("discern.worker.__main__").main)


def _take_environment(wanted: Mapping[str, str]) -> None:
    for name in set(os.environ) - set(wanted):
        del os.environ[name]
    os.environ.update(wanted)


def _take_arguments(module: str, arguments: Sequence[str]) -> None:
    sys.argv[:] = [str(importlib.import_module(module).__file__), *arguments]
    name = module.removesuffix(".__main__")
    sys.orig_argv[:] = [sys.executable, "-m", name, *arguments]


def _leave(main: Callable[..., Any], *arguments: Any) -> NoReturn:
    """Call `main` and end the process as the interpreter would after it."""
    code: Any = 1
    try:
        code = main(*arguments)
    except SystemExit as end:
        code = end.code
    except BaseException:  # noqa: BLE001 - told as the interpreter tells it
        sys.excepthook(*sys.exc_info())
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit((code or 0) & 0xFF)


if __name__ == "__main__":
    serve(sys.argv[1])
    os._exit(0)  # nothing to clear up, and an ordinary end takes long with so much imported
