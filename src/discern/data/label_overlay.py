"""Small files of changed labels that can be applied to a manifest and taken back.

Owns `Overlay` and its file: a table of id, head, old and new label, with the classes of both
sides and the hashes of both manifests in its record.

Axes: N images, K classes of a head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.manifest import MISSING, YES, Head, Manifest
from discern.data.table_files import Table, read_table, write_table

VERSION: Final = 1
_SHOWN: Final = 10

# A class name for kind single; for kind multi a value per class, None where it is unknown. None
# alone: no label.
LabelValue = str | tuple[float | None, ...] | None


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One label of one image: what it was and what it becomes."""

    id: str
    head: str
    old: LabelValue
    new: LabelValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """Changes that lead from one manifest to another.

    `old_classes` and `new_classes`: of each head that is changed, in label order. `before` and
    `after`: the hashes of the manifests.
    """

    changes: tuple[LabelChange, ...]
    old_classes: Mapping[str, tuple[str, ...]]
    new_classes: Mapping[str, tuple[str, ...]]
    before: str = ""
    after: str = ""

    def __post_init__(self) -> None:
        sides = (("old", self.old_classes), ("new", self.new_classes))
        for change in self.changes:
            for side, heads in sides:
                value, classes = getattr(change, side), heads.get(change.head, ())
                fits = len(value) == len(classes) if isinstance(value, tuple) else value in classes
                if value is not None and not fits:
                    raise DataError(
                        "an overlay has a label that is not one of its classes",
                        where=f"image {change.id}, label column '{change.head}'",
                        got=value,
                        expected=", ".join(classes[:20]),
                    )

    def reversed(self) -> Overlay:
        """The overlay that takes this one back."""
        return Overlay(
            changes=tuple(LabelChange(c.id, c.head, c.new, c.old) for c in self.changes),
            old_classes=self.new_classes,
            new_classes=self.old_classes,
            before=self.after,
            after=self.before,
        )


def label_value(head: Head, row: int) -> LabelValue:
    """The label of one image as an overlay holds it."""
    if head.kind == "single":
        target = int(head.targets[row])
        return None if target == MISSING else head.classes[target]
    values = head.targets[row].tolist()
    if all(value != value for value in values):
        return None
    return tuple(None if value != value else value for value in values)


def label_text(value: LabelValue, classes: Sequence[str]) -> str:
    """A label for people: class names joined by `;`, or `(none)`."""
    if isinstance(value, str):
        return value
    if value is None:
        return "(none)"
    return ";".join(c for c, v in zip(classes, value, strict=True) if v is not None and v >= YES)


def apply_overlay(manifest: Manifest, overlay: Overlay) -> Manifest:
    """A new manifest with the labels changed.

    Raises DataError, and changes nothing, where a head, an image or a label is not as it was when
    the overlay was made; `overlay.reversed()` takes the changes back.
    """
    rows = {name: row for row, name in enumerate(manifest.ids.tolist())}
    known = {head.name: head for head in manifest.heads}
    for name, classes in overlay.old_classes.items():
        if name not in known or known[name].classes != classes:
            raise DataError(
                "the overlay is for other classes",
                where=f"label column '{name}'",
                got=", ".join(known[name].classes[:20]) if name in known else "no such column",
                expected=", ".join(classes[:20]),
            )
    by_head: dict[str, list[LabelChange]] = {name: [] for name in overlay.old_classes}
    wrong = []
    for change in overlay.changes:
        row = rows.get(change.id)
        if row is None or label_value(known[change.head], row) != change.old:
            wrong.append(f"{change.id}{' (not there)' if row is None else ''}")
        by_head[change.head].append(change)
    if wrong:
        raise DataError(
            f"{len(wrong)} of {len(overlay.changes)} labels are not as the overlay found them",
            got=", ".join(wrong[:_SHOWN]),
            expected="the manifest that it was made for",
            hint="was it applied already? taking it back is --reverse",
        )
    heads = tuple(
        _changed(head, by_head[head.name], rows, overlay.new_classes[head.name])
        if head.name in by_head
        else head
        for head in manifest.heads
    )
    return replace(manifest, heads=heads)


def _changed(
    head: Head, changes: Sequence[LabelChange], rows: Mapping[str, int], classes: tuple[str, ...]
) -> Head:
    places = np.array([rows[change.id] for change in changes], dtype=np.int64)
    numbers = {name: number for number, name in enumerate(classes)}
    targets: NDArray[Any]
    if head.kind == "single":
        new = [MISSING if c.new is None else numbers[str(c.new)] for c in changes]
        table = np.array([*(numbers.get(name, MISSING) for name in head.classes), MISSING])
        targets = table[head.targets].astype(np.int64)
        targets[places] = np.array(new, dtype=np.int64)
        return Head(head.name, head.kind, classes, targets)
    targets = np.full((len(head.targets), len(classes)), np.nan, dtype=np.float32)
    for place, name in enumerate(head.classes):
        if name in numbers:
            targets[:, numbers[name]] = head.targets[:, place]
    for row, change in zip(places.tolist(), changes, strict=True):
        values = (None,) * len(classes) if change.new is None else change.new
        targets[row] = [np.nan if value is None else value for value in values]
    return Head(head.name, head.kind, classes, targets)


def write_overlay(overlay: Overlay, path: Path | str) -> None:
    """Write the overlay atomically as `.csv`, `.tsv`, `.jsonl` or `.parquet`."""
    changes = overlay.changes
    columns: dict[str, list[str | None]] = {
        "id": [change.id for change in changes],
        "head": [change.head for change in changes],
        # Values of kind multi as JSON text: a column has one type in every format.
        "old": [_cell(change.old) for change in changes],
        "new": [_cell(change.new) for change in changes],
    }
    meta = {
        "overlay": VERSION,
        "before": overlay.before,
        "after": overlay.after,
        "heads": {
            name: {
                "old": list(classes),
                "new": list(overlay.new_classes[name]),
                "multi": _is_multi(name, changes),
            }
            for name, classes in overlay.old_classes.items()
        },
    }
    write_table(Path(path), Table(columns, meta))


def _is_multi(head: str, changes: Sequence[LabelChange]) -> bool:
    return any(
        isinstance(c.old, tuple) or isinstance(c.new, tuple) for c in changes if c.head == head
    )


def _cell(value: LabelValue) -> str | None:
    return json.dumps(list(value)) if isinstance(value, tuple) else value


def read_overlay(path: Path | str) -> Overlay:
    """The overlay in a file. Raises DataError for another table or another version."""
    path = Path(path)
    table = read_table(path)
    meta = dict(table.meta or {})
    if meta.get("overlay") != VERSION:
        raise DataError(
            "the table is no overlay of labels" if "overlay" not in meta
            else "the overlay was written by another version of Discern",
            where=path, got=meta.get("overlay"), expected=f"overlay version {VERSION}",
        )  # fmt: skip
    try:
        heads = {str(name): record for name, record in meta["heads"].items()}
        columns = (table.columns.get(name, ()) for name in ("id", "head", "old", "new"))
        changes = tuple(
            LabelChange(
                str(name),
                str(head),
                _value(old, multi=heads[head]["multi"]),
                _value(new, multi=heads[head]["multi"]),
            )
            for name, head, old, new in zip(*columns, strict=True)
        )
        return Overlay(
            changes=changes,
            old_classes={name: tuple(record["old"]) for name, record in heads.items()},
            new_classes={name: tuple(record["new"]) for name, record in heads.items()},
            before=str(meta["before"]),
            after=str(meta["after"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError("the overlay is damaged", where=path, got=repr(error)) from error


def _value(cell: Any, *, multi: bool) -> LabelValue:
    if cell is None:
        return None
    return tuple(json.loads(cell)) if multi else str(cell)
