from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import DataError, RunError
from discern.feed.order import check_start, count_batches, evaluation_order, training_order

counts = st.integers(1, 3000)
sizes = st.integers(1, 300)
seeds = st.integers(-(2**63), 2**63)


@given(counts, sizes, seeds, st.integers(0, 1000))
def test_training_has_every_sample_once_in_even_batches(count, size, seed, epoch):
    order = training_order(count, size, seed=seed, epoch=epoch)
    batches = [order.batch(k) for k in range(order.batches)]
    assert list(range(count)) == sorted(np.concatenate(batches).tolist())
    lengths = [len(batch) for batch in batches]
    assert -(-count // size) == len(lengths)
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1


@given(counts, sizes)
def test_evaluation_keeps_the_order_and_the_last_batch(count, size):
    order = evaluation_order(count, size)
    batches = [order.batch(k).tolist() for k in range(order.batches)]
    assert list(range(count)) == [sample for batch in batches for sample in batch]
    assert [size] * (count // size) == [len(batch) for batch in batches][: count // size]
    assert (count % size or size) == len(batches[-1])


def test_order_has_its_committed_values():
    order = training_order(12, 5, seed=7, epoch=3)
    assert GOLDEN_ORDER == order.samples.tolist()
    assert [0, 4, 8, 12] == order.bounds.tolist()


def test_epochs_and_seeds_have_their_own_order():
    orders = [
        tuple(training_order(50, 10, seed=seed, epoch=epoch).samples.tolist())
        for seed in range(5)
        for epoch in range(5)
    ]
    assert 25 == len(set(orders))


def test_every_place_is_equally_likely():
    epochs = 4000
    firsts = [training_order(10, 10, seed=0, epoch=k).samples for k in range(epochs)]
    table = np.zeros((10, 10))
    for samples in firsts:
        table[np.arange(10), samples] += 1
    expected = epochs / 10
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 130  # 81 degrees of freedom


def test_no_sample_is_an_error():
    with pytest.raises(DataError, match="no image"):
        count_batches(0, 8)


@pytest.mark.parametrize("start", [-1, 6])
def test_start_outside_the_epoch_is_an_error(start):
    with pytest.raises(RunError, match="outside"):
        check_start(start, 5)


GOLDEN_ORDER = [6, 3, 10, 2, 0, 5, 8, 11, 4, 1, 9, 7]
