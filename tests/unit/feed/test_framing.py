from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import PhotoAugment
from discern.feed.draws import Draws
from discern.feed.framing import BoxCrop, ShortSideCrop, Whole, framing_reader
from discern.feed.photo import random_crop


def photo(height=60, width=90, channels=3):
    rows, columns = np.mgrid[0:height, 0:width]
    stacked = np.stack([rows * 2, columns * 2, rows + columns], axis=-1)[..., :channels]
    return np.ascontiguousarray(stacked.astype(np.uint8))


def evens(framing, count):
    return Draws(1, 0).table(torch.arange(count), 4, framing.draws).numpy()


@pytest.mark.feature("LA-15")
def test_short_side_is_drawn_between_its_limits(color):
    # At size 8 x 10, a short side of 16 to 32 shows a half to a quarter of it.
    framing = ShortSideCrop(low=16, high=32)
    seen = []
    for row in evens(framing, 400):
        made = framing.frame(photo(64, 64), row, color).astype(float)
        slope = (made[-1, 0, 0] - made[0, 0, 0]) / 2 / 7  # source rows per row made
        seen.append(64 / slope)
        across = (made[0, -1, 1] - made[0, 0, 1]) / 2 / 9
        assert slope == pytest.approx(across, rel=0.15)
    assert (16, 32) == pytest.approx((min(seen), max(seen)), rel=0.12)


def test_short_side_crop_reaches_every_border(color):
    framing = ShortSideCrop(low=8, high=8)
    tops = {int(framing.frame(photo(16, 60), r, color)[0, 0, 1]) for r in evens(framing, 600)}
    assert min(tops) <= 4
    assert max(tops) >= 2 * (60 - 20) - 4


@pytest.mark.parametrize("shape", [(1, 1), (4, 200), (200, 4), (8, 10), (7, 9)])
def test_any_shape_is_framed(settings, shape):
    for framing in (ShortSideCrop(low=4, high=6), BoxCrop(), Whole(fit="pad"), Whole(fit="squish")):
        for row in evens(framing, 5):
            made = framing.frame(photo(*shape, settings.channels), row, settings)
            assert ((8, 10, settings.channels), np.uint8) == (made.shape, made.dtype)


@pytest.mark.feature("LA-16")
def test_box_crop_uses_four_interpolations(color):
    framing = BoxCrop()
    assert ((0.05, 1.0), (0.75, 1.33), 4) == (
        framing.scale,
        framing.ratio,
        len(framing.interpolations),
    )
    row = evens(framing, 1)[0]
    crop = PhotoAugment(scale=(0.05, 1.0), ratio=(0.75, 1.33))
    box = random_crop(60, 90, crop, row[:-1])
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    made = set()
    for number, name in enumerate(framing.interpolations):
        row[-1] = number / 4
        whole = replace(color, interpolation=name, fit="squish", crop_pct=1.0)
        image = framing.frame(pixels, row, color)
        assert np.array_equal(whole.apply(part), image)
        made.add(image.tobytes())
    assert 4 == len(made)


def test_whole_image_is_padded(color):
    made = Whole(fit="pad").frame(np.full((8, 40, 3), 90, np.uint8), np.empty(0), color)
    assert np.array_equal(replace(color, fit="pad").apply(np.full((8, 40, 3), 90, np.uint8)), made)
    assert (made[0] == 0).all()


def test_reader_without_numbers_does_what_evaluation_does(color, array_source):
    pixels = photo()
    out = np.zeros((8, 10, 3), np.uint8)
    framing_reader(color, ShortSideCrop())(array_source([pixels]), 0, None, out)
    assert np.array_equal(color.apply(pixels), out)


def test_reader_brings_channels_into_line(settings, array_source):
    out = np.zeros((8, 10, settings.channels), np.uint8)
    read = framing_reader(settings, BoxCrop())
    for channels in (1, 3):
        source = array_source([np.full((30, 30, channels), 77, np.uint8)])
        read(source, 0, evens(BoxCrop(), 1)[0], out)
        assert (out == 77).all()


def test_framing_of_the_wrong_size_is_named(color, array_source):
    class Broken:
        draws = 0

        def frame(self, pixels, row, preprocess):
            return pixels

    read = framing_reader(color, Broken())
    with pytest.raises(DataError) as caught:
        read(array_source([photo()]), 0, np.empty(0), np.zeros((8, 10, 3), np.uint8))
    assert "image-0.png" == caught.value.where


@pytest.mark.parametrize(
    "build",
    [
        lambda: ShortSideCrop(low=0, high=10),
        lambda: ShortSideCrop(low=20, high=10),
        lambda: BoxCrop(interpolations=()),
        lambda: BoxCrop(interpolations=("linear",)),
        lambda: BoxCrop(scale=(0.0, 1.0)),
        lambda: Whole(fit="stretch"),
    ],
)
def test_bad_value_is_refused(build):
    with pytest.raises(ConfigError):
        build()
