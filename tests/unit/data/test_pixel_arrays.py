"""Depth, channels, resize and pictures of pixel arrays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from discern.base.errors import DataError
from discern.data.pixel_arrays import (
    resize_pixels,
    set_channels,
    set_depth,
    viewable,
    viewable_note,
)


def noise(*shape, seed=0, dtype=np.uint8):
    limit = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, limit, shape, dtype=dtype)


@given(arrays(np.uint8, (3, 2, 1)))
def test_eight_bit_survives_sixteen(pixels):
    deep = set_depth(pixels, 16)
    assert np.uint16 == deep.dtype
    assert np.array_equal(pixels.astype(int) * 257, deep)
    assert np.array_equal(pixels, set_depth(deep, 8))


@given(st.integers(0, 65535))
def test_sixteen_bit_goes_to_the_nearest_of_eight(value):
    got = set_depth(np.array([[[value]]], np.uint16), 8)
    assert np.uint8 == got.dtype
    assert abs(value / 257 - int(got.item())) <= 0.5


def test_pixels_of_the_wanted_depth_are_not_copied():
    for dtype, depth in ((np.uint8, 8), (np.uint16, 16)):
        pixels = noise(2, 2, 1, dtype=dtype)
        assert pixels is set_depth(pixels, depth)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.int64])
def test_other_types_are_no_images(dtype):
    with pytest.raises(DataError, match="not an image array"):
        set_depth(np.zeros((2, 2, 1), dtype), 8)
    with pytest.raises(DataError, match="not an image array"):
        set_channels(np.zeros((2, 2, 1), dtype), 3)


def test_luma_of_sixteen_bit_is_that_of_eight_with_more_places():
    pixels = noise(20, 20, 3)
    eight = np.asarray(Image.fromarray(pixels).convert("L")).astype(float)
    deep = set_channels(set_depth(pixels, 16), 1)
    assert (np.uint16, (20, 20, 1)) == (deep.dtype, deep.shape)
    assert np.abs(deep[:, :, 0] / 257 - eight).max() <= 0.51
    weights = np.array([0.299, 0.587, 0.114])
    exact = (noise(9, 9, 3, dtype=np.uint16) * weights).sum(2)
    assert np.abs(set_channels(noise(9, 9, 3, dtype=np.uint16), 1)[:, :, 0] - exact).max() < 1.6
    white = np.full((1, 1, 3), 65535, np.uint16)
    assert 65535 == set_channels(white, 1).item()


@pytest.mark.parametrize(("given_channels", "wanted"), [(5, 3), (3, 5), (4, 3), (1, 2), (2, 1)])
def test_other_changes_of_channels_are_refused_with_the_flag(given_channels, wanted):
    with pytest.raises(DataError) as caught:
        set_channels(noise(2, 2, given_channels), wanted, "a.tif")
    error = caught.value
    assert ("a.tif", str(given_channels), str(wanted)) == (error.where, error.got, error.expected)
    assert f"--channels {given_channels}" in caught.value.hint


SIZES = [(7, 5), (40, 61), (13, 64)]


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "area"])
@pytest.mark.parametrize("size", SIZES)
def test_sixteen_bit_resize_is_that_of_eight_bit(interpolation, size):
    pixels = noise(31, 37, 3)
    eight = resize_pixels(pixels, *size, interpolation).astype(float)
    deep = resize_pixels(set_depth(pixels, 16), *size, interpolation)
    assert np.uint16 == deep.dtype
    # Pillow rounds 8 bit after each of its two passes, by up to one half each.
    assert np.abs(deep / 257 - eight).max() <= (0 if interpolation == "nearest" else 1.01)


@pytest.mark.parametrize("interpolation", ["bicubic", "lanczos"])
def test_filters_that_overshoot_stay_in_range_and_near_eight_bit(interpolation):
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = (40 + 3 * columns + rows % 7)[:, :, None].astype(np.uint8)
    deep = resize_pixels(set_depth(pixels, 16), 20, 30, interpolation)
    eight = resize_pixels(pixels, 20, 30, interpolation)
    assert np.abs(deep / 257 - eight.astype(float)).max() <= 1.01
    edge = np.zeros((8, 8, 1), np.uint16)
    edge[:, 4:] = 65535
    sharp = resize_pixels(edge, 16, 16, interpolation)
    assert (0, 65535) == (sharp.min(), sharp.max())


def test_sixteen_bit_resize_keeps_what_eight_bit_loses():
    pixels = np.full((32, 32, 1), 1000, np.uint16)
    pixels[:, 16:] = 1003
    small = resize_pixels(pixels, 8, 8, "bilinear")
    assert {1000, 1003} <= set(small.ravel().tolist()) <= {1000, 1001, 1002, 1003}


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_each_of_many_channels_is_resized_as_by_itself(dtype):
    pixels = noise(21, 30, 5, dtype=dtype)
    whole = resize_pixels(pixels, 9, 14, "bicubic")
    assert (9, 14, 5) == whole.shape
    for channel in range(5):
        alone = resize_pixels(pixels[:, :, channel : channel + 1], 9, 14, "bicubic")
        assert np.array_equal(alone[:, :, 0], whole[:, :, channel])


def test_fourth_channel_is_no_transparency():
    pixels = noise(16, 16, 4)
    pixels[:, :, 3] = 0
    small = resize_pixels(pixels, 8, 8, "bilinear")
    assert np.array_equal(resize_pixels(pixels[:, :, :3], 8, 8, "bilinear"), small[:, :, :3])


@pytest.mark.parametrize(("channels", "shown"), [(1, [0] * 3), (2, [0] * 3), (3, [0, 1, 2])])
def test_viewable_is_rgb_of_eight_bit(channels, shown):
    pixels = noise(3, 4, channels)
    assert np.array_equal(pixels[:, :, shown], viewable(pixels))
    assert np.array_equal(pixels[:, :, shown], viewable(set_depth(pixels, 16)))
    assert np.uint8 == viewable(set_depth(pixels, 16)).dtype


def test_viewable_shows_the_first_three_of_many_channels():
    pixels = noise(3, 4, 7, dtype=np.uint16)
    assert np.array_equal(set_depth(pixels[:, :, :3], 8), viewable(pixels))


def test_note_says_what_a_picture_leaves_out():
    assert viewable_note(3, 8) is None
    assert viewable_note(1, 8) is None
    assert "pictures show 16 bit scaled to 8" == viewable_note(1, 16)
    assert (
        "pictures show the first 3 of 5 channels as red, green and blue, 16 bit scaled to 8"
        == viewable_note(5, 16)
    )
