"""Rates for other batch sizes, the warm-ups of lbsgd and its optimizer."""

from __future__ import annotations

import math

import pytest
import torch

from discern.base.errors import ConfigError
from discern.feed.batch import Batch
from discern.models.catalogue import ModelRequest, build_model
from discern.optim.large_batch import LargeBatchSgd, plan_large_batch, scale_rate
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState, train_step


@pytest.mark.feature("CA-38")
def test_linear_scaling_is_by_the_share_of_256() -> None:
    scaled = scale_rate(0.1, 1024)
    assert 0.4 == pytest.approx(scaled.lr)
    assert "learning rate 0.4 = 0.1 x 1024 / 256 (images per update / base)" == scaled.line


def test_root_scaling_and_another_base() -> None:
    scaled = scale_rate(0.01, 512, lr_base_size=128, rule="sqrt")
    assert 0.02 == pytest.approx(scaled.lr)
    assert "0.01 x sqrt(512 / 128)" in scaled.line


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ((0.1, 64, 256, "cubic"), "linear or sqrt"),
        ((0.1, 64, 256, "linar"), "did you mean 'linear'"),
        ((0.0, 64, 256, "linear"), "above 0"),
        ((0.1, 0, 256, "linear"), "above 0"),
    ],
)
def test_wrong_scaling_is_named(values: tuple[float, int, int, str], text: str) -> None:
    lr, size, base, rule = values
    with pytest.raises(ConfigError) as caught:
        scale_rate(lr, size, lr_base_size=base, rule=rule)
    assert text in str(caught.value)


@pytest.mark.feature("MX-13")
@pytest.mark.parametrize("strategy", ["linear", "power2", "sqrt"])
def test_warmup_rates_are_those_of_lbsgd(strategy: str) -> None:
    plan = plan_large_batch(
        0.1, 32, macrobatch_size=500, workers=4, warmup_epochs=5, strategy=strategy
    )
    scale = math.ceil(500 / 32 / 4)
    assert (scale, 32 * 4 * scale) == (plan.grad_accum_steps, plan.batch_size)
    warmup = 5 * 20
    schedule = Schedule(
        "constant",
        {},
        total_steps=400,
        steps_per_epoch=20,
        warmup_steps=round(plan.warmup_epochs * 20),
        warmup_mode=plan.warmup_mode,
        warmup_begin=plan.warmup_begin,
    )
    shape = {
        "linear": lambda k: k / warmup,
        "power2": lambda k: k * k / (warmup * warmup),
        "sqrt": lambda k: math.sqrt(k / warmup),
    }[strategy]
    for k in (0, 1, 37, 99, 100, 399):
        multiple = scale if k >= warmup else 1 + (scale - 1) * shape(k)
        assert 0.1 * multiple == pytest.approx(plan.lr * schedule.factor(k))
    assert f"{strategy} warm-up from 0.1 over 5 epochs" in plan.line


@pytest.mark.feature("MX-13")
def test_no_macrobatch_is_plain_training() -> None:
    plan = plan_large_batch(0.1, 32)
    assert (32, 1, 0.1, 1.0) == (
        plan.batch_size,
        plan.grad_accum_steps,
        plan.lr,
        plan.warmup_begin,
    )


@pytest.mark.feature("MX-13")
def test_lars_strategy_is_a_rate_for_each_layer() -> None:
    plan = plan_large_batch(0.1, 32, macrobatch_size=128, strategy="lars")
    assert (0.1, 0.0, {"layer_rates": True}) == (plan.lr, plan.warmup_epochs, plan.arguments)
    matrix = torch.nn.Parameter(torch.full((2, 2), 3.0))
    vector = torch.nn.Parameter(torch.full((2,), 3.0))
    matrix.grad, vector.grad = torch.full((2, 2), 0.5), torch.full((2,), 0.5)
    optimizer = LargeBatchSgd([matrix, vector], lr=0.1, weight_decay=0.01, **plan.arguments)
    ratio = math.sqrt(4 * 9.0 / (4 * 0.25 + 0.01 * 4 * 9.0))
    drift = 0.5 + 0.01 * 3.0
    optimizer.step()
    assert 3.0 - 0.1 * ratio * drift == pytest.approx(matrix[0, 0].item())
    assert 3.0 - 0.1 * drift == pytest.approx(vector[0].item())


@pytest.mark.feature("MX-13")
def test_accumulating_4x32_equals_one_batch_of_128() -> None:
    plan = plan_large_batch(0.1, 32, macrobatch_size=128)
    assert (128, 4) == (plan.batch_size, plan.grad_accum_steps)
    torch.manual_seed(0)
    images, targets = torch.randn(128, 1, 8, 8).double(), torch.arange(128) % 2
    steps = []
    for parts in (plan.grad_accum_steps, 1):
        torch.manual_seed(1)
        request = ModelRequest(name="mlp", num_classes=2, channels=1, image_size=(8, 8))
        model = build_model(request).model.double()
        before = [p.detach().clone() for p in model.parameters()]
        state = TrainState(
            model=model,
            network=model,
            optimizer=build_optimizer(plan.optimizer, model.named_parameters(), lr=plan.lr),
            schedule=Schedule("constant", {}, total_steps=1, steps_per_epoch=1),
            ema=None,
            scaler=None,
        )
        batch = Batch(images, targets, torch.arange(128))
        rules = StepRules(
            objective=cross_entropy(0.0), device=torch.device("cpu"), grad_accum_steps=parts
        )
        train_step(state, batch, rules)
        after = model.parameters()
        steps.append([new - old for new, old in zip(after, before, strict=True)])
    for accumulated, whole in zip(*steps, strict=True):
        assert whole.abs().max() > 0
        assert (accumulated - whole).norm() <= 1e-6 * whole.norm()


def test_ratio_stays_within_its_bounds() -> None:
    tiny = torch.nn.Parameter(torch.full((2, 2), 1.0))
    tiny.grad = torch.full((2, 2), 1e-6)
    LargeBatchSgd([tiny], lr=0.1, layer_rates=True).step()
    assert 1.0 - 0.1 * 100 * 1e-6 == pytest.approx(tiny[0, 0].item(), abs=1e-7)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"strategy": "power"}, "did you mean 'power2'"),
        ({"workers": 0}, "above 0"),
    ],
)
def test_wrong_plans_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_large_batch(0.1, 32, **options)  # type: ignore[arg-type]
    assert text in str(caught.value)
