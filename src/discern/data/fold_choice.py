"""Folds named in a config made into splits: train on these, choose or score on those.

Owns what `data.train_folds`, `val_folds`, `test_folds`, `n_folds` and `folds_seed` mean. Folds come
from the data's fold column, or are made as Catalyst makes them. `discern data split --folds` writes
a fold column that keeps groups and equal images together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.data.catalyst_tables import SEED, stratified_folds
from discern.data.label_columns import split_strata
from discern.data.manifest import NO_SPLIT, Manifest
from discern.data.split import TEST, TRAIN, VAL

_NAMES: Final = ("train", "val", "test")
_NO_FOLD: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldChoice:
    """Which folds are for what. None for train or val: all that no other one names.

    `made`: folds to make, None for those of the fold column; `seed`: of the making.
    """

    train: tuple[int, ...] | None = None
    val: tuple[int, ...] | None = None
    test: tuple[int, ...] = ()
    made: int | None = None
    seed: int = SEED

    def by_split(self, known: set[int]) -> dict[str, set[int]]:
        """The folds of each split, of those that there are. Raises ConfigError."""
        named = {
            name: set(folds or ())
            for name, folds in zip(_NAMES, (self.train, self.val, self.test), strict=True)
        }
        listed = [fold for folds in named.values() for fold in folds]
        for name, folds in named.items():
            if folds - known:
                raise ConfigError(
                    "no such fold",
                    where=f"data.{name}_folds",
                    got=", ".join(map(str, sorted(folds - known))),
                    expected=", ".join(map(str, sorted(known))),
                )
        if len(listed) > len(set(listed)):
            raise ConfigError("a fold is in two splits", where="data.*_folds", got=sorted(listed))
        rest = known - set(listed)
        if self.val is None:
            named["val"] = rest if self.train is not None else set()
        if self.train is None:
            named["train"] = rest
        for name in ("train", "val"):
            if not named[name] and (name == "train" or self.train is not None):
                raise ConfigError(f"no fold is left for {name}", where=f"data.{name}_folds")
        return named


def choose_folds(
    train: Sequence[int] | None,
    val: Sequence[int] | None,
    test: Sequence[int] | None,
    made: int | None,
    seed: int,
) -> FoldChoice | None:
    """The choice that a config makes, None if it names no folds. Raises ConfigError."""
    if train is None and val is None and test is None:
        if made is None:
            return None
        raise ConfigError(
            "folds are made, but none is chosen", where="data.n_folds", got=made,
            hint="data.val_folds: [0] trains on the others",
        )  # fmt: skip
    return FoldChoice(
        train=None if train is None else tuple(train),
        val=None if val is None else tuple(val),
        test=tuple(test or ()),
        made=made,
        seed=seed,
    )


def split_by_folds(manifest: Manifest, choice: FoldChoice) -> tuple[Manifest, str]:
    """The manifest with splits by folds, and a note of them.

    Images of a given test split stay there. Images whose fold is not named are in no split; those
    without a fold keep theirs. Raises ConfigError or DataError.
    """
    fold = _made(manifest, choice) if choice.made is not None else manifest.fold
    if fold is None:
        raise ConfigError(
            "the data has no fold column",
            where="data.train_folds, data.val_folds, data.test_folds",
            hint="data.n_folds: 5 makes folds; `discern data split --folds 5` writes a column",
        )
    free = (manifest.split != TEST) & (fold != _NO_FOLD)
    named = choice.by_split({int(number) for number in np.unique(fold[free])})
    codes = manifest.split.copy()
    codes[free] = NO_SPLIT
    for code, name in ((TRAIN, "train"), (VAL, "val"), (TEST, "test")):
        codes[free & np.isin(fold, sorted(named[name]))] = code
    told = "; ".join(
        f"{name} {', '.join(map(str, sorted(folds)))}" for name, folds in named.items() if folds
    )
    left = int((free & (codes == NO_SPLIT)).sum())
    unused = f"; {left} images are in other folds and are not used" if left else ""
    return replace(manifest, fold=fold, split=codes), f"folds: {told}{unused}"


def _made(manifest: Manifest, choice: FoldChoice) -> NDArray[np.int32]:
    """Folds int32 [N] of all images but the given test split's, in their order, by class."""
    if manifest.fold is not None:
        raise ConfigError(
            "the data has a fold column already", where="data.n_folds", got=choice.made,
            hint="leave data.n_folds out to use the column",
        )  # fmt: skip
    rows = np.flatnonzero(manifest.split != TEST)
    numbers, _ = split_strata(manifest.heads, np.isin(np.arange(len(manifest)), rows))
    if (numbers[rows] < 0).any():
        raise DataError("folds by class need a class for each image", where=str(manifest.root))
    notes: list[str] = []
    fold = np.full(len(manifest), _NO_FOLD, dtype=np.int32)
    fold[rows] = stratified_folds(
        numbers[rows].tolist(), choice.made or 0, choice.seed, manifest.root, notes
    )
    return fold
