"""Which predictions become labels."""

from __future__ import annotations

import numpy as np
import pytest

from discern.training.label_choice import (
    Precision,
    class_thresholds,
    fit_rule,
    mean_probabilities,
    take,
)


def test_a_class_that_errs_gets_the_least_threshold_that_reaches_the_target():
    stated = np.array([[0.99, 0.01], [0.95, 0.05], [0.9, 0.1], [0.85, 0.15], [0.1, 0.9]])
    targets = np.array([0, 0, 1, 0, 1])
    made = class_thresholds(stated, targets, 0.8, 0.9)
    assert made.tolist() == [np.nextafter(0.9, 2), 0.8]
    assert take(stated, made).tolist() == [True, True, False, False, True]
    assert class_thresholds(stated, targets, 0.8, 0.7).tolist() == [0.8, 0.8]


def test_where_no_place_reaches_the_target_nothing_passes_up_to_the_surest_mistake():
    stated = np.array([[0.99, 0.01], [0.97, 0.03]])
    made = class_thresholds(stated, np.array([1, 0]), 0.5, 0.95)
    assert made[0] == np.nextafter(0.99, 2)
    assert not take(stated, made).any()


@pytest.mark.feature("CA-63")
def test_huge_logits_give_probabilities_row_by_row():
    logits = np.array([[1e4, 0.0, -1e4], [-1e5, -1e5, -2e5]], dtype=np.float32)
    assert mean_probabilities([logits], 1.0) == pytest.approx(
        np.array([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]])
    )
    two = mean_probabilities([logits, np.zeros_like(logits)], 1.0)
    assert two[0] == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_the_rule_is_judged_on_images_that_did_not_make_it():
    rng = np.random.default_rng(0)
    targets = np.tile(np.arange(4), 50)
    logits = rng.normal(0, 1, (200, 4))
    logits[np.arange(200), targets] += 3.0
    rule = fit_rule(10 * logits, targets, threshold=0.8, target=0.9)
    # Noise of variance 1 about a shift of 3: the likelihood ratio is 3 a unit, here of 10.
    assert rule.temperature == pytest.approx(10 / 3, rel=0.1)
    stated = mean_probabilities([10 * logits], rule.temperature)
    passed = take(stated, rule.thresholds)
    assert 0.5 < passed.mean() < 1.0
    assert (stated.argmax(1) == targets)[passed].mean() >= 0.9
    assert rule.precision.count == pytest.approx(passed.sum(), abs=20)
    assert rule.precision.value == pytest.approx(0.95, abs=0.05)


def test_a_precision_of_no_image_is_none():
    assert Precision(0, 0).record() == {"value": None, "low": None, "high": None, "count": 0}
    assert Precision(19, 20).record()["value"] == 0.95
