"""Learning-rate schedules against their formulas."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import ConfigError
from discern.optim.schedules import RISING, SCHEDULES, Schedule, resolve_schedule, warmup_fraction

ARGUMENTS: dict[str, dict[str, object]] = {
    "step": {"every": 3},
    "multistep": {"milestones": [2, 5]},
    "per_epoch": {"factors": [1.0, 0.5, 0.25]},
    "piecewise": {"boundaries": [2, 4.5], "multiples": [1.0, 0.1, 0.01]},
    "exponential": {"gamma": 0.9},
}


def make(name: str, total: int = 100, warmup: int = 0, **options: object) -> Schedule:
    arguments = options.pop("arguments", ARGUMENTS.get(name, {}))
    return Schedule(name, arguments, total, 10, warmup, **options)  # type: ignore[arg-type]


@pytest.mark.feature("MX-08")
@pytest.mark.parametrize("k", [0, 1, 37, 99])
def test_poly_rate_at_update_k_is_the_closed_form(k: int) -> None:
    assert (1 - k / 100) ** 2 == pytest.approx(make("poly").factor(k), abs=1e-15)


@pytest.mark.feature("MX-08")
def test_pow2_is_an_alias_of_poly_with_power_2() -> None:
    assert resolve_schedule("pow2", {}) == ("poly", {"power": 2.0})
    assert make("poly", arguments={"power": 2}).factor(30) == make("pow2").factor(30)
    assert (1 - 0.3) ** 1.5 == pytest.approx(make("pow1.5").factor(30))


@pytest.mark.feature("MX-08")
def test_step_epochs_multiply_the_rate_at_their_first_update() -> None:
    schedule = make("multistep", arguments={"milestones": [3, 6], "gamma": 0.1})
    assert [1.0, 0.1, 0.1] == pytest.approx([schedule.factor(k) for k in (29, 30, 59)])
    assert [0.01, 0.01] == pytest.approx([schedule.factor(k) for k in (60, 99)])


@pytest.mark.feature("MX-10")
@pytest.mark.parametrize("name", ["poly", "cosine", "linear"])
def test_decay_with_warmup_covers_the_remaining_updates(name: str) -> None:
    schedule = make(name, warmup=20, arguments={"final": 0.1})
    shapes = {
        "poly": lambda p: (1 - p) ** 2,
        "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
        "linear": lambda p: 1 - p,
    }
    for k in (20, 21, 60, 99, 100, 150):
        progress = min(1.0, (k - 20) / 80)
        assert 0.1 + 0.9 * shapes[name](progress) == pytest.approx(schedule.factor(k))


@pytest.mark.feature("MX-10")
def test_linear_warmup_rises_from_its_begin() -> None:
    schedule = make("constant", warmup=10, warmup_begin=0.2)
    assert [0.2, 0.6, 1.0] == pytest.approx([schedule.factor(k) for k in (0, 5, 10)])


@pytest.mark.feature("MX-10")
def test_constant_warmup_stays_at_its_begin() -> None:
    schedule = make("cosine", warmup=10, warmup_begin=0.3, warmup_mode="constant")
    assert [0.3, 0.3, 1.0] == [schedule.factor(k) for k in (0, 9, 10)]


@pytest.mark.feature("MX-10")
def test_step_multiplies_every_so_many_epochs_down_to_the_least() -> None:
    schedule = make("step", arguments={"every": 2, "gamma": 0.5, "least": 0.2})
    assert [1, 0.5, 0.25, 0.2] == pytest.approx([schedule.factor(k) for k in (19, 20, 40, 60)])


@pytest.mark.feature("MX-10")
@pytest.mark.parametrize(("name", "own"), [("factor", "step"), ("multifactor", "multistep")])
def test_names_of_the_source_are_understood(name: str, own: str) -> None:
    arguments = {"gamma": 0.3, **ARGUMENTS[own]}
    ours, theirs = make(own, arguments=arguments), make(name, arguments=arguments)
    assert [ours.factor(k) for k in range(100)] == [theirs.factor(k) for k in range(100)]
    assert 0.3 == pytest.approx(theirs.factor(30))


@pytest.mark.feature("MX-10")
@pytest.mark.parametrize("name", ["factor", "multifactor", "poly", "cosine"])
@pytest.mark.parametrize("mode", ["linear", "constant"])
def test_every_scheduler_warms_up_from_its_begin_rate(name: str, mode: str) -> None:
    arguments: dict[str, dict[str, object]] = {
        "factor": {"every": 3, "gamma": 0.5},
        "multifactor": {"milestones": [3, 6], "gamma": 0.5},
    }
    begin = warmup_fraction(0.02, 0.1)
    schedule = make(
        name, warmup=8, warmup_mode=mode, warmup_begin=begin, arguments=arguments.get(name, {})
    )
    rates = [0.1 * schedule.factor(k) for k in range(100)]
    for k in range(8):
        expected = 0.02 if mode == "constant" else 0.02 + (0.1 - 0.02) * k / 8
        assert expected == pytest.approx(rates[k])
    after = {
        "factor": lambda k: 0.1 * 0.5 ** (k // 30),
        "multifactor": lambda k: 0.1 * 0.5 ** ((k >= 30) + (k >= 60)),
        "poly": lambda k: 0.1 * (1 - (k - 8) / 92) ** 2,
        "cosine": lambda k: 0.1 * (1 + math.cos(math.pi * (k - 8) / 92)) / 2,
    }[name]
    assert [after(k) for k in range(8, 100)] == pytest.approx(rates[8:])


@pytest.mark.feature("MX-09")
@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_rates_after_a_resume_are_those_of_the_undisturbed_run(name: str) -> None:
    warmup = 0 if name in RISING else 12
    straight = [make(name, warmup=warmup).factor(k) for k in range(100)]
    for stop in (5, 12, 47):
        resumed = make(name, warmup=warmup)
        assert straight[stop:] == [resumed.factor(k) for k in range(stop, 100)]


def test_begin_rate_above_the_peak_is_refused() -> None:
    assert 0.25 == warmup_fraction(0.1, 0.4)
    with pytest.raises(ConfigError, match="warmup_lr"):
        warmup_fraction(0.5, 0.4)


@pytest.mark.feature("LA-22")
def test_piecewise_rates_change_at_fractional_epochs() -> None:
    schedule = make("piecewise")
    assert [1.0, 0.1, 0.1, 0.01, 0.01] == [schedule.factor(k) for k in (19, 20, 44, 45, 99)]
    with pytest.raises(ConfigError, match="multiples") as caught:
        make("piecewise", arguments={"boundaries": [2], "multiples": [1.0]})
    assert "2 numbers" in str(caught.value)


def test_exponential_decays_by_gamma_an_epoch() -> None:
    assert [1.0, 0.9**0.5, 0.9, 0.81] == pytest.approx(
        [make("exponential").factor(k) for k in (0, 5, 10, 20)]
    )


@pytest.mark.feature("CA-38")
def test_one_cycle_with_warmup_is_three_lines() -> None:
    arguments = {"begin": 0.1, "rise": 0.2, "low": 0.05, "fall": 0.1, "final": 0.01}
    schedule = make("one_cycle_warmup", arguments=arguments)
    assert [0.1, 0.55, 1.0] == pytest.approx([schedule.factor(k) for k in (0, 10, 20)])
    assert [1 - 0.95 * 35 / 70, 0.05] == pytest.approx([schedule.factor(k) for k in (55, 90)])
    assert [0.05 - 0.04 / 2, 0.01] == pytest.approx([schedule.factor(k) for k in (95, 100)])
    plain = make("one_cycle_warmup")
    assert [1.0, 0.005] == pytest.approx([plain.factor(k) for k in (0, 100)])


def test_milestones_inside_the_warmup_lower_its_goal() -> None:
    schedule = make("multistep", warmup=20, arguments={"milestones": [1], "gamma": 0.5})
    assert [0.25, 0.5] == pytest.approx([schedule.factor(k) for k in (10, 20)])


def test_one_cycle_equals_torch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    reference = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=100, cycle_momentum=False
    )
    schedule = make("one_cycle")
    for k in range(100):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(schedule.factor(k), abs=1e-12)
        if k < 99:
            optimizer.step()
            reference.step()


def test_triangular_peaks_where_it_is_told() -> None:
    schedule = make("triangular", arguments={"begin": 0.2, "peak": 0.25, "final": 0.1})
    assert [0.2, 0.6, 1.0] == pytest.approx([schedule.factor(k) for k in (0, 12.5, 25)])
    assert 0.1 == pytest.approx(schedule.factor(100))


def test_per_epoch_multiples_hold_for_an_epoch_and_the_last_goes_on() -> None:
    schedule = make("per_epoch")
    assert [1.0, 0.5, 0.25, 0.25] == [schedule.factor(k) for k in (9, 10, 20, 99)]


@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    total=st.integers(1, 500),
    step=st.integers(0, 600),
    warmup=st.integers(0, 40),
)
def test_factor_stays_between_0_and_1(name: str, total: int, step: int, warmup: int) -> None:
    rising = name in RISING
    schedule = make(name, total=total, warmup=0 if rising else min(warmup, total))
    assert 0.0 <= schedule.factor(step) <= 1.0


def test_a_longer_total_gives_the_schedule_of_that_total() -> None:
    assert 0.5 == pytest.approx(make("linear", total=100).factor(50))
    assert 0.75 == pytest.approx(make("linear", total=200).factor(50))


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("cosin", {}, "did you mean 'cosine'"),
        ("poly", {"arguments": {"powr": 2}}, "did you mean 'power'"),
        ("poly", {"arguments": {"power": 0}}, "above 0"),
        ("multistep", {"arguments": {"milestones": [6, 3]}}, "rising order"),
        ("multistep", {"arguments": {}}, "milestones"),
        ("one_cycle", {"warmup": 5}, "no warm-up"),
        ("cosine", {"warmup": 101}, "longer than the training"),
        ("cosine", {"total": 0}, "at least 1"),
        ("cosine", {"warmup_mode": "cubic"}, "linear, constant, power2, sqrt"),
        ("per_epoch", {"arguments": {"factors": []}}, "list of numbers"),
    ],
)
def test_wrong_settings_are_named(name: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make(name, **options)  # type: ignore[arg-type]
    assert text in str(caught.value)


def test_schedules_load_no_torch() -> None:
    code = "import sys, discern.optim.schedules; print('torch' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"
