"""Units that are never cut, and how near their classes come to what is wanted."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.data.folds import (
    Members,
    contents,
    deal_units,
    fill_gaps,
    find_strata,
    find_units,
    take_counts,
)
from discern.data.manifest import Head

many = st.lists(st.integers(1, 40), min_size=1, max_size=6)


def names(count):
    return np.array([f"{number * 7919:016x}" for number in range(count)])


def head(targets, classes=None):
    targets = np.array(targets)
    count = int(targets.max()) + 1 if classes is None else classes
    return Head("label", "single", tuple(f"c{n}" for n in range(count)), targets)


def dealt(targets, wanted, keys=(), seed=0, largest_first=True):
    units = find_units(names(len(targets)), seed, keys)
    members = Members.of(units, find_strata(head(targets), stratify=True))
    parts = deal_units(units, members, wanted, seed=seed, largest_first=largest_first)
    return units, members, parts


def test_content_is_the_id_without_its_number():
    assert ["ab", "ab", "cd"] == contents(np.array(["ab", "ab-2", "cd"])).tolist()


def test_units_join_along_chains_of_shared_values():
    groups = np.array(["p", "p", "q", "", ""])
    clusters = np.array([-1, 4, 4, -1, -1])
    units = find_units(names(5), 0, [groups, clusters])
    assert 3 == len(units)
    assert units.of_image[0] == units.of_image[1] == units.of_image[2]
    assert units.of_image[3] != units.of_image[4]
    assert [1, 1, 3] == sorted(units.sizes.tolist())


@given(st.lists(st.integers(-1, 4), min_size=1, max_size=30), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_unit_numbers_follow_the_ids_not_the_rows(values, random):
    order = list(range(len(values)))
    random.shuffle(order)
    ids, key = names(len(values)), np.array(values)
    one = find_units(ids, 3, [key]).of_image
    two = find_units(ids[order], 3, [key[order]]).of_image
    assert one[order].tolist() == two.tolist()


@given(many, st.integers(2, 6))
@settings(max_examples=60)
def test_folds_of_single_images_have_each_class_within_one(counts, folds):
    targets = np.repeat(np.arange(len(counts)), counts)
    sizes = np.append(np.array(counts, float), 0)
    _, members, parts = dealt(targets, np.tile(sizes / folds, (folds, 1)))
    have = members.tally(parts, folds)[:, :-1]
    assert len(targets) == have.sum()
    assert (np.ptp(have, axis=0) <= 1).all()
    assert np.ptp(have.sum(axis=1)) <= 1


def test_wanted_counts_that_add_up_are_met_exactly_around_units():
    targets = np.repeat([0, 1], 30)
    groups = np.array([f"g{n // 4}" if n % 30 < 12 else "" for n in range(60)])
    wanted = np.array([[5, 5, 0], [6, 6, 0], [19, 19, 0]], float)
    units, members, parts = dealt(targets, wanted, [groups], largest_first=False)
    assert wanted.astype(int).tolist() == members.tally(parts, 3).tolist()
    for group in set(groups) - {""}:
        assert 1 == len(set(parts[units.of_image[groups == group]]))


def test_groups_of_unequal_size_balance_the_folds():
    draw = np.random.default_rng(0)
    sizes = draw.integers(1, 30, 60)
    groups = np.repeat([f"g{n}" for n in range(60)], sizes)
    targets = np.repeat(draw.integers(0, 3, 60), sizes)
    wanted = np.tile(np.append(np.bincount(targets), 0) / 5, (5, 1))
    _, members, parts = dealt(targets, wanted, [groups])
    assert np.abs(members.tally(parts, 5) - wanted).max() <= 0.1 * wanted.max()


def test_gap_is_filled_by_the_smallest_unit_that_may_leave():
    targets = np.zeros(10, int)
    groups = np.repeat(["a", "b", "c"], [5, 3, 2])
    units = find_units(names(10), 0, [groups])
    members = Members.of(units, find_strata(head(targets), stratify=True))
    wanted = np.array([[1, 0], [1, 0], [8, 0]], float)
    parts = fill_gaps(units, members, np.full(3, 2), wanted)
    # The first part lacks it first; one unit must stay in the last.
    assert [2, 3, 5] == members.tally(parts, 3)[:, 0].tolist()


def test_counts_are_taken_of_every_class_and_no_unit_is_cut():
    targets = np.repeat([0, 1, 2], [9, 20, 31])
    clusters = np.where(np.arange(60) % 10 < 3, np.arange(60) // 10, -1)
    units = find_units(names(60), 1, [clusters])
    members = Members.of(units, find_strata(head(targets), stratify=True))
    parts = take_counts(members, [6, 2])
    assert [[6, 6, 6, 0], [2, 2, 2, 0]] == members.tally(parts, 2).tolist()


def test_multi_label_images_count_for_each_of_their_classes():
    targets = np.array([[1, 0], [1, 1], [0, 0], [np.nan, np.nan]], np.float32)
    strata = find_strata(Head("tags", "multi", ("a", "b"), targets), stratify=True)
    assert [2, 1, 1, 1] == strata.sizes.tolist()
    assert 2 == strata.unlabeled
    plain = find_strata(Head("tags", "multi", ("a", "b"), targets), stratify=False)
    assert [3, 1, 0] == plain.sizes.tolist()
