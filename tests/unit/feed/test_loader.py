from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError, RunError
from discern.feed.augment import PhotoAugment, SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.resident import ResidentFeed

COUNT = 61


def build(settings, source, workers=0, ring=3, read_image=None, **options):
    chosen = FeedOptions(**{"batch_size": 8, "seed": 5, **options})
    positions = np.arange(len(source))
    return LoaderFeed(
        source,
        positions % 7,
        positions,
        settings,
        chosen,
        threads=LoaderThreads(workers=workers, ring=ring),
        read_image=read_image,
    )


def copied(feed, epoch=0, start=0):
    return [tuple(part.clone() for part in batch[:3]) for batch in feed.epoch(epoch, start)]


def equal(first, second):
    return len(first) == len(second) and all(
        torch.equal(a, b)
        for x, y in zip(first, second, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def feed_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("feed")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert [] == feed_threads()


def uneven_photos(settings, count=COUNT):
    """Images of many sizes, as photos are."""
    generator = np.random.default_rng(1)
    sizes = generator.integers(8, 60, (count, 2))
    return [generator.integers(0, 256, (h, w, settings.channels), dtype=np.uint8) for h, w in sizes]


def test_worker_counts_give_equal_batches(settings, array_source):
    source = array_source(uneven_photos(settings))
    results = []
    for workers in (0, 2, 4):
        with build(settings, source, workers, training=True, augment=PhotoAugment()) as feed:
            results.append(copied(feed, 1))
    assert equal(results[0], results[1])
    assert equal(results[0], results[2])


def test_batch_size_does_not_change_a_photo(color, array_source):
    source = array_source(uneven_photos(color))
    images = []
    for size in (8, 13):
        feed = build(color, source, batch_size=size, training=True, augment=PhotoAugment())
        batches = copied(feed, 2)
        found = torch.cat([batch[2] for batch in batches]).argsort()
        images.append(torch.cat([batch[0] for batch in batches])[found])
    assert torch.equal(images[0], images[1])


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_small_images_are_those_of_the_resident_feed(settings, array_source, border):
    augment = SmallImageAugment(pad=2, border=border)
    pixels = settings.random_pixels(COUNT)
    options = FeedOptions(batch_size=8, seed=5, training=True, augment=augment)
    numbers = np.arange(COUNT)
    resident = ResidentFeed(pixels, numbers % 7, numbers, settings, options)
    with build(settings, array_source(pixels), 2, training=True, augment=augment) as feed:
        assert equal(copied(resident, 4), copied(feed, 4))


@pytest.mark.parametrize("workers", [0, 3])
@pytest.mark.parametrize("error", [OSError("disk gone"), KeyError("x"), RuntimeError("odd")])
def test_reader_error_names_the_image_at_the_consumer(color, array_source, workers, error):
    class Broken(array_source):
        def read(self, position):
            if position == 20:
                raise error
            return super().read(position)

    feed = build(color, Broken(color.random_pixels(COUNT)), workers)
    batches = feed.epoch(0)
    assert list(range(16)) == [k for _ in range(2) for k in next(batches).positions.tolist()]
    with pytest.raises(DataError) as caught:
        next(batches)
    assert "image-20.png" == caught.value.where
    assert str(error) in str(caught.value)
    assert error is caught.value.__cause__
    assert [] == feed_threads()


def test_data_error_of_a_reader_arrives_as_it_is(color, array_source):
    planted = DataError("the image is truncated", where="a.jpg")

    def read_image(source, position, row, out):
        raise planted

    with (
        build(color, array_source(color.random_pixels(9)), 2, read_image=read_image) as feed,
        pytest.raises(DataError) as caught,
    ):
        next(feed.epoch(0))
    assert planted is caught.value


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("training", [True, False])
def test_pixels_of_a_wrong_shape_are_named(color, array_source, workers, training):
    images = list(color.random_pixels(9))
    images[4] = np.zeros((8, 10, 5), np.uint8)
    feed = build(color, array_source(images), workers, training=training, augment=PhotoAugment())
    with pytest.raises(DataError) as caught:
        copied(feed)
    assert "image-4.png" == caught.value.where


@pytest.mark.parametrize("workers", [0, 2])
def test_feed_can_be_used_after_an_error_and_an_early_break(color, array_source, workers):
    source = array_source(color.random_pixels(COUNT))
    with build(color, source, workers, training=True) as feed:
        expected = copied(feed, 0)
        for _ in feed.epoch(0):
            break
        assert equal(expected, copied(feed, 0))
        kept = feed.epoch(0)
        next(kept)
        assert equal(expected, copied(feed, 0))
        with pytest.raises(RunError, match="given up"):
            next(kept)


def test_early_break_ends_the_threads(color, array_source):
    feed = build(color, array_source(color.random_pixels(COUNT)), 3)
    batches = feed.epoch(0)
    next(batches)
    assert feed_threads()
    batches.close()
    assert [] == feed_threads()


def test_closed_feed_says_so(color, array_source):
    feed = build(color, array_source(color.random_pixels(COUNT)), 2)
    running = feed.epoch(0)
    next(running)
    feed.close()
    feed.close()
    assert [] == feed_threads()
    for batches in (running, feed.epoch(1)):
        with pytest.raises(RunError, match="closed"):
            next(batches)


@pytest.mark.parametrize(("workers", "ring", "expected"), [(2, 3, 32), (2, 5, 48), (0, 3, 8)])
def test_reading_runs_ahead_by_the_ring(color, array_source, workers, ring, expected):
    source = array_source(color.random_pixels(160))
    with build(color, source, workers, ring) as feed:
        next(batches := feed.epoch(0))
        deadline = time.monotonic() + 5
        while len(source.reads) < expected and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.02)
        assert expected == len(source.reads)
        batches.close()


def test_reading_beside_the_consumer_is_no_waiting(color, array_source):
    def slow(source, position, row, out):
        time.sleep(0.002)
        out[...] = source.read(position)

    source = array_source(color.random_pixels(48))
    inline = build(color, source, read_image=slow)
    for _ in inline.epoch(0):
        pass
    assert inline.wait_s >= 48 * 0.002
    with build(color, source, 4, read_image=slow) as beside:
        for _ in beside.epoch(0):
            time.sleep(0.03)
        assert beside.wait_s < inline.wait_s / 2


def test_source_for_one_reader_is_read_by_one_at_a_time(color, array_source):
    class Fragile(array_source):
        threadsafe = False
        inside = 0
        most = 0

        def read(self, position):
            self.inside += 1
            self.most = max(self.most, self.inside)
            time.sleep(0.001)
            self.inside -= 1
            return super().read(position)

    source = Fragile(color.random_pixels(40))
    with build(color, source, 4) as feed:
        assert 40 == sum(len(batch.positions) for batch in feed.epoch(0))
    assert 1 == source.most


def test_epoch_reads_each_image_once(color, array_source):
    source = array_source(color.random_pixels(COUNT))
    with build(color, source, 2, training=True) as feed:
        copied(feed)
    assert list(range(COUNT)) == sorted(source.reads)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ConfigError):
        LoaderThreads(workers=-1)
    with pytest.raises(ConfigError):
        LoaderThreads(ring=0)
