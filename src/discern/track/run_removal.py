"""What a run takes on the disk, and removing all of it or parts: what is told is what is freed.

Bytes are those of files. A file with several hard links counts when its last link goes. Whoever
removes holds the run's lock, so nothing changes between telling and removing. A part vanishes from
the run by one rename, then file by file; what a killed removal leaves is found again.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import RunError
from discern.base.files import TEMPORARY_MARK, temporary_sibling
from discern.track.run_folder import CHECKPOINTS, EVENTS, FINISHED, MODEL, REPORT
from discern.track.run_lock import LOCK_FILE, is_locked
from discern.track.run_rows import RunRow

ARTIFACTS: Final = "artifacts"
PARTS: Final = (CHECKPOINTS, MODEL, REPORT, EVENTS, ARTIFACTS)
METRICS_PART: Final = "metrics"
OTHER_PART: Final = "other"
CLEANABLE: Final = (CHECKPOINTS, EVENTS, REPORT, ARTIFACTS)
_CHECKPOINT_LIST: Final = "metrics.json"
_DELETED_MARK: Final = ".deleted-"


@dataclass(frozen=True, slots=True)
class Removal:
    """Files and folders of a run that are to go: `bytes` in `files`. `kept`: what stays, and why.

    `whole`: it is the whole run.
    """

    run: str
    paths: tuple[Path, ...]
    files: int
    bytes: int
    kept: str = ""
    whole: bool = False


def disk_sizes(folder: Path) -> dict[str, int]:
    """The bytes of each part of a run: checkpoints, model, report, events, artifacts, metrics,
    other, and their `total`."""
    sizes = dict.fromkeys((*PARTS, METRICS_PART, OTHER_PART), 0)
    for entry in sorted(folder.iterdir()):
        part = entry.name if entry.name in PARTS else OTHER_PART
        if entry.name.startswith(("metrics.", "series.jsonl")) or entry.name == "system":
            part = METRICS_PART
        sizes[part] += _measure([entry])[1]
    return sizes | {"total": sum(sizes.values())}


def plan_deletion(row: RunRow) -> Removal:
    """The removal of the whole run. Raises RunError for a link to a folder."""
    if row.path.is_symlink():
        raise RunError(
            "this run is a link to a folder elsewhere",
            where=row.path,
            got=row.path.readlink(),
            hint="delete the folder itself, or remove the link with `rm`",
        )
    return Removal(row.id, (row.path,), *_measure([row.path]), whole=True)


def plan_cleaning(row: RunRow, parts: Sequence[str], *, everything: bool = False) -> Removal:
    """The removal of `parts` (of CLEANABLE) of a run, and of what killed writers have left.

    Of checkpoints the newest and the best stay where they are all there is to go on with: in a run
    that is not finished or that has no model; unless `everything`.
    """
    paths = [row.path / part for part in parts if part != CHECKPOINTS]
    kept = ""
    if CHECKPOINTS in parts:
        folders = _checkpoints(row.path)
        stay: set[str] = set()
        finished = row.status == FINISHED and (row.path / MODEL).is_dir()
        if not everything and not finished:
            stay = _worth_keeping(row.path, folders)
        paths += [folder for folder in folders if folder.name not in stay]
        why = "it is not finished" if row.status != FINISHED else "it has no model"
        verb = "stays" if len(stay) == 1 else "stay"
        kept = f"{', '.join(sorted(stay))} {verb}, as {why}" if stay else ""
        paths += _temporaries(row.path / CHECKPOINTS)
    paths += _temporaries(row.path)
    there = [path for path in paths if path.exists() or path.is_symlink()]
    return Removal(row.id, tuple(there), *_measure(there), kept=kept)


def plan_leftovers(project: Path) -> list[Removal]:
    """What killed deletions have left of runs of this project."""
    found = sorted(project.glob(f".*{_DELETED_MARK}*"))
    return [
        Removal(f"{project.name}/{path.name}", (path,), *_measure([path]), kept="", whole=True)
        for path in found
        if path.is_dir() and not is_locked(path)
    ]


def carry_out(removal: Removal) -> int:
    """Remove it; gives the bytes freed. Call it with the run's lock held. Raises OSError."""
    freed = 0
    for path in removal.paths:
        gone = path
        if not path.name.startswith("."):
            hidden = f".{path.name}{_DELETED_MARK}{secrets.token_hex(4)}"
            gone = path.with_name(hidden) if removal.whole else temporary_sibling(path)
            os.rename(path, gone)
        freed += _remove(gone)
    return freed


def _measure(paths: Iterable[Path]) -> tuple[int, int]:
    """(files, bytes that go with them)."""
    files = total = 0
    links: Counter[tuple[int, int]] = Counter()
    for path in paths:
        for _, status in _walk(path):
            if not stat.S_ISREG(status.st_mode):
                continue
            files += 1
            links[status.st_dev, status.st_ino] += 1
            if links[status.st_dev, status.st_ino] == status.st_nlink:
                total += status.st_size
    return files, total


def _walk(path: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Everything below `path` and itself, contents first; links are not followed."""
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode):
        with os.scandir(path) as entries:
            below = sorted(entries, key=lambda entry: (entry.name == LOCK_FILE, entry.name))
        for entry in below:  # the lock goes last: until then nobody takes it for a dead leftover
            yield from _walk(Path(entry.path))
    yield path, status


def _remove(path: Path) -> int:
    freed = 0
    for place, status in _walk(path):
        if stat.S_ISDIR(status.st_mode):
            place.rmdir()
            continue
        links = place.lstat().st_nlink
        place.unlink()
        if stat.S_ISREG(status.st_mode) and links == 1:
            freed += status.st_size
    return freed


def _checkpoints(run: Path) -> list[Path]:
    """Folders `step-N`, in the order of steps."""
    found = [p for p in (run / CHECKPOINTS).glob("step-*") if p.name[5:].isdigit()]
    return sorted(found, key=lambda path: int(path.name[5:]))


def _worth_keeping(run: Path, folders: Sequence[Path]) -> set[str]:
    """The names of the newest and of the best checkpoint."""
    names = [folder.name for folder in folders]
    keep = {names[-1]} if names else set()
    try:
        record: Any = json.loads((run / CHECKPOINTS / _CHECKPOINT_LIST).read_bytes())
        best = record["best"]["checkpoint"]
    except (OSError, ValueError, KeyError, TypeError):
        return keep  # a loop of one's own knows no best one
    return keep | ({best} & set(names))


def _temporaries(folder: Path) -> list[Path]:
    return sorted(folder.glob(f".*{TEMPORARY_MARK}*"))
