"""Optimizers by name: groups, arguments, rates."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.models.nets.lenet import lenet
from discern.optim.muon import Muon
from discern.optim.optimizers import OPTIMIZERS, build_optimizer, parameter_groups


class Small(nn.Module):
    """A kernel, a norm, an embedding table and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.pos_embed = nn.Parameter(torch.zeros(2, 4))
        self.head = nn.Linear(4, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.norm(self.conv(images)).mean((2, 3))
        return self.head(pooled + self.pos_embed.sum(0))


def names_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, list[str]]:
    by_id = {id(p): name for name, p in model.named_parameters()}
    return {g["name"]: [by_id[id(p)] for p in g["params"]] for g in optimizer.param_groups}


def loss_of(model: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    images, targets = torch.randn(8, 3, 6, 6), torch.tensor([0, 1] * 4)
    return nn.functional.cross_entropy(model(images), targets)


@pytest.mark.parametrize("name", [*sorted(OPTIMIZERS), "timm:lamb"])
def test_every_optimizer_lowers_the_loss(name: str) -> None:
    torch.manual_seed(0)
    model = Small()
    lr = {"adadelta": 1.0, "sgd": 0.05, "adagrad": 0.05, "ftrl": 0.1}.get(name, 0.01)
    optimizer = build_optimizer(name, model.named_parameters(), lr=lr, head_names=("head",))
    before = loss_of(model).item()
    for _ in range(10):
        optimizer.zero_grad()
        loss_of(model).backward()
        optimizer.step()
    assert loss_of(model).item() < before - 0.01


def test_decay_spares_biases_and_norms() -> None:
    model = Small()
    optimizer = build_optimizer("adamw", model.named_parameters(), lr=1e-3, weight_decay=0.05)
    assert {
        "decay": ["pos_embed", "conv.weight", "head.weight"],
        "no_decay": ["conv.bias", "norm.weight", "norm.bias", "head.bias"],
    } == names_of(model, optimizer)
    assert [0.05, 0.0] == [g["weight_decay"] for g in optimizer.param_groups]


def test_muon_takes_hidden_kernels_and_leaves_head_and_embeddings() -> None:
    model = Small()
    optimizer = build_optimizer("muon", model.named_parameters(), lr=1e-2, head_names=("head",))
    assert isinstance(optimizer, Muon)
    assert ["conv.weight"] == names_of(model, optimizer)["hidden"]
    assert ["pos_embed", "head.weight"] == names_of(model, optimizer)["decay"]
    assert {"hidden": True, "decay": False, "no_decay": False} == {
        g["name"]: g["muon"] for g in optimizer.param_groups
    }


def test_base_rate_is_kept_in_every_group() -> None:
    optimizer = build_optimizer("sgd", Small().named_parameters(), lr=0.3)
    assert [(0.3, 0.3, 0.3)] * 2 == [
        (g["lr"], g["base_lr"], g["initial_lr"]) for g in optimizer.param_groups
    ]


@pytest.mark.feature("MX-60")
def test_localization_learns_at_a_hundredth_of_the_rate() -> None:
    model = lenet(10, 1, (28, 28), stn=True)
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.1)
    rates = {
        name: group["lr"]
        for group in optimizer.param_groups
        for name in [n for n, p in model.named_parameters() if any(p is q for q in group["params"])]
    }
    assert 0.001 == pytest.approx(rates["transformer.affine.weight"])
    assert 0.001 == pytest.approx(rates["transformer.localization.0.bias"])
    assert 0.1 == pytest.approx(rates["head.weight"])


def test_frozen_parameters_are_left_out() -> None:
    model = Small()
    model.conv.requires_grad_(requires_grad=False)
    groups = parameter_groups(
        [(n, p) for n, p in model.named_parameters() if p.requires_grad], lr=1.0, weight_decay=0.0
    )
    assert 5 == sum(len(g["params"]) for g in groups)
    optimizer = build_optimizer("adamw", model.named_parameters(), lr=1.0)
    assert 5 == sum(len(g["params"]) for g in optimizer.param_groups)


def test_sgd_has_nesterov_momentum_unless_told_otherwise() -> None:
    named = list(Small().named_parameters())
    default = build_optimizer("sgd", named, lr=0.1).param_groups[0]
    assert (0.9, True) == (default["momentum"], default["nesterov"])
    plain = build_optimizer("sgd", named, lr=0.1, arguments={"momentum": 0}).param_groups[0]
    assert (0, False) == (plain["momentum"], plain["nesterov"])


def test_fused_kernels_are_used_where_there_are_some() -> None:
    named = list(Small().named_parameters())
    assert build_optimizer("adamw", named, lr=0.1).param_groups[0]["fused"] is True
    chosen = build_optimizer("adamw", named, lr=0.1, arguments={"foreach": True}).param_groups[0]
    assert (None, True) == (chosen["fused"], chosen["foreach"])


def test_adagrad_has_its_fused_kernel_on_the_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch 2.11's refuses one on a GPU; `meta` stands for a device that has the others."""
    monkeypatch.setattr("discern.optim.optimizers._FUSED_DEVICES", ("cpu", "meta"))
    with torch.device("meta"):
        elsewhere = list(Small().named_parameters())
    here = list(Small().named_parameters())
    fused = [
        build_optimizer("adagrad", named, lr=0.1).param_groups[0]["fused"]
        for named in (here, elsewhere)
    ]
    assert [True, None] == fused


def test_own_optimizer_class_is_opened_by_path(tmp_path: Path) -> None:
    file = tmp_path / "my_optimizer.py"
    file.write_text("import torch\nclass Mine(torch.optim.SGD):\n    pass\n")
    optimizer = build_optimizer(f"{file}:Mine", Small().named_parameters(), lr=0.1)
    assert "Mine" == type(optimizer).__name__


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("adamww", {}, "did you mean 'adamw'"),
        ("adamw", {"arguments": {"beta": 0.9}}, "did you mean 'betas'"),
        ("adamw", {"arguments": {"lr": 0.1}}, "set by Discern"),
        ("adamw", {"arguments": {"betas": [2.0, 3.0]}}, "refuses its settings"),
        ("timm:lamp", {}, "'lamb'"),
        ("adamw", {"lr": 0.0}, "above 0"),
        ("adamw", {"weight_decay": -1.0}, "at least 0"),
    ],
)
def test_wrong_settings_are_named(name: str, options: dict[str, object], text: str) -> None:
    settings: dict[str, object] = {"lr": 0.1, **options}
    with pytest.raises(ConfigError) as caught:
        build_optimizer(name, Small().named_parameters(), **settings)  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_nothing_trainable_is_an_error() -> None:
    model = Small().requires_grad_(requires_grad=False)
    with pytest.raises(ConfigError, match="no parameter is trainable"):
        build_optimizer("adamw", model.named_parameters(), lr=0.1)
