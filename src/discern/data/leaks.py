"""Scored images that a model has seen in training: the same bytes, or nearly the same picture.

Owns the search between two sets of images, and the facts of each image that it gathers on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.data.check import Gathered, Progress, gather_rows
from discern.data.duplicates import PICTURE_SIDE, Looks, near_groups
from discern.data.manifest import Manifest
from discern.data.sources import Source

# Images whose looks are compared, scored and training ones together, unless more are asked for:
# each is decoded once, about a minute of two cores.
MOST_COMPARED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Leaks:
    """Which scored images are like a training image. Axes: N scored images.

    exact and near: bool [N], near without the exact. twins: int64 [N], place among the training
    images of one that is like it, -1 for none. compared: whether pictures were compared, not bytes
    alone; words says why not.
    """

    exact: NDArray[np.bool_]
    near: NDArray[np.bool_]
    twins: NDArray[np.int64]
    compared: bool
    words: str = ""

    @property
    def any(self) -> NDArray[np.bool_]:
        """Which scored images are like a training image: bool [N]."""
        return self.exact | self.near


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images by their rows in a manifest, with the source that reads them."""

    manifest: Manifest
    source: Source
    rows: NDArray[np.int64]


def find_leaks(
    scored: ImageSet,
    training: ImageSet,
    *,
    threads: int,
    most: int = MOST_COMPARED,
    seen: Gathered | None = None,
    progress: Progress | None = None,
) -> Leaks:
    """Compare scored images with training images: ids by content, then looks from 32 pixels on.

    `seen`: what was gathered of the scored images already. More than `most` images together are
    compared by their bytes alone, and it is said.
    """
    first: dict[str, int] = {}
    for place, name in enumerate(training.manifest.ids[training.rows].tolist()):
        first.setdefault(name.partition("-")[0], place)
    names = scored.manifest.ids[scored.rows].tolist()
    twins = np.array([first.get(name.partition("-")[0], -1) for name in names], dtype=np.int64)
    exact = twins >= 0
    none = np.zeros(len(names), dtype=np.bool_)
    total = len(scored.rows) + len(training.rows)
    if total > most:
        words = f"{total:,} images were compared by their bytes alone (more than {most:,})"
        return Leaks(exact, none, twins, compared=False, words=words)
    own = seen or gather_rows(scored.source, scored.rows, threads, progress)
    theirs = gather_rows(training.source, training.rows, threads, progress)
    near = _near(own, theirs, twins)
    words = ""
    small = _small(own)
    if small.any():
        words = f"{int(small.sum()):,} images under {PICTURE_SIDE} pixels by their bytes alone"
    return Leaks(exact, near & ~exact, twins, compared=not small.all(), words=words)


def _small(seen: Gathered) -> NDArray[np.bool_]:
    return np.asarray(seen.sizes.min(axis=1) < PICTURE_SIDE)


def _near(own: Gathered, theirs: Gathered, twins: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of `own` look like one of `theirs`; fills their `twins`."""
    looks = Looks(*(np.concatenate([getattr(own.looks, name), getattr(theirs.looks, name)])
                    for name in ("hashes", "luma", "chroma", "blank")))  # fmt: skip
    count = len(own.digests)
    large = ~np.concatenate([_small(own), _small(theirs)]) & ~looks.blank
    groups, _ = near_groups(looks, np.flatnonzero(large).astype(np.int64))
    found = np.zeros(count, dtype=np.bool_)
    for group in groups:
        here, there = group[group < count], group[group >= count]
        if len(here) and len(there):
            found[here] = True
            twins[here] = np.where(twins[here] < 0, there[0] - count, twins[here])
    return found
