"""What every feed promises, run against each of them, for training and evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError, RunError
from discern.data.images import Pixels, Preprocess
from discern.feed.augment import PhotoAugment, Policy, SmallImageAugment, Step
from discern.feed.batch import FeedOptions
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.operations import Mirror, RandomErasing
from discern.feed.resident import ResidentFeed
from discern.feed.samplers import BalancedSampler, EverySample, MiniEpochs

COUNT = 53
SIZE = 8


@dataclass(frozen=True)
class Samples:
    """All images of a manifest, which are also a source, and the positions of those fed."""

    images: Pixels
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
FIVE = Preprocess(height=SIZE, width=SIZE, channels=5, mean=(0.3,) * 5, std=(0.5,) * 5)
DEEP = replace(FIVE, channels=2, mean=(0.3,) * 2, std=(0.25, 0.5), depth=16)


@pytest.fixture(params=[COLOR, GREY, FIVE, DEEP], ids=["color", "grey", "five", "sixteen bit"])
def samples(request):
    """53 of 80 images, in no particular order."""
    shape = (80, SIZE, SIZE, request.param.channels)
    generator = np.random.default_rng(2)
    limit = 1 << request.param.depth
    images = generator.integers(0, limit, shape, dtype=request.param.dtype)
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
STEPS = (Step(operation=RandomErasing(), probability=0.9), Step(operation=Mirror()))
KINDS = {
    "resident": (resident, SMALL),
    "resident, plain": (resident, None),
    "loader, inline": (loader(0), PHOTO),
    "loader, threads": (loader(3), PHOTO),
    "loader, small": (loader(2), SMALL),
    "loader, plain": (loader(2), None),
    "resident, policy": (resident, Policy(name="test", framing=SMALL, steps=STEPS)),
    "resident, steps alone": (resident, Policy(name="test", steps=STEPS)),
    "loader, policy, inline": (loader(0), Policy(name="test", framing=PHOTO, steps=STEPS)),
    "loader, policy, threads": (loader(3), Policy(name="test", framing=PHOTO, steps=STEPS)),
    "loader, policy, small": (loader(2), Policy(name="test", framing=SMALL, steps=STEPS)),
}


@pytest.fixture(params=KINDS)
def build(request, samples):
    """Builds a feed of one kind over the samples; all are closed at the end."""
    make, augment = KINDS[request.param]
    if samples.settings.depth == 16 and isinstance(augment, Policy):
        augment = replace(augment, steps=(Step(operation=Mirror(), probability=0.5),))
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
    return [tuple(part.clone() for part in batch[:3]) for batch in feed.epoch(epoch, start)]


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
        pixels = samples.images[positions.numpy()] / float(2**settings.depth - 1)
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


@pytest.mark.feature("MX-34")
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_batches_of_one_and_end_together(build, ranks):
    whole = copied(build(training=True, batch_size=12))
    parts = [copied(build(training=True, batch_size=12, rank=r, ranks=ranks)) for r in range(ranks)]
    assert {len(whole)} == {len(part) for part in parts}
    for batch, *shares in zip(whole, *parts, strict=True):
        joined = [torch.cat([share[field] for share in shares]) for field in range(3)]
        assert equal([batch], [joined])
    sizes = [
        build(training=True, batch_size=12, rank=rank, ranks=ranks).samples for rank in range(ranks)
    ]
    assert sum(sizes) == COUNT


def test_a_sampler_decides_what_is_shown_and_resumes_exactly(build, samples):
    labels = np.array([0] * 40 + [1] * 10 + [-1] * 3)
    feed = build(training=True, sampler=BalancedSampler(labels, 30))
    batches = copied(feed, epoch=2)
    assert (60, len(batches)) == (feed.samples, feed.batches)
    shown = torch.cat([batch[2] for batch in batches]).tolist()
    place = {position: labels[k] for k, position in enumerate(samples.positions.tolist())}
    assert [30, 30] == np.bincount([place[position] for position in shown]).tolist()
    for start in (1, feed.batches - 1):
        assert equal(batches[start:], copied(feed, epoch=2, start=start))


def test_an_image_shown_twice_in_an_epoch_is_augmented_anew(build, samples):
    feed = build(training=True, sampler=MiniEpochs(EverySample(COUNT), 5 * COUNT), batch_size=32)
    views = {}
    for images, _, positions in copied(feed):
        for image, position in zip(images, positions.tolist(), strict=True):
            views.setdefault(position, []).append(image)
    assert {5} == {len(images) for images in views.values()}
    distinct = [len({image.numpy().tobytes() for image in images}) for images in views.values()]
    augment = feed._options.augment
    if augment is None:
        assert {1} == set(distinct)
    elif samples.settings.depth == 16 and getattr(augment, "framing", SMALL) is None:
        assert 1.7 < np.mean(distinct) <= 2  # plain and mirrored
    else:
        assert np.mean(distinct) > 4


@pytest.mark.feature("MX-76")
def test_the_strong_steps_end_with_the_epochs_that_close(samples):
    policy = Policy(name="test", steps=(Step(operation=RandomErasing()), Step(operation=Mirror())))
    plain = Policy(name="test", steps=(Step(operation=Mirror()),))

    def seen(augment, close_from, epoch):
        options = FeedOptions(training=True, batch_size=10, augment=augment, close_from=close_from)
        return copied(resident(samples, options), epoch)

    if samples.settings.depth == 16:
        with pytest.raises(ConfigError, match="2 channels of 16 bit") as caught:
            seen(policy, 3, 2)
        assert "random_erasing" == caught.value.got
        return
    assert not equal(seen(policy, 3, 2), seen(plain, None, 2))
    assert equal(seen(policy, 3, 3), seen(plain, None, 3))


@pytest.mark.parametrize("kind", [kind for kind, (_, augment) in KINDS.items() if augment])
def test_sixteen_bits_are_framed_as_eight_are(kind):
    """Values of 8 bit spread over 16 give the images of 8 bit, to within its rounding."""
    make, augment = KINDS[kind]
    if isinstance(augment, Policy):
        augment = replace(augment, steps=(Step(operation=Mirror(), probability=0.5),))
    if augment in (SMALL, PHOTO):
        augment = replace(augment, **({"fill": 200} if augment == SMALL else {}))
    settings = replace(FIVE, channels=3, mean=(0.3,) * 3, std=(1.0,) * 3)
    images = np.random.default_rng(3).integers(0, 256, (80, SIZE, SIZE, 3), dtype=np.uint8)
    options = FeedOptions(training=True, batch_size=10, augment=augment)
    positions = np.arange(COUNT)
    # The reference reader for both: at 8 bit training's own resize is another filter.
    settings = replace(settings, interpolation="nearest")
    eight = Samples(images, settings, positions)
    deep = Samples(images.astype(np.uint16) * 257, replace(settings, depth=16), positions)
    with make(eight, options) as first, make(deep, options) as second:
        for one, two in zip(copied(first), copied(second), strict=True):
            assert torch.equal(one[2], two[2])
            assert torch.allclose(one[0], two[0], atol=2e-6)


def test_photos_are_resized_as_asked_in_training_only(samples):
    """`fast` gives other pixels than `mixed` where a photo shrinks; evaluation knows neither."""
    generator = np.random.default_rng(5)
    pixels = generator.integers(0, 256, (6, 64, 48, samples.settings.channels), dtype=np.uint8)
    large = Samples(pixels, samples.settings, np.arange(6))

    def images(training, resample):
        options = FeedOptions(
            training=training, batch_size=6, augment=PhotoAugment(), resample=resample
        )
        with loader(0)(large, options) as feed:
            return copied(feed)[0][0]

    # 16 bit, and other channels than grey and RGB, are read by the reference alone.
    quick = samples.settings.channels in (1, 3) and samples.settings.depth == 8
    assert quick != torch.equal(images(True, "mixed"), images(True, "fast"))
    assert torch.equal(images(False, "mixed"), images(False, "fast"))
