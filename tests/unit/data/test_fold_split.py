"""One fold held out: nothing of it is learned from, and the model is chosen on other folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from discern.base.errors import ConfigError, DataError
from discern.data.fold_split import FoldRule, hold_out_fold
from discern.data.manifest import Head, Locations, Manifest

TRAIN, VAL, TEST = 0, 1, 2


def manifest(count=60, **columns):
    targets = np.arange(count) % 3
    base = {
        "ids": np.array([f"{n * 2654435761 % 2**64:016x}" for n in range(count)]),
        "locations": Locations.files([f"{n:03d}.jpg" for n in range(count)]),
        "heads": (Head("label", "single", ("a", "b", "c"), targets),),
        "split": np.full(count, -1, np.int8),
        "root": Path("/data"),
        "layout": "class folders",
    }
    return Manifest(**(base | columns))


def test_every_image_is_held_out_once_and_never_learned_from_then():
    data, seen = manifest(), np.zeros(60, dtype=int)
    for held in range(4):
        folded = hold_out_fold(data, FoldRule(folds=4, held=held, inner_val=0.2))
        split, fold = folded.manifest.split, folded.manifest.fold
        assert np.array_equal(split == TEST, fold == held)
        assert folded.drawn
        seen += split == TEST
        # A fifth of each class of the others, and each class in every part.
        for part, least in ((TRAIN, 10), (VAL, 2), (TEST, 5)):
            counts = np.bincount(data.targets[split == part], minlength=3)
            assert (counts >= least).all(), (part, counts)
    assert (seen == 1).all()


def test_folds_are_the_same_whichever_is_held_out_and_for_each_seed():
    data = manifest()
    folds = [hold_out_fold(data, FoldRule(folds=3, held=h)).manifest.fold for h in (None, 0, 2)]
    assert np.array_equal(folds[0], folds[1])
    assert np.array_equal(folds[0], folds[2])
    other = hold_out_fold(data, FoldRule(folds=3, seed=1)).manifest.fold
    assert not np.array_equal(folds[0], other)


def test_groups_are_cut_neither_by_folds_nor_by_the_inner_validation():
    groups = np.array([f"patient{n // 4}" for n in range(60)])
    data = manifest(group=groups)
    for held in range(3):
        split = hold_out_fold(data, FoldRule(folds=3, held=held, inner_val=0.2)).manifest.split
        for name in np.unique(groups):
            assert 1 == len(np.unique(split[groups == name])), name
        assert {TRAIN, VAL, TEST} == set(split.tolist())


def test_a_fold_column_is_used_as_it_is():
    fold = np.array([1, 2, 5] * 20, dtype=np.int32)[np.random.default_rng(0).permutation(60)]
    data = manifest(fold=fold)
    folded = hold_out_fold(data, FoldRule(held=5))
    assert (1, 2, 5) == folded.numbers
    assert not folded.drawn
    assert np.array_equal(fold == 5, folded.manifest.split == TEST)
    with pytest.raises(ConfigError, match="another number"):
        hold_out_fold(data, FoldRule(folds=5))
    with pytest.raises(ConfigError, match="no such fold"):
        hold_out_fold(data, FoldRule(held=0))


def test_images_without_a_fold_are_refused():
    fold = np.zeros(60, dtype=np.int32)
    with pytest.raises(DataError, match="one fold only"):
        hold_out_fold(manifest(fold=fold), FoldRule())
    fold = fold.copy()
    fold[:4] = -1
    with pytest.raises(DataError, match="in no fold"):
        hold_out_fold(manifest(fold=fold), FoldRule())


def test_given_splits_give_way_and_that_is_told():
    split = np.zeros(60, np.int8)
    split[:20] = TEST
    folded = hold_out_fold(manifest(split=split), FoldRule(folds=3, held=1))
    assert any("given splits are not used" in note for note in folded.notes)
    assert 20 == (folded.manifest.split == TEST).sum()


def test_five_folds_without_a_number():
    assert (0, 1, 2, 3, 4) == hold_out_fold(manifest(), FoldRule()).numbers
