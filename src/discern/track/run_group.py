"""A group of runs that belong together: its folder, its record, and going on with one.

`<root>/<project>/<name>/group.json` beside the runs' own folders. One writer at a time holds the
folder's lock; the record is replaced whole. A group that was not finished is found again by the
identity of its request.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from discern.base.errors import ConfigError, RunError
from discern.base.files import (
    TEMPORARY_MARK,
    sweep_temporaries,
    sync_folder,
    temporary_sibling,
    write_json,
)
from discern.track.plain_values import to_plain
from discern.track.run_folder import FINISHED, GROUP_FILE, RUNNING, check_name, clean_name
from discern.track.run_lock import RunLock, is_locked
from discern.track.run_writer import utc_now

FORMAT: Final = "discern.group"
VERSION: Final = 1
# A new group has its name in milliseconds.
_UNBORN_S: Final = 60.0


@dataclass(frozen=True)
class RunGroup:
    """A group as its folder tells it."""

    path: Path
    record: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def finished(self) -> bool:
        """Whether all of it was done."""
        return self.record.get("status") == FINISHED


def read_group(path: Path) -> RunGroup:
    """The group in the folder `path`. Raises RunError for none, or one of another version."""
    file = path / GROUP_FILE
    try:
        record = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise RunError("there is no group of runs", where=path) from None
    except ValueError as error:
        raise RunError(f"the group's record is damaged: {error}", where=file) from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise RunError("not the record of a group of runs", where=file)
    if record.get("version") != VERSION:
        raise RunError(
            "the group's record is of another version",
            where=file, got=record.get("version"), expected=VERSION,
        )  # fmt: skip
    return RunGroup(path, record)


class GroupWriter:
    """The one writer of a group; leaving its block gives up the lock."""

    def __init__(self, path: Path, lock: RunLock, record: dict[str, Any]) -> None:
        self.path = path
        self._lock = lock
        self._record = record

    @property
    def record(self) -> dict[str, Any]:
        """The contents of `group.json` as last written."""
        return dict(self._record)

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return f"{self.path.parent.name}/{self.path.name}"

    def update(self, **fields: Any) -> None:
        """Set fields of the record; the file is replaced whole. Raises RunError."""
        record = {**self._record, **{name: to_plain(value) for name, value in fields.items()}}
        try:
            write_json(self.path / GROUP_FILE, record)
        except OSError as error:
            raise RunError(
                f"the group's record cannot be written: {error}", where=self.path,
                hint="free some disk space; the runs are whole",
            ) from error  # fmt: skip
        self._record = record

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.close()


def find_unfinished_group(folder: Path, kind: str, identity: str) -> Path | None:
    """The newest unfinished group of this kind and request in `folder` that nobody works on."""
    found = []
    for file in folder.glob(f"[!.]*/{GROUP_FILE}"):
        with contextlib.suppress(RunError):  # a damaged one is no candidate
            group = read_group(file.parent)
            if _same(group, kind, identity) and not group.finished and not is_locked(group.path):
                found.append((str(group.record.get("created")), group.path))
    return max(found)[1] if found else None


def _same(group: RunGroup, kind: str, identity: str) -> bool:
    return group.record.get("kind") == kind and group.record.get("identity") == identity


def open_group(
    folder: Path,
    *,
    kind: str,
    identity: str,
    stem: str,
    name: str | None = None,
    fresh: bool = False,
    fields: Mapping[str, Any] | None = None,
) -> tuple[GroupWriter, bool]:
    """(writer, whether it goes on with an unfinished group) of the request `identity`.

    `folder`: the project's. A new group is called `name`, else `<stem>-<n>`; `fields` are further
    parts of its record. Raises ConfigError for a name that another group or run has, RunError while
    another process works on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = None if fresh else _earlier(folder, kind, identity, name)
    if path is not None:
        lock = RunLock(path)
        lock.sign(1)
        sweep_temporaries(path)
        return GroupWriter(path, lock, read_group(path).record), True
    _sweep_unborn(folder)
    unborn = temporary_sibling(folder / clean_name(stem))
    unborn.mkdir()
    try:
        lock = RunLock(unborn)
        lock.sign(1)
        writer = GroupWriter(unborn, lock, {})
        writer.update(
            format=FORMAT, version=VERSION, kind=kind, status=RUNNING, created=utc_now(),
            identity=identity, **(fields or {}),
        )  # fmt: skip
        writer.path = _take_name(unborn, folder, stem, name)
    except BaseException:
        shutil.rmtree(unborn, ignore_errors=True)  # nothing was promised yet
        raise
    return writer, False


def _earlier(folder: Path, kind: str, identity: str, name: str | None) -> Path | None:
    if name is None:
        return find_unfinished_group(folder, kind, identity)
    path = folder / check_name(name, "--name")
    if not (path / GROUP_FILE).is_file():
        return None
    group = read_group(path)
    return path if _same(group, kind, identity) and not group.finished else None


def _take_name(unborn: Path, folder: Path, stem: str, name: str | None) -> Path:
    """Give the group in `unborn`, whole, the first free place, so that no kill leaves half of one.

    Raises ConfigError for a `name` that is taken.
    """
    if name is not None:
        path = folder / check_name(name, "--name")
        if path.exists() or not _moved(unborn, path):
            raise ConfigError(
                f"there is already something of the name '{name}'",
                where=path,
                hint="choose another --name",
            )
        return path
    for number in itertools.count(1):
        path = folder / f"{clean_name(stem)}-{number}"
        if not path.exists() and _moved(unborn, path):
            sync_folder(folder)
            return path
    raise RunError("no free number for a group", where=folder)


def _moved(unborn: Path, path: Path) -> bool:
    """Rename the folder; False where something stands at `path` by now."""
    try:
        unborn.rename(path)
    except OSError as error:
        if error.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
            return False
        raise
    return True


def _sweep_unborn(folder: Path) -> None:
    """Remove groups that a kill kept from being born, once they are a minute old."""
    for path in folder.glob(f".*{TEMPORARY_MARK}*"):
        # Its owner gave it a name meanwhile, or it is somebody's file.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            old = time.time() - path.stat().st_mtime > _UNBORN_S
            inside = [one.name for one in path.iterdir()]
            ours = all(name.startswith(".") or name == GROUP_FILE for name in inside)
            if old and ours and not is_locked(path):
                shutil.rmtree(path)
