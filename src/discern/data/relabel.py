"""New labels for the images of a manifest, from a `.lst` or a table; `discern data relabel`.

Owns how rows of the table find their images and what becomes of their labels; what the table says
is read by `new_labels`. Neither images nor packed files are written anew: a new manifest comes
back, with an overlay that can be taken back.

Axes: N images, K classes of a head.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.folds import contents
from discern.data.label_columns import LabelColumn
from discern.data.label_decisions import is_decisions
from discern.data.label_overlay import (
    LabelChange,
    Overlay,
    apply_overlay,
    label_text,
    label_value,
    read_overlay,
)
from discern.data.manifest import Head, Manifest, order_classes
from discern.data.new_labels import ID, NUMBER, PATH, NewLabels, read_labels
from discern.data.table_files import read_meta

_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RelabelReport:
    """What a table changed. `same`: labels as they were; `blank`: cells that say nothing.

    `moves`: changes by head, old and new label, the most frequent first. `overlay`: to be written
    with `write_overlay`.
    """

    table: str
    found_by: str
    rows: int
    changed: int
    same: int = 0
    blank: int = 0
    moves: dict[str, int]
    new_classes: tuple[str, ...]
    overlay: Overlay
    notes: tuple[str, ...] = ()

    def record(self) -> dict[str, Any]:
        """As plain JSON values, without the changes one by one."""
        values = asdict(replace(self, overlay=Overlay(changes=(), old_classes={}, new_classes={})))
        del values["overlay"]
        return values | {"new_classes": list(self.new_classes), "notes": list(self.notes)}

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [
            f"{self.rows:>9,} rows of {self.table}, found by {self.found_by}",
            f"{self.changed:>9,} labels changed, {self.same:,} the same, {self.blank:,} blank",
        ]
        shown = list(self.moves.items())
        lines += [f"{count:>9,}   {move}" for move, count in shown[:_SHOWN]]
        if len(shown) > _SHOWN:
            lines.append(f"{sum(count for _, count in shown[_SHOWN:]):>9,}   others")
        if self.new_classes:
            lines.append(f"new classes: {', '.join(self.new_classes)}")
        return lines + [f"note: {note}" for note in self.notes]


def relabel(
    manifest: Manifest,
    table: Path | str,
    *,
    head: str | None = None,
    column: str | None = None,
    key: str | None = None,
    delimiter: str | None = None,
    new_classes: bool = False,
    clear_blank: bool = False,
) -> tuple[Manifest, RelabelReport]:
    """A new manifest with the labels of `table`; images that it does not name keep theirs.

    Rows are found by the manifest's ids, by path (as in the manifest, or from the table's folder),
    or by record number; `key` names the column. Labels: columns called like the heads, else the
    one label column; `head` and `column` choose. A `.lst` gives class numbers: by the names file
    beside it, else by the manifest's order. `delimiter`: between the labels of a cell.
    `new_classes` allows classes that the manifest lacks; they come last. Empty cells change nothing
    unless `clear_blank`. A `table` that is an overlay is applied as it is. Raises DataError for
    unknown rows, classes, and rows that disagree.
    """
    path = Path(table)
    known = {h.name: h for h in manifest.heads}
    if head is not None and head not in known:
        raise ConfigError(
            "there is no such label column in the data", got=head, expected=", ".join(known),
            hint=did_you_mean(head, known),
        )  # fmt: skip
    heads = [known[head]] if head is not None else list(manifest.heads)
    if "overlay" in (read_meta(path) or {}):
        return _apply(manifest, read_overlay(path), path)
    if is_decisions(path):
        raise DataError(
            "these are decisions of a review", where=path,
            hint="--overlay of train and eval reads them; `discern data decide` changes them",
        )  # fmt: skip
    labels = read_labels(path, heads, column=column, key=key, delimiter=delimiter)
    rows, found_by = _find_rows(labels, manifest, path)
    overlay, tally = _compare(
        manifest, labels, rows, path, new_classes=new_classes, clear_blank=clear_blank
    )
    result = apply_overlay(manifest, overlay)
    overlay = replace(overlay, before=manifest.hash, after=result.hash)
    report = _report(
        path, manifest, overlay, found_by=found_by, rows=len(rows), same=tally["same"],
        blank=tally["blank"],
        notes=(*labels.notes, *_copies(result, overlay)),
    )  # fmt: skip
    return result, report


def _apply(manifest: Manifest, overlay: Overlay, path: Path) -> tuple[Manifest, RelabelReport]:
    result = apply_overlay(manifest, overlay)
    return result, _report(
        path,
        manifest,
        overlay,
        found_by=ID,
        rows=len(overlay.changes),
        notes=_copies(result, overlay),
    )


def _report(path: Path, manifest: Manifest, overlay: Overlay, **facts: Any) -> RelabelReport:
    several = len(manifest.heads) > 1
    return RelabelReport(
        table=str(path),
        changed=len(overlay.changes),
        moves=_moves(overlay, several=several),
        new_classes=tuple(
            name
            for label, classes in overlay.new_classes.items()
            for name in classes
            if name not in overlay.old_classes[label]
        ),
        overlay=overlay,
        **facts,
    )


def _moves(overlay: Overlay, *, several: bool) -> dict[str, int]:
    """Changes by old and new label, with the head's name before them if there are several."""
    moves: Counter[str] = Counter()
    for change in overlay.changes:
        old = label_text(change.old, overlay.old_classes[change.head])
        new = label_text(change.new, overlay.new_classes[change.head])
        moves[f"{change.head}: {old} -> {new}" if several else f"{old} -> {new}"] += 1
    return dict(sorted(moves.items(), key=lambda item: (-item[1], item[0])))


def _find_rows(labels: NewLabels, manifest: Manifest, table: Path) -> tuple[list[int], str]:
    """(the image of each row, what they were found by). Raises DataError for unknown rows.

    All rows are found in one way: that which finds most.
    """
    tried = []
    for way in labels.ways:
        keys = labels.numbers if way == NUMBER else labels.keys
        places = _places(manifest, way)
        found = [places.get(key) for key in keys]
        if way == PATH and None in found:
            own = table.absolute().parent
            found = [
                places.get(str(own / k)) if f is None else f
                for k, f in zip(keys, found, strict=True)
            ]
        tried.append((sum(f is not None for f in found), way, found))
    count, way, found = max(tried, key=lambda entry: entry[0])
    keys = labels.numbers if way == NUMBER and count else labels.keys
    unknown = [key for key, row in zip(keys, found, strict=True) if row is None]
    if unknown:
        some = unknown[0]
        raise DataError(
            f"{len(unknown)} of {len(found)} rows name no image of the data",
            where=table,
            got=", ".join(unknown[:_SHOWN]),
            expected=f"what `discern data scan` lists, by {' or '.join(labels.ways)}",
            hint=did_you_mean(some, [str(p) for p in manifest.locations.paths[:10_000]]),
        )
    rows = [row for row in found if row is not None]
    twice = [key for key, row in zip(keys, rows, strict=True) if row < 0]
    if twice:
        raise DataError(
            f"several images of the data are called so: rows cannot be found by {way}",
            where=table, got=", ".join(twice[:_SHOWN]), hint="name them by id",
        )  # fmt: skip
    return rows, way


def _places(manifest: Manifest, way: str) -> dict[str, int]:
    """The row of each image by what it is called; -1 for a name of several images."""
    where = manifest.locations
    names: list[tuple[str, int]] = []
    if way == ID:
        names = [(name, row) for row, name in enumerate(manifest.ids.tolist())]
    for row, path in enumerate(where.paths.tolist() if way != ID else ()):
        if way == PATH:
            names.append((path, row))
            if where.containers[row] < 0:
                names.append((str(manifest.root.absolute() / path), row))
        elif where.containers[row] >= 0:  # records go by number: "7", or "part.rec/7"
            names.append((path.rpartition("/")[2], row))
    places: dict[str, int] = {}
    for name, row in names:
        places[name] = row if places.get(name, row) == row else -1
    return places


def _compare(
    manifest: Manifest,
    labels: NewLabels,
    rows: list[int],
    path: Path,
    *,
    new_classes: bool,
    clear_blank: bool,
) -> tuple[Overlay, Counter[str]]:
    """(the changes, how many cells are the same and blank)."""
    tally: Counter[str] = Counter()
    changes: dict[tuple[str, int], LabelChange] = {}
    said: dict[tuple[str, int], Any] = {}
    old_classes, all_classes = {}, {}
    for head in manifest.heads:
        if head.name not in labels.columns:
            continue
        column = labels.columns[head.name]
        classes = _all_classes(head, column, path, allowed=new_classes)
        new = Head(head.name, head.kind, classes, column.renumbered(classes))
        blank = column.missing().tolist()
        old_classes[head.name], all_classes[head.name] = head.classes, classes
        for place, row in enumerate(rows):
            value = label_value(new, place)
            where = (head.name, row)
            if said.setdefault(where, value) != value:
                raise DataError(
                    "two rows give one image different labels",
                    where=f"{path}, row {place + 1}",
                    got=f"{labels.keys[place]}: {label_text(value, classes)}",
                    expected=label_text(said[where], classes),
                )
            old = label_value(head, row)
            if blank[place] and not clear_blank:
                tally["blank"] += 1
            elif _widened(old, head, classes) == value:
                tally["same"] += 1
            else:
                changes[where] = LabelChange(str(manifest.ids[row]), head.name, old, value)
    overlay = Overlay(
        changes=tuple(changes.values()), old_classes=old_classes, new_classes=all_classes
    )
    return overlay, tally


def _widened(value: Any, head: Head, classes: tuple[str, ...]) -> Any:
    """A label of kind multi over more classes, unknown for the new ones."""
    return (
        value + (None,) * (len(classes) - len(head.classes)) if isinstance(value, tuple) else value
    )


def _all_classes(head: Head, column: LabelColumn, path: Path, *, allowed: bool) -> tuple[str, ...]:
    """The head's classes, then those that only the table has. Raises DataError unless allowed."""
    unknown = set(column.used()) - set(head.classes)
    if unknown and not allowed:
        first = min(unknown)
        raise DataError(
            f"{len(unknown)} classes of the table are not in the data",
            where=f"{path}, label column '{head.name}'",
            got=", ".join(sorted(unknown)[:_SHOWN]),
            expected=", ".join(head.classes[:20]),
            hint=did_you_mean(first, head.classes) or "--new-classes adds them",
        )
    return head.classes + order_classes(unknown)


def _copies(result: Manifest, overlay: Overlay) -> tuple[str, ...]:
    """A note on images of equal bytes that do not have the label of their changed copy."""
    content = contents(result.ids)
    rows = {name: row for row, name in enumerate(result.ids.tolist())}
    by_content: dict[str, list[int]] = {}
    for row in np.flatnonzero(np.isin(content, content[[rows[c.id] for c in overlay.changes]])):
        by_content.setdefault(str(content[row]), []).append(int(row))
    heads = [head for head in result.heads if head.name in overlay.old_classes]
    odd = sum(
        any(len({label_value(head, row) for row in group}) > 1 for head in heads)
        for group in by_content.values()
    )
    if not odd:
        return ()
    return (f"{odd} changed images have copies of equal bytes with another label",)
