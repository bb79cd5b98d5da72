"""Starting a script as a run, with other settings than it has.

    child = manage.new_run("train.py", {"learning_rate": 0.1}, "a higher rate")
    code = child.wait()

A program of `discern.lab` makes its own run; the settings override its configs, as those of
`experiment.calculate_configs` do, and win over them. Any other script is captured, as by
`discern capture`, and gets the settings as arguments `--learning_rate=0.1`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.lab.started_run import environment_for

__all__ = ["new_run"]

_USES_LAB: Final = re.compile(r"^\s*(?:from|import)\s+discern\.lab\b", re.MULTILINE)
_NAME: Final = re.compile(r"[A-Za-z_][\w.-]*")


def new_run(
    python_file: str | os.PathLike[str],
    configs: Mapping[str, Any] | None = None,
    comment: str = "",
) -> subprocess.Popen[bytes]:
    """Start `python_file` as a run with `configs` in place of its own settings; gives the process.

    A script whose text imports `discern.lab` is taken for a program of it. Raises ConfigError if
    there is no such file, or for a setting that cannot be handed over.
    """
    path = Path(python_file)
    if not path.is_file():
        raise ConfigError("there is no such script", where="manage.new_run", got=path)
    settings = dict(configs or {})
    for name in settings:
        if not _NAME.fullmatch(name):
            raise ConfigError("this cannot be the name of a setting", where=path, got=name)
    command = [sys.executable, str(path)]
    if _USES_LAB.search(path.read_text("utf-8", "replace")):
        given = environment_for(settings, comment)
        return subprocess.Popen(command, env={**os.environ, **given})
    captured = [sys.executable, "-m", "discern", "capture", "--comment", comment, "--", *command]
    return subprocess.Popen([*captured, *(f"--{name}={value}" for name, value in settings.items())])
