"""Batches of P classes times K images: what each holds, over epochs, ranks and resumption."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.feed.class_batches import ClassBatches
from discern.feed.order import training_order

# Seven classes of 3 to 15 images, and some without a label.
TARGETS = np.array([c for c in range(7) for _ in range(3 + 2 * c)] + [-1] * 5, dtype=np.int64)
P, K = 3, 4


def order(epoch: int = 0, seed: int = 1):
    return training_order(
        len(TARGETS), P * K, seed=seed, epoch=epoch, sampler=ClassBatches(TARGETS, P, K)
    )


def test_each_batch_has_so_many_images_of_so_many_classes() -> None:
    for epoch in range(20):
        epoch_order = order(epoch)
        assert 63 // (P * K) == epoch_order.batches
        for number in range(epoch_order.batches):
            labels = TARGETS[epoch_order.batch(number)]
            assert [K] * P == sorted(Counter(labels.tolist()).values())
            assert (labels.reshape(P, K) == labels.reshape(P, K)[:, :1]).all()


def test_classes_and_images_take_turns() -> None:
    sampler = ClassBatches(np.repeat(np.arange(5), 40), 2, 4)
    samples = sampler.draw(0, 0)
    visits = Counter((samples[::4] // 40).tolist())
    assert 50 == sum(visits.values())
    assert {10} == set(visits.values())
    # 10 visits of 4 images: all 40 images of each class once.
    assert list(range(200)) == sorted(samples.tolist())


def test_classes_with_too_few_images_show_some_twice_as_other_pictures() -> None:
    sampler = ClassBatches(np.array([0, 0, 1, 1, 1], dtype=np.int64), 2, 4)
    shown = training_order(5, 8, seed=0, epoch=0, sampler=sampler)
    assert [2, 2] == [int((shown.samples == s).sum()) for s in (0, 1)]
    assert shown.repeats is not None
    keys = shown.draw_keys(shown.samples, 0, shown.batches)
    assert 8 == len(set(keys.tolist()))


def test_epochs_differ_and_the_same_epoch_is_the_same() -> None:
    assert np.array_equal(order(3).samples, order(3).samples)
    assert not np.array_equal(order(3).samples, order(4).samples)
    assert not np.array_equal(order(3).samples, order(3, seed=2).samples)


def test_ranks_share_each_batch_by_whole_classes() -> None:
    sampler = ClassBatches(TARGETS, 4, 3)
    whole = training_order(len(TARGETS), 12, seed=0, epoch=0, sampler=sampler)
    parts = [whole.of_rank(rank, 2) for rank in range(2)]
    for number in range(whole.batches):
        joined = np.concatenate([part.batch(number) for part in parts])
        assert np.array_equal(whole.batch(number), joined)
        for part in parts:
            assert {3} == set(Counter(TARGETS[part.batch(number)].tolist()).values())


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ConfigError, match="more classes than there are"):
        ClassBatches(TARGETS, 8, 2)
    with pytest.raises(ConfigError, match="two images each"):
        ClassBatches(TARGETS, 2, 1)
    with pytest.raises(ConfigError, match="one label per image"):
        ClassBatches(np.zeros((4, 2), dtype=np.float32), 2, 2)  # type: ignore[arg-type]
