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


def test_too_few_images_are_not_flipped(digits):
    assert not run(digits[0][:10], digits[1][:10]).allowed
