"""Scores against scikit-learn and SciPy, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics

from discern.base.errors import DataError
from discern.training import scores


def make_table(count=400, num_classes=7, seed=0, unlabeled=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), targets] += 1.0
    targets[:unlabeled] = -1
    classes = tuple(f"class {number}" for number in range(num_classes))
    return scores.table_from_logits(logits, targets, classes=classes)


@pytest.fixture
def table():
    return make_table(unlabeled=13)


def labeled_pair(table):
    return table.targets[table.labeled], table.predicted[table.labeled]


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_equals_scikit_learn(seed):
    table = make_table(seed=seed, unlabeled=seed)
    assert metrics.accuracy_score(*labeled_pair(table)) == scores.accuracy(table)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_top_k_equals_scikit_learn(table, k):
    expected = metrics.top_k_accuracy_score(
        table.targets[table.labeled], table.logits[table.labeled], k=k, labels=range(7)
    )
    assert expected == pytest.approx(scores.top_k(table, k), abs=1e-12)


def test_top_k_of_all_classes_is_one():
    assert scores.top_k(make_table(num_classes=3), 5) == 1.0


def test_top_k_beyond_what_is_kept_is_refused(table):
    with pytest.raises(ValueError, match="keeps 5 classes"):
        scores.top_k(table, 6)


def test_mean_loss_equals_scikit_learn_log_loss(table):
    logits = table.logits[table.labeled].astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    expected = metrics.log_loss(table.targets[table.labeled], probabilities, labels=range(7))
    assert expected == pytest.approx(scores.mean_loss(table), rel=1e-6)


def test_per_class_equals_scikit_learn(table):
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        *labeled_pair(table), labels=range(7)
    )
    found = scores.per_class(table)
    np.testing.assert_allclose(precision, found.precision)
    np.testing.assert_allclose(recall, found.recall)
    np.testing.assert_allclose(f1, found.f1)
    np.testing.assert_array_equal(support, found.support)


def test_undefined_class_scores_are_nan_as_in_scikit_learn():
    logits = np.eye(4, dtype=np.float32)[[0, 0, 1]]
    table = scores.table_from_logits(logits, np.array([0, 2, 2]), classes=("a", "b", "c", "d"))
    expected = metrics.precision_recall_fscore_support(
        [0, 2, 2], [0, 0, 1], labels=range(4), zero_division=np.nan
    )
    found = scores.per_class(table)
    np.testing.assert_allclose(expected[0], found.precision)
    np.testing.assert_allclose(expected[1], found.recall)
    np.testing.assert_allclose(expected[2], found.f1)
    assert np.isnan(found.precision[3])


def test_confusion_matrix_equals_scikit_learn(table):
    expected = metrics.confusion_matrix(*labeled_pair(table), labels=range(7))
    np.testing.assert_array_equal(expected, scores.confusion_matrix(table))


def test_most_confused_pairs_are_the_largest_cells_off_the_diagonal(table):
    matrix = scores.confusion_matrix(table)
    np.fill_diagonal(matrix, 0)
    found = scores.most_confused_pairs(table, n=5)
    assert sorted(matrix.ravel())[::-1][:5] == [pair.count for pair in found]
    first = found[0]
    true, predicted = table.classes.index(first.true), table.classes.index(first.predicted)
    assert matrix[true, predicted] == first.count
    assert first.count / (table.targets == true).sum() == first.share


def test_no_mistake_gives_no_pair():
    logits = np.eye(3, dtype=np.float32)
    table = scores.table_from_logits(logits, np.arange(3), classes=("a", "b", "c"))
    assert scores.most_confused_pairs(table) == ()


@settings(max_examples=100)
@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_wilson_interval_equals_scipy(count, share, confidence):
    correct = round(count * share)
    expected = binomtest(correct, count).proportion_ci(confidence, method="wilson")
    low, high = scores.wilson_interval(correct, count, confidence)
    assert (expected.low, expected.high) == (pytest.approx(low), pytest.approx(high))
    assert 0.0 <= low <= correct / count <= high <= 1.0


def test_wilson_interval_of_all_right_ends_at_one():
    low, high = scores.wilson_interval(50, 50)
    assert high == 1.0
    assert low == pytest.approx(0.928652, abs=1e-6)


@pytest.mark.parametrize(("correct", "count"), [(1, 0), (0, 0), (-1, 3), (4, 3)])
def test_wilson_interval_refuses_impossible_counts(correct, count):
    with pytest.raises(ValueError):
        scores.wilson_interval(correct, count)


def test_calibration_of_a_network_that_is_always_sure():
    logits = np.array([[50.0, 0.0]] * 10, dtype=np.float32)
    targets = np.array([0] * 7 + [1] * 3)
    found = scores.calibration(scores.table_from_logits(logits, targets, classes=("a", "b")))
    assert found.error == pytest.approx(0.3)
    assert found.bias == pytest.approx(0.3)
    assert found.count[-1] == 10
    assert found.accuracy[-1] == pytest.approx(0.7)


def test_score_record_holds_the_named_keys_as_fractions(table):
    record = scores.score_record(table)
    assert list(record) == ["count", "accuracy", "accuracy_low", "accuracy_high", "top5", "loss"]
    assert record["count"] == 387
    assert 0 < record["accuracy_low"] < record["accuracy"] < record["accuracy_high"] < 1


def test_unlabeled_images_never_count():
    whole = make_table(count=50)
    logits = np.concatenate([whole.logits, whole.logits[:9]])
    targets = np.concatenate([whole.targets, np.full(9, -1)])
    more = scores.table_from_logits(logits, targets, classes=whole.classes)
    assert scores.score_record(whole) == scores.score_record(more)


def test_score_of_nothing_labeled_is_an_error():
    with pytest.raises(DataError, match="No labeled image"):
        scores.score_record(make_table(count=5, unlabeled=5))


def test_loss_that_is_not_finite_is_null():
    logits = np.array([[0.0, np.inf], [1.0, 0.0]], dtype=np.float32)
    with np.errstate(invalid="ignore"):
        table = scores.table_from_logits(logits, np.array([0, 0]), classes=("a", "b"))
    assert scores.score_record(table)["loss"] is None


def test_equal_logits_rank_in_class_order():
    table = scores.table_from_logits(
        np.zeros((1, 6), np.float32), np.array([0]), classes=tuple("abcdef")
    )
    assert table.top_classes.tolist() == [[0, 1, 2, 3, 4]]


def test_table_refuses_shapes_that_do_not_fit():
    table = make_table(count=4)
    with pytest.raises(ValueError, match="losses has shape"):
        scores.EvalTable(
            table.positions,
            table.targets,
            table.top_classes,
            table.top_probabilities,
            table.losses[:3],
            None,
            table.classes,
        )
    with pytest.raises(ValueError, match="targets outside"):
        scores.table_from_logits(np.zeros((1, 2), np.float32), np.array([2]), classes=("a", "b"))
