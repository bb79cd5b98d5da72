"""The mirror test: digits must not be flipped, what looks alike both ways may be."""

from __future__ import annotations

import numpy as np
import pytest

from discern.data.mirror import mirror_test


class Arrays:
    def __init__(self, images):
        self._images = images

    def __len__(self):
        return len(self._images)

    def read(self, position):
        return self._images[position]

    def name(self, position):
        return str(position)


@pytest.fixture(scope="module")
def digits():
    from sklearn.datasets import load_digits

    data = load_digits()
    return (data.images[..., None] * 255 / 16).astype(np.uint8), data.target


def run(images, targets, seed=0):
    return mirror_test(Arrays(images), np.arange(len(images)), targets, seed)


def test_digits_may_not_be_flipped(digits):
    result = run(*digits)
    assert not result.allowed
    assert result.plain > 0.85
    assert result.mirrored < result.plain - 0.2


def test_images_that_come_both_ways_may_be_flipped(digits):
    images, targets = digits
    both = np.concatenate([images, images[:, :, ::-1]])
    result = run(both, np.concatenate([targets, targets]))
    assert result.allowed


def test_same_seed_gives_the_same_result(digits):
    assert run(*digits, seed=3) == run(*digits, seed=3)


def test_arrows_that_differ_by_direction_may_not_be_flipped():
    draw = np.random.default_rng(0)
    targets = np.arange(400) % 2
    images = draw.integers(0, 60, (400, 12, 12, 3), dtype=np.uint8)
    images[targets == 0, :, :5] += 150
    images[targets == 1, :, 7:] += 150
    result = run(images, targets)
    assert (1.0, 0.0, False) == (result.plain, result.mirrored, result.allowed)


@pytest.mark.parametrize("count", [60, 100, 300])
def test_a_few_digits_are_told_from_what_may_be_flipped(digits, count):
    images, targets = digits
    either = np.random.default_rng(0).random((len(images), 1, 1, 1)) < 0.5
    both = np.where(either, images, images[:, :, ::-1])
    flipped = mixed = 0
    for first in range(0, 6 * count, count):
        rows = slice(first, first + count)
        flipped += run(images[rows], targets[rows]).allowed
        mixed += run(both[rows], targets[rows]).allowed
    assert flipped <= 1 <= 5 <= mixed


def test_too_few_images_are_not_flipped(digits):
    assert not run(digits[0][:39], digits[1][:39]).allowed
