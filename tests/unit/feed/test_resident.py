from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import PhotoAugment, SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed

COUNT = 101


def build(settings, augment=None, positions=None, memory_limit=1 << 30, **options):
    pixels = settings.random_pixels(COUNT)
    positions = np.arange(COUNT) * 3 + 5 if positions is None else positions
    chosen = FeedOptions(**{"batch_size": 16, "augment": augment, **options})
    targets = np.arange(COUNT) % 7
    return ResidentFeed(pixels, targets, positions, settings, chosen, memory_limit=memory_limit)


def by_position(feed, epoch=0):
    """Image of each position."""
    return {
        position: image
        for batch in feed.epoch(epoch)
        for position, image in zip(batch.positions.tolist(), batch.images.clone(), strict=True)
    }


@pytest.mark.feature("MX-33")
def test_evaluation_of_101_samples_counts_101(settings):
    feed = build(settings)
    sizes = [len(batch.positions) for batch in feed.epoch(0)]
    assert 101 == sum(sizes)
    assert [16] * 6 + [5] == sizes
    assert (101, 7) == (feed.samples, feed.batches)


def test_evaluation_shows_every_image_as_it_is(settings):
    batches = [batch.images.clone() for batch in build(settings, SmallImageAugment()).epoch(0)]
    expected = settings.normalized(settings.random_pixels(COUNT))
    np.testing.assert_allclose(torch.cat(batches).numpy(), expected, atol=2e-6)


def test_training_image_does_not_depend_on_batches(settings):
    augment = SmallImageAugment(pad=2)
    expected = by_position(build(settings, augment, training=True, seed=4))
    for size in (1, 7, 500):
        got = by_position(build(settings, augment, training=True, seed=4, batch_size=size))
        assert expected.keys() == got.keys()
        assert all(torch.equal(expected[k], got[k]) for k in expected)


def test_training_image_belongs_to_its_manifest_position(color):
    # A half of the samples gives the same images at their positions as the whole.
    augment = SmallImageAugment(pad=2)
    pixels, positions = color.random_pixels(COUNT), np.arange(COUNT) + 1000
    options = FeedOptions(batch_size=16, augment=augment, training=True)
    whole = ResidentFeed(pixels, positions % 5, positions, color, options)
    half = ResidentFeed(pixels[1::2], positions[1::2] % 5, positions[1::2], color, options)
    expected, got = by_position(whole, 3), by_position(half, 3)
    assert set(positions[1::2].tolist()) == set(got)
    assert all(torch.equal(expected[k], got[k]) for k in got)


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_short_memory_gives_the_same_images(settings, border):
    augment = SmallImageAugment(pad=2, border=border)
    size = COUNT * 12 * 14 * settings.channels
    kept = by_position(build(settings, augment, training=True, memory_limit=2 * size))
    for limit in (2 * size - 1, size - 1, 0):
        got = by_position(build(settings, augment, training=True, memory_limit=limit))
        assert all(torch.equal(kept[k], got[k]) for k in kept)


def test_augmentation_changes_with_the_epoch(color):
    feed = build(color, SmallImageAugment(pad=2), training=True)
    first, second = by_position(feed, 0), by_position(feed, 1)
    same = sum(torch.equal(first[k], second[k]) for k in first)
    assert same < 15  # one in 50 by chance


def test_one_pixel_shift_is_seen_where_it_must_be(color):
    # Every training image is one of the 50 crops and flips of its own original.
    feed = build(color, SmallImageAugment(pad=2), training=True, seed=9)
    originals = color.random_pixels(COUNT)
    for position, image in by_position(feed).items():
        padded = np.pad(originals[(position - 5) // 3], ((2, 2), (2, 2), (0, 0)))
        found = [
            np.allclose(color.normalized(cut[None])[0], image.numpy(), atol=2e-6)
            for top in range(5)
            for left in range(5)
            for window in [padded[top : top + 8, left : left + 10]]
            for cut in (window, window[:, ::-1])
        ]
        assert 1 == sum(found)


def test_batch_memory_is_used_again(color):
    feed = build(color, SmallImageAugment(), training=True)
    assert 1 == len({batch.images.data_ptr() for batch in feed.epoch(0)})


def test_array_that_may_not_be_written_is_accepted(color, recwarn):
    pixels = color.random_pixels(20)
    pixels.flags.writeable = False
    positions = np.arange(20)
    positions.flags.writeable = False
    feed = ResidentFeed(pixels, positions, positions, color, FeedOptions(batch_size=20))
    (batch,) = feed.epoch(0)
    np.testing.assert_allclose(batch.images.numpy(), color.normalized(pixels), atol=2e-6)
    assert [] == list(recwarn)


def test_waiting_is_counted(color):
    feed = build(color)
    assert 0.0 == feed.wait_s
    list(feed.epoch(0))
    assert feed.wait_s > 0.0


def test_multi_label_targets_stay_floats(color):
    targets = np.random.default_rng(0).random((20, 4)).astype(np.float32)
    feed = ResidentFeed(
        color.random_pixels(20), targets, np.arange(20), color, FeedOptions(batch_size=8)
    )
    got = torch.cat([batch.targets for batch in feed.epoch(0)])
    assert torch.equal(torch.from_numpy(targets), got)


def test_photo_crops_are_refused(color):
    with pytest.raises(ConfigError, match="already"):
        build(color, PhotoAugment(), training=True)


@pytest.mark.parametrize(
    ("pixels", "targets"),
    [
        (np.zeros((4, 8, 10, 3), np.float32), np.zeros(4)),
        (np.zeros((4, 9, 10, 3), np.uint8), np.zeros(4)),
        (np.zeros((5, 8, 10, 3), np.uint8), np.zeros(4)),
        (np.zeros((4, 8, 10, 3), np.uint8), np.zeros(3)),
    ],
)
def test_arrays_that_do_not_fit_are_refused(color, pixels, targets):
    with pytest.raises(DataError):
        ResidentFeed(pixels, targets, np.arange(4), color, FeedOptions(batch_size=2))
