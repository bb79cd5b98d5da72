from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from discern.base.errors import ConfigError
from discern.models.classifier import Output
from discern.training.metric_learning import ArcFace, recall_at
from discern.training.objectives import Objective, WeightedSum, build_objective, learned_parts

Array = NDArray[np.float64]
DRAW = np.random.default_rng(3)
FEATURES = DRAW.standard_normal((9, 5))
LABELS = np.array([0, 0, 1, -1, 1, 2, 0, 1, 3])
PAIRS = [(i, j) for i, j in combinations(range(9), 2) if LABELS[i] >= 0 and LABELS[j] >= 0]


def made(name: str, classes: int = 4, **arguments: Any) -> Objective:
    return build_objective(
        name, arguments, class_counts=None, kind="single", num_classes=classes, feature_dim=5
    )


def loss(name: str, **arguments: Any) -> float:
    features = torch.tensor(FEATURES)
    return made(name, **arguments)(Output(features, features), torch.tensor(LABELS)).item()


def distances(*, normalize: bool = True) -> Array:
    points = FEATURES
    if normalize:
        points = points / np.sqrt((points**2).sum(1, keepdims=True))
    gaps: Array = np.sqrt(((points[:, None] - points[None]) ** 2).sum(2))
    return gaps


@pytest.mark.parametrize("normalize", [True, False])
def test_contrastive_loss_over_all_pairs(normalize: bool):
    d = distances(normalize=normalize)
    values = [
        d[i, j] ** 2 / 2 if LABELS[i] == LABELS[j] else max(0, 1.5 - d[i, j]) ** 2 / 2
        for i, j in PAIRS
    ]
    given = loss("contrastive", margin=1.5, normalize=normalize)
    assert np.mean(values) == pytest.approx(given)


@pytest.mark.parametrize("width", [0.2, 1.0, "soft"])
def test_triplet_loss_of_the_hardest_in_the_batch(width: Any):
    d = distances()
    values = []
    for anchor in range(9):
        known = [i for i in range(9) if i != anchor and LABELS[i] >= 0]
        near = [d[anchor, i] for i in known if LABELS[i] == LABELS[anchor]]
        other = [d[anchor, i] for i in known if LABELS[i] != LABELS[anchor]]
        if LABELS[anchor] < 0 or not near or not other:
            continue
        gap = max(near) - min(other)
        values.append(math.log1p(math.exp(gap)) if width == "soft" else max(0.0, width + gap))
    assert 6 == len(values)
    assert np.mean(values) == pytest.approx(loss("triplet", margin=width))


def test_margin_loss_over_the_wrong_pairs():
    d = distances()
    values = [
        max(0.0, 0.2 + (d[i, j] - 1.2 if LABELS[i] == LABELS[j] else 1.2 - d[i, j]))
        for i, j in PAIRS
    ]
    wrong = [value for value in values if value > 0]
    assert 0 < len(wrong) < len(values)
    assert np.mean(wrong) == pytest.approx(loss("margin"))


def test_arcface_widens_the_own_angle():
    objective = ArcFace(num_classes=4, feature_dim=5, scale=8.0, margin=0.5)
    centers = objective.centers.detach().double().numpy()
    with torch.no_grad():
        objective.centers[2] = -torch.tensor(FEATURES[5])  # an angle of pi: past the turn
    centers = objective.centers.detach().double().numpy()
    centers = centers / np.sqrt((centers**2).sum(1, keepdims=True))
    points = FEATURES / np.sqrt((FEATURES**2).sum(1, keepdims=True))
    values = []
    for point, label in zip(points, LABELS, strict=True):
        if label < 0:
            continue
        cosines = centers @ point
        angle = math.acos(max(-1.0, min(1.0, cosines[label])))
        past = angle + 0.5 > math.pi
        cosines[label] = cosines[label] - 0.5 * math.sin(0.5) if past else math.cos(angle + 0.5)
        logits = 8.0 * cosines
        values.append(np.log(np.exp(logits).sum()) - logits[label])
    features = torch.tensor(FEATURES)
    given = objective(Output(features, features), torch.tensor(LABELS))
    assert np.mean(values) == pytest.approx(given.item(), rel=1e-6)


def test_arcface_without_margin_is_cross_entropy_of_cosines():
    objective = ArcFace(num_classes=4, feature_dim=5, scale=16.0, margin=0.0)
    features, labels = torch.tensor(FEATURES).float(), torch.tensor(LABELS)
    cosines = F.normalize(features) @ F.normalize(objective.centers).T
    expected = F.cross_entropy(16.0 * cosines, labels, ignore_index=-1)
    given = objective(Output(features, features), labels)
    assert expected.item() == pytest.approx(given.item(), rel=1e-5)


def test_learned_parts_are_found_in_sums():
    assert not len(learned_parts(made("triplet")))
    alone = made("arcface")
    assert [(4, 5)] == [tuple(p.shape) for p in learned_parts(alone).parameters()]
    terms = [{"name": "bce"}, {"name": "arcface", "label": "arc.face", "weight": 0.1}]
    joined = made("weighted_sum", terms=terms)
    assert isinstance(joined, WeightedSum)
    parts = learned_parts(joined)
    assert ["arc_face.objective.centers"] == [name for name, _ in parts.named_parameters()]
    assert parts["arc_face"]["objective"] is joined.terms[1][2]
    with pytest.raises(ConfigError, match="width of the network's features"):
        build_objective("arcface", class_counts=None, kind="single", num_classes=4)


@pytest.mark.parametrize("name", ["contrastive", "triplet", "margin", "arcface"])
def test_mixed_targets_have_no_pairs(name: str):
    features = torch.randn(3, 5)
    with pytest.raises(ConfigError, match="one class an image"):
        made(name)(Output(features, features), torch.full((3, 4), 0.25))


@pytest.mark.parametrize("name", ["contrastive", "triplet", "margin"])
def test_a_batch_of_one_image_or_of_equal_images_has_a_finite_gradient(name: str):
    for rows in (1, 4):
        features = torch.ones(rows, 5, requires_grad=True)
        value = made(name)(Output(features, features), torch.arange(rows) // 2)
        value.backward()
        assert torch.isfinite(value)
        assert features.grad is not None
        assert torch.isfinite(features.grad).all()


def test_recall_is_that_of_scikit_learns_neighbors():
    draw = np.random.default_rng(5)
    labels = draw.integers(-1, 6, 120)
    labels[0] = 9  # alone in its class: asks nothing
    features = draw.standard_normal((120, 4)) + 0.7 * np.eye(10)[labels][:, :4]
    kept = labels >= 0
    points, classes = features[kept], labels[kept]
    points = points / np.sqrt((points**2).sum(1, keepdims=True))
    found = NearestNeighbors(n_neighbors=6).fit(points).kneighbors(points)[1][:, 1:]
    asks = np.array([(classes == label).sum() > 1 for label in classes])
    for k in (1, 5):
        expected = (classes[found[:, :k]] == classes[:, None]).any(1)[asks].mean()
        given = recall_at([1, 5], torch.tensor(features), torch.tensor(labels))
        assert expected == pytest.approx(given[k])
        assert 0 < given[k] < 1


def test_recall_without_anybody_to_find_is_not_a_number():
    for labels in ([], [0], [0, 1, 2], [-1, -1]):
        given = recall_at(
            [1, 5], torch.randn(len(labels), 3), torch.tensor(labels, dtype=torch.int64)
        )
        assert [1, 5] == list(given)
        assert all(math.isnan(value) for value in given.values())
    two = recall_at([1, 5], torch.eye(2), torch.tensor([4, 4]))
    assert {1: 1.0, 5: 1.0} == two


@pytest.mark.parametrize("name", ["contrastive", "triplet", "margin", "arcface"])
def test_training_brings_the_images_of_a_class_together(name: str):
    torch.manual_seed(0)
    labels = torch.arange(32) % 8
    points = torch.randn(32, 5).requires_grad_()
    objective = made(name, classes=8)
    optimizer = torch.optim.Adam([points, *learned_parts(objective).parameters()], lr=0.1)
    before = recall_at([1], points.detach(), labels)[1]
    for _ in range(60):
        optimizer.zero_grad()
        objective(Output(points, points), labels).backward()
        optimizer.step()
    assert before < 0.5
    assert recall_at([1], points.detach(), labels)[1] > 0.9
