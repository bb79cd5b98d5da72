"""Several data sets as one: `discern data merge A B ... --classes union|prefix`.

Owns which classes are one, where each image came from, and the report on images that are in more
than one set. No image is opened: equal content is known by the ids.

Axes: N images, K classes of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.folds import contents
from discern.data.label_columns import LabelColumn
from discern.data.manifest import (
    MISSING,
    SPLITS,
    Head,
    Locations,
    Manifest,
    join_locations,
    order_classes,
    unique_ids,
)
from discern.data.pixel_arrays import OwnImages, Pixels

CLASS_RULES: Final = ("union", "prefix")
# Equal images listed in full in the report; all are counted.
_LISTED: Final = 1000


@dataclass(frozen=True, slots=True)
class EqualImages:
    """Images of equal bytes from more than one place: paths, data sets, labels and splits."""

    id: str
    paths: tuple[str, ...]
    sets: tuple[str, ...]
    labels: tuple[str | None, ...]
    splits: tuple[str | None, ...]

    @property
    def conflict(self) -> bool:
        """Whether they have different labels."""
        return len(set(self.labels)) > 1

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeReport:
    """What was joined. `sets`: images by data set; `shared`: class names of more than one set.

    `duplicates`: images whose bytes are there already, `conflicts`: of these, groups of different
    labels, `leaks`: groups that lie in train and in what is scored; `equal`: the first 1000 groups.
    """

    rule: str
    sets: dict[str, int]
    images: int
    classes: tuple[str, ...]
    shared: tuple[str, ...]
    duplicates: int
    dropped: int
    conflicts: int
    leaks: int
    equal: tuple[EqualImages, ...]
    notes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self) | {"equal": [group.record() for group in self.equal]}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [f"{count:>9,} images  {name}" for name, count in self.sets.items()]
        lines.append(f"{self.images:>9,} images in {len(self.classes)} classes together")
        if self.shared:
            lines.append(f"classes of several sets joined: {', '.join(self.shared)}")
        if self.duplicates:
            kept = "left out" if self.dropped else "kept"
            lines.append(f"{self.duplicates:>9,} images are there already, byte for byte: {kept}")
        differing = [group for group in self.equal if group.conflict]
        lines += [
            f"different labels: {' and '.join(group.paths)} ({', '.join(map(str, group.labels))})"
            for group in differing[:20]
        ]
        if len(differing) > 20:
            lines.append(f"and {len(differing) - 20} more; --json lists the first 1000")
        if self.leaks:
            lines.append(f"{self.leaks:>9,} of them are in train and in val or test, too")
        return lines + [f"note: {note}" for note in self.notes]


def merge_data(
    manifests: Sequence[Manifest],
    classes: str = "union",
    *,
    names: Sequence[str] | None = None,
    drop_duplicates: bool = False,
) -> tuple[Manifest, MergeReport]:
    """One manifest of all images, in the order given.

    `classes`: "union" joins classes of equal names, "prefix" keeps them apart as SET-CLASS.
    `names`: what the sets are called, else their folders' names. `origin` says which set an image
    is from (`pseudo:1@SET` where it had an origin of its own). A label column that a set lacks is
    missing there. Equal group names mean one group. `drop_duplicates` leaves out images that are
    there already under the same labels; all of different labels stay, and are named. Raises
    ConfigError, and DataError for sets that do not fit together.
    """
    if classes not in CLASS_RULES:
        raise ConfigError(
            "unknown rule for classes", got=classes, expected=", ".join(CLASS_RULES),
            hint=did_you_mean(classes, CLASS_RULES),
        )  # fmt: skip
    if len(manifests) < 2:
        raise DataError("there is nothing to merge", got=f"{len(manifests)} data sets")
    sets = _set_names(manifests, names)
    notes: list[str] = []
    heads = _merged_heads(manifests, sets, classes)
    merged = Manifest(
        ids=unique_ids(np.concatenate([contents(part.ids) for part in manifests]).tolist()),
        locations=_locations(manifests, sets),
        heads=heads,
        split=np.concatenate([part.split for part in manifests]),
        root=Path("/"),
        layout="; ".join(f"{name}: {m.layout}" for name, m in zip(sets, manifests, strict=True)),
        fold=_fold(manifests, notes),
        group=_filled(manifests, "group", "", np.dtype(np.str_)),
        weight=_filled(manifests, "weight", 1.0, np.dtype(np.float32)),
        origin=_origin(manifests, sets),
        confidence=_filled(manifests, "confidence", np.nan, np.dtype(np.float32)),
        arrays=_arrays(manifests, sets),
    )
    of_set = np.repeat(np.arange(len(sets)), [len(part) for part in manifests])
    groups = _equal_images(merged, [sets[number] for number in of_set])
    duplicates = sum(len(group.paths) - 1 for group in groups)
    result = merged
    if drop_duplicates:
        result = merged.select(_first_rows(merged, {g.id for g in groups if g.conflict}))
    report = MergeReport(
        rule=classes,
        sets={name: len(part) for name, part in zip(sets, manifests, strict=True)},
        images=len(result),
        classes=heads[0].classes,
        shared=_shared_classes(manifests) if classes == "union" else (),
        duplicates=duplicates,
        dropped=len(merged) - len(result),
        conflicts=sum(group.conflict for group in groups),
        leaks=sum("train" in group.splits and len(set(group.splits)) > 1 for group in groups),
        equal=tuple(sorted(groups, key=lambda group: not group.conflict)[:_LISTED]),
        notes=(*notes, *_class_notes(heads, classes)),
    )
    return result, report


def _set_names(manifests: Sequence[Manifest], names: Sequence[str] | None) -> list[str]:
    """A different name for each set: those given, else of the folders, numbered if equal."""
    if names is not None:
        if len(names) != len(manifests) or len(set(names)) != len(names) or not all(names):
            raise ConfigError(
                "each data set needs a name of its own",
                got=", ".join(names),
                expected=f"{len(manifests)} different names",
            )
        return list(names)
    result: list[str] = []
    for part in manifests:
        base = part.root.name or part.layout.partition(" ")[0] or "data"
        number = 1 + sum(name == base or name.startswith(f"{base}-") for name in result)
        result.append(base if number == 1 else f"{base}-{number}")
    return result


def _merged_heads(manifests: Sequence[Manifest], sets: list[str], rule: str) -> tuple[Head, ...]:
    """A head per name, in order of appearance."""
    names = list(dict.fromkeys(head.name for part in manifests for head in part.heads))
    columns: list[list[Head | None]]
    if all(len(part.heads) == 1 for part in manifests):
        # One question each: the same one, whatever the tables call their columns.
        names = [manifests[0].heads[0].name]
        columns = [[part.heads[0] for part in manifests]]
    else:
        columns = [
            [next((h for h in part.heads if h.name == name), None) for part in manifests]
            for name in names
        ]
    return tuple(
        _merged_head(name, parts, [len(part) for part in manifests], sets, rule)
        for name, parts in zip(names, columns, strict=True)
    )


def _merged_head(
    name: str, parts: Sequence[Head | None], counts: list[int], sets: list[str], rule: str
) -> Head:
    kinds = {part.kind for part in parts if part is not None}
    if len(kinds) > 1:
        raise DataError(
            "a label column has one label an image in one data set and several in another",
            where=name,
            got=", ".join(s for s, p in zip(sets, parts, strict=True) if p and p.kind == "multi"),
        )
    columns = [
        None if part is None else _column(part, data_set, rule)
        for part, data_set in zip(parts, sets, strict=True)
    ]
    known = [column.classes for column in columns if column is not None]
    classes = _joined_classes(known, name, apart=rule == "prefix")
    targets = []
    for column, count in zip(columns, counts, strict=True):
        if column is not None:
            targets.append(column.renumbered(classes))
        elif "multi" in kinds:
            targets.append(np.full((count, len(classes)), np.nan, dtype=np.float32))
        else:
            targets.append(np.full(count, MISSING, dtype=np.int64))
    return Head(name, kinds.pop(), classes, np.concatenate(targets))


def _column(head: Head, data_set: str, rule: str) -> LabelColumn:
    """The head with its classes as they are called after merging."""
    classes = tuple(f"{data_set}-{c}" if rule == "prefix" else c for c in head.classes)
    return LabelColumn(
        name=head.name, kind=head.kind, classes=classes, targets=head.targets, ordered=True
    )


def _joined_classes(
    called: Sequence[tuple[str, ...]], head: str, *, apart: bool
) -> tuple[str, ...]:
    """Class names in order: as given where all sets agree, else as every data set orders them."""
    if len(set(called)) == 1 and not apart:
        return called[0]
    names = [name for own in called for name in own]
    ordered = order_classes(names)
    unknown = set(names) - set(ordered)
    if unknown:  # names that a table gave in another Unicode form than NFC
        raise DataError(
            "class names are not in Unicode form NFC",
            where=head,
            got=", ".join(sorted(unknown)),
            expected="names as `discern data scan` gives them",
        )
    if apart and len(ordered) < len(names):
        raise DataError(
            "two classes would have one name behind the names of their data sets",
            where=head,
            got=", ".join(name for name in ordered if names.count(name) > 1),
            hint="give the data sets other names",
        )
    return ordered


def _shared_classes(manifests: Sequence[Manifest]) -> tuple[str, ...]:
    seen = [label for part in manifests for label in set(part.heads[0].classes)]
    return order_classes(label for label in set(seen) if seen.count(label) > 1)


def _locations(manifests: Sequence[Manifest], sets: list[str]) -> Locations:
    in_memory = [bool(part.arrays) for part in manifests]
    if all(in_memory):
        renamed = [
            (replace(part.locations, container_names=_array_names(part, name)), Path())
            for part, name in zip(manifests, sets, strict=True)
        ]
        return join_locations(renamed)
    if any(in_memory):
        raise DataError(
            "a built-in set and files cannot be merged",
            got=", ".join(name for name, has in zip(sets, in_memory, strict=True) if has),
            hint="`discern data pack` makes files of a built-in set",
        )
    return join_locations([(part.locations, part.root.absolute()) for part in manifests])


def _array_names(part: Manifest, name: str) -> tuple[str, ...]:
    return tuple(f"{name}:{container}" for container in part.locations.container_names)


def _arrays(manifests: Sequence[Manifest], sets: list[str]) -> dict[str, Pixels | OwnImages]:
    return {
        f"{name}:{container}": pixels
        for part, name in zip(manifests, sets, strict=True)
        for container, pixels in part.arrays.items()
    }


def _fold(manifests: Sequence[Manifest], notes: list[str]) -> NDArray[np.int32] | None:
    """Folds, if every set has some: else they would not be of all images."""
    columns = [part.fold for part in manifests if part.fold is not None]
    if len(columns) == len(manifests):
        return np.concatenate(columns)
    if columns:
        notes.append("folds are left out: not every data set has them")
    return None


def _filled(
    manifests: Sequence[Manifest], name: str, value: Any, kind: np.dtype[Any]
) -> NDArray[Any] | None:
    """A column of all sets, `value` where a set lacks it; None if none has it."""
    columns = [getattr(part, name) for part in manifests]
    if all(column is None for column in columns):
        return None
    return np.concatenate(
        [
            np.full(len(part), value, dtype=kind) if column is None else column
            for part, column in zip(manifests, columns, strict=True)
        ]
    )


def _origin(manifests: Sequence[Manifest], sets: list[str]) -> NDArray[np.str_]:
    """The set's name, behind what was said of the image's origin before."""
    parts = []
    for part, name in zip(manifests, sets, strict=True):
        known = [""] * len(part) if part.origin is None else part.origin.tolist()
        parts += [f"{origin}@{name}" if origin else name for origin in known]
    return np.array(parts, dtype=np.str_)


def _equal_images(merged: Manifest, of_set: list[str]) -> list[EqualImages]:
    """Groups of equal bytes, in order of appearance."""
    content = contents(merged.ids)
    _, first, codes, counts = np.unique(
        content, return_index=True, return_inverse=True, return_counts=True
    )
    several = np.flatnonzero(counts > 1)
    order = np.argsort(codes.reshape(-1), kind="stable")
    starts = np.concatenate([[0], np.cumsum(counts)])
    labels = _labels(merged)
    groups = []
    for code in several[np.argsort(first[several])].tolist():
        rows = order[starts[code] : starts[code + 1]].tolist()
        groups.append(
            EqualImages(
                str(content[rows[0]]),
                tuple(_place(merged.locations, row) for row in rows),
                tuple(of_set[row] for row in rows),
                tuple(labels[row] for row in rows),
                tuple(_split(merged, row) for row in rows),
            )
        )
    return groups


def _place(where: Locations, row: int) -> str:
    container = int(where.containers[row])
    inside = str(where.paths[row])
    return inside if container < 0 else f"{where.container_names[container]}:{inside}"


def _labels(merged: Manifest) -> list[str | None]:
    """All labels of each image as one text; None where it has none."""
    texts = [
        LabelColumn(kind=h.kind, classes=h.classes, targets=h.targets).texts() for h in merged.heads
    ]
    rows = ([text for text in row if text] for row in zip(*texts, strict=True))
    return [", ".join(row) or None for row in rows]


def _split(merged: Manifest, row: int) -> str | None:
    code = int(merged.split[row])
    return SPLITS[code] if code >= 0 else None


def _first_rows(merged: Manifest, conflicting: set[str]) -> NDArray[np.int64]:
    """The first image of each content, and all of those in conflict."""
    content = contents(merged.ids)
    keep = np.isin(content, list(conflicting))
    keep[np.unique(content, return_index=True)[1]] = True
    return np.flatnonzero(keep).astype(np.int64)


def _class_notes(heads: tuple[Head, ...], rule: str) -> list[str]:
    notes = []
    for head in heads:
        if rule == "union" and all(name.isdigit() for name in head.classes):
            notes.append(f"the classes of '{head.name}' are numbers: equal numbers are joined")
        folded: dict[str, list[str]] = {}
        for name in head.classes:
            folded.setdefault(name.casefold(), []).append(name)
        notes += [
            f"these classes differ only in upper and lower case: {', '.join(names)}"
            for names in folded.values()
            if len(names) > 1
        ]
    return notes
