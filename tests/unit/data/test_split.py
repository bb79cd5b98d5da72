"""Stratified splits: shares, every class, and independence of order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.split import TEST, TRAIN, VAL, SplitRule, complete_split, held_counts

CLASSES = ("a", "b", "c")
sizes = st.lists(st.integers(3, 60), min_size=3, max_size=3)


def images(counts):
    targets = np.repeat(np.arange(len(counts)), counts)
    ids = np.array([f"{n:016x}" for n in range(len(targets))])
    return ids, targets


def unsplit(targets):
    return np.full(len(targets), -1, np.int8)


@given(sizes, st.integers(0, 5))
def test_each_class_gives_its_share_to_each_split(counts, seed):
    ids, targets = images(counts)
    outcome = complete_split(ids, targets, CLASSES, unsplit(targets), SplitRule(seed=seed))
    assert outcome.random
    assert "test" == outcome.reported
    for label, count in enumerate(counts):
        codes = outcome.codes[targets == label]
        for code in (VAL, TEST):
            assert 1 <= (codes == code).sum()
            assert abs((codes == code).sum() - 0.15 * count) <= 1
        assert 1 <= (codes == TRAIN).sum()


@given(sizes, st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(counts, random):
    ids, targets = images(counts)
    order = list(range(len(ids)))
    random.shuffle(order)
    rule = SplitRule()
    one = complete_split(ids, targets, CLASSES, unsplit(targets), rule).codes
    two = complete_split(ids[order], targets[order], CLASSES, unsplit(targets), rule).codes
    assert one[order].tolist() == two.tolist()


def test_another_seed_gives_another_split_and_the_same_one_the_same():
    ids, targets = images([30, 30, 30])
    splits = [
        complete_split(ids, targets, CLASSES, unsplit(targets), SplitRule(seed=seed)).codes.tolist()
        for seed in (0, 0, 1)
    ]
    assert splits[0] == splits[1]
    assert splits[0] != splits[2]


def test_train_and_test_give_a_tenth_of_train_to_val():
    ids, targets = images([40, 20, 12])
    given_codes = np.where(np.arange(72) % 4 == 0, TEST, TRAIN).astype(np.int8)
    outcome = complete_split(ids, targets, CLASSES, given_codes, SplitRule())
    assert not outcome.random
    assert "test" == outcome.reported
    assert np.array_equal(given_codes == TEST, outcome.codes == TEST)
    assert [3, 2, 1] == [int((outcome.codes[targets == k] == VAL).sum()) for k in range(3)]


def test_given_val_without_test_is_what_is_reported():
    ids, targets = images([40, 40, 40])
    given_codes = np.where(np.arange(120) % 2 == 0, VAL, TRAIN).astype(np.int8)
    outcome = complete_split(ids, targets, CLASSES, given_codes, SplitRule())
    assert "val" == outcome.reported
    assert not outcome.random
    assert np.array_equal(given_codes == VAL, outcome.codes == TEST)
    assert [2, 2, 2] == [int((outcome.codes[targets == k] == VAL).sum()) for k in range(3)]


def test_three_given_splits_stay_as_they_are():
    ids, targets = images([9, 9, 9])
    given_codes = (np.arange(27) % 3).astype(np.int8)
    outcome = complete_split(ids, targets, CLASSES, given_codes, SplitRule())
    assert np.array_equal(given_codes, outcome.codes)


def test_class_under_three_images_is_an_error_that_names_it():
    ids, targets = images([5, 2, 5])
    with pytest.raises(DataError, match="too few") as caught:
        complete_split(ids, targets, CLASSES, unsplit(targets), SplitRule())
    assert "class 'b'" == caught.value.where


def test_given_splits_without_train_are_an_error():
    ids, targets = images([5, 5, 5])
    with pytest.raises(DataError, match="no train"):
        complete_split(ids, targets, CLASSES, np.full(15, TEST, np.int8), SplitRule())


def test_equal_images_are_not_scattered_over_the_splits():
    # 20 images, five copies of each: only a group at a border may be cut.
    base, targets = images([20, 20, 20])
    ids = np.array([f"{i}{s}" for i in base for s in ("", "-2", "-3", "-4", "-5")])
    many = np.repeat(targets, 5)
    codes = complete_split(ids, many, CLASSES, unsplit(many), SplitRule()).codes
    groups = codes.reshape(-1, 5)
    cut = (groups != groups[:, :1]).any(axis=1)
    assert cut.sum() <= 2 * len(CLASSES)


def test_held_out_val_needs_three_images_of_a_class():
    ids, targets = images([9, 4, 9])
    codes = np.zeros(22, np.int8)
    codes[[9, 10]] = TEST
    codes[0] = TEST
    with pytest.raises(DataError, match="too few"):
        complete_split(ids, targets, CLASSES, codes, SplitRule())


def test_held_counts_leave_one_image_for_every_split():
    assert [15, 15] == held_counts(100, [0.15, 0.15])
    assert [1, 1] == held_counts(3, [0.9, 0.9])
    assert [8, 1] == held_counts(10, [0.8, 0.5])
    assert [1] == held_counts(9, [0.01])
