"""The same batches on the device as on the CPU; run with `-m gpu`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from discern.feed.augment import PhotoAugment, Policy, SmallImageAugment, Step
from discern.feed.batch import FeedOptions
from discern.feed.draws import Draws
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.operations import Mirror
from discern.feed.resident import ResidentFeed

pytestmark = pytest.mark.gpu

COUNT = 3000
NUMBERS = np.arange(COUNT)


def options(device, augment, training):
    return FeedOptions(
        batch_size=64, training=training, augment=augment, device=torch.device(device), seed=3
    )


def on_cpu(feed, epoch=1):
    return [tuple(part.cpu().clone() for part in batch[:3]) for batch in feed.epoch(epoch)]


def assert_same(expected, got):
    assert len(expected) == len(got)
    for first, second in zip(expected, got, strict=True):
        torch.testing.assert_close(first[0], second[0], rtol=0, atol=1e-6)
        assert torch.equal(first[1], second[1])
        assert torch.equal(first[2], second[2])


def test_draws_are_equal_on_the_device():
    samples, draws = torch.arange(100_000), Draws(3, 4)
    for draw in (
        lambda s: draws.bits(s, 1),
        lambda s: draws.uniform(s, 2),
        lambda s: draws.integers(s, 2, 0, 9),
        lambda s: draws.table(s, 4, 23),
    ):
        assert torch.equal(draw(samples), draw(samples.cuda()).cpu())


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("border", ["constant", "reflect"])
@pytest.mark.parametrize("limit", [1 << 30, COUNT * 12 * 14 * 3, 0])
def test_resident_feed_is_the_same(color, training, border, limit):
    augment = SmallImageAugment(pad=2, border=border)
    pixels = color.random_pixels(COUNT)
    cpu = ResidentFeed(pixels, NUMBERS, NUMBERS, color, options("cpu", augment, training))
    cuda = ResidentFeed(
        pixels, NUMBERS, NUMBERS, color, options("cuda", augment, training), memory_limit=limit
    )
    assert_same(on_cpu(cpu), on_cpu(cuda))
    batch = next(cuda.epoch(0))
    assert batch.images.is_cuda
    assert batch.targets.is_cuda
    assert not batch.positions.is_cuda
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("augment", [SmallImageAugment(pad=2), PhotoAugment()])
@pytest.mark.parametrize("workers", [0, 4])
def test_loader_is_the_same_beside_heavy_work(color, array_source, training, augment, workers):
    source = array_source(color.random_pixels(COUNT))
    cpu = LoaderFeed(source, NUMBERS, NUMBERS, color, options("cpu", augment, training))
    busy = torch.randn(4096, 4096, device="cuda")
    got = []
    with LoaderFeed(
        source,
        NUMBERS,
        NUMBERS,
        color,
        options("cuda", augment, training),
        threads=LoaderThreads(workers=workers),
    ) as feed:
        for batch in feed.epoch(1):
            busy = busy @ busy
            busy /= busy.norm()
            got.append(tuple(part.clone() for part in batch[:3]))
    assert_same(on_cpu(cpu), [tuple(part.cpu() for part in batch) for batch in got])


class DeepPixels:
    """A source of 16-bit arrays."""

    def __init__(self, pixels):
        self.pixels = pixels

    def __len__(self):
        return len(self.pixels)

    def read(self, position):
        return self.pixels[position]

    def name(self, position):
        return f"image-{position}"


@pytest.mark.parametrize("training", [True, False])
def test_sixteen_bit_is_the_same(color, training):
    deep = replace(color, depth=16)
    shape = (COUNT, deep.height, deep.width, deep.channels)
    pixels = np.random.default_rng(0).integers(0, 65536, shape, dtype=np.uint16)
    augment = Policy(
        name="test",
        framing=SmallImageAugment(pad=2, fill=200),
        steps=(Step(operation=Mirror(), probability=0.5),),
    )
    given = (NUMBERS, NUMBERS, deep)
    for kind in ("resident", "loader"):
        batches = []
        for device in ("cpu", "cuda"):
            chosen = options(device, augment, training)
            if kind == "resident":
                feed = ResidentFeed(pixels, *given, chosen)
            else:
                feed = LoaderFeed(
                    DeepPixels(pixels), *given, chosen, threads=LoaderThreads(workers=2)
                )
            with feed:
                batches.append(on_cpu(feed))
        assert_same(*batches)
