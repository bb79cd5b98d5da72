"""What lies under a root of runs, by names and file states alone: no record is opened.

A folder `<root>/<project>/<name>/` is a run when it holds `run.json`. One that holds only other
files of a run was deleted in part, or its writer was killed while it began; it is told as such.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from discern.base.errors import ConfigError
from discern.track.run_folder import (
    CHECKPOINTS,
    CONFIG_FILE,
    EXIT_FILE,
    GROUP_FILE,
    RUN_FILE,
)
from discern.track.run_lock import is_locked
from discern.track.run_notes import NOTES_FILE

METRICS_FILE: Final = "metrics.bin"
_TRACES: Final = {CHECKPOINTS, CONFIG_FILE, EXIT_FILE, METRICS_FILE, "series.jsonl"}


@dataclass(frozen=True, slots=True)
class FoundFolder:
    """A run's folder. `state` changes with each change of its record, notes or list of files.

    `newest_ns`: the latest change, in nanoseconds since 1970. `problem`: why it cannot be read.
    """

    project: str
    name: str
    state: str
    newest_ns: int
    problem: str | None = None


def scan_folders(root: Path) -> tuple[list[FoundFolder], list[str]]:
    """(all run folders under `root`, what could not be looked into).

    Nothing for a root that is not there. Raises ConfigError for one that is no folder.
    """
    found: list[FoundFolder] = []
    problems: list[str] = []
    try:
        projects = [entry for entry in os.scandir(root) if _is_shown_folder(entry)]
    except FileNotFoundError:
        return [], []
    except NotADirectoryError:
        raise ConfigError(
            "the folder of all runs is a file", where=root, hint="--runs names another folder"
        ) from None
    for project in projects:
        try:
            with os.scandir(project.path) as entries:
                found += _runs_of(project.name, entries)
        except OSError as error:
            problems.append(f"{project.name} cannot be looked into: {error.strerror}")
    return found, problems


def file_state(path: str) -> tuple[str, int]:
    """(a text that changes with the file at `path`, its time of change in ns); ("-", 0): none."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return "-", 0
    return f"{status.st_mtime_ns}.{status.st_size}.{status.st_ino}", status.st_mtime_ns


def _is_shown_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return not entry.name.startswith(".") and entry.is_dir()
    except OSError:  # a link that leads in circles
        return False


def _runs_of(project: str, entries: Iterator[os.DirEntry[str]]) -> Iterator[FoundFolder]:
    for entry in entries:
        if not _is_shown_folder(entry):
            continue
        try:
            folder_ns = entry.stat().st_mtime_ns
            record, record_ns = file_state(f"{entry.path}/{RUN_FILE}")
            if record == "-" and not _was_a_run(entry.path):
                continue
            notes, notes_ns = file_state(f"{entry.path}/{NOTES_FILE}")
        except FileNotFoundError:
            continue  # deleted since it was listed
        except OSError as error:
            told = f"the folder cannot be read: {error.strerror}"
            yield FoundFolder(project, entry.name, f"!{error.errno}", 0, told)
            continue
        problem = None if record != "-" else f"{RUN_FILE} is missing: what is left of a run"
        state = f"{folder_ns} {record} {notes}"
        newest = max(folder_ns, record_ns, notes_ns)
        yield FoundFolder(project, entry.name, state, newest, problem)


def _was_a_run(folder: str) -> bool:
    """Whether a folder without `run.json` holds a run's other files, and nobody works on it."""
    names = {path.name for path in Path(folder).iterdir()}
    return GROUP_FILE not in names and bool(names & _TRACES) and not is_locked(Path(folder))
