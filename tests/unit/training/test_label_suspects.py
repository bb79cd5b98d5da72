"""Signals against labels: each alone, joined, and beside cleanlab where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits

from discern.base.errors import ConfigError, DataError
from discern.training.label_suspects import (
    cleanlab_suspects,
    confident_suspects,
    find_suspects,
    neighbor_votes,
)
from discern.training.linear_probe import probe_out_of_fold


def flipped_digits(count=800, share=0.05, seed=0):
    features, codes = load_digits(return_X_y=True)
    rng = np.random.default_rng(seed)
    wrong = np.zeros(count, dtype=bool)
    wrong[rng.permutation(count)[: round(count * share)]] = True
    given = np.where(wrong, (codes[:count] + rng.integers(1, 10, count)) % 10, codes[:count])
    return features[:count].astype(np.float32), given, codes[:count], wrong


def test_flipped_labels_come_first_and_their_true_class_is_suggested():
    features, given, codes, wrong = flipped_digits()
    found = find_suspects(
        probe_out_of_fold(features, given), given, votes=neighbor_votes(features, given)
    )
    first = found.ranked()[: wrong.sum()]
    assert wrong[first].mean() >= 0.9
    hit = first[wrong[first]]
    assert (found.suggested[hit] == codes[hit]).mean() > 0.95
    assert (np.diff(found.score[found.ranked()]) <= 0).all()
    assert {"confident", "neighbors", "high loss"} <= set(found.reasons_of(int(first[0])))


def test_the_confident_joint_is_that_of_the_paper():
    # Means of the own classes: 0.65 and 0.55; row 2 is as sure of the other class, row 3 is not.
    p = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7], [0.6, 0.4]])
    given = np.array([0, 0, 0, 0, 1, 1])
    assert [2] == np.flatnonzero(confident_suspects(p, given)).tolist()
    p[5] = [0.7, 0.3]  # now the mean of class 1 is 0.5, and class 0 is sure of row 5
    assert [2, 5] == np.flatnonzero(confident_suspects(p, given)).tolist()


def test_confident_suspects_are_those_of_cleanlab():
    pytest.importorskip("cleanlab")
    features, given, _, _ = flipped_digits(seed=3)
    p = probe_out_of_fold(features, given)
    assert np.array_equal(confident_suspects(p, given), cleanlab_suspects(p, given))


def test_without_cleanlab_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "cleanlab.filter", None)
    with pytest.raises(ConfigError, match="cleanlab is not installed"):
        cleanlab_suspects(np.full((2, 2), 0.5), np.array([0, 1]))


def test_one_picture_under_two_labels_is_a_conflict_and_the_majority_is_suggested():
    p = np.tile([0.98, 0.01, 0.01], (5, 1))
    given = np.array([0, 0, 1, 0, -1])
    found = find_suspects(p, given, same=[np.array([0, 1, 2, 4])])
    assert [True, True, True, False, False] == found.reasons["same image"].tolist()
    assert 0 == found.suggested[2]
    np.testing.assert_allclose(found.score[:3], [1 / 3, 1 / 3, 0.99])
    assert [2, 0, 1] == found.ranked().tolist()
    assert np.isnan(found.score[4])


def test_neighbors_of_one_group_and_unlabeled_ones_do_not_vote():
    features = np.array([[0, 1], [0, 1.01], [0.02, 1], [1, 0], [1, 0.01], [1.02, 0]], np.float32)
    codes = np.array([1, 1, 0, 0, 0, -1])
    groups = np.array([7, 7, -1, -1, -1, -1])
    votes = neighbor_votes(features, codes, groups, count=1)
    # Row 0 is nearest to 1, which is of its group: 2 speaks.
    np.testing.assert_allclose(votes[[0, 2, 3, 5]], [[1, 0], [0, 1], [1, 0], [1, 0]])
    alone = neighbor_votes(features, codes, count=1)
    np.testing.assert_allclose(alone[0], [0, 1])


def test_an_image_without_neighbors_goes_by_the_probe_alone():
    p = np.array([[0.8, 0.2], [0.4, 0.6]])
    votes = np.array([[0.0, 0.0], [0.0, 1.0]])
    found = find_suspects(p, np.array([1, 1]), votes=votes)
    np.testing.assert_allclose(found.score, [0.8, 0.2])
    assert np.isnan(found.share[0])


def test_bad_input_is_told():
    p, codes = np.full((3, 2), 0.5), np.array([0, 1, 1])
    with pytest.raises(ConfigError, match="out of range"):
        find_suspects(p, codes).ranked(1.5)
    with pytest.raises(DataError, match="do not belong together"):
        find_suspects(p, codes[1:])
    with pytest.raises(DataError, match="a label has no probability"):
        find_suspects(p, codes + 1)
    p[1, 0] = np.nan
    with pytest.raises(DataError, match="probabilities of 1 images are none"):
        find_suspects(p, codes)
