"""`discern WORDS` of a shell, forked from the warm parent.

Run as a script: `python -S warm_command.py SOCKET WORDS`. The command gets this process's streams,
folder and environment, and this process ends as the command does.
"""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import warm_parent


def main() -> None:
    """Ask for the command, wait for its end, and end like it."""
    path, *words = sys.argv[1:]
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        wish = {"module": warm_parent.COMMAND, "arguments": words}
        wish |= {"cwd": str(Path.cwd()), "env": dict(os.environ)}
        warm_parent.send(connection, wish, [0, 1, 2])
        warm_parent.receive(connection)
        code = int(warm_parent.receive(connection)[0])
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


if __name__ == "__main__":
    main()
