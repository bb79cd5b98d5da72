"""What a way in gives: where the images lie and what each is called, before any is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.label_columns import LabelColumn, join_columns, match_columns
from discern.data.manifest import NO_SPLIT, SPLITS, Locations, join_locations
from discern.data.pixel_arrays import OwnImages, Pixels

# File names that are taken for images.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".mpo")
)
# Folder names that stand for splits, and the split each stands for.
SPLIT_FOLDERS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


# What was noticed on the way in: kind, path, text.
Fault = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Images as found. `labels`: class names [N], None where unlabeled. `split`: codes [N] or -1.

    A way in with one question gives `labels`, with `classes` if it lists them in order, and
    `numeric` if they were bare numbers without names. One with several questions, or with several
    labels an image, gives `heads` instead; `labels` is then a view of the first. `arrays`: pixels
    by container name. `faults`: links that lead nowhere or back, images that a table names in vain.
    """

    locations: Locations
    labels: list[str | None] = field(default_factory=list)
    split: NDArray[np.int8]
    root: Path
    layout: str
    name: str
    classes: tuple[str, ...] | None = None
    numeric: bool = False
    notes: tuple[str, ...] = ()
    fold: NDArray[np.int32] | None = None
    group: NDArray[np.str_] | None = None
    weight: NDArray[np.float32] | None = None
    origin: NDArray[np.str_] | None = None
    confidence: NDArray[np.float32] | None = None
    numbers: NDArray[np.int64] | None = None
    arrays: dict[str, Pixels | OwnImages] = field(default_factory=dict)
    heads: tuple[LabelColumn, ...] = ()
    faults: tuple[Fault, ...] = ()

    def __post_init__(self) -> None:
        if not self.heads:
            column = LabelColumn.of_labels(self.labels, classes=self.classes, numeric=self.numeric)
            object.__setattr__(self, "heads", (column,))
            return
        first = self.heads[0]
        texts = first.texts()
        if self.labels and self.labels != texts:
            what = "labels and heads differ: change one by with_labels, or give heads alone"
            raise ValueError(what)
        object.__setattr__(self, "labels", texts)
        object.__setattr__(self, "classes", first.classes if first.ordered else None)
        object.__setattr__(self, "numeric", first.numeric)

    def with_labels(
        self,
        labels: list[str | None],
        *,
        classes: tuple[str, ...] | None = None,
        numeric: bool = False,
    ) -> Listing:
        """The same images with other labels, of one question."""
        return replace(self, labels=labels, classes=classes, numeric=numeric, heads=())

    def with_heads(self, heads: tuple[LabelColumn, ...]) -> Listing:
        """The same images with other label columns."""
        return replace(self, labels=[], heads=heads)

    def __len__(self) -> int:
        return len(self.locations.paths)

    def only(self, code: int) -> Listing:
        """The rows for split `code`: those marked so if any rows are marked, else all of them.

        Raises DataError if rows are marked, but none so.
        """
        marked = self.split != NO_SPLIT
        rows = np.flatnonzero(self.split == code) if marked.any() else np.arange(len(self))
        if not len(rows):
            there = sorted({SPLITS[other] for other in self.split[marked]}, key=SPLITS.index)
            raise DataError(
                f"the data has splits, but no {SPLITS[code]}",
                where=self.root,
                got=", ".join(there),
                expected=SPLITS[code],
            )
        return self.select(rows.astype(np.int64), code)

    def select(self, rows: NDArray[np.int64], code: int | None = None) -> Listing:
        """The given rows; all in split `code`, if one is given."""
        split = self.split[rows] if code is None else np.full(len(rows), code, dtype=np.int8)
        return replace(
            self,
            locations=self.locations.select(rows),
            labels=[],
            heads=tuple(column.select(rows) for column in self.heads),
            split=split,
            fold=None if self.fold is None else self.fold[rows],
            group=None if self.group is None else self.group[rows],
            weight=None if self.weight is None else self.weight[rows],
            origin=None if self.origin is None else self.origin[rows],
            confidence=None if self.confidence is None else self.confidence[rows],
            numbers=None if self.numbers is None else self.numbers[rows],
        )


def in_split(listing: Listing, code: int) -> Listing:
    """The listing with every image in split `code`. Raises DataError if some are in another."""
    other = {int(found) for found in listing.split} - {NO_SPLIT, code}
    if other:
        raise DataError(
            f"data for {SPLITS[code]} has images of other splits",
            where=listing.root,
            got=", ".join(SPLITS[found] for found in sorted(other)),
            expected=SPLITS[code],
        )
    return replace(listing, split=np.full(len(listing), code, dtype=np.int8))


def split_label(parts: tuple[str, ...]) -> tuple[int, str] | None:
    """(split code, class) of a path like train/CLASS/image.jpg; None if it is not of that form."""
    if len(parts) >= 3 and parts[0].casefold() in SPLIT_FOLDERS:
        return SPLIT_FOLDERS[parts[0].casefold()], parts[1]
    return None


def labels_from_paths(paths: list[str]) -> tuple[list[str | None], NDArray[np.int8], str]:
    """(classes, split codes, layout) of relative paths with `/`.

    train|val|test/CLASS/... if every top folder is a split's name, else CLASS/...
    """
    parts = [tuple(path.split("/")) for path in paths]
    tops = {part[0].casefold() for part in parts if len(part) > 1}
    if tops and tops <= set(SPLIT_FOLDERS) and any(len(part) > 2 for part in parts):
        found = [split_label(part) for part in parts]
        labels = [None if item is None else item[1] for item in found]
        codes = [NO_SPLIT if item is None else item[0] for item in found]
        names = sorted({SPLITS[code] for code in codes if code >= 0}, key=SPLITS.index)
        return (
            labels,
            np.array(codes, dtype=np.int8),
            f"folders {', '.join(names)} of class folders",
        )
    labels = [part[0] if len(part) > 1 else None for part in parts]
    layout = "class folders" if any(labels) else "images without classes"
    return labels, np.full(len(paths), NO_SPLIT, dtype=np.int8), layout


def join_listings(parts: Sequence[Listing], *, layout: str, name: str) -> Listing:
    """The images of several sources in a row, classes of equal names as one.

    Paths become relative to the folder that all sources share. Raises DataError if the sources
    differ in label columns.
    """
    match_columns([part.heads for part in parts], [str(part.root) for part in parts])
    arrays = {key: array for part in parts for key, array in part.arrays.items()}
    if arrays and not all(part.arrays for part in parts):
        raise DataError(
            "arrays and files cannot be mixed", got=", ".join(part.layout for part in parts)
        )
    root = Path(os.path.commonpath([part.root.absolute() for part in parts]))
    where = [
        (part.locations, Path() if arrays else part.root.absolute().relative_to(root))
        for part in parts
    ]

    return Listing(
        locations=join_locations(where),
        heads=join_columns([part.heads for part in parts]),
        split=np.concatenate([part.split for part in parts]),
        root=root,
        layout=layout,
        name=name,
        notes=tuple(note for part in parts for note in part.notes),
        fold=join_column("fold", parts),
        group=join_column("group", parts),
        weight=join_column("weight", parts),
        origin=join_column("origin", parts),
        confidence=join_column("confidence", parts),
        numbers=join_column("numbers", parts),
        arrays=arrays,
        faults=tuple(fault for part in parts for fault in part.faults),
    )


_NEUTRAL: dict[str, tuple[Any, type[Any]]] = {
    "fold": (-1, np.int32),
    "group": ("", np.str_),
    "weight": (1.0, np.float32),
    "origin": ("", np.str_),
    "confidence": (np.nan, np.float32),
    "numbers": (-1, np.int64),
}


def join_column(name: str, parts: Sequence[Listing]) -> Any:
    """An optional column of several sources in a row; None if none has it.

    The images of a source without it are in no fold (-1), in no group (empty), weigh 1, are from
    nobody (empty) in no degree (NaN), and have no number (-1).
    """
    neutral, kind = _NEUTRAL[name]
    values = [getattr(part, name) for part in parts]
    if all(value is None for value in values):
        return None
    filled = [
        np.full(len(part), neutral, dtype=kind) if value is None else value
        for part, value in zip(parts, values, strict=True)
    ]
    return np.concatenate(filled)
