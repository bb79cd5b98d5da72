"""What a way in gives: where the images lie and what each is called, before any is opened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.manifest import NO_SPLIT, SPLITS, Locations

# File names that are taken for images.
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".mpo")
)
# Folder names that stand for splits, and the split each stands for.
SPLIT_FOLDERS = {"train": 0, "val": 1, "valid": 1, "validation": 1, "test": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """Images as found. `labels`: class names [N], None where unlabeled. `split`: codes [N] or -1.

    `numeric`: the labels were bare numbers, without names. `arrays`: pixels by container name.
    """

    locations: Locations
    labels: list[str | None]
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
    arrays: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

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

    def select(self, rows: NDArray[np.int64], code: int) -> Listing:
        """The given rows, all in split `code`."""
        return replace(
            self,
            locations=self.locations.select(rows),
            labels=[self.labels[row] for row in rows],
            split=np.full(len(rows), code, dtype=np.int8),
            fold=None if self.fold is None else self.fold[rows],
            group=None if self.group is None else self.group[rows],
            weight=None if self.weight is None else self.weight[rows],
        )


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
    return labels, np.full(len(paths), NO_SPLIT, dtype=np.int8), "class folders"
