"""Finding and reading run folders `<root>/<project>/<name>/`, also while their writer works.

Owns the names of the files in a run folder, the version of `run.json`, and what a run's status is.
"""

from __future__ import annotations

import glob
import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from discern.base.errors import ConfigError, RunError
from discern.base.names import did_you_mean
from discern.track.run_lock import Holder, is_locked, read_holder
from discern.track.run_reference import LEAST_UUID, begins_uuid, several_begun

if TYPE_CHECKING:
    # Loaded where it is used: a list of runs needs no numpy, which takes longer than the list.
    from discern.track.metrics_read import Series

RUN_FILE: Final = "run.json"
CONFIG_FILE: Final = "config.yaml"
LOG_FILE: Final = "log.txt"
EXIT_FILE: Final = "exit.json"
CHECKPOINTS: Final = "checkpoints"
REPORT: Final = "report"
MODEL: Final = "model"
EVENTS: Final = "events"
# The record of a group of runs, in a folder beside those of its runs.
GROUP_FILE: Final = "group.json"
RUN_VERSION: Final = 1

TRAINING: Final = "train"
RUNNING: Final = "running"
FINISHED: Final = "finished"
FAILED: Final = "failed"
INTERRUPTED: Final = "interrupted"
LOST: Final = "lost"
UNREADABLE: Final = "unreadable"
# The longest file name of the usual file systems is 255 bytes; a number is appended to stems.
_MOST_NAME_BYTES: Final = 200


@dataclass(frozen=True)
class Run:
    """One run as its folder tells it: the record of `run.json` as read, the rest on demand."""

    path: Path
    record: dict[str, Any] = field(repr=False)
    problem: str | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def project(self) -> str:
        """The name of the folder above."""
        return self.path.parent.name

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return f"{self.project}/{self.name}"

    @property
    def attempt(self) -> int:
        """The number of the latest attempt, from 1."""
        return int(self.record.get("attempt", 0))

    @property
    def kind(self) -> str:
        """train; or lab, captured, imported: what Discern's own trainer cannot go on with."""
        return str(self.record.get("kind") or TRAINING)

    @property
    def created(self) -> str:
        """When the run began: ISO 8601, UTC."""
        return str(self.record.get("created", ""))

    @property
    def request_hash(self) -> str | None:
        """The hash that a repeated command is recognized by."""
        return self.record.get("request_hash")

    @property
    def metrics(self) -> dict[str, Any]:
        """The final scores on the reported split; empty before the end."""
        return dict(self.record.get("metrics") or {})

    @cached_property
    def status(self) -> str:
        """running, finished, failed, interrupted; lost (its process died); unreadable.

        A process that died between writing `exit.json` and `run.json` did end as the former says.
        """
        if self.problem is not None:
            return UNREADABLE
        status = str(self.record.get("status"))
        if status != RUNNING or self.locked:
            return status
        end = self.exit_record()
        if end is not None and end.get("attempt") == self.attempt:
            return str(end.get("status"))
        return LOST

    @property
    def locked(self) -> bool:
        """True while a living process writes this run."""
        return is_locked(self.path)

    @property
    def holder(self) -> Holder | None:
        """The process that holds the run, or last held it."""
        return read_holder(self.path)

    def exit_record(self) -> dict[str, Any] | None:
        """The contents of `exit.json`: how the latest ended attempt ended; None without one."""
        path = self.path / EXIT_FILE
        try:
            record = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def config_text(self) -> str:
        """The resolved config that makes this run again."""
        return (self.path / CONFIG_FILE).read_text(encoding="utf-8")

    def list_series(self) -> list[str]:
        """The names of all logged series."""
        from discern.track.metrics_read import list_series

        return list_series(self.path)

    def read_series(self, name: str) -> Series:
        """The points of one series. Raises RunError, naming the nearest, if it is not there."""
        from discern.track.metrics_read import read_series

        return read_series(self.path, name)

    def read_all(self) -> dict[str, Series]:
        """All series by name."""
        from discern.track.metrics_read import read_all

        return read_all(self.path)


def runs_root(flag: str | None = None) -> Path:
    """The folder of all runs: `flag` (--runs), else $DISCERN_RUNS, else ./runs; absolute."""
    return Path(flag or os.environ.get("DISCERN_RUNS") or "runs").expanduser().absolute()


def clean_name(text: str) -> str:
    """`text` as the name of a project or run: what a file name may not hold becomes a dash."""
    name = re.sub(r"[^\w.+=@-]+", "-", text).strip("-.")
    while len(name.encode()) > _MOST_NAME_BYTES:
        name = name[:-1]
    return name or "run"


def check_name(name: str, where: str) -> str:
    """`name` itself if it can name a project or run, else ConfigError with a name that can."""
    if name != clean_name(name):
        raise ConfigError(
            "this cannot be the name of a folder",
            where=where,
            got=name,
            expected="letters, digits and _ . + = @ - in the middle",
            hint=f"for example '{clean_name(name)}'",
        )
    return name


def read_run(path: Path) -> Run:
    """The run in the folder `path`; one whose `run.json` cannot be read has a `problem`.

    Raises FileNotFoundError if the folder has no `run.json`.
    """
    problem = None
    record: Any = None
    try:
        record = json.loads((path / RUN_FILE).read_bytes())
    except FileNotFoundError:
        raise
    except OSError as error:
        problem = f"{RUN_FILE} cannot be read: {error.strerror}"
    except (ValueError, RecursionError) as error:
        problem = f"{RUN_FILE} cannot be read: {error}"
    if problem is None:
        if not isinstance(record, dict) or record.get("format") != "discern.run":
            problem = f"{RUN_FILE} is not the record of a run"
        elif record.get("version") != RUN_VERSION:
            problem = f"{RUN_FILE} has version {record.get('version')}, not {RUN_VERSION}"
    return Run(path, record if isinstance(record, dict) else {}, problem)


def list_runs(root: Path, project: str | None = None, name: str | None = None) -> list[Run]:
    """All runs under `root`, newest first; unreadable ones too, with their `problem`.

    Only those of a `project`, or called `name`, where these are given: no other record is read.
    """
    runs = []
    folders = ["[!.]*" if part is None else glob.escape(part) for part in (project, name)]
    for path in root.glob("/".join((*folders, RUN_FILE))):
        try:
            runs.append(read_run(path.parent))
        except FileNotFoundError:
            continue  # deleted since it was listed
    return sorted(runs, key=lambda run: (run.created, run.name), reverse=True)


def find_unfinished(
    root: Path, project: str | None = None, request_hash: str | None = None
) -> list[Run]:
    """The trainings that can be gone on with, newest first: not finished, readable, not locked.

    Narrowed to a `project` and a `request_hash` where these are given.
    """
    return [
        run
        for run in list_runs(root, None if project is None else clean_name(project))
        if (request_hash is None or run.request_hash == request_hash)
        and run.kind == TRAINING
        and run.status in (LOST, INTERRUPTED, FAILED)
        and not run.locked
    ]


def open_run(text: str, root: Path) -> Run:
    """The run that `text` names: a folder, PROJECT/NAME, or a NAME that is the only one.

    Of a run named by a UUID, its beginning will do (`run_reference.begins_uuid`). Raises RunError,
    with the nearest names, if there is none or more than one; ConfigError for the beginning of
    several.
    """
    for path in (Path(text).expanduser().absolute(), root / text):
        if (path / RUN_FILE).is_file():
            return _readable(read_run(path))
    found = list_runs(root, name=text) if "/" not in text and text not in ("", ".", "..") else []
    if len(found) == 1:
        return _readable(found[0])
    if found:
        raise RunError(
            f"{len(found)} runs have the name '{text}'",
            where=root,
            got=text,
            expected=" or ".join(sorted(run.id for run in found)),
        )
    folders = [path.parent for path in root.glob(f"[!.]*/[!.]*/{RUN_FILE}")]
    ids = [f"{folder.parent.name}/{folder.name}" for folder in folders]
    begun = begins_uuid(text, ids)
    if len(begun) == 1:
        return _readable(read_run(root / begun[0]))
    if begun:
        raise several_begun(text, begun, root)
    hint = did_you_mean(text, ids if "/" in text else [folder.name for folder in folders])
    forms = f"a run's folder, PROJECT/NAME, a NAME, or {LEAST_UUID} characters or more of a UUID"
    name, at, wish = text.rpartition("@")
    if at and (name in ids or name in {folder.name for folder in folders}):
        forms = f"{name}@best, @last, @epoch:K, @step:N, or @STAGE/ before best and epoch:K"
        hint = f"'@{wish}' is no checkpoint; those kept lie in the run's folder checkpoints/"
    raise RunError(
        f"there is no run '{text}'",
        where=root,
        got=text,
        expected=forms,
        hint=hint or "`discern runs list` shows what there is; --runs names another folder",
    )


def _readable(run: Run) -> Run:
    if run.problem is not None:
        raise RunError(run.problem, where=run.path / RUN_FILE)
    return run
