from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from discern.base.errors import ConfigError
from discern.data.head_spec import HeadSpec
from discern.models.classifier import Output
from discern.training.head_objectives import HeadWish, TrainingHead, head_objectives
from discern.training.objectives import (
    MISSING,
    OBJECTIVES,
    Objective,
    WeightedSum,
    build_objective,
    cross_entropy,
    likeliest,
)

COUNTS = np.array([8, 2, 1, 0])
TERMS = [{"name": "bce", "weight": 0.5}, {"name": "embedding_norm", "weight": 0.25}]
ARGUMENTS: dict[str, dict[str, Any]] = {"weighted_sum": {"terms": TERMS}}
NAMES = sorted(OBJECTIVES)
PAIRS = ["arcface", "contrastive", "margin", "triplet"]  # these take no soft targets
MULTI = ["bce", "focal", "focal_binary", "asymmetric", "embedding_norm", "weighted_sum"]


def made(name: str, kind: Any = "single", **arguments: Any) -> Objective:
    given = arguments or ARGUMENTS.get(name, {})
    return build_objective(
        name, given, class_counts=COUNTS, kind=kind, num_classes=4, feature_dim=4
    )


def draw(rows: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(rows, 4, generator=torch.Generator().manual_seed(seed))


def test_soft_targets_give_the_mixed_loss_and_missing_rows_none():
    logits = draw(3)
    soft = torch.tensor([[0.25, 0.75, 0, 0], [float("nan")] * 4, [0, 0, 1, 0]])
    logs = -torch.log_softmax(logits, 1)
    expected = (0.25 * logs[0, 0] + 0.75 * logs[0, 1] + logs[2, 2]) / 2
    loss = cross_entropy()(Output(logits, logits), soft)
    assert expected.item() == pytest.approx(loss.item())
    assert [1, -1, 2] == likeliest(soft).tolist()
    hard = torch.tensor([1, -1, 2])
    assert hard is likeliest(hard)


def test_hard_targets_give_the_bits_of_torch():
    logits = draw(9).requires_grad_()
    hard = torch.tensor([0, 3, 1, 1, 0, -1, 2, 2, -1])
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits, hard, ignore_index=-1, label_smoothing=smoothing)
        loss = cross_entropy(smoothing)(Output(logits, logits), hard)
        assert torch.equal(expected, loss)
        for_torch, ours = (torch.autograd.grad(value, logits)[0] for value in (expected, loss))
        assert torch.equal(for_torch, ours)


def test_only_heads_with_missing_labels_look_for_them():
    logits, hard = draw(4), torch.tensor([0, 3, 1, 1])
    spec = HeadSpec("kind", "single", ("a", "b", "c", "d"))
    none, losses = torch.full((4,), MISSING), []
    for missing in (False, True):
        objective, _ = head_objectives([TrainingHead(spec, COUNTS, missing)], HeadWish(), {})
        losses.append(objective(Output(logits, logits), hard))
        without = objective(Output(logits, logits), none)
        assert without.isnan().item() is not missing  # what has labels everywhere is torch's own
    assert torch.equal(F.cross_entropy(logits, hard), losses[0])
    assert torch.equal(losses[0], losses[1])


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("embedding_norm", *PAIRS)])
def test_soft_targets_of_one_class_are_as_hard_ones(name: str):
    logits = draw(5, 1)
    hard = torch.tensor([0, 2, 1, MISSING, 0])
    soft = F.one_hot(hard.clamp(min=0), 4).float()
    soft[3] = float("nan")
    variants: list[dict[str, Any]] = [{}]
    if name in ("cross_entropy", "bce"):
        variants += [{"smoothing": 0.1}, {"smoothing": 0.1, "class_weights": [1.0, 2.0, 3.0, 4.0]}]
    for arguments in variants:
        objective = made(name, **arguments)
        expected = objective(Output(logits, logits), hard)
        assert expected.item() == pytest.approx(objective(Output(logits, logits), soft).item())


@pytest.mark.parametrize("name", NAMES)
def test_what_has_no_label_changes_nothing(name: str):
    objective = made(name)
    logits, features = draw(6), draw(6, 2)
    hard = torch.tensor([0, 1, 2, 3, 0, 1])
    expected = objective(Output(logits, features), hard)
    more = Output(torch.cat([logits, draw(2, 3)]), torch.cat([features, draw(2, 4)]))
    missing = torch.tensor([MISSING, MISSING])
    loss = objective(more, torch.cat([hard, missing]))
    assert expected.item() == pytest.approx(loss.item())


@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in NAMES for form in ("hard", "empty")]
    + [(name, "soft") for name in NAMES if name not in PAIRS]
    + [(name, "multi") for name in MULTI],
)
def test_a_batch_without_labels_gives_zero_and_no_gradient(name: str, form: str):
    objective = made(name, "multi" if form == "multi" else "single")
    logits = (30 * draw(0 if form == "empty" else 6)).requires_grad_()
    if form in ("hard", "empty"):
        targets = torch.full((len(logits),), MISSING)
    else:
        targets = torch.full((6, 4), float("nan"))
    loss = objective(Output(logits, logits * 2), targets)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_cross_entropy_without_labels_gives_zero(smoothing: float):
    objective = made("cross_entropy", smoothing=smoothing, class_weights=[0, 1, 1, 1])
    logits = draw().requires_grad_()
    for targets in (torch.full((6,), MISSING), torch.full((6, 4), float("nan"))):
        loss = objective(Output(logits, logits), targets)
        assert loss.item() == 0
        assert not torch.autograd.grad(loss, logits)[0].any()
    only_weightless = objective(Output(logits, logits), torch.zeros(6, dtype=torch.int64))
    assert torch.isfinite(only_weightless)
    assert torch.isfinite(torch.autograd.grad(only_weightless, logits)[0]).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(name: str, dtype: torch.dtype):
    objective = made(name)
    half = draw(400).to(dtype)
    hard = torch.arange(400) % 4
    expected = objective(Output(half.float(), half.float()), hard)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = objective(Output(half, half), hard)
    assert loss.dtype is torch.float32
    assert expected.item() == pytest.approx(loss.item(), rel=1e-6)


HALF = """
import torch
from torch import nn


def plain(output, targets):
    return nn.functional.cross_entropy(output.logits, targets) + output.features.sum()


class Learned(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, output, targets):
        return self.scale * plain(output, targets)
"""


@pytest.mark.parametrize("name", ["plain", "Learned"])
def test_ones_own_objective_gets_float32_from_a_half_precision_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    Path("own_loss.py").write_text(HALF)
    objective = made(f"./own_loss.py:{name}")
    half, hard = draw(400).bfloat16().requires_grad_(), torch.arange(400) % 4
    loss = objective(Output(half, half), hard)
    full = half.detach().float()
    expected = F.cross_entropy(full, hard) + full.sum()
    assert torch.float32 is loss.dtype
    assert expected.item() == pytest.approx(loss.item(), rel=1e-6)
    loss.backward()
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [1e3, 1e4])
def test_very_sure_answers_have_finite_gradients(name: str, size: float):
    small = {
        "focal": {"gamma": 0.5},
        "focal_binary": {"gamma": 0.5},
        "softmax_focal": {"gamma": 0.5},
        "asymmetric": {"gamma_neg": 0.5, "gamma_pos": 0.5},
    }
    for arguments in ({}, small.get(name, {})):
        objective = made(name, **arguments)
        logits = (size * (2 * torch.eye(4) - 1)).repeat(2, 1).requires_grad_()
        loss = objective(Output(logits, logits), torch.tensor([0, 1, 2, 3, 1, 2, 3, 0]))
        loss.backward()
        assert torch.isfinite(loss)
        assert logits.grad is not None
        assert torch.isfinite(logits.grad).all()


@pytest.mark.feature("CA-31")
@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_a_sum_of_terms_equals_its_parts(mode: str):
    logits, features = draw(), draw(6, 5)
    hard = torch.tensor([0, 1, MISSING, 3, 0, 1])
    output = Output(logits, features)
    chosen = [
        {"name": "cross_entropy", "weight": 0.7, "args": {"smoothing": 0.1}},
        {"name": "focal", "weight": 0.2},
        {"name": "focal", "args": {"gamma": 1.0}, "label": "mild", "weight": 2},
        {"name": "embedding_norm", "weight": 0.1},
    ]
    joined = made("weighted_sum", terms=chosen, mode=mode)
    values = [
        made("cross_entropy", smoothing=0.1)(output, hard),
        made("focal")(output, hard),
        made("focal", gamma=1.0)(output, hard),
        made("embedding_norm")(output, hard),
    ]
    divisor = 3.0 if mode == "mean" else 1.0
    expected = sum(w * v.item() for w, v in zip([0.7, 0.2, 2, 0.1], values, strict=True))
    assert expected / divisor == pytest.approx(joined(output, hard).item())
    assert isinstance(joined, WeightedSum)
    parts = joined.parts(output, hard)
    assert ["cross_entropy", "focal", "mild", "embedding_norm"] == list(parts)
    assert torch.stack(list(parts.values())).sum().item() == joined(output, hard).item()


def test_a_term_of_weight_zero_is_not_computed():
    joined = made("weighted_sum", terms=[{"name": "bce"}, {"name": "focal", "weight": 0}])
    assert isinstance(joined, WeightedSum)
    assert ["bce"] == list(joined.parts(Output(draw(), draw()), torch.zeros(6, dtype=torch.int64)))


OWN = """
import torch

def margin(output, targets, width=1.0):
    known = targets.clamp(min=0)
    return (width - output.logits.gather(1, known[:, None])).clamp(min=0).mean()

def scaled(factor, num_classes):
    def objective(output, targets):
        return factor * num_classes * output.logits.mean()
    return objective

def wrong():
    return 3

def unreduced(output, targets):
    return output.logits.sum(1)

def number(output, targets):
    return 3.0

nothing = 3
"""


def test_own_objectives_are_opened_by_path(tmp_path: Path):
    path = tmp_path / "my_losses.py"
    path.write_text(OWN)
    logits = draw()
    output, hard = Output(logits, logits), torch.tensor([0, 1, 2, 3, 0, 1])
    expected = (2 - logits.gather(1, hard[:, None])).clamp(min=0).mean()
    assert torch.equal(expected, made(f"{path}:margin", width=2.0)(output, hard))
    assert torch.equal(12.0 * logits.mean(), made(f"{path}:scaled", factor=3.0)(output, hard))
    same = made("discern.training.objectives:cross_entropy", smoothing=0.1)(output, hard)
    assert torch.equal(cross_entropy(0.1)(output, hard), same)
    terms = [{"name": f"{path}:margin", "label": "margin", "weight": 0.5}]
    half = made("weighted_sum", terms=terms)(output, hard)
    assert torch.equal(0.5 * made(f"{path}:margin")(output, hard), half)
    for name, arguments, what in [
        ("margin", {"widht": 1.0}, "unknown argument 'widht'"),
        ("margin", {"output": 1.0}, "set by Discern"),
        ("scaled", {}, "argument 'factor' is missing"),
        ("scaled", {"factor": 1, "num_classes": 3}, "set by Discern"),
        ("wrong", {}, "no objective"),
        ("nothing", {}, "cannot be called"),
        ("margn", {}, "has no 'margn'"),
    ]:
        with pytest.raises(ConfigError, match=what):
            build_objective(
                f"{path}:{name}", arguments, class_counts=None, kind="single", num_classes=4
            )


@pytest.mark.parametrize(("name", "got"), [("unreduced", r"a tensor \[6\]"), ("number", "float")])
def test_an_own_objective_that_gives_no_scalar_is_told(tmp_path: Path, name: str, got: str):
    (tmp_path / "my_losses.py").write_text(OWN)
    objective = made(f"{tmp_path}/my_losses.py:{name}")
    logits = draw()
    with pytest.raises(ConfigError, match=f"objective '.*:{name}'\n  got: +{got}"):
        objective(Output(logits, logits), torch.tensor([0, 1, 2, 3, 0, 1]))


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("crossentropy", {}, "did you mean 'cross_entropy'"),
        ("focal", {"gama": 1}, "did you mean 'gamma'"),
        ("focal", {"gamma": -1}, "a number from 0"),
        ("focal", {"gamma": "2"}, "a number from 0"),
        ("focal_binary", {"alpha": 1.5}, "from 0 to 1"),
        ("cross_entropy", {"smoothing": float("nan")}, "a number from 0 to 1"),
        ("cross_entropy", {"class_weights": [1, 2]}, "4 numbers"),
        ("cross_entropy", {"class_weights": [0, 0, 0, 0]}, "not all 0"),
        ("cross_entropy", {"class_weights": "even"}, "balanced"),
        ("cross_entropy", {"class_weights": 3}, "balanced"),
        ("bce", {"sum_classes": "yes"}, "true or false"),
        ("bce", {"target_threshold": 2}, "from 0 to 1"),
        ("asymmetric", {"margin": 2}, "from 0 to 1"),
        ("generalized_cross_entropy", {"exponent": 0}, "from 0.001 to 1"),
        ("symmetric_cross_entropy", {"log_zero": 1}, "to 0"),
        ("weighted_sum", {}, "argument 'terms' is missing"),
        ("weighted_sum", {"terms": []}, "no list of terms"),
        ("weighted_sum", {"terms": [{"weight": 1}]}, "terms[0]"),
        ("weighted_sum", {"terms": [{"name": "bce", "wieght": 1}]}, "did you mean 'weight'"),
        ("weighted_sum", {"terms": [{"name": "bce", "weight": "1"}]}, "terms[0].weight"),
        ("weighted_sum", {"terms": [{"name": "bce"}, {"name": "bce"}]}, "label"),
        ("weighted_sum", {"terms": [{"name": "bce", "weight": 0}]}, "come to nothing"),
        ("weighted_sum", {"terms": [{"name": "bce"}], "mode": "max"}, "sum or mean"),
    ],
)
def test_wrong_settings_are_told(name: str, arguments: dict[str, Any], told: str):
    with pytest.raises(ConfigError) as caught:
        build_objective(name, arguments, class_counts=COUNTS, kind="single", num_classes=4)
    assert told in str(caught.value)


def test_a_mapping_where_a_name_belongs_is_told_how_to_give_arguments():
    with pytest.raises(ConfigError) as caught:
        build_objective(
            "{name: focal, args: {gamma: 2}}", {}, class_counts=COUNTS, kind="single", num_classes=4
        )
    assert "--set 'stages.*.objective={name: focal" in str(caught.value)


def test_what_needs_counts_says_so():
    for name, arguments in [
        ("logit_adjusted", {}),
        ("cross_entropy", {"class_weights": "balanced"}),
        ("weighted_sum", {"terms": [{"name": "logit_adjusted"}]}),
    ]:
        with pytest.raises(ConfigError, match="number of samples of each class"):
            build_objective(name, arguments, class_counts=None, kind="single", num_classes=4)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in MULTI])
def test_an_objective_of_one_label_is_refused_for_several(name: str):
    with pytest.raises(ConfigError, match="one label an image"):
        made(name, "multi")
    with pytest.raises(ConfigError, match="one label an image"):
        made("weighted_sum", "multi", terms=[{"name": name}])
