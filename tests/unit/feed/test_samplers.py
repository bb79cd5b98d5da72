"""Which samples an epoch shows: exact counts, the same again on resume, disjoint ranks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.feed.order import EpochOrder, training_order
from discern.feed.samplers import (
    BalancedSampler,
    EverySample,
    MiniEpochs,
    ShardSampler,
    WeightedSampler,
    count_repeats,
)

TARGETS = np.array([0] * 50 + [1] * 7 + [2] * 20 + [-1] * 3, dtype=np.int64)


@pytest.mark.feature("CA-36")
@pytest.mark.parametrize(("mode", "each"), [("down", 7), ("up", 50), (16, 16)])
def test_every_class_is_shown_equally_often(mode, each):
    sampler = BalancedSampler(TARGETS, mode)
    assert 3 * each == sampler.length
    samples = sampler.draw(5, 2)
    assert [each] * 3 == np.bincount(TARGETS[samples]).tolist()
    for label in range(3):
        shown = np.bincount(samples, minlength=80)[TARGETS == label]
        assert shown.max() - shown.min() <= 1
    assert (samples == sampler.draw(5, 2)).all()
    assert (samples != sampler.draw(5, 3)).any()


def test_all_images_of_a_large_class_are_shown_over_the_epochs():
    sampler = BalancedSampler(TARGETS, "down")
    seen = np.unique(np.concatenate([sampler.draw(0, epoch) for epoch in range(60)]))
    assert np.flatnonzero(TARGETS >= 0).tolist() == seen.tolist()


def test_balancing_refuses_what_it_cannot_do():
    for wanted in ("sideways", 0, True, 1.5):
        with pytest.raises(ConfigError, match="balance"):
            BalancedSampler(TARGETS, wanted)
    with pytest.raises(DataError, match="no labeled"):
        BalancedSampler(np.full(4, -1, dtype=np.int64), "up")
    with pytest.raises(ConfigError, match="one label"):
        BalancedSampler(np.zeros((4, 2), dtype=np.float32), "up")


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=60).filter(lambda w: sum(w) > 0.01),
    st.integers(1, 200),
    st.integers(0, 2**31),
)
def test_weights_decide_how_often_to_within_one(weights, length, seed):
    sampler = WeightedSampler(np.array(weights), length)
    samples = sampler.draw(seed, 0)
    assert length == len(samples) == sampler.length
    due = np.array(weights) / np.sum(weights) * length
    shown = np.bincount(samples, minlength=len(weights))
    assert (np.abs(shown - due) < 1 + 1e-6).all()
    assert (shown[np.array(weights) == 0] == 0).all()


def test_weights_must_be_usable():
    for bad in ([-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]):
        with pytest.raises(DataError, match="weights"):
            WeightedSampler(np.array(bad), 3)


@pytest.mark.feature("CA-37")
@given(st.integers(1, 40), st.integers(1, 100), st.integers(0, 5))
def test_mini_epochs_show_everything_equally_often(count, size, seed):
    sampler = MiniEpochs(EverySample(count), size)
    row = np.concatenate([sampler.draw(seed, epoch) for epoch in range(7)])
    assert 7 * size == len(row)
    shown = np.bincount(row, minlength=count)
    assert shown.max() - shown.min() <= 1
    for begin in range(0, len(row) - count + 1, count):
        assert list(range(count)) == sorted(row[begin : begin + count])


@given(st.lists(st.integers(0, 9), min_size=1, max_size=80), st.integers(1, 12), st.integers(0, 9))
def test_shards_are_read_few_at_a_time(shards, at_once, seed):
    shards = np.array(shards)
    sampler = ShardSampler(shards, at_once)
    samples = sampler.draw(seed, 1)
    assert list(range(len(shards))) == sorted(samples)
    row = shards[samples]
    # Once a group of shards is left, it is not come back to.
    groups, seen = [], []
    for shard in row:
        if shard not in seen:
            seen.append(shard)
        groups.append(seen.index(shard) // at_once)
    assert sorted(groups) == groups


@given(
    st.integers(8, 200), st.integers(8, 64), st.integers(1, 8), st.sampled_from(["all", "balanced"])
)
def test_ranks_share_every_batch_and_end_together(count, batch_size, ranks, kind):
    targets = np.arange(count) % 3
    sampler = None if kind == "all" else BalancedSampler(targets, max(3, ranks) * 3)
    order = training_order(count, batch_size, seed=3, epoch=1, sampler=sampler)
    if np.diff(order.bounds).min() < ranks:
        with pytest.raises(ConfigError, match="ranks"):
            order.of_rank(0, ranks)
        return
    parts = [order.of_rank(rank, ranks) for rank in range(ranks)]
    assert {order.batches} == {part.batches for part in parts}
    for index in range(order.batches):
        shares = [part.batch(index) for part in parts]
        assert order.batch(index).tolist() == np.concatenate(shares).tolist()
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_sample_shown_again_is_drawn_for_anew():
    samples = np.array([4, 1, 4, 4, 1, 0])
    assert [0, 0, 1, 2, 1, 0] == count_repeats(samples).tolist()
    order = EpochOrder(samples, np.array([0, 3, 6]), count_repeats(samples))
    positions = samples[3:] * 10
    keys = order.draw_keys(positions, 1, 2)
    assert [40 + 2 * 2**40, 10 + 2**40, 0] == keys.tolist()
    assert 3 == len(set(keys.tolist()))
