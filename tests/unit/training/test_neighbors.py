"""Recall@k of an evaluation's embeddings, as a metric by name."""

from __future__ import annotations

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.training.metric_table import open_metric
from discern.training.neighbors import learns_embeddings
from discern.training.scores import EvalTable

# Angles in degrees: each image's nearest others by the angle between them.
ANGLES = [0, 10, 21, 33, 90, 180]
LABELS = [0, 1, 0, 1, 1, -1]


def table(features: bool = True) -> EvalTable:
    count = len(ANGLES)
    radians = np.radians(ANGLES)
    points = np.stack([np.cos(radians), np.sin(radians)], 1).astype(np.float32) * 3
    return EvalTable(
        positions=np.arange(count),
        targets=np.array(LABELS),
        top_classes=np.zeros((count, 2), dtype=np.int64) + np.arange(2),
        top_probabilities=np.full((count, 2), 0.5, dtype=np.float32),
        losses=np.zeros(count, dtype=np.float32),
        logits=None,
        classes=("a", "b"),
        features=points if features else None,
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    # Nearest: 0 -> 10, 10 -> 0, 21 -> 10, 33 -> 21, 90 -> 33: the last alone is of its class.
    # Two nearest: 0 -> 21 too, 10 -> 21, 21 -> 33, 33 -> 10 (1), 90 -> 33.
    [("recall@1", 1 / 5), ("recall_at_1", 1 / 5), ("recall@2", 3 / 5), ("recall@4", 1.0)],
)
def test_recall_counts_images_with_a_neighbor_of_their_class(name: str, expected: float) -> None:
    metric = open_metric(name)
    assert metric.of_features
    assert expected == pytest.approx(metric(table()))


def test_a_table_without_embeddings_is_an_error_and_other_recalls_need_none() -> None:
    with pytest.raises(ConfigError, match="keeps no embeddings"):
        open_metric("recall@1")(table(features=False))
    assert not open_metric("recall").of_features


def test_objectives_on_embeddings_are_known_alone_and_in_sums() -> None:
    terms = {"terms": [{"name": "cross_entropy"}, {"name": "triplet"}]}
    assert learns_embeddings("triplet", {})
    assert learns_embeddings("weighted_sum", terms)
    assert not learns_embeddings("cross_entropy", {})
