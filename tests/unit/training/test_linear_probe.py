"""The linear probe: its fit, its folds, and that no image has a say in its own score."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from discern.base.errors import ConfigError, DataError
from discern.training.linear_probe import (
    choose_penalty,
    fit_probe,
    probe_folds,
    probe_out_of_fold,
)


def clouds(count=120, width=8, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    codes = rng.permutation(np.arange(count) % classes)
    centers = rng.normal(size=(classes, width)) * 2
    return (centers[codes] + rng.normal(size=(count, width))).astype(np.float32), codes


@pytest.mark.parametrize(("count", "width"), [(120, 8), (30, 64)])
def test_the_fit_is_that_of_standardized_features_also_with_more_features_than_images(count, width):
    features, codes = clouds(count, width)
    features[:, 0] = features[:, 0] * 1000 + 5
    rows = StandardScaler().fit_transform(features.astype(np.float64))
    expected = LogisticRegression(C=1 / (0.01 * count), tol=1e-8, max_iter=5000).fit(rows, codes)
    probe = fit_probe(features, codes, classes=4, penalty=0.01)
    given = probe.probabilities(features)
    np.testing.assert_allclose(given[:, :3], expected.predict_proba(rows), atol=0.01)
    assert not given[:, 3].any()  # a class that it has seen no image of


def test_a_feature_that_never_changes_and_one_class_less_do_no_harm():
    features, codes = clouds(classes=2)
    features[:, 3] = 7.0
    probe = fit_probe(features, codes, classes=2, penalty=0.1)
    assert (probe.probabilities(features).argmax(axis=1) == codes).mean() > 0.95
    assert not probe.weight[:, 3].any()


def test_digits_out_of_fold_are_right_and_calibrated():
    features, codes = load_digits(return_X_y=True)
    given = probe_out_of_fold(features[:900], codes[:900])
    np.testing.assert_allclose(given.sum(axis=1), 1.0)
    assert (given.argmax(axis=1) == codes[:900]).mean() > 0.94
    assert abs(given.max(axis=1).mean() - (given.argmax(axis=1) == codes[:900]).mean()) < 0.02


def test_nothing_of_a_fold_changes_what_is_said_of_it():
    features, codes = clouds()
    fold = probe_folds(codes)
    expected = probe_out_of_fold(features, codes, fold=fold)
    other = codes.copy()
    other[fold == 2] = (other[fold == 2] + 1) % 3
    given = probe_out_of_fold(features, other, fold=fold)
    assert np.array_equal(expected[fold == 2], given[fold == 2])
    assert not np.array_equal(expected[fold != 2], given[fold != 2])


def test_groups_stay_together_and_classes_are_even():
    _, codes = clouds(300)
    groups = np.repeat([f"g{n}" for n in range(100)], 3)
    fold = probe_folds(codes, groups)
    assert [1] * 100 == [len(set(fold[start : start + 3])) for start in range(0, 300, 3)]
    table = np.array([np.bincount(fold[codes == c], minlength=5) for c in range(3)])
    assert (np.abs(table - 20) <= 2).all()
    alone = np.where(np.arange(300) < 150, "", groups)  # "" joins nothing
    assert (np.bincount(probe_folds(codes, alone)) == 60).all()


def test_copies_in_a_group_give_no_answer_away():
    features, codes = clouds(200, width=400, classes=2)
    features[:] = np.random.default_rng(1).normal(size=features.shape)  # nothing to learn
    features, codes = np.repeat(features, 2, axis=0), np.repeat(codes, 2)
    apart = probe_out_of_fold(features, codes, np.repeat(np.arange(200), 2))
    assert 0.35 < (apart.argmax(axis=1) == codes).mean() < 0.65
    leaking = probe_out_of_fold(features, codes)
    assert (leaking.argmax(axis=1) == codes).mean() > 0.75


def test_images_without_a_label_are_told_about_but_not_learned_from():
    features, codes = clouds()
    hidden = codes.copy()
    hidden[:10] = -1
    given = probe_out_of_fold(features, hidden, classes=5)
    assert (120, 5) == given.shape
    assert (given[:10].argmax(axis=1) == codes[:10]).mean() >= 0.8


def test_the_penalty_is_the_one_that_held_images_like_best():
    rng = np.random.default_rng(0)
    codes = np.arange(60) % 2
    features = rng.normal(size=(60, 50)).astype(np.float32)  # nothing to learn: stay near 0.5
    held = np.arange(60) < 20
    assert choose_penalty(features, codes, held, classes=2) == 1.0
    features[:, 0] = codes * 2.0 - 1
    assert choose_penalty(features, codes, held, classes=2) < 0.1


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_features_that_are_not_finite_are_an_error_that_names_the_rows(bad):
    features, codes = clouds()
    values = features.astype(np.float64)
    values[[3, 7], 1] = bad
    with pytest.raises(DataError, match="2 of 120 images are not finite") as error:
        probe_out_of_fold(values, codes)
    assert error.value.got == "rows 3, 7"


def test_too_few_images_classes_and_folds_are_errors():
    features, codes = clouds()
    with pytest.raises(DataError, match="at least two classes"):
        probe_out_of_fold(features[:1], codes[:1])
    with pytest.raises(DataError, match="at least two classes"):
        probe_out_of_fold(features, np.zeros(120, dtype=np.int64))
    with pytest.raises(DataError, match="do not belong together"):
        probe_out_of_fold(features, codes[1:])
    with pytest.raises(ConfigError, match="too few folds"):
        probe_out_of_fold(features, codes, folds=1)
    codes[codes == 2] = 0
    codes[5] = 2
    with pytest.raises(DataError, match="1 classes stand in one fold only") as error:
        probe_out_of_fold(features, codes)
    assert error.value.got == "class numbers 2"
    groups = np.where(np.arange(120) < 60, "one", "")
    codes[:60] = 2
    codes[60:] = np.arange(60) % 2
    with pytest.raises(DataError, match="stand in one fold only"):
        probe_out_of_fold(features, codes, groups)


def test_two_folds_are_enough():
    features, codes = clouds()
    given = probe_out_of_fold(features, codes, folds=2)
    assert (given.argmax(axis=1) == codes).mean() > 0.9
