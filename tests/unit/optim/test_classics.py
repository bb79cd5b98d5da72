"""Each optimizer written here against its formula, step by step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor

from discern.optim.adam_variants import QHAdamW, RAlamb, rectification
from discern.optim.classics import DelayCompensatedSgd, Ftml, Ftrl, Sgld, Signum
from discern.optim.large_batch import LargeBatchSgd
from discern.optim.per_parameter import PerParameterOptimizer

GRADIENTS = [0.5, -1.0, 2.0, 0.25, -0.75]


def trace(
    optimizer: type[PerParameterOptimizer], lrs: list[float], **options: float
) -> list[float]:
    """The weight after each update, from 1.0 with the gradients above."""
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    made = optimizer([weight], lrs[0], **options)  # type: ignore[call-arg]
    values = []
    for lr, gradient in zip(lrs, GRADIENTS, strict=True):
        made.param_groups[0]["lr"] = lr
        weight.grad = torch.full_like(weight, gradient)
        made.step()
        values.append(weight.item())
    return values


def test_signum_steps_by_the_sign_of_the_average() -> None:
    weight, average, expected = 1.0, 0.0, []
    for gradient in GRADIENTS:
        average = 0.9 * average + 0.1 * (gradient + 0.2 * weight)
        weight = (1 - 0.1 * 0.05) * weight - 0.1 * math.copysign(1, average)
        expected.append(weight)
    got = trace(Signum, [0.1] * 5, weight_decay=0.2, decoupled_decay=0.05)
    assert expected == pytest.approx(got)


def test_ftrl_equals_the_proximal_recursion() -> None:
    lr, l1, beta, decay = 0.2, 0.01, 1.0, 0.1
    weight, squares = 1.0, 0.0
    linear = -weight * (beta / lr + decay) - l1
    expected = []
    for gradient in GRADIENTS:
        before = squares
        squares += gradient**2
        linear += gradient - (math.sqrt(squares) - math.sqrt(before)) / lr * weight
        strength = (beta + math.sqrt(squares)) / lr + decay
        weight = (math.copysign(l1, linear) - linear) / strength if abs(linear) > l1 else 0.0
        expected.append(weight)
    assert expected == pytest.approx(trace(Ftrl, [lr] * 5, weight_decay=decay))


def test_ftrl_makes_small_weights_exactly_zero_and_keeps_large_ones() -> None:
    weights = torch.nn.Parameter(torch.tensor([1e-3, -2.0]))
    optimizer = Ftrl([weights], lr=0.1, l1=0.5)
    weights.grad = torch.tensor([0.1, 0.0])
    optimizer.step()
    assert 0.0 == weights[0].item()
    assert -2.0 == pytest.approx(weights[1].item())


def test_ftrl_stands_still_as_the_rate_falls_to_nothing() -> None:
    moved = trace(Ftrl, [0.2, 0.1, 1e-9, 1e-9, 1e-9], l1=0.0)
    assert moved[1] == pytest.approx(moved[4], abs=1e-6)
    assert [1.0] * 5 == trace(Ftrl, [0.0] * 5)


def test_ftml_equals_the_moving_leader() -> None:
    lr, beta1, beta2, eps = 0.1, 0.6, 0.999, 1e-8
    weight, v, d, z, expected = 1.0, 0.0, 0.0, 0.0, []
    for t, gradient in enumerate(GRADIENTS, start=1):
        v = beta2 * v + (1 - beta2) * gradient**2
        before = d
        d = (1 - beta1**t) / lr * (math.sqrt(v / (1 - beta2**t)) + eps)
        z = beta1 * z + (1 - beta1) * gradient - (d - beta1 * before) * weight
        weight = -z / d
        expected.append(weight)
    assert expected == pytest.approx(trace(Ftml, [lr] * 5))


def test_delay_compensation_looks_one_update_back() -> None:
    weight, last, momentum, expected = 1.0, 1.0, 0.0, []
    for gradient in GRADIENTS:
        decayed = gradient + 0.1 * weight
        momentum = 0.5 * momentum - 0.2 * (decayed + 0.04 * gradient**2 * (weight - last))
        last = weight
        weight += momentum
        expected.append(weight)
    got = trace(DelayCompensatedSgd, [0.2] * 5, momentum=0.5, weight_decay=0.1)
    assert expected == pytest.approx(got)


def test_langevin_noise_has_the_stated_spread() -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.zeros(100_000))
    weight.grad = torch.full_like(weight, 2.0)
    Sgld([weight], lr=0.04, temperature=0.25).step()
    assert -0.04 / 2 * 2.0 == pytest.approx(weight.mean().item(), abs=2e-3)
    assert math.sqrt(0.04 * 0.25) == pytest.approx(weight.std().item(), rel=0.02)


def test_quasi_hyperbolic_adam_equals_its_formula() -> None:
    weight, m, v, expected = 1.0, 0.0, 0.0, []
    for t, gradient in enumerate(GRADIENTS, start=1):
        m = 0.995 * m + 0.005 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        top = 0.7 * m / (1 - 0.995**t) + 0.3 * gradient
        weight = weight * (1 - 0.1 * 0.2) - 0.1 * top / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
        expected.append(weight)
    assert expected == pytest.approx(trace(QHAdamW, [0.1] * 5, weight_decay=0.2))


def test_quasi_hyperbolic_adam_with_nus_of_1_is_adamw() -> None:
    options: dict[str, object] = {"betas": (0.9, 0.999), "weight_decay": 0.1}
    got = trace(QHAdamW, [0.1] * 5, nus=(1.0, 1.0), **options)  # type: ignore[arg-type]
    expected = trace(torch.optim.AdamW, [0.1] * 5, **options)  # type: ignore[arg-type]
    assert expected == pytest.approx(got)


def test_rectification_equals_its_formula() -> None:
    """The window is short for five updates at beta2 0.999, then the rate is rectified."""
    assert [0.0] * 5 == [rectification(t, 0.999) for t in range(1, 6)]
    longest = 2 / (1 - 0.999) - 1
    window = longest - 2 * 100 * 0.999**100 / (1 - 0.999**100)
    expected = math.sqrt(
        (window - 4) * (window - 2) * longest / ((longest - 4) * (longest - 2) * window)
    )
    assert expected == pytest.approx(rectification(100, 0.999))


@pytest.mark.parametrize("norm", [3.0, 50.0])
def test_ralamb_steps_are_as_long_as_the_layer_asks(norm: float) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(20))
    weight.data *= norm / weight.data.norm()
    optimizer = RAlamb([weight], lr=0.01)
    for _ in range(10):
        before = weight.detach().clone()
        weight.grad = torch.randn(20)
        optimizer.step()
        length = 0.01 * min(before.norm().item(), 10.0)
        assert length == pytest.approx((weight.detach() - before).norm().item(), rel=1e-3)


OWN = [Signum, Ftrl, Ftml, DelayCompensatedSgd, Sgld, QHAdamW, RAlamb, LargeBatchSgd]


@pytest.mark.parametrize("optimizer", OWN)
def test_state_dict_round_trip_goes_on_bit_identically(
    optimizer: type[PerParameterOptimizer],
) -> None:
    def advance(weight: Tensor, made: torch.optim.Optimizer, seed: int) -> None:
        torch.manual_seed(seed)
        weight.grad = torch.randn(weight.shape)
        made.step()

    torch.manual_seed(0)
    first = torch.nn.Parameter(torch.randn(4, 3))
    made = optimizer([first], 0.05)  # type: ignore[call-arg]
    for seed in range(3):
        advance(first, made, seed)
    second = copy.deepcopy(first)
    resumed = optimizer([second], 0.05)  # type: ignore[call-arg]
    resumed.load_state_dict(copy.deepcopy(made.state_dict()))
    advance(first, made, 7)
    advance(second, resumed, 7)
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (Signum, {"momentum": 1.0}),
        (Ftrl, {"l1": -1.0}),
        (Sgld, {"temperature": -1.0}),
        (QHAdamW, {"betas": (1.0, 0.9)}),
    ],
)
def test_wrong_settings_are_refused(
    optimizer: type[PerParameterOptimizer], options: dict[str, object]
) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        optimizer([torch.nn.Parameter(torch.zeros(1))], 0.1, **options)  # type: ignore[call-arg]
