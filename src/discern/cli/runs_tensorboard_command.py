"""`discern runs tensorboard`: TensorBoard over the event files of chosen runs."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from discern.base.console import Console
from discern.base.errors import OK, ConfigError, RunError
from discern.base.names import counted, printable
from discern.track.run_folder import EVENTS
from discern.track.run_index import read_index
from discern.track.run_query import select_rows
from discern.track.run_rows import RunRow


def tensorboard_command(
    words: Sequence[str], root: Path, console: Console, *, port: int = 6006, host: str = "127.0.0.1"
) -> int:
    """Start TensorBoard and wait for its end; all runs without `words`. Ctrl-C ends it.

    It is given a folder of links, so that runs have their names PROJECT/NAME in it. Runs without
    event files are told. Raises RunError if TensorBoard is not installed or cannot start,
    ConfigError if no chosen run has event files.
    """
    if importlib.util.find_spec("tensorboard") is None:
        raise RunError(
            "TensorBoard is not installed",
            where=sys.executable,
            hint="pip install tensorboard; `discern runs compare` draws curves without it",
        )
    table = read_index(root)
    rows = select_rows(table, words) if words else table.rows
    having = [row for row in rows if (row.path / EVENTS).is_dir()]
    for row in rows if words else []:
        if row not in having:
            console.warn(printable(f"{row.id} has no event files"))
    if not having:
        raise ConfigError(
            "none of these runs has event files",
            where=root,
            got=", ".join(words) or "all runs",
            expected=f"a folder {EVENTS}/ in the run",
        )
    with tempfile.TemporaryDirectory(prefix="discern-tensorboard-") as name:
        _link(Path(name), having)
        command = [sys.executable, "-m", "tensorboard.main", f"--logdir={name}"]
        command += [f"--port={port}", f"--host={host}"]
        console.say(f"TensorBoard of {counted(len(having), 'run')}: http://{host}:{port}/")
        return _wait(command, console)


def _link(folder: Path, rows: Sequence[RunRow]) -> None:
    for row in rows:
        place = folder / row.project / row.name
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(row.path / EVENTS, target_is_directory=True)


def _wait(command: list[str], console: Console) -> int:
    # With --json its lines must not stand on stdout, where the one object goes.
    child = subprocess.Popen(command, stdout=sys.stderr if console.json else None)
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.terminate()
        child.wait()
        code = OK
    if code != OK:
        raise RunError(
            "TensorBoard ended by an error",
            got=f"exit code {code}",
            hint="its own message stands above; --port chooses another port",
        )
    console.emit({"command": command, "exit_code": code})
    return OK
