"""Every metric by name equals scikit-learn's, or the definition written out."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import pearsonr

from discern.base.errors import ConfigError, DataError
from discern.training import metrics
from discern.training.label_metrics import (
    LabelTable,
    label_auc_per_class,
    label_average_precision_per_class,
)
from discern.training.metric_table import (
    LABEL_METRICS,
    METRICS,
    metric_record,
    open_metric,
)
from discern.training.scores import accuracy, per_class, table_from_logits

# A busy machine makes single examples slow.
UNHURRIED = settings(max_examples=60)
EXACT = {"rel": 1e-12, "abs": 1e-12}
AVERAGES = ["macro", "micro", "weighted"]


def names_of(count):
    return tuple(f"class {k}" for k in range(count))


@st.composite
def evaluations(draw, *, all_classes=False, two=False):
    """(table, targets, probabilities, predicted) of labeled images; ties and gaps included."""
    classes = 2 if two else draw(st.integers(2, 7))
    count = draw(st.integers(classes, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.integers(0, classes, count)
    if all_classes:
        targets[:classes] = rng.permutation(classes)
    logits = rng.normal(0, 2, (count, classes)).astype(np.float32)
    if draw(st.booleans()):
        logits = np.round(logits)  # many equal scores
    logits[np.arange(count), targets] += np.float32(draw(st.sampled_from([0.0, 1.0, 4.0])))
    table = table_from_logits(logits, targets, classes=names_of(classes))
    wide = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return table, targets, wide / wide.sum(axis=1, keepdims=True), table.predicted


def same(ours, theirs):
    assert ours == pytest.approx(theirs, nan_ok=True, **EXACT)


@pytest.fixture(autouse=True)
def _quiet():
    # scikit-learn warns of classes without images, which are drawn on purpose.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# ---- one label per image ----


@pytest.mark.feature("MX-17")
@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations())
def test_figures_of_predictions_equal_scikit_learn(drawn):
    table, targets, _, predicted = drawn
    same(open_metric("accuracy")(table), sk.accuracy_score(targets, predicted))
    same(open_metric("balanced_accuracy")(table), sk.balanced_accuracy_score(targets, predicted))
    same(open_metric("mcc")(table), sk.matthews_corrcoef(targets, predicted))
    same(open_metric("kappa")(table), sk.cohen_kappa_score(targets, predicted))
    same(open_metric("iou")(table), sk.jaccard_score(targets, predicted, average="macro"))
    for average in AVERAGES:
        expected = sk.precision_recall_fscore_support(
            targets, predicted, average=average, zero_division=0
        )
        for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
            same(open_metric(f"{average}_{name}")(table), value)
            same(open_metric(name, {"average": average})(table), value)


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations())
def test_figures_of_each_class_equal_scikit_learn(drawn):
    table, targets, _, predicted = drawn
    scores = per_class(table)
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        targets, predicted, labels=range(len(table.classes)), zero_division=np.nan
    )
    same(scores.precision, precision)
    same(scores.recall, recall)
    np.testing.assert_array_equal(scores.support, support)
    there = support + scores.predicted > 0
    same(scores.f1[there], f1[there])


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations(all_classes=True))
def test_areas_equal_scikit_learn(drawn):
    table, targets, stated, _ = drawn
    classes = len(table.classes)
    known = np.eye(classes)[targets]
    same(
        metrics.roc_auc_per_class(table),
        sk.roc_auc_score(known, stated, average=None),
    )
    same(open_metric("auc")(table), sk.roc_auc_score(known, stated, average="macro"))
    same(
        metrics.average_precision_per_class(table),
        sk.average_precision_score(known, stated, average=None),
    )
    same(open_metric("map")(table), sk.average_precision_score(known, stated, average="macro"))
    if classes > 2:
        same(open_metric("auc")(table), sk.roc_auc_score(targets, stated, multi_class="ovr"))


@UNHURRIED
@given(evaluations(all_classes=True, two=True))
def test_area_of_two_classes_is_the_binary_one(drawn):
    table, targets, stated, _ = drawn
    # Ties of one class's probability are ties of the other's only up to rounding.
    assume(len(np.unique(stated[:, 0])) == len(np.unique(stated[:, 1])))
    same(open_metric("roc_auc")(table), sk.roc_auc_score(targets, stated[:, 1]))


@pytest.mark.feature("MX-17")
@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations())
def test_figures_of_probabilities_equal_scikit_learn(drawn):
    table, targets, stated, _ = drawn
    classes = len(table.classes)
    known = np.eye(classes)[targets]
    loss = sk.log_loss(targets, stated, labels=range(classes))
    same(open_metric("log_loss")(table), loss)
    same(open_metric("nll_loss")(table), loss)
    same(open_metric("perplexity")(table), math.exp(loss))
    assert open_metric("ce")(table) == pytest.approx(loss, rel=1e-5)  # losses are float32
    same(
        open_metric("brier")(table),
        sk.brier_score_loss(targets, stated, labels=range(classes), scale_by_half=False),
    )
    same(open_metric("mae")(table), sk.mean_absolute_error(known, stated))
    same(open_metric("mse")(table), sk.mean_squared_error(known, stated))
    same(open_metric("rmse")(table), math.sqrt(sk.mean_squared_error(known, stated)))
    assert open_metric("pearson")(table) == pytest.approx(
        pearsonr(known.ravel(), stated.ravel()).statistic, rel=1e-12, abs=1e-12, nan_ok=True
    )


@pytest.mark.feature("MX-17")
@UNHURRIED
@given(evaluations(), st.integers(1, 9))
def test_top_k_equals_scikit_learn(drawn, k):
    table, targets, stated, _ = drawn
    classes = len(table.classes)
    assume(classes > 2)
    assume(all(len(set(row)) == classes for row in table.logits))  # it ranks ties the other way
    for name in (f"top{k}", f"top_k_accuracy_{k}", f"accuracy{k:02d}"):
        same(
            open_metric(name)(table),
            sk.top_k_accuracy_score(targets, stated, k=k, labels=range(classes)),
        )


def test_top_k_beyond_the_kept_classes_needs_logits():
    logits = np.random.default_rng(0).normal(size=(9, 8)).astype(np.float32)
    table = table_from_logits(logits, np.arange(9) % 8, classes=names_of(8), keep_logits=False)
    assert open_metric("top8")(table) == 1.0
    assert 0.0 <= open_metric("top5")(table) <= 1.0
    with pytest.raises(DataError, match="kept fewer"):
        open_metric("top6")(table)


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations())
def test_mean_average_precision_of_whole_rankings_equals_scikit_learn(drawn):
    table, targets, stated, _ = drawn
    classes = len(table.classes)
    assume(all(len(set(row)) == classes for row in table.logits))
    same(
        open_metric("map_at_k", {"k": classes})(table),
        sk.label_ranking_average_precision_score(np.eye(classes)[targets], stated),
    )
    same(open_metric("map01")(table), accuracy(table))


def test_mean_average_precision_at_k_counts_the_first_k():
    logits = np.array([[3, 2, 1, 0], [3, 2, 1, 0], [3, 2, 1, 0]], dtype=np.float32)
    table = table_from_logits(logits, np.array([1, 2, 0]), classes=names_of(4))
    assert metrics.map_at_k(table, 2) == pytest.approx((1 / 2 + 0 + 1) / 3)
    assert metrics.map_at_k(table, 3) == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(evaluations(), st.integers(1, 20))
def test_calibration_error_equals_its_definition(drawn, bins):
    table, targets, _, predicted = drawn
    stated = table.top_probabilities[:, 0].astype(np.float64)
    expected = 0.0
    for place in range(bins):
        within = (stated > place / bins) & (stated <= (place + 1) / bins)
        if within.any():
            right = (targets == predicted)[within].mean()
            expected += within.mean() * abs(stated[within].mean() - right)
    # A probability on a bin's edge may fall on either side of it.
    assume(not np.isclose(stated * bins, np.round(stated * bins), atol=1e-6).any())
    assert open_metric("ece", {"bins": bins})(table) == pytest.approx(expected, abs=1e-12)


@UNHURRIED
@given(evaluations())
def test_unlabeled_images_take_no_part(drawn):
    table, targets, _, _ = drawn
    rng = np.random.default_rng(1)
    more = rng.normal(0, 2, (5, len(table.classes))).astype(np.float32)
    wider = table_from_logits(
        np.concatenate([more, table.logits]),
        np.concatenate([np.full(5, -1), targets]),
        classes=table.classes,
    )
    features = rng.normal(0, 1, (len(wider), 3)).astype(np.float32)
    wider = replace(wider, features=features)
    table = replace(table, features=features[5:])
    for name in METRICS:
        metric = open_metric(name, {"k": 2} if name == "top_k" else None)
        same(metric(wider), metric(table))


def test_a_class_without_images_has_no_area():
    logits = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    table = table_from_logits(logits, np.arange(20) % 2, classes=names_of(3))
    areas = metrics.roc_auc_per_class(table)
    assert list(np.isnan(areas)) == [False, False, True]
    assert metrics.roc_auc(table) == pytest.approx(areas[:2].mean())
    assert math.isnan(metrics.average_precision_per_class(table)[2])


def test_undefined_figures_are_null_in_json():
    logits = np.array([[2.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    table = table_from_logits(logits, np.array([0, 0]), classes=names_of(2))
    record = metric_record(table, [open_metric(n) for n in ("auc", "kappa", "mcc", "acc")])
    assert record == {"auc": None, "kappa": None, "mcc": 0.0, "acc": 1.0}


def test_probabilities_without_logits_are_refused():
    logits = np.zeros((3, 2), dtype=np.float32)
    table = table_from_logits(logits, np.array([0, 1, 0]), classes=names_of(2), keep_logits=False)
    with pytest.raises(DataError, match="logits"):
        open_metric("auc")(table)
    assert open_metric("perplexity")(table) == pytest.approx(2.0, rel=1e-6)  # float32 losses


def test_nothing_labeled_is_refused_by_every_metric():
    logits = np.zeros((3, 6), dtype=np.float32)
    table = table_from_logits(logits, np.full(3, -1), classes=names_of(6))
    table = replace(table, features=np.eye(3, dtype=np.float32))
    for name in METRICS:
        with pytest.raises(DataError, match="No labeled image"):
            open_metric(name, {"k": 2} if name == "top_k" else None)(table)


# ---- several labels per image ----


@st.composite
def labelings(draw, *, missing):
    """A LabelTable in which each label has both answers among the known ones."""
    classes, count = draw(st.integers(1, 6)), draw(st.integers(4, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    targets = rng.integers(0, 2, (count, classes)).astype(np.float64)
    targets[0], targets[1] = 0.0, 1.0
    if missing:
        targets[2:][rng.random((count - 2, classes)) < 0.4] = np.nan
    scores = rng.random((count, classes))
    if draw(st.booleans()):
        scores = np.round(scores, 1)
    return LabelTable(targets, scores, names_of(classes))


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(labelings(missing=False), st.sampled_from([0.25, 0.5, 0.75]))
def test_figures_of_several_labels_equal_scikit_learn(table, threshold):
    targets, named = table.targets.astype(int), (table.scores >= threshold).astype(int)

    def ours(name, **arguments):
        return open_metric(name, arguments, several_labels=True)(table)

    same(ours("label_accuracy", threshold=threshold), (targets == named).mean())
    whole = sk.accuracy_score(targets, named) if targets.shape[1] > 1 else (targets == named).mean()
    for name in ("accuracy", "exact_match"):
        same(ours(name, threshold=threshold), whole)
    if targets.shape[1] > 1:
        for average in AVERAGES:
            expected = sk.precision_recall_fscore_support(
                targets, named, average=average, zero_division=0
            )
            for name, value in zip(("precision", "recall", "f1"), expected, strict=False):
                same(ours(f"{average}_{name}", threshold=threshold), value)
    same(ours("auc"), sk.roc_auc_score(targets, table.scores, average="macro"))
    same(ours("map"), sk.average_precision_score(targets, table.scores, average="macro"))
    flat = targets.ravel(), table.scores.ravel()
    same(ours("log_loss"), sk.log_loss(*flat, labels=[0, 1]))
    same(ours("brier"), sk.brier_score_loss(*flat, scale_by_half=True))


@pytest.mark.feature("CA-39")
@UNHURRIED
@given(labelings(missing=True))
def test_missing_labels_take_no_part(table):
    known = ~np.isnan(table.targets)
    areas, precisions = label_auc_per_class(table), label_average_precision_per_class(table)
    f1 = []
    for k in range(len(table.classes)):
        rows = known[:, k]
        targets, scores = table.targets[rows, k], table.scores[rows, k]
        same(areas[k], sk.roc_auc_score(targets, scores))
        same(precisions[k], sk.average_precision_score(targets, scores))
        f1.append(sk.f1_score(targets, scores >= 0.5, zero_division=0))
    same(open_metric("f1", several_labels=True)(table), np.mean(f1))
    flat = table.targets[known], table.scores[known]
    same(open_metric("log_loss", several_labels=True)(table), sk.log_loss(*flat, labels=[0, 1]))
    same(
        open_metric("label_accuracy", several_labels=True)(table),
        (flat[0] == (flat[1] >= 0.5)).mean(),
    )
    same(
        open_metric("micro_f1", several_labels=True)(table),
        sk.f1_score(flat[0], flat[1] >= 0.5, zero_division=0),
    )


def test_label_without_a_positive_has_no_area():
    table = LabelTable(
        np.array([[1.0, 0.0], [0.0, np.nan]]), np.array([[0.9, 0.1], [0.2, 0.8]]), names_of(2)
    )
    assert list(np.isnan(label_auc_per_class(table))) == [False, True]
    assert open_metric("auc", several_labels=True)(table) == 1.0


def test_image_without_a_known_label_is_no_match_and_no_miss():
    table = LabelTable(
        np.array([[1.0, 0.0], [np.nan, np.nan], [1.0, np.nan]]),
        np.array([[0.9, 0.1], [0.5, 0.5], [0.1, 0.9]]),
        names_of(2),
    )
    assert open_metric("exact_match", several_labels=True)(table) == 0.5


@pytest.mark.parametrize(
    ("targets", "scores"),
    [
        ([[1.0, 0.0]], [[0.5]]),
        ([[2.0]], [[0.5]]),
        ([[1.0]], [[1.5]]),
        ([[1.0]], [[np.nan]]),
        ([[np.nan]], [[0.5]]),
    ],
)
def test_labels_that_cannot_be_scored_are_refused(targets, scores):
    with pytest.raises(DataError):
        LabelTable(np.array(targets), np.array(scores), names_of(1))


# ---- by name ----


OWN = """
def share_of(table, wanted: int = 0):
    return float((table.predicted == wanted).mean())


def words(table):
    return "many"
"""


@pytest.mark.feature("MX-17")
def test_metric_of_ones_own_is_opened_by_path(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN, encoding="utf-8")
    logits = np.array([[1, 0], [0, 1], [0, 1]], dtype=np.float32)
    table = table_from_logits(logits, np.array([0, 1, 0]), classes=names_of(2))
    assert open_metric(f"{path}:share_of", {"wanted": 1})(table) == pytest.approx(2 / 3)
    assert open_metric("discern.training.metrics:matthews")(table) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="one number"):
        open_metric(f"{path}:words")(table)
    with pytest.raises(ConfigError, match="wantd"):
        open_metric(f"{path}:share_of", {"wantd": 1})


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("acuracy", {}, "accuracy"),
        ("macro_f2", {}, "unknown metric"),
        ("top_k", {}, "missing"),
        ("f1", {"average": "median"}, "no such average"),
        ("ece", {"bin": 3}, "bins"),
        ("top0", {}, "k is a count"),
        ("f1", {"table": 3}, "set by Discern"),
    ],
)
def test_metric_that_is_not_there_is_refused(name, arguments, told):
    with pytest.raises(ConfigError, match=told):
        open_metric(name, arguments)


def test_metrics_of_one_label_are_not_those_of_several():
    assert set(LABEL_METRICS) - set(METRICS) == {"exact_match", "label_accuracy"}
    with pytest.raises(ConfigError, match="unknown metric"):
        open_metric("kappa", several_labels=True)
