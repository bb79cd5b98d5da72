"""What every feed promises, run against each of them, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError, RunError
from discern.data.images import Preprocess
from discern.feed.augment import PhotoAugment, SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.resident import ResidentFeed

COUNT = 53
SIZE = 8


@dataclass(frozen=True)
class Samples:
    """All images of a manifest, which are also a source, and the positions of those fed."""

    images: NDArray[np.uint8]
    settings: Preprocess
    positions: NDArray[np.int64]
    threadsafe = True

    def __len__(self):
        return len(self.images)

    def read(self, position):
        """The pixels of one image."""
        return self.images[position]

    def name(self, position):
        """The name of one image."""
        return f"image-{position}"

    @property
    def targets(self):
        """The label of each position fed: one that gives the position away."""
        return self.positions * 3 + 1


COLOR = Preprocess(height=SIZE, width=SIZE, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
GREY = Preprocess(height=SIZE, width=SIZE, channels=1, mean=(0.3,), std=(0.5,))


@pytest.fixture(params=[COLOR, GREY], ids=["color", "grey"])
def samples(request):
    """53 of 80 images, in no particular order."""
    shape = (80, SIZE, SIZE, request.param.channels)
    generator = np.random.default_rng(2)
    images = generator.integers(0, 256, shape, dtype=np.uint8)
    return Samples(images, request.param, generator.permutation(80)[:COUNT])


def resident(samples, options):
    pixels = samples.images[samples.positions]
    return ResidentFeed(pixels, samples.targets, samples.positions, samples.settings, options)


def loader(workers):
    def build(samples, options):
        threads = LoaderThreads(workers=workers)
        given = (samples, samples.targets, samples.positions, samples.settings, options)
        return LoaderFeed(*given, threads=threads)

    return build


SMALL, PHOTO = SmallImageAugment(pad=2), PhotoAugment()
KINDS = {
    "resident": (resident, SMALL),
    "resident, plain": (resident, None),
    "loader, inline": (loader(0), PHOTO),
    "loader, threads": (loader(3), PHOTO),
    "loader, small": (loader(2), SMALL),
    "loader, plain": (loader(2), None),
}


@pytest.fixture(params=KINDS)
def build(request, samples):
    """Builds a feed of one kind over the samples; all are closed at the end."""
    make, augment = KINDS[request.param]
    built = []

    def build_feed(*, training, batch_size=10, seed=0, **options):
        chosen = FeedOptions(
            training=training, batch_size=batch_size, seed=seed, augment=augment, **options
        )
        built.append(make(samples, chosen))
        return built[-1]

    yield build_feed
    for feed in built:
        feed.close()
        feed.close()


def copied(feed, epoch=0, start=0):
    """The batches, out of the memory that the feed uses again."""
    return [tuple(part.clone() for part in batch) for batch in feed.epoch(epoch, start)]


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


@pytest.mark.parametrize("training", [True, False])
def test_every_sample_comes_exactly_once(build, samples, training):
    feed = build(training=training)
    batches = copied(feed)
    positions = torch.cat([batch[2] for batch in batches]).tolist()
    assert sorted(samples.positions.tolist()) == sorted(positions)
    assert (COUNT, len(batches)) == (feed.samples, feed.batches)


@pytest.mark.parametrize("training", [True, False])
def test_targets_belong_to_positions(build, training):
    for _, targets, positions in copied(build(training=training)):
        assert torch.int64 == targets.dtype == positions.dtype
        assert torch.equal(positions * 3 + 1, targets)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("start", [0, 1, 3, 5, 6])
def test_restart_gives_the_remaining_batches(build, training, start):
    expected = copied(build(training=training), 2)[start:]
    assert equal(expected, copied(build(training=training), 2, start))


@pytest.mark.parametrize("training", [True, False])
def test_two_feeds_are_equal(build, training):
    first, second = build(training=training), build(training=training)
    for epoch in (0, 5):
        assert equal(copied(first, epoch), copied(second, epoch))


def test_an_epoch_does_not_depend_on_those_before(build):
    feed = build(training=True)
    copied(feed, 0)
    assert equal(copied(build(training=True), 1), copied(feed, 1))


def test_training_epochs_and_seeds_differ(build):
    feed, other = build(training=True), build(training=True, seed=1)
    orders = [
        torch.cat([batch[2] for batch in copied(*pass_)]).tolist()
        for pass_ in ((feed, 0), (feed, 1), (other, 0))
    ]
    assert all(a != b for a, b in pairwise([*orders, orders[0]]))


def test_evaluation_is_in_order_and_keeps_the_last_batch(build, samples):
    batches = copied(build(training=False))
    assert samples.positions.tolist() == torch.cat([b[2] for b in batches]).tolist()
    assert [10, 10, 10, 10, 10, 3] == [len(b[2]) for b in batches]
    assert equal(batches, copied(build(training=False), 7))


def test_training_batches_are_even(build):
    assert [8, 9, 9, 9, 9, 9] == sorted(len(b[2]) for b in copied(build(training=True)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_evaluation_shows_each_image_normalized(build, samples, dtype):
    settings = samples.settings
    tolerance = 2e-6 if dtype == torch.float32 else 0.02
    for images, _, positions in copied(build(training=False, dtype=dtype)):
        assert dtype == images.dtype
        pixels = samples.images[positions.numpy()] / 255.0
        expected = (pixels - np.array(settings.mean)) / np.array(settings.std)
        np.testing.assert_allclose(
            images.float().numpy(), expected.transpose(0, 3, 1, 2), atol=tolerance
        )


@pytest.mark.parametrize("training", [True, False])
def test_layout_is_that_of_the_network(build, samples, training):
    for batch in build(training=training).epoch(0):
        shape = (len(batch.positions), samples.settings.channels, SIZE, SIZE)
        assert shape == batch.images.shape
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert torch.float32 == batch.images.dtype
        assert "cpu" == batch.positions.device.type


def test_training_values_stay_in_the_range_of_pixels(build, samples):
    mean, std = torch.tensor(samples.settings.mean), torch.tensor(samples.settings.std)
    low, high = -mean / std, (1 - mean) / std
    for images, _, _ in copied(build(training=True)):
        assert (images.amin((0, 2, 3)) >= low - 1e-5).all()
        assert (images.amax((0, 2, 3)) <= high + 1e-5).all()
        assert images.std() > 0.1


def test_images_can_be_trained_on_after_an_evaluation_in_inference_mode(build):
    feed = build(training=True)
    with torch.inference_mode():
        copied(feed)
    weight = torch.ones(1, requires_grad=True)
    for batch in feed.epoch(1):
        (batch.images * weight).mean().backward()
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize("batch_size", [1, 53, 1000])
def test_any_batch_size_covers_all(build, batch_size):
    for training in (True, False):
        batches = copied(build(training=training, batch_size=batch_size))
        assert COUNT == sum(len(b[2]) for b in batches)
        assert -(-COUNT // batch_size) == len(batches)


@pytest.mark.parametrize("start", [-1, 7])
def test_start_outside_the_epoch_is_refused(build, start):
    with pytest.raises(RunError, match="outside"):
        build(training=True).epoch(0, start)


def test_waiting_grows(build):
    feed = build(training=True)
    assert 0.0 == feed.wait_s
    copied(feed)
    once = feed.wait_s
    assert once > 0.0
    copied(feed)
    assert feed.wait_s > once


def test_early_break_leaves_the_feed_usable(build):
    feed = build(training=True)
    expected = copied(feed, 3)
    for _ in feed.epoch(3):
        break
    assert equal(expected, copied(feed, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_no_image_is_an_error(samples, kind):
    make, _ = KINDS[kind]
    empty = Samples(samples.images, samples.settings, samples.positions[:0])
    with pytest.raises(DataError, match="no image"):
        make(empty, FeedOptions(batch_size=4))


def test_options_that_cannot_work_are_refused():
    with pytest.raises(ConfigError):
        FeedOptions(batch_size=0)
    with pytest.raises(ConfigError):
        FeedOptions(batch_size=4, dtype=torch.int32)
