"""Decisions on single images, as an overlay of a data set: versioned, diffable, reversible.

Owns their file and their folder. A version holds all decisions from the data as it lies there up
to then; it is never changed. Undoing writes a further version. Lines are ordered by path, so that
two versions can be compared by any tool for texts.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.errors import ConfigError, DataError
from discern.base.files import sweep_temporaries
from discern.base.names import counted
from discern.data.folds import contents
from discern.data.label_overlay import LabelChange, Overlay, apply_overlay, label_value
from discern.data.manifest import SPLITS, Manifest
from discern.data.table_files import Table, read_meta, read_table, write_table

FORMAT: Final = 1
FOLDER: Final = "overlay"
KINDS: Final = ("relabel", "drop", "keep")
_MARK: Final = "decisions"
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Decision:
    """What was decided on one image: `old` is its label in the data, `new` that of `relabel`."""

    id: str
    path: str
    action: str
    old: str | None
    new: str | None = None

    def words(self) -> str:
        """For people: what becomes of the image."""
        return f"{self.old} -> {self.new}" if self.action == "relabel" else self.action


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSet:
    """One version. `parent`: the version that an undo goes back to; `note`: why it was made.

    `classes`: of the label column `head` in the data; `new_classes`: those with the new ones last.
    """

    number: int
    parent: int
    head: str
    classes: tuple[str, ...]
    new_classes: tuple[str, ...]
    decisions: tuple[Decision, ...] = ()
    note: str = ""

    def empty(self) -> DecisionSet:
        """Version 0 of the same data: nothing is decided."""
        return replace(self, number=0, parent=0, decisions=(), note="")

    def counts(self) -> dict[str, int]:
        """Decisions by action."""
        return {kind: sum(d.action == kind for d in self.decisions) for kind in KINDS}

    def by_id(self) -> dict[str, Decision]:
        """The decision on each image that has one."""
        return {decision.id: decision for decision in self.decisions}

    def words(self) -> str:
        """What the version does, for people."""
        many = self.counts()
        return (
            f"{counted(many['relabel'], 'label')} changed, {counted(many['drop'], 'image')} "
            f"dropped, {many['keep']} kept as they are"
        )


def write_decisions(found: DecisionSet, path: Path) -> None:
    """Write one version atomically; the format goes by the suffix."""
    rows = sorted(found.decisions, key=lambda d: (d.path, d.id))
    columns = {
        name: [getattr(row, name) for row in rows]
        for name in ("path", "id", "action", "old", "new")
    }
    meta = {
        _MARK: FORMAT,
        "number": found.number,
        "parent": found.parent,
        "head": found.head,
        "classes": list(found.classes),
        "new_classes": list(found.new_classes),
        "note": found.note,
    }
    write_table(path, Table(columns, meta))


def is_decisions(path: Path) -> bool:
    """Whether the table at `path` holds decisions: only its record is read."""
    return _MARK in (read_meta(path) or {})


def read_decisions(path: Path | str) -> DecisionSet:
    """The version in a file, or the newest in a folder (of a review, or its overlay).

    Raises ConfigError where there is none, DataError for another table or version.
    """
    path = Path(path)
    if path.is_dir():
        return DecisionHistory.of(path).newest(needed=True)
    table = read_table(path)
    meta = dict(table.meta or {})
    if meta.get(_MARK) != FORMAT:
        raise DataError(
            "the table holds no decisions" if _MARK not in meta
            else "the decisions were written by another version of Discern",
            where=path, got=meta.get(_MARK), expected=f"format {FORMAT}",
        )  # fmt: skip
    try:
        names = ("id", "path", "action", "old", "new")
        rows = zip(*(table.columns.get(name, ()) for name in names), strict=True)
        decisions = tuple(
            Decision(str(i), str(p), _known(a), _text(old), _text(new))
            for i, p, a, old, new in rows
        )
        return DecisionSet(
            number=int(meta["number"]),
            parent=int(meta["parent"]),
            head=str(meta["head"]),
            classes=tuple(meta["classes"]),
            new_classes=tuple(meta["new_classes"]),
            decisions=decisions,
            note=str(meta["note"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("the decisions are damaged", where=path, got=repr(error)) from error


def _known(action: Any) -> str:
    if action not in KINDS:
        raise ValueError(action)
    return str(action)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class DecisionHistory:
    """The versions `v0001.csv`, `v0002.csv`, ... in a folder. Nothing in it is ever replaced."""

    folder: Path

    @classmethod
    def of(cls, folder: Path | str) -> DecisionHistory:
        """The versions of a review's folder, or of the overlay's own."""
        folder = Path(folder)
        return cls(folder if folder.name == FOLDER else folder / FOLDER)

    def numbers(self) -> list[int]:
        """The versions there are, ascending."""
        found = (path.stem.removeprefix("v") for path in self.folder.glob("v*.csv"))
        return sorted(int(text) for text in found if text.isdecimal())

    def path(self, number: int) -> Path:
        """The file of a version."""
        return self.folder / f"v{number:04d}.csv"

    def read(self, number: int) -> DecisionSet:
        """One version. Raises ConfigError if it is not there."""
        if number not in self.numbers():
            raise ConfigError(
                "there is no such version", where=self.folder, got=number,
                expected=", ".join(map(str, self.numbers())) or "none was written yet",
            )  # fmt: skip
        return read_decisions(self.path(number))

    def newest(self, *, needed: bool = False) -> DecisionSet:
        """The last version; version 0, without a decision, before there is one.

        Raises ConfigError in its place if one is `needed`.
        """
        numbers = self.numbers()
        if numbers:
            return self.read(numbers[-1])
        if needed:
            raise ConfigError(
                "there are no decisions yet", where=self.folder, expected="v0001.csv",
                hint="discern data decide REVIEW --accept 1-10 makes some",
            )  # fmt: skip
        return DecisionSet(number=0, parent=0, head="", classes=(), new_classes=())

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time; what a killed one left behind is swept."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / ".lock", "wb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            sweep_temporaries(self.folder)
            yield

    def add(self, base: DecisionSet, changes: Sequence[Decision], **facts: Any) -> DecisionSet:
        """A version further: `base`, the newest one, with `changes`; nothing is written if equal.

        `facts`: further fields of the version. Raises DataError if another version was written
        meanwhile.
        """
        joined = base.by_id() | {decision.id: decision for decision in changes}
        kept = tuple(sorted(joined.values(), key=lambda d: (d.path, d.id)))
        following = replace(base, decisions=kept, parent=base.number, **facts)
        if kept == base.decisions:
            return base
        return self._write(following, base.number)

    def clear(self, base: DecisionSet, ids: Sequence[str]) -> DecisionSet:
        """A version further, without the decisions on `ids`."""
        left = tuple(d for d in base.decisions if d.id not in set(ids))
        if left == base.decisions:
            return base
        return self._write(replace(base, decisions=left, parent=base.number), base.number)

    def undo(self) -> DecisionSet:
        """A version further, that holds what the newest one's parent held.

        Undone again, it goes back by one more. Raises ConfigError where nothing is left to undo.
        """
        newest = self.newest(needed=True)
        if newest.number == 0 or (newest.parent == 0 and not newest.decisions):
            raise ConfigError("there is nothing left to undo", where=self.folder)
        return self.restore(newest.parent, note=f"undo of v{newest.number}")

    def restore(self, number: int, *, note: str | None = None) -> DecisionSet:
        """A version further, that holds what version `number` held; 0 held nothing."""
        newest = self.newest(needed=True)
        before = newest.empty() if number == 0 else self.read(number)
        told = note or f"as v{number}"
        return self._write(replace(before, note=told), newest.number)

    def _write(self, following: DecisionSet, base: int) -> DecisionSet:
        with self._alone():
            numbers = self.numbers()
            if numbers and numbers[-1] != base:
                raise DataError(
                    "another version was written meanwhile", where=self.folder,
                    got=f"v{numbers[-1]}", expected=f"v{base}", hint="look at it, and decide again",
                )  # fmt: skip
            written = replace(following, number=base + 1)
            write_decisions(written, self.path(base + 1))
        return written


@dataclass(frozen=True, slots=True)
class Difference:
    """How the decision on one image differs between two versions; None: undecided."""

    id: str
    path: str
    before: Decision | None
    after: Decision | None

    def words(self) -> str:
        """For people."""
        one, other = (d.words() if d else "undecided" for d in (self.before, self.after))
        return f"{self.path}: {one} => {other}"


def differences(before: DecisionSet, after: DecisionSet) -> list[Difference]:
    """The images that two versions decide differently on, by path."""
    one, other = before.by_id(), after.by_id()
    found = []
    for name in one | other:
        left, right = one.get(name), other.get(name)
        if left != right:
            known = left or right
            found.append(Difference(name, known.path if known else "", left, right))
    return sorted(found, key=lambda d: (d.path, d.id))


def apply_decisions(manifest: Manifest, found: DecisionSet) -> tuple[Manifest, list[str]]:
    """(a new manifest with labels changed and images left out, what to tell of it).

    Images are found by content; of several with equal bytes by path, then by id. Those that are
    not in the data are told. Raises DataError, and changes nothing, where the label column or a
    label is not as it was decided on, or where no decision meets an image.
    """
    if not found.decisions:
        return manifest, [f"overlay v{found.number}: no decisions"]
    rows = _find_rows(manifest, found.decisions)
    there = [(decision, row) for decision, row in zip(found.decisions, rows, strict=True)
             if row is not None]  # fmt: skip
    if not there:
        raise DataError(
            "no image of the overlay is in the data", where=manifest.root,
            got=", ".join(d.path for d in found.decisions[:_SHOWN]),
        )  # fmt: skip
    by_id = {str(manifest.ids[row]): d for d, row in there}
    changes = tuple(
        LabelChange(name, found.head, d.old, d.new)
        for name, d in by_id.items()
        if d.action == "relabel"
    )
    _check_labels(manifest, found, there)
    overlay = Overlay(
        changes=changes,
        old_classes={found.head: found.classes},
        new_classes={found.head: found.new_classes},
    )
    changed = apply_overlay(manifest, overlay)
    dropped = np.array([row for d, row in there if d.action == "drop"], dtype=np.int64)
    left = np.setdiff1d(np.arange(len(manifest)), dropped)
    notes = [f"overlay v{found.number}: {_told(manifest, there)}"]
    if len(there) < len(found.decisions):
        missing = len(found.decisions) - len(there)
        notes.append(f"{missing} decisions of the overlay are on images that are not in the data")
    return changed if not len(dropped) else changed.select(left), notes


def _find_rows(manifest: Manifest, decisions: Sequence[Decision]) -> list[int | None]:
    by_content: dict[str, list[int]] = {}
    for row, name in enumerate(contents(manifest.ids).tolist()):
        by_content.setdefault(name, []).append(row)
    found: list[int | None] = []
    for decision in decisions:
        rows = by_content.get(decision.id.partition("-")[0], [])
        if len(rows) > 1:
            same = [r for r in rows if str(manifest.locations.paths[r]) == decision.path]
            rows = same or [r for r in rows if str(manifest.ids[r]) == decision.id]
        found.append(rows[0] if rows else None)
    return found


def _check_labels(
    manifest: Manifest, found: DecisionSet, there: Sequence[tuple[Decision, int]]
) -> None:
    heads = {head.name: head for head in manifest.heads}
    head = heads.get(found.head)
    if head is None or head.classes != found.classes:
        raise DataError(
            "the overlay is for other classes",
            where=f"label column '{found.head}'",
            got="no such column" if head is None else ", ".join(head.classes[:20]),
            expected=", ".join(found.classes[:20]),
        )
    wrong = [d.path for d, row in there if label_value(head, row) != d.old]
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(there)} labels are not as the overlay found them",
            got=", ".join(wrong[:_SHOWN]),
            expected="the data that the review was made on",
            hint="was the overlay applied already? Labels are changed once",
        )


def _told(manifest: Manifest, there: Sequence[tuple[Decision, int]]) -> str:
    def by_split(kind: str) -> str:
        rows = [row for d, row in there if d.action == kind]
        codes = manifest.split[rows] if rows else np.empty(0, dtype=np.int8)
        named: Mapping[str, int] = {
            name: int((codes == code).sum()) for code, name in enumerate(SPLITS)
        }
        parts = ", ".join(f"{count} of {name}" for name, count in named.items() if count)
        return f" ({parts})" if parts else ""

    many = {kind: sum(d.action == kind for d, _ in there) for kind in KINDS}
    return (
        f"{counted(many['relabel'], 'label')} changed{by_split('relabel')}, "
        f"{counted(many['drop'], 'image')} left out{by_split('drop')}"
    )
