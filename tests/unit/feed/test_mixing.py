from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import Batch, FeedOptions
from discern.feed.draws import Draws
from discern.feed.mixing import (
    Mix,
    MixedFeed,
    Mixing,
    cut_box,
    mix_images,
    mix_targets,
    soft_targets,
)
from discern.feed.resident import ResidentFeed
from discern.feed.warps import Box


def plans(mixing, count, seed=3, epoch=1):
    return [mixing.plan(Draws(seed, epoch), batch, 32, 48) for batch in range(count)]


def test_mixup_is_the_weighted_sum_with_the_neighbor():
    images = torch.arange(3.0)[:, None, None, None].expand(3, 2, 4, 4)
    mixed = mix_images(images, Mix(kept=0.75, box=None))
    assert (0.5, 0.75, 1.75) == pytest.approx(mixed[:, 0, 0, 0].tolist())
    targets = mix_targets(torch.tensor([2, 0, 1]), Mix(kept=0.75, box=None), 3)
    expected = [[0, 0.25, 0.75], [0.75, 0, 0.25], [0.25, 0.75, 0]]
    assert torch.equal(torch.tensor(expected), targets)


def test_cutmix_takes_the_box_of_the_neighbor():
    images = torch.rand(4, 3, 16, 16)
    before = images.clone()
    mixed = mix_images(images, Mix(kept=0.5, box=Box(2, 3, 5, 7)))
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[2:7, 3:10] = True
    assert torch.equal(images.roll(1, 0)[:, :, inside], mixed[:, :, inside])
    assert torch.equal(images[:, :, ~inside], mixed[:, :, ~inside])
    assert torch.equal(before, images)


def test_cutmix_share_is_that_of_its_box():
    found = plans(Mixing(cutmix=1.0), 3000)
    for mix in found:
        assert mix.box is not None
        assert 1.0 - mix.box.height * mix.box.width / (32 * 48) == mix.kept
        assert mix.box.top >= 0
        assert mix.box.left >= 0
        assert mix.box.top + mix.box.height <= 32
        assert mix.box.left + mix.box.width <= 48
    assert 2000 < len({mix.box for mix in found})
    assert Box(0, 0, 16, 24) == cut_box(0.0, 32, 48, (0.0, 0.0))
    assert Box(8, 12, 16, 24) == cut_box(0.75, 32, 48, (0.5, 0.5))
    assert 0 == cut_box(1.0, 32, 48, (0.5, 0.5)).height


def test_mixup_shares_have_the_beta_distribution():
    kept = np.array([mix.kept for mix in plans(Mixing(mixup=0.2), 4000)])
    assert (0.5, 1 / (4 * 1.4)) == pytest.approx((kept.mean(), kept.var()), abs=0.01)


def test_probability_and_switch_hold():
    found = plans(Mixing(mixup=1.0, cutmix=1.0, probability=0.8, switch=0.25), 4000)
    untouched = sum(mix == Mix(kept=1.0, box=None) for mix in found)
    cut = sum(mix.box is not None for mix in found)
    assert 0.2 == pytest.approx(untouched / 4000, abs=0.03)
    assert 0.25 == pytest.approx(cut / (4000 - untouched), abs=0.03)


def test_plan_depends_on_seed_epoch_and_batch_alone():
    mixing = Mixing(mixup=0.4, cutmix=1.0)
    assert plans(mixing, 5) == plans(mixing, 9)[:5]
    assert plans(mixing, 5) != plans(mixing, 5, seed=4)
    assert plans(mixing, 5) != plans(mixing, 5, epoch=2)
    assert 5 == len(set(map(repr, plans(mixing, 5))))


def test_soft_targets_sum_to_one_and_keep_missing_ones():
    soft = soft_targets(torch.tensor([1, -1, 0]), 3)
    assert [0.0, 1.0, 0.0] == soft[0].tolist()
    assert soft[1].isnan().all()
    mixed = mix_targets(torch.tensor([1, -1, 0]), Mix(kept=0.6, box=None), 3)
    assert mixed[1].isnan().all()
    assert mixed[2].isnan().all()
    assert 1.0 == pytest.approx(mixed[0].sum().item())
    many = torch.tensor([[1.0, 0.0, 1.0], [0.0, float("nan"), 1.0]])
    mixed = mix_targets(many, Mix(kept=0.5, box=None), 3)
    assert [0.5, 1.0] == mixed[0, ::2].tolist()
    assert mixed[0, 1].isnan()


def test_target_outside_the_classes_is_refused():
    with pytest.raises(ConfigError):
        soft_targets(torch.tensor([0, 3]), 3)


@pytest.mark.parametrize(
    ("key", "values"),
    [("mixup", {"mixup": -1.0}), ("cutmix", {"cutmix": -0.1}), ("switch", {"switch": 1.1})],
)
def test_bad_value_names_its_key(key, values):
    with pytest.raises(ConfigError) as caught:
        Mixing(**values)
    assert f"augment.{key}" == caught.value.where


def feed_of(color, **mixing):
    pixels = color.random_pixels(23)
    options = FeedOptions(
        batch_size=4, training=True, seed=9, augment=SmallImageAugment(pad=1, border="constant")
    )
    feed = ResidentFeed(pixels, np.arange(23) % 5, np.arange(23), color, options)
    return MixedFeed(feed, Mixing(mixup=0.8, cutmix=1.0), classes=5, seed=9, **mixing)


def test_resumed_epoch_mixes_as_a_whole_one(color):
    with feed_of(color) as feed:
        whole = [(b.images.clone(), b.targets.clone(), b.positions) for b in feed.epoch(2)]
        part = [(b.images.clone(), b.targets.clone(), b.positions) for b in feed.epoch(2, 3)]
    assert 6 == feed.batches == len(whole)
    for expected, made in zip(whole[3:], part, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(expected, made, strict=True))


def test_given_up_epoch_ends_the_other_feeds(color):
    ended = []

    class Told:
        samples, batches, wait_s = 8, 2, 0.0

        def epoch(self, epoch, start=0):
            try:
                for _ in range(2):
                    yield Batch(torch.zeros(4, 3, 8, 8), torch.tensor([0, 1, 2, 3]), None)
            finally:
                ended.append(epoch)

    running = MixedFeed(Told(), Mixing(mixup=0.5), classes=4, seed=0).epoch(6)
    next(running)
    running.close()
    assert [6] == ended


def test_mixed_batches_keep_samples_and_soften_targets(color):
    feed = feed_of(color)
    seen = []
    for batch in feed.epoch(0):
        assert (len(batch.images), 5) == tuple(batch.targets.shape)
        assert torch.allclose(torch.ones(len(batch.images)), batch.targets.sum(1))
        seen += batch.positions.tolist()
    assert list(range(23)) == sorted(seen)


@pytest.mark.feature("MX-76")
def test_mixing_ends_with_the_epoch_told(color):
    feed = feed_of(color, until=3)
    hard = [bool(((b.targets == 0) | (b.targets == 1)).all()) for b in feed.epoch(3)]
    assert all(hard)
    soft = [bool(((b.targets == 0) | (b.targets == 1)).all()) for b in feed.epoch(2)]
    assert not all(soft)
