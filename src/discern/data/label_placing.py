"""Labels carried out in the clean folder: images copied or linked in, and taken out again.

Every step may be done twice: a killed command begins anew with the entries of the ledger that are
not marked as placed. What is not byte for byte the labeled image is never overwritten or removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from discern.base.errors import DataError
from discern.base.files import (
    atomic_file,
    hash_file,
    sweep_temporaries,
    sync_folder,
    temporary_sibling,
)
from discern.data.label_ledger import ROUND, Entry, LabelLedger

Mode = Literal["copy", "link", "manifest"]
MODES: Final = ("copy", "link", "manifest")

Warn = Callable[[str], None]


def carry_out(ledger: LabelLedger, clean: Path, raw: Path, mode: Mode, warn: Warn) -> int:
    """Do what the ledger asks of the folder `clean` and is not done; gives the entries done.

    Raises DataError for a raw image that is gone or changed, and for a file in the way.
    """
    waiting = list(ledger.state.waiting)
    for entry in waiting:
        if mode != "manifest":
            _carry_out(entry, ledger, clean, raw, mode, warn)
        ledger.mark_placed(entry)
    return len(waiting)


def _carry_out(
    entry: Entry, ledger: LabelLedger, clean: Path, raw: Path, mode: Mode, warn: Warn
) -> None:
    content = entry.content
    gone = content.get("withdrawn", []) if entry.kind == ROUND else content["labels"]
    standing = {label.path for label in ledger.state.labels.values()}
    for record in gone:
        if record["path"] not in standing:
            _take_out(clean / record["path"], record["id"], warn)
    if entry.kind != ROUND:
        return
    labels = ledger.state.labels
    wanted = [r for r in content["labels"] if r["id"] in labels and _same(r, labels[r["id"]].path)]
    folders = {(clean / record["path"]).parent for record in wanted}
    for folder in sorted(folders):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
    for record in wanted:
        _put_in(clean / record["path"], raw / record["source"], record["id"], mode)
    for folder in sorted(folders):
        sync_folder(folder)


def _same(record: dict[str, Any], path: str | None) -> bool:
    return bool(record["path"] == path)


def _put_in(target: Path, source: Path, content: str, mode: Mode) -> None:
    if os.path.lexists(target):
        if _content(target) == content:
            return
        raise DataError(
            "another file stands where a labeled image belongs",
            where=target,
            hint="move it away and give the same command again; nothing was overwritten",
        )
    if _content(source) != content:
        raise DataError(
            "a raw image is gone or has changed since it was labeled",
            where=source,
            expected=f"a file whose SHA-256 begins with {content}",
            hint="put it back, or take its round back with --undo",
        )
    if mode == "link":
        temporary = temporary_sibling(target)
        temporary.symlink_to(source.absolute())
        temporary.rename(target)
        return
    with open(source, "rb") as stream, atomic_file(target) as copy:
        shutil.copyfileobj(stream, copy)


def _take_out(target: Path, content: str, warn: Warn) -> None:
    if not os.path.lexists(target):
        return
    if target.exists() and _content(target) != content:
        warn(f"not removed, for it is not the image that was labeled: {target}")
        return
    target.unlink()


def _content(path: Path) -> str | None:
    """The first 16 hex digits of the file's SHA-256; None if there is no such file."""
    try:
        return hash_file(path)[:16]
    except OSError:
        return None


def choose_paths(images: Sequence[tuple[str, str, str]], taken: Iterable[str]) -> list[str]:
    """A free place TAG/NAME in the clean folder for each (content, raw path, tag).

    The file keeps its name; where that is taken, in any case of letters, its content's first eight
    digits are put behind it.
    """
    used = {path.casefold() for path in taken}
    places = []
    for content, source, tag in images:
        name = PurePosixPath(source)
        place = f"{tag}/{name.name}"
        if place.casefold() in used:
            place = f"{tag}/{name.stem}-{content[:8]}{name.suffix}"
        if place.casefold() in used:
            place = f"{tag}/{name.stem}-{content}{name.suffix}"
        used.add(place.casefold())
        places.append(place)
    return places
