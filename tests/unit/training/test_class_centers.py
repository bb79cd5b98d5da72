"""Heads filled with class centers, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from discern.base.errors import RunError
from discern.data.head_spec import HeadSpec
from discern.models.classifier import wrap_network
from discern.training.class_centers import class_centers, fill_heads_
from discern.training.neighbors import only_embeddings
from discern.training.scores import EvalTable


def table(features, targets, classes=("a", "b")) -> EvalTable:
    count = len(targets)
    return EvalTable(
        positions=np.arange(count),
        targets=np.array(targets),
        top_classes=np.zeros((count, 1), dtype=np.int64),
        top_probabilities=np.ones((count, 1), dtype=np.float32),
        losses=np.zeros(count, dtype=np.float32),
        logits=None,
        classes=classes,
        features=np.array(features, dtype=np.float32),
    )


def test_centers_are_the_directions_of_the_mean_unit_embedding():
    found = class_centers(table([[2, 0], [0, 5], [0, -3], [7, 7]], [0, 0, 1, -1]), 3)
    half = 1 / np.sqrt(2)
    assert np.allclose([[half, half], [0, -1], [0, 0]], found)


class Plain(nn.Module):
    """Features are the images; a head on them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 2)

    def features(self, images):
        return images.flatten(1)

    def forward(self, images):
        return self.head(self.features(images))


def test_filled_head_names_the_nearest_center_by_angle_whatever_the_length():
    model = wrap_network(Plain(), torch.randn(2, 1, 1, 2))
    head = HeadSpec("label", "single", ("a", "b"))
    known = table([[3, 0], [0, 0.1]], [0, 1])
    done = fill_heads_(model, [head], [head], {"label": known}, {"label": known})
    images = torch.tensor([[9.0, 8.0], [0.01, 0.02]])[:, None, None]
    assert [0, 1] == model(images).logits.argmax(1).tolist()
    assert "nearest class center" == done["label"]["answers"]
    # The validation images are told without a fault: the surest factor has the least loss.
    assert 32.0 < done["label"]["factor"]


def test_embeddings_of_zero_are_refused():
    with pytest.raises(RunError, match="all zero"):
        class_centers(table([[0, 0], [0, 0]], [0, 1]), 2)


def test_which_objectives_leave_the_head_untrained():
    pair, entropy = {"name": "triplet"}, {"name": "cross_entropy"}
    assert only_embeddings("contrastive", {})
    assert only_embeddings("weighted_sum", {"terms": [pair, {"name": "embedding_norm"}]})
    assert only_embeddings("weighted_sum", {"terms": [pair, {**entropy, "weight": 0.0}]})
    assert not only_embeddings("weighted_sum", {"terms": [pair, entropy]})
    assert not only_embeddings("focal", {})
