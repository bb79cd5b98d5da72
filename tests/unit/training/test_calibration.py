"""Temperatures and thresholds: what they must be, what they must not do, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.metrics import f1_score

from discern.base.errors import ConfigError, DataError
from discern.training.answer_thresholds import find_answer_thresholds
from discern.training.calibration import (
    at_temperature,
    calibration_figures,
    cross_validated_temperature,
    fit_label_temperature,
    fit_temperature,
    stratified_folds,
)
from discern.training.scores import table_from_logits
from discern.training.thresholds import check_threshold, find_thresholds


def _drawn(count: int = 4000, classes: int = 5, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is exactly the chance of each label."""
    draws = np.random.default_rng(seed)
    logits = 2.0 * draws.standard_normal((count, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (draws.random((count, 1)) > shares.cumsum(axis=1)).sum(axis=1)
    return logits, targets


def test_temperature_is_the_minimum_that_a_general_optimizer_finds() -> None:
    logits, targets = _drawn()
    logits = 3.0 * logits

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        top = scaled.max(axis=1, keepdims=True)
        sums = np.log(np.exp(scaled - top).sum(axis=1)) + top[:, 0]
        return float((sums - scaled[np.arange(len(targets)), targets]).mean())

    best = minimize_scalar(loss, bounds=(-3, 4), method="bounded", options={"xatol": 1e-10})
    found = fit_temperature(logits, targets)
    assert found == pytest.approx(float(np.exp(best.x)), rel=1e-5)
    assert found == pytest.approx(3.0, rel=0.05)
    assert found == fit_temperature(logits.copy(), targets.copy())


def test_temperature_mends_the_calibration_and_no_answer_changes() -> None:
    logits, targets = _drawn()
    classes = tuple("abcde")
    raw = table_from_logits((4 * logits).astype(np.float32), targets, classes=classes)
    assert raw.logits is not None
    mended = at_temperature(raw, fit_temperature(raw.logits, targets))
    before, after = calibration_figures(raw), calibration_figures(mended)
    assert after["ece"] < 0.03 < 0.1 < before["ece"]
    assert after["brier"] < before["brier"]
    assert after["loss"] < before["loss"]
    assert np.array_equal(mended.top_classes, raw.top_classes)


def test_no_mistake_gives_no_certainty() -> None:
    logits = 10.0 * np.eye(4)[np.arange(40) % 4]
    temperature = fit_temperature(logits, np.arange(40) % 4)
    # One pseudo-mistake beside 40 right answers: the odds of the runner-up are 1 : 41 by
    # construction, each of three runners-up being equal.
    assert 1.0 < temperature < 10.0
    assert fit_temperature(np.zeros((5, 3)), np.zeros(5, int)) == 1.0
    assert fit_temperature(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(100.0)


def test_several_labels_have_a_temperature_over_known_entries() -> None:
    draws = np.random.default_rng(1)
    logits = draws.standard_normal((3000, 4))
    targets = (draws.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(float)
    targets[::7, 2] = np.nan
    assert fit_label_temperature(2.5 * logits, targets) == pytest.approx(2.5, rel=0.1)


def test_cross_validation_scores_each_image_without_it() -> None:
    logits, targets = _drawn(300)
    targets[:3] = -1
    found = cross_validated_temperature(2 * logits, targets, folds=5)
    assert found.temperature == fit_temperature(2 * logits, targets)
    assert len(found.fold_temperatures) == 5
    assert np.isnan(found.probabilities[:3]).all()
    assert np.allclose(found.probabilities[3:].sum(axis=1), 1.0)


def test_folds_are_even_though_a_class_is_smaller_than_the_folds() -> None:
    targets = np.array([0] * 7 + [1] * 2 + [2])
    fold = stratified_folds(targets, 5, seed=0)
    assert [2, 2, 2, 2, 2] == np.bincount(fold).tolist()
    assert fold.tolist() == stratified_folds(targets, 5, seed=0).tolist()


@pytest.mark.parametrize(
    ("logits", "targets", "words"),
    [
        (np.array([[np.nan, 1.0]]), np.array([0]), "not finite"),
        (np.zeros((2, 2)), np.array([-1, -1]), "no labeled image"),
        (np.zeros((2, 2)), np.array([0, 2]), "no class"),
        (np.zeros((2, 2)), np.array([0]), "fit together"),
    ],
)
def test_what_cannot_be_fitted_is_refused(
    logits: np.ndarray, targets: np.ndarray, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        fit_temperature(logits, targets)


def test_one_image_is_not_cross_validated() -> None:
    with pytest.raises(DataError, match="one image"):
        cross_validated_temperature(np.array([[1.0, 0.0]]), np.array([0]))


@pytest.mark.feature("CA-13")
def test_f1_with_thresholds_is_never_below_that_at_a_half() -> None:
    draws = np.random.default_rng(3)
    truth = draws.random((600, 6)) < np.array([0.02, 0.05, 0.1, 0.3, 0.5, 0.0])
    stated = np.clip(0.25 * truth + 0.35 * draws.random(truth.shape), 0, 1)
    found = find_thresholds(stated, truth.astype(float))
    there = found.support > 0
    assert (found.f1[there] >= found.f1_usual[there]).all()
    assert (found.held_f1[there] >= found.held_f1_usual[there]).all()
    assert found.f1[:5].mean() > found.f1_usual[:5].mean() + 0.2
    assert found.values[5] == 0.5  # a class without images
    assert np.isnan(found.f1[5])
    again = [
        2 * (truth & (stated >= t))[:, k].sum() / ((stated >= t)[:, k].sum() + truth[:, k].sum())
        for k, t in enumerate(found.values[:5])
    ]
    assert np.allclose(found.f1[:5], again)


@pytest.mark.feature("CA-13")
def test_thresholds_of_one_class_an_image_never_lower_the_mean_f1_of_the_answers() -> None:
    """A rare class that is seldom the likeliest: the answers take it from a lower probability."""
    draws = np.random.default_rng(5)
    targets = draws.choice(4, 800, p=[0.55, 0.3, 0.1, 0.05])
    logits = draws.normal(size=(800, 4)) + np.array([1.5, 0.8, -0.5, -1.0])
    logits[np.arange(800), targets] += 1.7
    stated = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = find_answer_thresholds(stated, targets, repeats=2)
    answers, likeliest = (stated / found.values).argmax(axis=1), stated.argmax(axis=1)
    wanted = f1_score(targets, answers, average=None)
    assert np.allclose(found.f1, wanted)
    assert np.allclose(found.f1_usual, f1_score(targets, likeliest, average=None))
    assert found.accuracy == (answers == targets).mean()
    assert found.f1.mean() > found.f1_usual.mean()
    assert found.held_f1.mean() > found.held_f1_usual.mean()
    noise = draws.random((60, 4)) + 1e-9
    guessed = find_answer_thresholds(noise / noise.sum(axis=1, keepdims=True), targets[:60])
    assert np.nanmean(guessed.f1) >= np.nanmean(guessed.f1_usual)
    assert np.nanmean(guessed.held_f1) >= np.nanmean(guessed.held_f1_usual)


def test_answers_stay_the_likeliest_class_where_no_threshold_helps() -> None:
    targets = np.arange(90) % 3
    stated = np.full((90, 3), 0.2)
    stated[np.arange(90), targets] = 0.6
    found = find_answer_thresholds(stated, targets)
    assert found.values.tolist() == [0.5, 0.5, 0.5]
    assert (found.accuracy, found.held_accuracy_usual) == (1.0, 1.0)


def test_thresholds_take_class_numbers_with_an_empty_class_and_unlabeled_images() -> None:
    stated = np.array([[0.9, 0.1, 0.0]] * 6 + [[0.4, 0.3, 0.3]] * 6 + [[0.2, 0.8, 0.0]])
    targets = np.array([0] * 12 + [-1])
    found = find_thresholds(stated, targets)
    assert found.support.tolist() == [12, 0, 0]
    assert found.f1[0] == 1.0
    assert found.values[0] <= 0.4
    assert found.values.tolist()[1:] == [0.5, 0.5]


@pytest.mark.parametrize(
    "stated", [np.array([[1.2], [0.1]]), np.array([[np.nan], [0.1]]), np.array([[0.1]])]
)
def test_thresholds_refuse_what_is_no_probability_or_one_image(stated: np.ndarray) -> None:
    with pytest.raises(DataError):
        find_thresholds(stated, np.zeros(len(stated), dtype=int))


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_a_threshold_is_a_probability(value: float) -> None:
    assert check_threshold(0.8, "--threshold") == 0.8
    with pytest.raises(ConfigError, match="0 to 1"):
        check_threshold(value, "--threshold")
