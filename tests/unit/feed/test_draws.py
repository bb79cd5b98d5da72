from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.feed.draws import Draws, Operation

SAMPLES = torch.arange(100_000)


def splitmix(value):
    """The finalizer written for Python integers, apart from the code under test."""
    mask = 2**64 - 1
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & mask
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & mask
    return value ^ (value >> 31)


def test_draws_have_their_committed_values():
    draws = Draws(seed=7, epoch=3)
    samples = torch.tensor([0, 1, 2, 1_000_000_007])
    assert GOLDEN_BITS == draws.bits(samples, Operation.CROP, 1).tolist()
    assert GOLDEN_UNIFORM == draws.uniform(samples, Operation.FLIP).tolist()
    assert GOLDEN_INTEGERS == draws.integers(samples, Operation.CROP, 0, 9).tolist()


def test_bits_are_splitmix_of_sample_and_key():
    draws = Draws(seed=-5, epoch=0)
    key = draws.key(Operation.CROP, 2) % 2**64
    expected = [splitmix((s * 0x9E3779B97F4A7C15 + key) % 2**64) for s in range(50)]
    got = draws.bits(torch.arange(50), Operation.CROP, 2).tolist()
    assert expected == [value % 2**64 for value in got]


def test_draw_does_not_depend_on_batch_or_order():
    draws = Draws(1, 2)
    whole = draws.uniform(SAMPLES, Operation.CROP)
    chosen = torch.tensor([99, 5, 73_211, 5])
    assert torch.equal(whole[chosen], draws.uniform(chosen, Operation.CROP))


def test_table_holds_the_single_draws():
    draws = Draws(1, 2)
    samples = SAMPLES[:100]
    table = draws.table(samples, Operation.RESIZED_CROP, 5)
    for draw in range(5):
        single = draws.uniform(samples, Operation.RESIZED_CROP, draw, torch.float64)
        assert torch.equal(single, table[:, draw])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_uniform_fills_its_interval_evenly(dtype):
    values = Draws(11, 0).uniform(SAMPLES, Operation.CROP, dtype=dtype).double()
    assert values.min() >= 0.0
    assert values.max() < 1.0
    assert 0.5 == pytest.approx(values.mean().item(), abs=0.004)
    assert 1 / 12 == pytest.approx(values.var().item(), abs=0.002)
    counts = np.histogram(values.numpy(), bins=100, range=(0, 1))[0]
    chi_square = ((counts - 1000) ** 2 / 1000).sum()
    assert 60 < chi_square < 150  # 99 degrees of freedom


@pytest.mark.parametrize(("low", "high"), [(0, 9), (-4, 5), (0, 2), (0, 7)])
def test_integers_are_evenly_spread(low, high):
    values = Draws(11, 5).integers(SAMPLES, Operation.CROP, low, high)
    counts = np.bincount(values.numpy() - low, minlength=high - low)
    expected = len(SAMPLES) / (high - low)
    assert high - low == len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 30  # at most 8 degrees of freedom


@pytest.mark.parametrize("lag", [1, 2, 128])
def test_neighboring_samples_are_not_correlated(lag):
    values = Draws(3, 0).uniform(SAMPLES, Operation.CROP, dtype=torch.float64).numpy()
    assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.012


@pytest.mark.parametrize(
    "other", [Draws(4, 0), Draws(3, 1), Draws(-3, 0), Draws(3 + 2**40, 0), Draws(0, 3)]
)
def test_other_seeds_and_epochs_are_unrelated(other):
    values = Draws(3, 0).uniform(SAMPLES, Operation.CROP, dtype=torch.float64).numpy()
    others = other.uniform(SAMPLES, Operation.CROP, dtype=torch.float64).numpy()
    assert abs(np.corrcoef(values, others)[0, 1]) < 0.012


def test_operations_and_draws_are_unrelated():
    draws = Draws(3, 0)
    columns = [
        draws.uniform(SAMPLES, operation, draw, torch.float64).numpy()
        for operation in (Operation.CROP, Operation.FLIP)
        for draw in (0, 1, 2)
    ]
    off_diagonal = np.corrcoef(columns) - np.eye(len(columns))
    assert np.abs(off_diagonal).max() < 0.015


def test_bits_are_all_used():
    bits = Draws(9, 9).bits(SAMPLES, Operation.ORDER)
    for place in range(64):
        assert 0.5 == pytest.approx(((bits >> place) & 1).double().mean().item(), abs=0.008)


def test_samples_given_are_not_changed():
    samples = torch.arange(10)
    Draws(0, 0).bits(samples, 0)
    Draws(0, 0).table(samples, 0, 3)
    assert torch.equal(torch.arange(10), samples)


GOLDEN_BITS = [-1838868252853225569, 4011395130447922441, 5471409900241005057, -8295164376869071709]
GOLDEN_UNIFORM = [0.5680750012397766, 0.901430606842041, 0.6264369487762451, 0.9177902340888977]
GOLDEN_INTEGERS = [6, 1, 1, 7]
