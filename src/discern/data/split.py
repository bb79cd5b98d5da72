"""Stratified, seeded splits: pure functions of ids, labels and a seed.

The order of files on a disk never matters: rows are drawn by a keyed hash of their ids.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.manifest import SPLITS

TRAIN, VAL, TEST = range(len(SPLITS))
# One image to learn from, one to choose by, one to be scored on.
LEAST_PER_CLASS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """Shares held out when nothing is given, and the seed. `inner_val`: out of a given train."""

    val: float = 0.15
    test: float = 0.15
    inner_val: float = 0.10
    seed: int = 0


def shuffled_rows(ids: NDArray[np.str_], rows: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """`rows` in an order that depends on their ids and the seed alone.

    Equal images (ids that differ in their `-2`) stand together, so that a border between two
    splits cuts at most one group of them.
    """
    names = [str(ids[row]) for row in rows]
    keys = [
        (hashlib.sha256(f"{seed}/{name.partition('-')[0]}".encode()).digest(), name)
        for name in names
    ]
    return rows[np.array(sorted(range(len(rows)), key=keys.__getitem__), dtype=np.int64)]


def held_counts(count: int, shares: list[float]) -> list[int]:
    """How many of `count` images of a class go to each split with a share above 0.

    Rounded, at least 1 each; one image stays for each split that follows, and one for train.
    """
    counts: list[int] = []
    for place, share in enumerate(shares, 1):
        rest = count - sum(counts) - 1 - (len(shares) - place)
        counts.append(min(max(1, round(share * count)), rest))
    return counts


def stratified_split(
    ids: NDArray[np.str_],
    targets: NDArray[np.int64],
    classes: tuple[str, ...],
    shares: dict[int, float],
    seed: int,
) -> NDArray[np.int8]:
    """Split codes int8 [N]: of each class, `shares[code]` go to `code`, the rest to train.

    Counts are rounded, at least 1 of each class goes to each code with a share. Unlabeled images
    go to train. Raises DataError for a class with too few images.
    """
    codes = np.full(len(ids), TRAIN, dtype=np.int8)
    wanted = {code: share for code, share in shares.items() if share > 0}
    for label, name in enumerate(classes):
        rows = np.flatnonzero(targets == label).astype(np.int64)
        least = LEAST_PER_CLASS
        if len(rows) < least:
            raise DataError(
                "a class has too few images to be split",
                where=f"class '{name}'",
                got=f"{len(rows)} images",
                expected=f"at least {least}",
                hint="add images, leave the class out, or give the splits yourself",
            )
        order = shuffled_rows(ids, rows, seed)
        start = 0
        counts = held_counts(len(rows), list(wanted.values()))
        for code, count in zip(wanted, counts, strict=True):
            codes[order[start : start + count]] = code
            start += count
    return codes


@dataclass(frozen=True, slots=True)
class SplitOutcome:
    """Split codes, the name of the split that is reported (code test), and whether it was drawn."""

    codes: NDArray[np.int8]
    reported: str
    random: bool
    notes: tuple[str, ...] = ()


def complete_split(
    ids: NDArray[np.str_],
    targets: NDArray[np.int64],
    classes: tuple[str, ...],
    given: NDArray[np.int8],
    rule: SplitRule,
) -> SplitOutcome:
    """Fill in the splits that were not given, so that there are train, val and test.

    Nothing given: drawn by the rule's shares. Train and test: val is drawn from train. Train and
    val: the given val becomes what is reported (code test), and val is drawn from train.
    """
    there = {code for code in (TRAIN, VAL, TEST) if (given == code).any()}
    if not there:
        _need_images(targets, classes)
        codes = stratified_split(ids, targets, classes, {VAL: rule.val, TEST: rule.test}, rule.seed)
        return SplitOutcome(codes, "test", random=True)
    if TRAIN not in there:
        raise DataError(
            "there is no train split", got=", ".join(SPLITS[code] for code in sorted(there)),
            expected="train, and val or test or both",
        )  # fmt: skip
    codes = given.copy()
    reported = "test"
    notes: tuple[str, ...] = ()
    if TEST not in there and VAL in there:
        codes[codes == VAL] = TEST
        reported = "val"
        notes = ("the given val is scored and reported; the model is chosen on a part of train",)
        there = {TRAIN, TEST}
    rows = np.flatnonzero(codes == TRAIN).astype(np.int64)
    shares = {VAL: rule.inner_val} if VAL not in there else {}
    if TEST not in there:
        shares[TEST] = rule.test
    if shares:
        codes[rows] = stratified_split(ids[rows], targets[rows], classes, shares, rule.seed)
    return SplitOutcome(codes, reported, random=TEST in shares, notes=notes)


def _need_images(targets: NDArray[np.int64], classes: tuple[str, ...]) -> None:
    for label, name in enumerate(classes):
        count = int((targets == label).sum())
        if count < LEAST_PER_CLASS:
            raise DataError(
                "a class has too few images to be split",
                where=f"class '{name}'",
                got=f"{count} images",
                expected=f"at least {LEAST_PER_CLASS}",
                hint="add images, leave the class out, or give the splits yourself",
            )
