"""The value and gradient of each objective against its formula written by hand in NumPy."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from timm.loss import AsymmetricLossMultiLabel, BinaryCrossEntropy
from torch import Tensor, nn

from discern.models.classifier import Output
from discern.optim.optimizers import build_optimizer
from discern.training.objectives import OBJECTIVES, Objective, build_objective

Array = NDArray[np.float64]
COUNTS = np.array([50, 30, 15, 5])
DRAW = np.random.default_rng(7)
LOGITS = 2 * DRAW.standard_normal((6, 4))
FEATURES = DRAW.standard_normal((6, 5))
HARD = np.array([0, 3, 1, -1, 2, 1])
ROWS = HARD >= 0  # the labeled ones
ONE_HOT = np.eye(4)[np.maximum(HARD, 0)]
SOFT = DRAW.dirichlet(np.ones(4), 6)
MANY = np.array(
    [[1, 0, 1, 0], [0, np.nan, 0, 1], [np.nan] * 4, [1, 1, 0, 0], [0, 0, np.nan, 1], [0, 1, 0, 0]]
)


def loss(name: str, targets: Any, kind: Any = "single", **arguments: Any) -> float:
    objective = build_objective(
        name, arguments, class_counts=COUNTS, kind=kind, num_classes=LOGITS.shape[1]
    )
    output = Output(torch.tensor(LOGITS), torch.tensor(FEATURES))
    value = objective(output, torch.tensor(targets))
    assert value.shape == ()
    return value.item()


def softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return raised / raised.sum(1, keepdims=True)


def sigmoid(logits: Array) -> Array:
    return 1 / (1 + np.exp(-logits))


def binary(values: Array) -> Array:
    p = sigmoid(LOGITS)
    return -(values * np.log(p) + (1 - values) * np.log(1 - p))


P = softmax(LOGITS)


def test_cross_entropy():
    expected = -np.log(P[ROWS, HARD[ROWS]]).mean()
    assert expected == pytest.approx(loss("cross_entropy", HARD))
    smooth = 0.9 * ONE_HOT + 0.1 / 4
    expected = -(smooth * np.log(P)).sum(1)[ROWS].mean()
    assert expected == pytest.approx(loss("cross_entropy", HARD, smoothing=0.1))


def test_balanced_class_weights_are_those_of_scikit_learn():
    weights = 100 / (4 * COUNTS)
    of_rows = weights[HARD[ROWS]]
    expected = -(of_rows * np.log(P[ROWS, HARD[ROWS]])).sum() / of_rows.sum()
    assert expected == pytest.approx(loss("cross_entropy", HARD, class_weights="balanced"))
    assert expected == pytest.approx(loss("cross_entropy", HARD, class_weights=weights.tolist()))
    smooth = weights * (0.8 * ONE_HOT + 0.2 / 4)
    expected = -(smooth * np.log(P)).sum(1)[ROWS].sum() / of_rows.sum()
    given = loss("cross_entropy", HARD, class_weights="balanced", smoothing=0.2)
    assert expected == pytest.approx(given)
    expected = -(weights * SOFT * np.log(P)).sum() / (weights * SOFT).sum()
    assert expected == pytest.approx(loss("cross_entropy", SOFT, class_weights="balanced"))


def test_a_class_without_samples_is_no_class_when_weights_are_balanced():
    objective = build_objective(
        "bce",
        {"class_weights": "balanced"},
        class_counts=np.array([6, 0, 3, 3]),
        kind="single",
        num_classes=4,
    )
    logits = torch.tensor(LOGITS)
    weights = np.array([12 / (3 * 6), 0, 12 / (3 * 3), 12 / (3 * 3)])
    expected = (weights * binary(SOFT)).mean()
    assert expected == pytest.approx(objective(Output(logits, logits), torch.tensor(SOFT)).item())


@pytest.mark.feature("CA-30")
def test_bce_on_one_hot_and_on_several_labels():
    assert binary(ONE_HOT)[ROWS].mean() == pytest.approx(loss("bce", HARD))
    known = ~np.isnan(MANY)
    values = np.nan_to_num(MANY)
    assert binary(values)[known].mean() == pytest.approx(loss("bce", MANY, "multi"))
    weights = np.array([1.0, 2.0, 3.0, 4.0])
    expected = (weights * binary(values))[known].mean()
    assert expected == pytest.approx(loss("bce", MANY, "multi", class_weights=[1, 2, 3, 4]))
    expected = sum(binary(values)[known[:, k], k].mean() for k in range(4))
    assert expected == pytest.approx(loss("bce", MANY, "multi", sum_classes=True))


def test_bce_smooths_and_cuts_as_timm_does():
    kept, hard = torch.tensor(LOGITS[ROWS]), torch.tensor(HARD[ROWS])
    expected = BinaryCrossEntropy(smoothing=0.2)(kept, hard).item()
    assert expected == pytest.approx(loss("bce", HARD, smoothing=0.2))
    many = np.nan_to_num(MANY)
    theirs = BinaryCrossEntropy()(torch.tensor(LOGITS), torch.tensor(many * 0.8 + 0.1)).item()
    assert theirs == pytest.approx(loss("bce", many, "multi", smoothing=0.2))
    cut = BinaryCrossEntropy(smoothing=0.0, target_threshold=0.3, sum_classes=True)
    expected = cut(torch.tensor(LOGITS), torch.tensor(SOFT)).item()
    assert expected == pytest.approx(loss("bce", SOFT, target_threshold=0.3, sum_classes=True))


def focal(values: Array, gamma: float, alpha: float | None) -> Array:
    """Lin's formula for values of 0 and 1."""
    p = sigmoid(LOGITS)
    p_t = np.where(values == 1, p, 1 - p)
    weight = 1 if alpha is None else np.where(values == 1, alpha, 1 - alpha)
    made: Array = -weight * (1 - p_t) ** gamma * np.log(p_t)
    return made


@pytest.mark.feature("CA-30")
@pytest.mark.parametrize("alpha", [0.25, None])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_is_the_sum_over_classes_of_binary_focal_losses(gamma: float, alpha: float | None):
    expected = sum(focal(ONE_HOT, gamma, alpha)[ROWS, k].mean() for k in range(4))
    assert expected == pytest.approx(loss("focal", HARD, gamma=gamma, alpha=alpha))
    expected = focal(ONE_HOT, gamma, alpha)[ROWS].mean()
    assert expected == pytest.approx(loss("focal_binary", HARD, gamma=gamma, alpha=alpha))
    known = ~np.isnan(MANY)
    entries = focal(np.nan_to_num(MANY), gamma, alpha)
    expected = entries[known].mean()
    assert expected == pytest.approx(loss("focal_binary", MANY, "multi", gamma=gamma, alpha=alpha))


@pytest.mark.feature("CA-30")
def test_focal_of_gamma_zero_is_bce():
    for targets, kind in [(HARD, "single"), (SOFT, "single"), (MANY, "multi")]:
        expected = loss("bce", targets, kind)
        assert expected == pytest.approx(loss("focal_binary", targets, kind, gamma=0))
        expected = loss("bce", targets, kind, sum_classes=True)
        assert expected == pytest.approx(loss("focal", targets, kind, gamma=0, alpha=None))


@pytest.mark.feature("CA-30")
def test_focal_defaults_are_those_of_catalyst():
    expected = loss("focal", HARD, gamma=2.0, alpha=0.25)
    assert expected == loss("focal", HARD)


def test_softmax_focal():
    of_rows = P[ROWS, HARD[ROWS]]
    for gamma in (0.0, 0.5, 2.0):
        expected = -((1 - of_rows) ** gamma * np.log(of_rows)).mean()
        assert expected == pytest.approx(loss("softmax_focal", HARD, gamma=gamma))
        expected = -(SOFT * (1 - P) ** gamma * np.log(P)).sum(1).mean()
        assert expected == pytest.approx(loss("softmax_focal", SOFT, gamma=gamma))


def test_asymmetric_loss():
    p = sigmoid(LOGITS)
    known, values = ~np.isnan(MANY), np.nan_to_num(MANY)
    for gamma_pos, gamma_neg, margin in [(0, 4, 0.05), (1, 2, 0.2), (0.5, 0.5, 0.0)]:
        shifted = np.maximum(p - margin, 0)
        ones = (1 - p) ** gamma_pos * np.log(p)
        zeros = shifted**gamma_neg * np.log(1 - shifted)
        entries = -(values * ones + (1 - values) * zeros)
        expected = sum(entries[known[:, k], k].mean() for k in range(4))
        arguments = {"gamma_pos": gamma_pos, "gamma_neg": gamma_neg, "margin": margin}
        assert expected == pytest.approx(loss("asymmetric", MANY, "multi", **arguments))
    theirs = AsymmetricLossMultiLabel(gamma_pos=0, gamma_neg=4, clip=0.05)
    expected = theirs(torch.tensor(LOGITS), torch.tensor(values)).item()
    if "reduction" not in inspect.signature(AsymmetricLossMultiLabel).parameters:
        expected /= len(LOGITS)  # timm before 1.0.31 sums over the images
    assert expected == pytest.approx(loss("asymmetric", values, "multi"), rel=1e-5)


def test_logit_adjustment():
    for tau in (0.0, 1.0, 1.5):
        adjusted = softmax(LOGITS + tau * np.log(COUNTS / 100))
        expected = -np.log(adjusted[ROWS, HARD[ROWS]]).mean()
        assert expected == pytest.approx(loss("logit_adjusted", HARD, tau=tau))
        expected = -(SOFT * np.log(adjusted)).sum(1).mean()
        assert expected == pytest.approx(loss("logit_adjusted", SOFT, tau=tau))


def test_symmetric_cross_entropy():
    of_rows = P[ROWS, HARD[ROWS]]
    expected = (-0.1 * np.log(of_rows) + 1.0 * 4 * (1 - of_rows)).mean()
    assert expected == pytest.approx(loss("symmetric_cross_entropy", HARD))
    logs = np.maximum(np.log(SOFT), -2.0)
    expected = -(0.5 * (SOFT * np.log(P)).sum(1) + 2 * (P * logs).sum(1)).mean()
    given = loss("symmetric_cross_entropy", SOFT, alpha=0.5, beta=2.0, log_zero=-2.0)
    assert expected == pytest.approx(given)


def test_generalized_cross_entropy():
    of_rows = P[ROWS, HARD[ROWS]]
    for exponent in (0.3, 0.7, 1.0):
        expected = ((1 - of_rows**exponent) / exponent).mean()
        assert expected == pytest.approx(loss("generalized_cross_entropy", HARD, exponent=exponent))
    near_zero = loss("generalized_cross_entropy", HARD, exponent=0.001)
    assert loss("cross_entropy", HARD) == pytest.approx(near_zero, rel=0.01)


@pytest.mark.feature("CA-30")
def test_embedding_norm_is_the_mean_length_of_the_features():
    lengths = np.sqrt((FEATURES**2).sum(1))
    assert lengths[ROWS].mean() == pytest.approx(loss("embedding_norm", HARD))
    assert lengths.mean() == pytest.approx(loss("embedding_norm", SOFT))
    labeled = ~np.isnan(MANY).all(1)
    assert lengths[labeled].mean() == pytest.approx(loss("embedding_norm", MANY, "multi"))


VARIANTS: list[tuple[str, str, dict[str, Any]]] = [
    ("cross_entropy", "hard", {"smoothing": 0.1}),
    ("cross_entropy", "hard", {"class_weights": "balanced", "smoothing": 0.1}),
    ("cross_entropy", "soft", {"class_weights": "balanced"}),
    ("bce", "hard", {"smoothing": 0.1}),
    ("bce", "many", {"sum_classes": True, "class_weights": [1, 2, 3, 4]}),
    ("focal", "hard", {}),
    ("focal", "many", {"gamma": 0.5}),
    ("focal_binary", "soft", {}),
    ("softmax_focal", "hard", {"gamma": 0.5}),
    ("softmax_focal", "soft", {}),
    ("asymmetric", "many", {}),
    ("asymmetric", "hard", {"margin": 0.0, "gamma_pos": 1.0}),
    ("logit_adjusted", "hard", {}),
    ("symmetric_cross_entropy", "soft", {}),
    ("generalized_cross_entropy", "hard", {}),
    ("embedding_norm", "hard", {}),
    ("contrastive", "hard", {}),
    ("triplet", "hard", {"margin": 3.0}),
    ("triplet", "hard", {"margin": "soft", "normalize": False}),
    ("margin", "hard", {}),
    ("arcface", "hard", {"scale": 4.0}),
    ("weighted_sum", "many", {"terms": [{"name": "bce"}, {"name": "embedding_norm"}]}),
]


def test_every_objective_has_its_gradient_checked():
    assert set(OBJECTIVES) == {name for name, _, _ in VARIANTS}


@pytest.mark.parametrize(("name", "form", "arguments"), VARIANTS)
def test_gradients_are_those_of_the_values(name: str, form: str, arguments: dict[str, Any]):
    targets = torch.tensor({"hard": HARD, "soft": SOFT, "many": MANY}[form])
    kind: Any = "multi" if form == "many" else "single"
    objective: Objective = build_objective(
        name, arguments, class_counts=COUNTS, kind=kind, num_classes=4, feature_dim=5
    )

    def value(logits: Tensor, features: Tensor) -> Tensor:
        return objective(Output(logits, features), targets)

    logits = torch.tensor(LOGITS, requires_grad=True)
    features = torch.tensor(FEATURES, requires_grad=True)
    made = value(logits, features)
    assert made.dtype is torch.float64
    # An objective reads the logits, the features, or both; what it does not read has no gradient.
    assert torch.autograd.gradcheck(
        lambda a, b: value(a, b) + 0.0 * (a.sum() + b.sum()), (logits, features)
    )
    unlabeled = torch.isnan(targets).all(1) if targets.is_floating_point() else targets < 0
    read = [
        t for t in torch.autograd.grad(made, (logits, features), allow_unused=True) if t is not None
    ]
    assert read
    for gradient in read:
        assert not gradient[unlabeled].any()
        assert gradient[~unlabeled].any()


@pytest.mark.feature("LA-20")
def test_sgd_decay_is_the_l2_penalty_without_the_norms_weights():
    """Coupled decay: the update is that of cross entropy + decay * half the squared norms."""
    decay, rate = 0.1, 0.5
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 4)).double()
    images = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    hard = torch.randint(0, 4, (12,), generator=generator)
    objective = build_objective("cross_entropy", class_counts=None, kind="single", num_classes=4)
    logits = net(images)
    value = objective(Output(logits, logits), hard)
    decayed = [p for name, p in net.named_parameters() if name in ("0.weight", "2.weight")]
    penalty = decay * torch.stack([0.5 * p.square().sum() for p in decayed]).sum()
    gradients = torch.autograd.grad(value + penalty, list(net.parameters()), retain_graph=True)
    expected = [(p.detach() - rate * g) for p, g in zip(net.parameters(), gradients, strict=True)]
    optimizer = build_optimizer(
        "sgd", net.named_parameters(), lr=rate, weight_decay=decay, arguments={"momentum": 0.0}
    )
    value.backward()
    optimizer.step()
    for wanted, parameter in zip(expected, net.parameters(), strict=True):
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-9, atol=1e-12)


def test_asymmetric_loss_has_a_gradient_at_its_margin():
    objective = build_objective(
        "asymmetric",
        {"margin": 0.5, "gamma_neg": 0.5},
        class_counts=None,
        kind="multi",
        num_classes=2,
    )
    logits = torch.zeros(3, 2, requires_grad=True)  # sigmoid 0.5: the margin itself
    objective(Output(logits, logits), torch.zeros(3, 2)).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
