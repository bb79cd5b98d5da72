"""Slices, coverage and groups: figures that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.training.class_groups import group_table
from discern.training.coverage import coverage_curve
from discern.training.scores import confusion_matrix, table_from_logits
from discern.training.slices import find_slices


def test_slices_are_weakest_first_with_intervals_and_least_support() -> None:
    correct = np.array([True] * 30 + [False] * 10)
    facts = {
        "camera": np.array(["a"] * 20 + ["b"] * 12 + ["c"] * 8),
        "size": np.arange(40.0),
        "same": np.array(["x"] * 40),
        "file": np.array([str(number) for number in range(40)]),
    }
    found = find_slices(correct, facts)
    told = [(part.fact, part.value, part.count, part.accuracy) for part in found]
    assert told[0] == ("size", "30 to 39", 10, 0.0)
    assert told[1] == ("camera", "b", 12, 10 / 12)
    assert told[2] == ("camera", "a", 20, 1.0)
    assert len(told) == 6  # the eight of camera c are too few, `same` and `file` tell nothing
    assert found[0].gap == pytest.approx(-0.75)
    assert found[1].low < 10 / 12 < found[1].high


def test_coverage_counts_the_surest_and_joins_equal_probabilities() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.7, 0.3]], dtype=np.float32))
    table = table_from_logits(logits, np.array([0, 1, 0, 0]), classes=("a", "b"))
    curve = coverage_curve(table)
    assert curve.coverage.tolist() == [0.25, 0.5, 1.0]
    assert curve.accuracy.tolist() == [1.0, 0.5, 0.75]
    assert curve.at(0.5) == (0.5, pytest.approx(0.8))
    assert curve.record()[-1]["accuracy"] == 0.75


def test_groups_have_a_confusion_matrix_of_their_own() -> None:
    logits = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 1]]
    table = table_from_logits(logits, np.array([1, 1, 3, 0, -1]), classes=("a", "b", "c", "d"))
    groups = {"a": "left", "b": "left", "c": "right", "d": "right"}
    joined = group_table(table, groups)
    assert joined.classes == ("left", "right")
    assert confusion_matrix(joined).tolist() == [[2, 1], [0, 1]]
    with pytest.raises(ConfigError, match="no group"):
        group_table(table, {"a": "left"})
