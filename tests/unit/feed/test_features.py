"""The feed of features: the same samples, order and draws as the feed of the images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.base.errors import RunError
from discern.data.images import Preprocess
from discern.feed.augment import PhotoAugment, Policy, SmallImageAugment, Step
from discern.feed.batch import FeedOptions
from discern.feed.color_operations import Grey
from discern.feed.features import FeatureFeed, count_views
from discern.feed.operations import Mirror
from discern.feed.resident import ResidentFeed
from discern.feed.samplers import BalancedSampler

PREPROCESS = Preprocess(height=4, width=4, channels=1, mean=(0.5,), std=(0.25,))
COUNT = 23
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 4, 1)).astype(np.uint8)
POSITIONS = np.random.default_rng(1).permutation(90)[:COUNT]
TARGETS = POSITIONS % 3
MIRROR = Policy(name="mirror", steps=(Step(operation=Mirror(), probability=0.5),))


def images_of(options):
    return ResidentFeed(PIXELS, TARGETS, POSITIONS, PREPROCESS, options)


class Pixels:
    """Takes the pixels themselves for features, and counts the passes."""

    def __init__(self):
        self.passes = 0

    def __call__(self, open_feed, positions, views):
        self.passes += 1
        assert POSITIONS.tolist() == positions.tolist()
        with open_feed(np.arange(len(positions))) as feed:
            images = [batch.images.clone() for batch in feed.epoch(0)]
        flipped = [part.flip(-1) for part in images]
        return torch.stack([torch.cat(v).flatten(1) for v in (images, flipped)[:views]])


def features_of(options, extract):
    return FeatureFeed(
        lambda _: images_of(FeedOptions(batch_size=64)), TARGETS, POSITIONS, options, extract
    )


def copied(feed, epoch, start=0):
    return [
        (b.images.flatten(1).clone(), b.targets.clone(), b.positions.clone())
        for b in feed.epoch(epoch, start)
    ]


@pytest.mark.parametrize("augment", [None, MIRROR, Policy(name="two", steps=MIRROR.steps * 2)])
@pytest.mark.parametrize("sampler", [None, BalancedSampler(TARGETS, "up")])
@pytest.mark.parametrize("start", [0, 2])
def test_training_shows_what_the_feed_of_images_shows(augment, sampler, start):
    options = FeedOptions(batch_size=5, training=True, seed=7, augment=augment, sampler=sampler)
    extract = Pixels()
    feed, images = features_of(options, extract), images_of(options)
    assert (images.samples, images.batches) == (feed.samples, feed.batches)
    for epoch in (0, 1):
        expected, given = copied(images, epoch, start), copied(feed, epoch, start)
        assert len(expected) == len(given)
        for one, other in zip(expected, given, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert 1 == extract.passes


def test_evaluation_keeps_the_order_and_the_last_small_batch():
    feed = features_of(FeedOptions(batch_size=5), Pixels())
    batches = copied(feed, 0)
    assert [5, 5, 5, 5, 3] == [len(images) for images, _, _ in batches]
    assert POSITIONS.tolist() == torch.cat([p for _, _, p in batches]).tolist()
    assert copied(images_of(FeedOptions(batch_size=5)), 0)[4][0].equal(batches[4][0])


def test_nothing_is_computed_before_the_first_batch():
    extract = Pixels()
    feed = features_of(FeedOptions(batch_size=5, training=True), extract)
    waiting = feed.epoch(0)
    assert 0 == extract.passes
    next(waiting)
    assert 1 == extract.passes
    with pytest.raises(RunError):
        feed.epoch(0, start=6)


@pytest.mark.parametrize(
    ("augment", "views"),
    [
        (None, 1),
        (Policy(name="none"), 1),
        (MIRROR, 2),
        (SmallImageAugment(), None),
        (PhotoAugment(), None),
        (Policy(name="light", framing=PhotoAugment(flip=False)), None),
        (Policy(name="grey", steps=(Step(operation=Grey(), probability=0.5),)), None),
    ],
)
def test_views_of_an_augmentation(augment, views):
    assert views == count_views(augment)
