"""What a pack has finished so far, so that a killed one goes on; and the lock of its folder.

Owns `.packing.json` in the folder that is packed into, and which folders may be packed into.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from discern.base.errors import DataError
from discern.base.files import write_json
from discern.data.inspection import Problem
from discern.data.pack_plan import Group, PackOptions
from discern.data.pack_writers import Part
from discern.data.shard_index import STATE_FILE, PackedSet, read_packed_set

__all__ = ["STATE_FILE", "PackState", "only_packer", "open_state", "refused_image"]

_VERSION: Final = 1


@dataclass(slots=True)
class PackState:
    """What is finished, in the order of packing."""

    request: str
    parts: list[Part] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def of(self, group: Group) -> list[Part]:
        """The parts of one group, in order."""
        return [part for part in self.parts if part.group == group.name]

    def save(self, folder: Path) -> None:
        """Write it into `folder`, atomically."""
        write_json(
            folder / STATE_FILE,
            {
                "discern_packing": _VERSION,
                "request": self.request,
                "parts": [part.record() for part in self.parts],
                "problems": [problem.record() for problem in self.problems],
            },
        )


@contextlib.contextmanager
def only_packer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: it goes with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                "another process is packing into this folder", where=folder,
                hint="wait for it, or pack into another folder",
            ) from error  # fmt: skip
        yield
    finally:
        os.close(handle)


def open_state(
    folder: Path, request: str, groups: tuple[Group, ...], options: PackOptions
) -> tuple[PackState, PackedSet | None]:
    """What an earlier process finished, and the record if it finished all. Raises DataError."""
    state = _read_state(folder, request)
    if state is not None:
        if state.problems and options.on_bad_image == "error":
            raise refused_image(state.problems[0])
        return state, None
    record = read_packed_set(folder)
    if record is not None and record.request == request:
        lost = [name for name in record.files if not (folder / name).exists()]
        if lost:
            raise DataError(
                "files of this packed data set are not there any more", where=folder,
                got=", ".join(lost[:10]), hint="remove the folder and pack again",
            )  # fmt: skip
        if record.problems and options.on_bad_image == "error":
            raise refused_image(Problem(**record.problems[0]))
        part = Part(group="", file="", consumed=0, images=record.images, size=0)
        return PackState(request, [part]), record
    _need_room(folder, record, groups, options)
    state = PackState(request)
    # Noted before the first file, so that a kill at any time leaves a pack that goes on.
    state.save(folder)
    return state, None


def _read_state(folder: Path, request: str) -> PackState | None:
    path = folder / STATE_FILE
    try:
        record = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"the state of the pack cannot be read: {error}", where=path) from error
    if record.get("discern_packing") != _VERSION or record.get("request") != request:
        raise DataError(
            "the folder holds an unfinished pack of other images, or with other options",
            where=folder,
            hint="finish that one with its own options, remove the folder, or choose another",
        )
    return PackState(
        request,
        [Part(**part) for part in record["parts"]],
        [Problem(**problem) for problem in record["problems"]],
    )


def _need_room(
    folder: Path, record: PackedSet | None, groups: tuple[Group, ...], options: PackOptions
) -> None:
    """A pack begins in an empty folder; records, as im2rec's, beside anything but their like."""
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    if options.format == "rec" and record is None:
        own = {f"{group.name}.rec" for group in groups}
        there = [name for name in there if name in own]
    if there:
        raise DataError(
            "the folder to pack into is not empty"
            if record is None
            else "the folder holds another packed data set: other images, or other options",
            where=folder,
            got=", ".join(there[:5]) + (" and more" if len(there) > 5 else ""),
            expected="a new folder, or one with an unfinished pack of the same images",
        )


def refused_image(problem: Problem) -> DataError:
    """The error for an image that cannot be read, where none may be left out."""
    return DataError(
        f"an image cannot be packed: {problem.text}",
        where=problem.path,
        hint="mend or remove it, or leave out what cannot be read with --on-bad-image skip;"
        " `discern data check` lists all",
    )
