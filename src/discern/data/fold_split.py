"""One fold held out: which images a run of a cross-validation learns from, and is reported on.

The held-out fold becomes the split `test`; `val`, by which the model is chosen, is drawn from the
other folds; the rest is `train`. Pure and seeded: the same images give the same folds everywhere.

Axes: N images.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.seeds import derive_seed
from discern.data.label_origin import labeled_by_models
from discern.data.manifest import NO_SPLIT, Manifest
from discern.data.resplit import SplitPlan, resplit
from discern.data.split import TEST, TRAIN

DEFAULT_FOLDS = 5  # Catalyst's, and the custom of the field
_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldRule:
    """Which folds there are, and which is held out.

    `folds`: how many to draw; None: those of the data's fold column, else 5. `held`: the number of
    the fold that is held out, as in that column, from 0 where folds are drawn; None: none yet.
    `inner_val`: share of the other folds that the model is chosen by.
    """

    folds: int | None = None
    held: int | None = None
    inner_val: float = 0.10
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FoldedData:
    """`manifest` with its fold column, and with splits if a fold is held out.

    `numbers`: the folds there are, ascending; `drawn`: here, not given by the data.
    """

    manifest: Manifest
    numbers: tuple[int, ...]
    drawn: bool
    notes: tuple[str, ...] = ()


def hold_out_fold(manifest: Manifest, rule: FoldRule) -> FoldedData:
    """Deal the images to folds, unless a column did, and hold one out.

    Images of one group (the column `group`) and of equal bytes stay together; every class is spread
    evenly. What models labeled is in train whichever fold is held out. Raises DataError for a
    column that gives no usable folds or a class of too few images, ConfigError for a fold that is
    not there.
    """
    folded = (
        _given_folds(manifest, rule) if manifest.fold is not None else _drawn_folds(manifest, rule)
    )
    if rule.held is None:
        return folded
    if (manifest.split != NO_SPLIT).any():
        folded = replace(
            folded, notes=(*folded.notes, "the given splits are not used: the folds are")
        )
    if rule.held not in folded.numbers:
        raise ConfigError(
            "there is no such fold",
            where="data.held_fold",
            got=rule.held,
            expected=", ".join(map(str, folded.numbers)),
        )
    fold = np.asarray(folded.manifest.fold)
    codes = np.full(len(manifest), TEST, dtype=np.int8)
    learned = labeled_by_models(manifest.origin, len(manifest))
    others = np.flatnonzero(np.not_equal(fold, rule.held) | learned).astype(np.int64)
    part = folded.manifest.select(others)
    inner, report = resplit(
        replace(part, split=np.full(len(part), TRAIN, dtype=np.int8)),
        SplitPlan(
            val=rule.inner_val,
            test=0.0,
            group_by=_group_key(manifest),
            seed=derive_seed(rule.seed, "fold", rule.held) % (1 << 31),
        ),
    )
    codes[others] = inner.split
    return replace(
        folded,
        manifest=folded.manifest.with_split(codes),
        notes=(*folded.notes, *report.notes),
    )


def _group_key(manifest: Manifest) -> str | None:
    return None if manifest.group is None else "group"


def _drawn_folds(manifest: Manifest, rule: FoldRule) -> FoldedData:
    count = rule.folds or DEFAULT_FOLDS
    plan = SplitPlan(folds=count, group_by=_group_key(manifest), seed=rule.seed)
    dealt, report = resplit(manifest, plan)
    return FoldedData(dealt, tuple(range(count)), drawn=True, notes=report.notes)


def _given_folds(manifest: Manifest, rule: FoldRule) -> FoldedData:
    """The folds of the manifest's own column. Raises DataError for images without one."""
    fold: NDArray[np.int32] = np.asarray(manifest.fold)
    missing = int((fold < 0).sum())
    if missing:
        raise DataError(
            "some images are in no fold",
            where="fold column",
            got=f"{missing} of {len(fold)} images",
            hint="give each a number, or drop the column and draw folds with --folds K",
        )
    numbers = tuple(int(number) for number in np.unique(fold))
    if len(numbers) < 2:
        raise DataError("the fold column has one fold only", got=numbers[0], expected="2 or more")
    if rule.folds is not None and rule.folds != len(numbers):
        raise ConfigError(
            "the data has folds of its own, of another number",
            where="--folds",
            got=rule.folds,
            expected=f"{len(numbers)}: {', '.join(map(str, numbers[:_SHOWN]))}",
            hint="leave --folds out, or drop the fold column",
        )
    return FoldedData(manifest, numbers, drawn=False)
