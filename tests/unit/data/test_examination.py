"""One image looked at: nothing in it raises, and the fast way tells what the house rules tell."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from discern.base.errors import DataError
from discern.data.check_findings import KINDS, UNREADABLE
from discern.data.examination import examine, examine_pixels
from discern.data.images import decode_image, read_header

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")


@functools.cache
def seed(kind, mode="RGB", **options):
    small = np.random.default_rng(7).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC).convert(mode)
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_any_bytes_are_told_and_never_raise(data):
    found = examine(data, "image.jpg")
    assert found.picture is None
    assert found.faults[0].kind in UNREADABLE
    assert len(data) == found.size


@settings(max_examples=300)
@given(
    st.sampled_from(FORMATS),
    st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4),
    st.floats(0.2, 1.0),
)
def test_spoiled_images_are_readable_exactly_if_the_house_rules_read_them(kind, spoiled, rest):
    data = bytearray(seed(kind))
    for place, value in spoiled:
        data[int(place * len(data))] = value
    data = bytes(data[: max(1, int(rest * len(data)))])
    found = examine(data, "image")
    assert all(fault.kind in KINDS for fault in found.faults)
    try:
        header = read_header(data)
        decode_image(data, channels=3)
    except (DataError, TypeError):
        assert found.picture is None
        assert found.faults[0].kind in UNREADABLE
    else:
        assert (header.height, header.width) == (found.height, found.width)
        assert (32, 32, 3) == found.picture.shape


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_small_picture_stands_upright(kind, turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    data = seed(kind, exif=exif.tobytes())
    found = examine(data, "image")
    upright = Image.fromarray(decode_image(data, channels=3))
    expected = np.asarray(upright.resize((32, 32), Image.Resampling.BOX)).astype(int)
    assert (upright.height, upright.width) == (found.height, found.width)
    # Wrongly turned, it is off by 60; box means of a mirrored picture differ a little.
    assert np.abs(expected - found.picture).mean() < 6


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 100, "subsampling": 0}])
def test_plain_jpegs_have_the_header_that_the_house_rules_read(mode, options):
    data = seed("JPEG", mode, **options)
    found, header = examine(data, "image.jpg"), read_header(data)
    assert (header.height, header.width, header.grey) == (found.height, found.width, found.grey)
    assert () == found.faults


def test_pixels_in_memory_are_examined():
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 1), dtype=np.uint8)
    found = examine_pixels(pixels)
    assert (40, 30, True, 1200) == (found.height, found.width, found.grey, found.size)
    assert (32, 32, 3) == found.picture.shape
