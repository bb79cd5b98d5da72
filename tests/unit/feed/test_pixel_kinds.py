"""16 bit and many channels inside the feeds: refusals, bits, borders, readers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.feed.augment import PhotoAugment, Policy, SmallImageAugment, Step
from discern.feed.color_operations import ColorJitter
from discern.feed.draws import Draws
from discern.feed.framing import BoxCrop, ShortSideCrop, Whole, framing_reader
from discern.feed.mx_augment import MxAugment
from discern.feed.normalize import Normalizer, as_levels, as_stored, stored_type
from discern.feed.operations import Cutout, Mirror, OneOf, RandomErasing
from discern.feed.photo_training import training_reader
from discern.feed.pixel_kinds import check_augment
from discern.feed.windows import crop_batch, draw_shifts

PLAIN = Preprocess(height=8, width=8, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
DEEP = replace(PLAIN, depth=16)
FIVE = replace(PLAIN, channels=5, mean=(0.5,) * 5, std=(0.25,) * 5)


def policy(*operations, framing=None):
    steps = tuple(Step(operation=operation) for operation in operations)
    return Policy(name="test", framing=framing, steps=steps)


@pytest.mark.parametrize("preprocess", [PLAIN, DEEP, FIVE])
@pytest.mark.parametrize(
    "augment",
    [
        None,
        SmallImageAugment(),
        PhotoAugment(),
        policy(Mirror(), framing=SmallImageAugment()),
        policy(OneOf(options=(Mirror(), Mirror())), framing=PhotoAugment()),
        *(policy(framing=framing) for framing in (Whole(), ShortSideCrop(), BoxCrop())),
    ],
)
def test_crops_and_mirrors_work_on_all(preprocess, augment):
    check_augment(augment, preprocess)


@pytest.mark.parametrize(
    ("augment", "named"),
    [
        (policy(ColorJitter()), "color_jitter"),
        (policy(Mirror(), OneOf(options=(Mirror(), ColorJitter()))), "color_jitter"),
        (policy(framing=MxAugment()), "mx_augment"),
    ],
)
def test_colors_are_refused_by_name(augment, named):
    check_augment(augment, PLAIN)
    for preprocess, words in ((DEEP, "3 channels of 16 bit"), (FIVE, "5 channels of 8 bit")):
        with pytest.raises(ConfigError, match=words) as caught:
            check_augment(augment, preprocess)
        assert ("augment", named) == (caught.value.where, caught.value.got)


@pytest.mark.parametrize("operation", [Cutout(fill=9), RandomErasing()])
def test_filled_boxes_work_on_five_channels_but_not_in_16_bit(operation):
    check_augment(policy(operation), FIVE)
    with pytest.raises(ConfigError, match="16 bit"):
        check_augment(policy(operation), DEEP)


def test_bits_survive_the_way_through_int16():
    values = torch.arange(65536, dtype=torch.int32).to(torch.uint16)
    stored = as_stored(values)
    assert torch.int16 == stored.dtype == stored_type(16)
    assert torch.equal(values.to(torch.int32), as_levels(stored).to(torch.int32))
    eight = torch.arange(256).to(torch.uint8)
    assert eight is as_stored(eight)
    assert eight is as_levels(eight)


@pytest.mark.parametrize("per_image", [False, True])
def test_values_of_16_bit_are_those_of_the_formula(per_image):
    pixels = np.random.default_rng(0).integers(0, 65536, (4, 6, 7, 2), dtype=np.uint16)
    mean, std = (0.3, 0.6), (0.2, 0.4)
    normalize = Normalizer(
        mean, std, shape=(6, 7, 2), batch_size=5, device=torch.device("cpu"),
        dtype=torch.float32, per_image=per_image, depth=16,
    )  # fmt: skip
    got = normalize(torch.from_numpy(pixels)).permute(0, 2, 3, 1).numpy()
    expected = (pixels / 65535.0 - np.array(mean)) / np.array(std)
    if per_image:
        whole = pixels.reshape(4, -1).astype(float)
        expected = (whole - whole.mean(1, keepdims=True)) / whole.std(1, keepdims=True)
        expected = expected.reshape(pixels.shape)
    np.testing.assert_allclose(got, expected, atol=5e-6)


@pytest.mark.parametrize("border", ["constant", "reflect"])
@pytest.mark.parametrize("fill", [0, 127, 128, 255])
def test_small_crops_of_16_bit_are_those_of_8_bit(border, fill):
    augment = SmallImageAugment(pad=3, border=border, fill=fill)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    shifts = draw_shifts(augment, Draws(1, 2), torch.arange(40))
    eight = crop_batch(torch.from_numpy(pixels.copy()), augment, shifts).numpy()
    for kind in (np.uint16, np.int16):
        deep = torch.from_numpy((pixels.astype(np.uint16) * 257).view(kind))
        got = crop_batch(deep, augment, shifts).numpy().view(np.uint16)
        assert np.array_equal(eight.astype(int) * 257, got)


class Photos:
    """A source of two arrays."""

    def __init__(self):
        self.images = np.random.default_rng(0).integers(0, 60_000, (2, 40, 50, 3), dtype=np.uint16)

    def __len__(self):
        return len(self.images)

    def read(self, position):
        return self.images[position]

    def name(self, position):
        return f"photo-{position}"


@pytest.mark.parametrize("make", [
    lambda preprocess: (training_reader(preprocess, PhotoAugment()), PhotoAugment().draws),
    lambda preprocess: (framing_reader(preprocess, BoxCrop()), BoxCrop().draws),
    lambda preprocess: (framing_reader(preprocess, ShortSideCrop(low=9, high=20)), 3),
])  # fmt: skip
def test_photos_of_16_bit_keep_their_low_bytes(make):
    read, draws = make(DEEP)
    flat = replace(DEEP, depth=8)
    row = np.random.default_rng(3).random(draws)
    out, eight = np.zeros((8, 8, 3), np.uint16), np.zeros((8, 8, 3), np.uint8)
    read(Photos(), 1, row, out)
    make(flat)[0](Photos(), 1, row, eight)
    # Another filter at 8 bit on noise: alike, not equal.
    assert np.abs(out / 257 - eight.astype(float)).mean() < 12
    assert len(np.unique(out % 257)) > 100
