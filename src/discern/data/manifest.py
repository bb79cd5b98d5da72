"""The description of a data set: which images, where they lie, what they are, in which split.

Owns `Manifest`, which never changes: relabeling and splitting give new ones. See
`manifest_files` for its files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import hash_json
from discern.data.head_spec import HeadSpec
from discern.data.pixel_arrays import OwnImages, Pixels

SPLITS: Final = ("train", "val", "test")
NO_SPLIT: Final = -1
# From this value on, a target of a multi head counts as "yes".
YES: Final = 0.5
MISSING: Final = -1


@dataclass(frozen=True, slots=True)
class Head:
    """One question: `targets` int64 [N] (-1 missing) for kind single, float32 [N, K] for multi."""

    name: str
    kind: str
    classes: tuple[str, ...]
    targets: NDArray[Any]

    @property
    def spec(self) -> HeadSpec:
        """The question without its labels."""
        return HeadSpec(self.name, self.kind, self.classes)

    def counts(self, rows: NDArray[np.int64] | None = None) -> dict[str, int]:
        """Images per class, of those in `rows`; for kind multi, those that have the class."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.kind == "single":
            numbers = np.bincount(targets[targets >= 0], minlength=len(self.classes))
        else:
            numbers = (targets >= YES).sum(axis=0)
        return dict(zip(self.classes, numbers.tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Locations:
    """Where the images lie.

    `paths`: text [N], relative to the manifest's root or absolute. `containers`: int32 [N], place
    in `container_names`, -1 for a file of its own; `offsets` and `lengths` int64 [N], in bytes for
    a container of files, in images for an array.
    """

    paths: NDArray[np.str_]
    containers: NDArray[np.int32]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    container_names: tuple[str, ...] = ()

    @classmethod
    def files(cls, paths: Sequence[str]) -> Locations:
        """Every image a file of its own."""
        count = len(paths)
        return cls(
            np.array(paths, dtype=np.str_),
            np.full(count, -1, dtype=np.int32),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )

    def select(self, positions: NDArray[np.int64]) -> Locations:
        """Those at `positions`."""
        return Locations(
            self.paths[positions],
            self.containers[positions],
            self.offsets[positions],
            self.lengths[positions],
            self.container_names,
        )


def join_locations(parts: Sequence[tuple[Locations, Path]]) -> Locations:
    """The locations of several data sets in a row; relative paths are made absolute."""
    names: list[str] = []
    paths, containers, offsets, lengths = [], [], [], []
    for locations, root in parts:
        base = len(names)
        names += [str(root / name) for name in locations.container_names]
        inside = locations.containers >= 0
        paths.append(
            np.array(
                [p if i else str(root / p) for p, i in zip(locations.paths, inside, strict=True)],
                dtype=np.str_,
            )
        )
        containers.append(np.where(inside, locations.containers + base, -1).astype(np.int32))
        offsets.append(locations.offsets)
        lengths.append(locations.lengths)
    return Locations(
        np.concatenate(paths),
        np.concatenate(containers),
        np.concatenate(offsets),
        np.concatenate(lengths),
        tuple(names),
    )


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One row per image. `split`: int8 [N], a place in SPLITS or -1. See the module's text."""

    ids: NDArray[np.str_]
    locations: Locations
    heads: tuple[Head, ...]
    split: NDArray[np.int8]
    root: Path
    layout: str
    fold: NDArray[np.int32] | None = None
    group: NDArray[np.str_] | None = None
    weight: NDArray[np.float32] | None = None
    origin: NDArray[np.str_] | None = None
    confidence: NDArray[np.float32] | None = None
    numbers: NDArray[np.int64] | None = None
    arrays: dict[str, Pixels | OwnImages] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        where = self.locations
        places = (where.paths, where.containers, where.offsets, where.lengths)
        columns = [self.ids, self.split, *places, *(head.targets for head in self.heads)]
        optional = (self.fold, self.group, self.weight, self.origin, self.confidence, self.numbers)
        for column in [*columns, *(part for part in optional if part is not None)]:
            if len(column) != len(self.ids):
                raise DataError(
                    "a manifest's columns differ in length",
                    got=f"{len(column)} rows",
                    expected=f"{len(self.ids)}",
                )
            column.setflags(write=False)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def head(self) -> Head:
        """The only head. Raises DataError if there are several."""
        if len(self.heads) != 1:
            raise DataError(
                "several label columns need several heads",
                got=", ".join(head.name for head in self.heads) or "none",
                expected="one label column",
            )
        return self.heads[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the only head, in label order. Raises DataError as `targets`."""
        return self._single_head().classes

    @property
    def targets(self) -> NDArray[np.int64]:
        """The labels of the only head: int64 [N], -1 = missing.

        Raises DataError for several heads, and for one with several labels an image.
        """
        targets: NDArray[np.int64] = self._single_head().targets
        return targets

    def _single_head(self) -> Head:
        head = self.head
        if head.kind != "single":
            raise DataError(
                "several labels an image cannot be used for this",
                where=f"label column '{head.name}'",
                got=f"{len(head.classes)} classes, any number an image",
                expected="one label an image",
                hint="if each image has one of the columns: "
                "data.labels: {NAME: {kind: single, columns: [...]}}",
            )
        return head

    def positions(self, split: str) -> NDArray[np.int64]:
        """The rows of a split, ascending."""
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    @cached_property
    def hash(self) -> str:
        """SHA-256 over ids, labels, classes, splits and the other columns, but not over paths."""
        return hash_json(
            {
                "ids": self.ids.tolist(),
                "heads": [
                    [h.name, h.kind, list(h.classes), np.nan_to_num(h.targets, nan=-1.0).tolist()]
                    for h in self.heads
                ],
                "split": self.split.tolist(),
                "fold": _plain(self.fold),
                "group": _plain(self.group),
                "weight": _plain(self.weight),
            }
        )

    def counts(self) -> dict[str, dict[str, int]]:
        """Images per class, per split that has any; with several heads as `head/class`."""
        result: dict[str, dict[str, int]] = {}
        for split in SPLITS:
            rows = self.positions(split)
            if len(rows):
                result[split] = {
                    name if len(self.heads) == 1 else f"{head.name}/{name}": number
                    for head in self.heads
                    for name, number in head.counts(rows).items()
                }
        return result

    def sizes(self) -> dict[str, int]:
        """Images per split that has any; with several labels an image, not the sum of counts."""
        numbers = {split: len(self.positions(split)) for split in SPLITS}
        return {split: number for split, number in numbers.items() if number}

    def with_split(self, codes: NDArray[np.int8]) -> Manifest:
        """The same images in other splits."""
        return replace(self, split=np.array(codes, dtype=np.int8))

    def select(self, positions: NDArray[np.int64]) -> Manifest:
        """Only the rows at `positions`, in that order."""

        def take(column: Any) -> Any:
            return None if column is None else column[positions]

        return replace(
            self,
            ids=self.ids[positions],
            locations=self.locations.select(positions),
            heads=tuple(replace(head, targets=head.targets[positions]) for head in self.heads),
            split=self.split[positions],
            fold=take(self.fold),
            group=take(self.group),
            weight=take(self.weight),
            origin=take(self.origin),
            confidence=take(self.confidence),
            numbers=take(self.numbers),
        )


def _plain(column: NDArray[Any] | None) -> list[Any] | None:
    return None if column is None else column.tolist()


def unique_ids(digests: Iterable[str]) -> NDArray[np.str_]:
    """Ids of images by content: 16 hex digits, and -2, -3 ... for repeats in the order given."""
    seen: dict[str, int] = {}
    result = []
    for digest in digests:
        short = digest[:16]
        seen[short] = count = seen.get(short, 0) + 1
        result.append(short if count == 1 else f"{short}-{count}")
    return np.array(result, dtype=np.str_)


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in label order: NFC, by code point; by value if all are whole numbers."""
    unique = {unicodedata.normalize("NFC", name) for name in names}
    if unique and all(name.isascii() and name.lstrip("-").isdigit() for name in unique):
        return tuple(sorted(unique, key=lambda name: (int(name), name)))
    return tuple(sorted(unique))
