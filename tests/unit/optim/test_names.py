"""What each optimizer's name means, and that each name trains."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.optim.lookahead import Lookahead
from discern.optim.names import OPTIMIZERS, TIMM_OPTIMIZERS, known_optimizers, resolve_optimizer
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.tensor_trees import join_tree, split_tree

# The names that features.md lists.
MXNET = [
    "sgd",
    "dcasgd",
    "nag",
    "signum",
    "lbsgd",
    "adam",
    "adagrad",
    "rmsprop",
    "adadelta",
    "ftrl",
    "ftml",
    "adamax",
    "nadam",
    "sgld",
    "lars",
    "lamb",
]
CATALYST = [
    "Lookahead",
    "RAdam",
    "RAlamb",
    "Lamb",
    "QHAdamW",
    "AdamW",
    "Adafactor",
    "ASGD",
    "Rprop",
]
LAMBDA = ["adadelta", "adagrad", "adam", "ftrl", "momentum", "rmsprop", "sgd", "custom"]
# Rates at which 20 steps show; trust ratios of about 1e-3 and unit-free steps want other ones.
RATES = {"lars": 5.0, "adadelta": 1.0, "ftrl": 0.5, "sgld": 0.1, "sgd": 0.05, "novograd": 0.1}


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.LayerNorm(16), nn.ReLU(), nn.Linear(16, 3))


def losses_of(name: str, steps: int = 20) -> list[float]:
    """Cross entropy before each of `steps` updates and after the last."""
    model = net()
    images, targets = torch.randn(48, 6), torch.arange(48) % 3
    images[torch.arange(48), targets] += 2.0
    lr = RATES.get(name.casefold(), 0.02)
    optimizer = build_optimizer(name, model.named_parameters(), lr=lr, head_names=("3",))
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), targets)
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
    losses.append(nn.functional.cross_entropy(model(images), targets).item())
    return losses


@pytest.mark.feature("MX-12")
@pytest.mark.parametrize("name", MXNET)
def test_every_name_of_mxnet_trains_20_steps_and_the_loss_falls(name: str) -> None:
    losses = losses_of(name)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.feature("CA-38")
@pytest.mark.parametrize("name", CATALYST)
def test_every_name_of_catalyst_trains_20_steps_and_the_loss_falls(name: str) -> None:
    losses = losses_of(name)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.feature("LA-21")
@pytest.mark.parametrize("name", LAMBDA)
def test_every_name_of_lambda_trains(name: str) -> None:
    losses = losses_of(name)
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("name", [*TIMM_OPTIMIZERS, "lookahead_lamb", "lookahead_sgd"])
def test_every_name_of_timm_trains(name: str) -> None:
    losses = losses_of(name)
    assert losses[-1] < losses[0]


def test_spellings_have_their_settings() -> None:
    named = list(net().named_parameters())
    settings = {
        name: build_optimizer(name, named, lr=0.1).param_groups[0]
        for name in ("nag", "momentum", "custom", "lars")
    }
    assert (0.9, True) == (settings["nag"]["momentum"], settings["nag"]["nesterov"])
    assert (0.9, False) == (settings["momentum"]["momentum"], settings["momentum"]["nesterov"])
    assert 1e-6 == settings["custom"]["eps"]
    assert 0.9 == settings["lars"]["momentum"]


def test_lars_adapts_matrices_without_weight_decay_too() -> None:
    named = list(net().named_parameters())
    groups = build_optimizer("lars", named, lr=0.1).param_groups
    assert {"decay": True, "no_decay": False} == {g["name"]: g["always_adapt"] for g in groups}


def test_plain_names_of_our_own_load_no_timm() -> None:
    code = (
        "import sys, torch; from discern.optim.optimizers import build_optimizer;"
        "build_optimizer('signum', [('w', torch.nn.Parameter(torch.ones(2)))], lr=.1);"
        "print('timm' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_names_of_timm_are_timms() -> None:
    timm_optim = pytest.importorskip("timm.optim")
    assert set(TIMM_OPTIMIZERS) <= set(timm_optim.list_optimizers())
    assert not set(TIMM_OPTIMIZERS) & set(OPTIMIZERS)
    assert set(known_optimizers()) == {*OPTIMIZERS, *TIMM_OPTIMIZERS, "lookahead"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lbfgs", "the nearest that fits is 'adamw'"),
        ("SparseAdam", "sparse gradients only"),
        ("adahessian", "second derivatives"),
        ("singum", "did you mean 'signum'"),
        ("lambb", "'lamb'"),
        ("lookahead_lookahead", "cannot wrap"),
        ("lookahead_adm", "did you mean 'adam'"),
    ],
)
def test_refused_names_say_why_and_what_is_near(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_optimizer(name)
    assert text in str(caught.value)


def test_weight_decay_for_an_optimizer_without_one_is_refused() -> None:
    named = list(net().named_parameters())
    with pytest.raises(ConfigError, match="no weight decay"):
        build_optimizer("rprop", named, lr=0.1, weight_decay=0.1)


@pytest.mark.feature("CA-38")
def test_lookahead_takes_a_base_and_its_own_arguments() -> None:
    named = list(net().named_parameters())
    arguments = {"base": "RAdam", "k": 3, "alpha": 0.8, "betas": (0.8, 0.99)}
    optimizer = build_optimizer("Lookahead", named, lr=0.1, arguments=arguments)
    assert isinstance(optimizer, Lookahead)
    assert isinstance(optimizer.base, torch.optim.RAdam)
    assert (3, 0.8) == (optimizer.k, optimizer.alpha)
    assert (0.8, 0.99) == optimizer.param_groups[0]["betas"]
    with pytest.raises(ConfigError, match="refuses its settings"):
        build_optimizer("lookahead", named, lr=0.1, arguments={"k": 0})
    with pytest.raises(ConfigError, match="unknown argument 'k'"):
        build_optimizer("adamw", named, lr=0.1, arguments={"k": 3})


RESUMED = ["lookahead", "signum", "ftrl", "ftml", "dcasgd", "sgld", "qhadamw", "ralamb", "lbsgd"]


@pytest.mark.feature("MX-09")
@pytest.mark.parametrize("name", [*RESUMED, "lars", "lamb", "radam", "nadam", "muon"])
def test_rates_and_weights_after_a_resume_are_those_of_the_undisturbed_run(name: str) -> None:
    """Through the very form in which a checkpoint keeps an optimizer."""
    schedule = Schedule("cosine", {}, total_steps=20, steps_per_epoch=5, warmup_steps=4)

    def build(model: nn.Module) -> torch.optim.Optimizer:
        parameters = list(model.named_parameters())
        rules = [{"match": "3.*", "lr_scale": 3.0}]
        return build_optimizer(
            name, parameters, lr=0.05, weight_decay=0.01, layer_decay=0.5, groups=rules
        )

    def advance(
        model: nn.Module, optimizer: torch.optim.Optimizer, steps: range
    ) -> list[list[float]]:
        rates = []
        for step in steps:
            torch.manual_seed(step)
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * schedule.factor(step)
            rates.append([group["lr"] for group in optimizer.param_groups])
            for parameter in model.parameters():
                parameter.grad = torch.randn(parameter.shape)
            optimizer.step()
        return rates

    first, second = net(), net()
    straight = build(first)
    before = advance(first, straight, range(8))
    assert [0.0] * len(before[0]) == before[0]
    tensors, values = split_tree(straight.state_dict())
    kept = json.loads(json.dumps(values)), {key: t.clone() for key, t in tensors.items()}
    second.load_state_dict(first.state_dict())
    resumed = build(second)
    resumed.load_state_dict(join_tree(*kept))
    assert advance(first, straight, range(8, 20)) == advance(second, resumed, range(8, 20))
    for expected, got in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, got)
