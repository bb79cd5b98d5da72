"""The sweep of the learning rate: its rates, its end, its advice, and that it leaves no trace."""

import math
import random
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import train_mode
from discern.models.ema import ModelEma
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.lr_finder import (
    RateCurve,
    RateSweep,
    SmoothedLoss,
    _longest_fall,
    find_rate,
    steepest,
    sweep_steps,
    tenth_of_least,
    valley,
)
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState, train_step

# A busy machine makes single examples slow.
UNHURRIED = settings(max_examples=60)
CPU = torch.device("cpu")
PREPROCESS = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))
RULES = StepRules(objective=cross_entropy(), device=CPU)


def feed_of(count=96, batch_size=16):
    """Noisy gray images with a bright half: the class says which."""
    generator = np.random.default_rng(5)
    targets = generator.integers(0, 2, count)
    pixels = generator.integers(0, 120, (count, 8, 8, 1)).astype(np.uint8)
    for image, target in zip(pixels, targets, strict=True):
        image[:, 4 * target : 4 * target + 4] += 100
    options = FeedOptions(
        batch_size=batch_size, training=True, seed=3, augment=SmallImageAugment(pad=1, flip=False)
    )
    return ResidentFeed(pixels, targets, np.arange(count), PREPROCESS, options)


def state_of(optimizer="adamw", *, lr=0.01, ema=None):
    torch.manual_seed(0)
    model = build_model(
        ModelRequest(name="fast_net", num_classes=2, channels=1, image_size=(8, 8),
                     arguments={"width": 4})
    ).model  # fmt: skip
    train_mode(model)
    return TrainState(
        model=model,
        network=model,
        optimizer=build_optimizer(
            optimizer, model.named_parameters(), lr=lr, weight_decay=0.01,
            head_names=model.head_names,
        ),
        schedule=Schedule("cosine", {}, total_steps=50, steps_per_epoch=6, warmup_steps=5),
        ema=None if ema is None else ModelEma(model, ema),
        scaler=None,
    )  # fmt: skip


def swept(state, feed, rules=RULES, **sweep):
    sweep = RateSweep(**{"first": 1e-5, "last": 10.0, "steps": 30, **sweep})
    with feed:
        return find_rate(
            state, feed, rules, base_rate=0.01, sweep=sweep,
            train_mode=lambda: train_mode(state.model),
        )  # fmt: skip


def everything(state):
    """Copies of all that a training changes, and all that decides how it goes on."""
    buffers = {name: buffer.clone() for name, buffer in state.model.named_buffers()}
    optimizer = state.optimizer.state_dict()
    return {
        "weights": {name: p.detach().clone() for name, p in state.model.named_parameters()},
        "buffers": buffers,
        "gradients": [None if p.grad is None else p.grad.clone() for p in state.parameters],
        "optimizer": {
            place: {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in entry.items()}
            for place, entry in optimizer["state"].items()
        },
        "groups": [dict(group) for group in optimizer["param_groups"]],
        "ema": None
        if state.ema is None
        else {k: v.clone() for k, v in state.ema.state_dict().items()},
        "counters": (state.step, state.stage_step, state.samples, state.rate_scale),
        "modes": [module.training for module in state.model.modules()],
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "python": random.getstate(),
    }


def assert_same(one, other, path=""):
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype, path
        assert torch.equal(one, other), path
    elif isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other), path
        for key in one:
            assert_same(one[key], other[key], f"{path}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_same(a, b, f"{path}.{place}")
    else:
        assert one == other, path


# ---- the rates ----


@pytest.mark.feature("CA-45")
@UNHURRIED
@given(
    st.floats(1e-9, 1e-2),
    st.floats(1.5, 1e8),
    st.integers(2, 1000),
    st.integers(0, 999),
)
def test_rates_rise_by_a_fixed_factor_to_the_last(first, ratio, steps, step):
    last, step = first * ratio, step % steps
    sweep = RateSweep(first=first, last=last, steps=steps)
    assert sweep.rate(step) == pytest.approx(first * (last / first) ** (step / steps), rel=1e-12)
    assert sweep.rate(0) == first
    assert sweep.rate(steps) == pytest.approx(last, rel=1e-12)


def test_linear_rates_rise_by_a_fixed_amount():
    sweep = RateSweep(first=0.1, last=0.5, steps=4, scale="linear")
    assert [sweep.rate(i) for i in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_each_update_is_done_at_the_rate_that_is_told():
    state, seen = state_of("sgd"), []
    step = state.optimizer.step
    state.optimizer.step = lambda *a, **k: (
        seen.append([group["lr"] for group in state.optimizer.param_groups]),
        step(*a, **k),
    )
    curve = swept(state, feed_of(), steps=10, last=1e-2)
    assert len(seen) == 10
    np.testing.assert_allclose([rates[0] for rates in seen], curve.rates, rtol=1e-12)


@pytest.mark.parametrize(
    "wrong",
    [
        {"first": 1.0, "last": 0.1},
        {"first": 0.0},
        {"steps": 1},
        {"last": math.inf},
        {"scale": "cubic"},
        {"smoothing": 1.0},
        {"diverged_at": 1.0},
    ],
)
def test_sweep_that_cannot_be_done_is_refused(wrong):
    with pytest.raises(ConfigError):
        RateSweep(**wrong)


@pytest.mark.feature("PP-18")
@pytest.mark.parametrize(("batches", "steps"), [(1, 100), (250, 250), (10_000, 400)])
def test_default_length_is_an_epoch_within_bounds(batches, steps):
    assert sweep_steps(batches) == steps


# ---- smoothing and the end ----


def test_smoothed_loss_is_the_weighted_mean_of_the_past():
    values, weight = [3.0, 1.0, 2.0, 5.0], 0.9
    average = SmoothedLoss(weight)
    for count, value in enumerate(values, 1):
        weights = [weight ** (count - 1 - i) for i in range(count)]
        wanted = sum(w * v for w, v in zip(weights, values, strict=False)) / sum(weights)
        assert average.add(value) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.feature("CA-45")
@pytest.mark.feature("PP-18")
def test_sweep_stops_when_the_loss_has_risen_fourfold():
    curve = swept(state_of("sgd"), feed_of(), steps=200, last=1e4, smoothing=0.5)
    assert curve.stopped == "diverged"
    assert len(curve.rates) < 200
    assert curve.smoothed[-1] > 4.0 * curve.smoothed[:-1].min()
    lows = np.minimum.accumulate(curve.smoothed)
    assert np.all(curve.smoothed[1:-1] <= 4.0 * lows[1:-1])


@pytest.mark.feature("PP-18")
def test_sweep_stops_at_a_loss_that_is_not_finite():
    calls = []

    def objective(output, targets):
        calls.append(1)
        loss = cross_entropy()(output, targets)
        return loss * math.nan if len(calls) == 8 else loss

    state = state_of()
    before = everything(state)
    rules = StepRules(objective=objective, device=CPU, guard=False)
    curve = swept(state, feed_of(), rules, last=1e-3)
    assert curve.stopped == "nonfinite"
    assert len(curve.rates) == 8
    assert all(value is None or math.isfinite(value) for value in curve.suggestions().values())
    assert math.isfinite(curve.record()["best_loss"])
    assert_same(before, everything(state))


def test_sweep_longer_than_an_epoch_goes_on_with_the_next():
    feed = feed_of()
    assert feed.batches == 6
    curve = swept(state_of(), feed, steps=25, last=1e-3)
    assert (curve.stopped, len(curve.rates)) == ("end", 25)


def test_progress_counts_the_steps():
    seen = []
    state = state_of()
    with feed_of() as feed:
        find_rate(
            state, feed, RULES, base_rate=0.01, sweep=RateSweep(steps=5, last=1e-3),
            train_mode=lambda: train_mode(state.model), progress=lambda *pair: seen.append(pair),
        )  # fmt: skip
    assert seen == [(i, 5) for i in range(1, 6)]


# ---- nothing is changed ----


@pytest.mark.feature("CA-45")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize("updates", [0, 3])
def test_sweep_leaves_the_training_as_it_was_bit_for_bit(optimizer, updates):
    state = state_of(optimizer, ema=0.9)
    with feed_of() as feed:
        for batch, _ in zip(feed.epoch(0), range(updates), strict=False):
            train_step(state, batch, RULES)
    state.model.eval()
    before = everything(state)
    schedule = state.schedule
    curve = swept(state, feed_of())
    assert len(set(curve.losses)) > 10  # it did train
    assert_same(before, everything(state))
    assert state.schedule is schedule


def test_training_after_a_sweep_goes_as_without_one():
    def losses(*, sweep_first):
        state = state_of("adamw", ema=0.9)
        if sweep_first:
            swept(state, feed_of())
        with feed_of() as feed:
            return [float(train_step(state, batch, RULES).loss) for batch in feed.epoch(1)]

    assert losses(sweep_first=False) == losses(sweep_first=True)


def test_sweep_that_fails_leaves_the_training_as_it_was():
    calls = []

    def objective(output, targets):
        calls.append(1)
        if len(calls) == 5:
            raise RuntimeError("out of memory")
        return cross_entropy()(output, targets)

    state = state_of()
    before = everything(state)
    with pytest.raises(RuntimeError, match="out of memory"):
        swept(state, feed_of(), StepRules(objective=objective, device=CPU))
    assert_same(before, everything(state))


def test_gradients_and_buffers_of_no_checkpoint_are_put_back():
    state = state_of("sgd")
    state.model.register_buffer("calls", torch.zeros(1), persistent=False)
    state.model.register_forward_pre_hook(lambda module, _: module.calls.add_(1) and None)
    for parameter in state.parameters:
        parameter.grad = torch.full_like(parameter, 0.5)
    before = everything(state)
    curve = swept(state, feed_of(), steps=5, last=1e-3)
    assert_same(before, everything(state))
    np.testing.assert_array_equal(
        curve.losses, swept(state_of("sgd"), feed_of(), steps=5, last=1e-3).losses
    )


def test_draws_in_the_network_do_not_advance_the_random_states():
    def objective(output, targets):
        random.random()
        np.random.rand()
        torch.rand(1)
        return cross_entropy()(output, targets)

    state = state_of()
    before = everything(state)
    swept(state, feed_of(), StepRules(objective=objective, device=CPU))
    assert_same(before, everything(state))


# ---- the advice ----


def curve_of(losses, stopped="end"):
    losses = np.array(losses, dtype=np.float64)
    rates = 1e-6 * 10.0 ** (np.arange(len(losses)) / 10)
    return RateCurve(rates, losses, losses, stopped)


def cliff():
    """Flat, then a fall between places 30 and 50, then a rise."""
    return curve_of([*[2.0] * 30, *np.linspace(2.0, 1.0, 21), *np.linspace(1.1, 6.0, 10)])


def test_valley_is_the_middle_of_the_fall():
    # 21 falling losses; the flat part gives the row's first.
    assert valley(cliff()) == pytest.approx(1e-6 * 10.0**4.0, rel=0.3)


def test_steepest_lies_in_the_fall():
    assert 1e-3 <= steepest(cliff()) <= 1e-1


def test_tenth_of_least_is_a_tenth():
    assert tenth_of_least(cliff()) == pytest.approx(0.1 * 1e-6 * 10.0**5)


@pytest.mark.parametrize("rule", [valley, steepest, tenth_of_least])
def test_no_rate_is_read_off_a_curve_that_only_rises(rule):
    assert rule(curve_of(np.linspace(1.0, 2.0, 20))) is None
    assert rule(curve_of([1.0], "nonfinite")) is None


def test_the_loss_that_ended_the_sweep_takes_no_part():
    assert steepest(curve_of([2.0, 1.9, 1.8, 1.7, math.nan], "nonfinite")) is not None
    assert valley(curve_of([1.0, 1.0, 1.0, math.nan], "nonfinite")) is None


@UNHURRIED
@given(st.lists(st.floats(0, 10), min_size=1, max_size=12))
def test_valley_row_is_a_longest_falling_subsequence(losses):
    row = _longest_fall(np.array(losses))
    falls = [losses[place] for place in row]
    assert all(a > b for a, b in pairwise(falls))
    assert row == sorted(row)
    longer = (
        all(a > b for a, b in pairwise(values)) for values in combinations(losses, len(row) + 1)
    )
    assert not any(longer)
