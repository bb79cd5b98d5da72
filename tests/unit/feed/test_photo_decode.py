from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from discern.data.images import decode_image
from discern.feed.photo import CropBox
from discern.feed.photo_decode import decode_part, read_frame

FULL = (10_000, 10_000)  # wanted sizes that forbid a smaller scale


def photo(height, width, mode="RGB", seed=0):
    """Smooth noise: like a photo it has all frequencies, the low ones more."""
    generator = np.random.default_rng(seed)
    shape = (height, width) if mode == "L" else (height, width, 3)
    noise = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
    return noise.filter(ImageFilter.GaussianBlur(1.5))


def jpeg(image, **options):
    data = io.BytesIO()
    image.save(data, "JPEG", **{"quality": 90, **options})
    return data.getvalue()


def exif(orientation, order="<"):
    """An EXIF block with a short of another tag before the orientation."""
    entries = struct.pack(order + "HHIHH", 0x0106, 3, 1, 2, 0)
    entries += struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    start = b"II*\0" if order == "<" else b"MM\0*"
    return b"Exif\0\0" + start + struct.pack(order + "IH", 8, 2) + entries + bytes(4)


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
def test_plain_jpeg_has_a_frame(mode, progressive):
    frame = read_frame(jpeg(photo(70, 90, mode), progressive=progressive))
    assert (70, 90, 1, not progressive) == (*frame[:3], frame.one_scan)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_that_of_exif(orientation, order):
    data = jpeg(photo(30, 40), exif=exif(orientation, order))
    assert orientation == read_frame(data).orientation
    upright = decode_image(data, channels=3)
    assert ((40, 30) if orientation > 4 else (30, 40)) == upright.shape[:2]


@pytest.mark.parametrize("form", ['="6"', ">6<"])
def test_orientation_of_xmp_counts_where_exif_has_none(form):
    data = jpeg(photo(30, 40), xmp=f"<x tiff:Orientation{form}>".encode())
    assert (40, 30) == decode_image(data, channels=3).shape[:2]
    assert 6 == read_frame(data).orientation
    both = jpeg(photo(30, 40), xmp=f"<x tiff:Orientation{form}>".encode(), exif=exif(3))
    assert (30, 40) == decode_image(both, channels=3).shape[:2]
    assert 3 == read_frame(both).orientation


def saved(image, form, **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        saved(photo(20, 20), "PNG"),
        saved(photo(20, 20), "WEBP"),
        jpeg(photo(20, 20).convert("CMYK")),
        jpeg(photo(20, 20), exif=b"Exif\0\0II*\0" + bytes([200, 0, 0, 0, 0, 0])),
        jpeg(photo(20, 20), exif=exif(9)),
        jpeg(photo(20, 20))[:300],
    ],
    ids=["empty", "start", "ends", "png", "webp", "cmyk", "exif", "ninth", "header"],
)
def test_all_else_is_left_to_pillow(data):
    assert read_frame(data) is None


def test_frame_over_the_limit_of_pixels_is_left_to_pillow():
    data = bytearray(jpeg(photo(20, 20)))
    at = read_frame(bytes(data)).height_at
    data[at : at + 4] = struct.pack(">HH", 60_000, 60_000)
    assert read_frame(bytes(data)) is None


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{"progressive": True}, {"restart_marker_rows": 1}, {}])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), data=st.data())
@settings(max_examples=12)
def test_part_has_pillows_values(mode, options, subsampling, size, data):
    encoded = jpeg(photo(*size, mode), subsampling=subsampling, **options)
    top = data.draw(st.integers(0, size[0] - 1))
    left = data.draw(st.integers(0, size[1] - 1))
    height = data.draw(st.integers(1, size[0] - top))
    width = data.draw(st.integers(1, size[1] - left))
    box = CropBox(top, left, height, width)
    part = decode_part(encoded, read_frame(encoded), box, FULL, 3)
    expected = decode_image(encoded, channels=3)[top : top + height, left : left + width]
    np.testing.assert_array_equal(expected, part)


def test_grey_of_a_color_photo_is_near_pillows():
    encoded = jpeg(photo(64, 64))
    part = decode_part(encoded, read_frame(encoded), CropBox(0, 0, 64, 64), FULL, 1)
    expected = decode_image(encoded, channels=1)
    assert (64, 64, 1) == part.shape
    assert 2 >= np.abs(part.astype(int) - expected).max()


def test_rows_below_the_part_are_not_decoded():
    encoded = bytearray(jpeg(photo(320, 64)))
    frame = read_frame(bytes(encoded))
    expected = decode_image(bytes(encoded), channels=3)[:64]
    # Nine tenths in, where only the rows below stand, the data becomes another image's.
    where = len(encoded) * 9 // 10
    encoded[where : where + 40] = bytes(40)
    part = decode_part(bytes(encoded), frame, CropBox(0, 0, 64, 64), FULL, 3)
    np.testing.assert_array_equal(expected, part)
    with pytest.raises(ValueError, match="Corrupt"):
        decode_part(bytes(encoded), frame, CropBox(0, 0, 320, 64), FULL, 3)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("height", [16, 120, 160])
def test_file_that_is_cut_off_is_refused_even_for_its_first_rows(kept, height):
    encoded = jpeg(photo(160, 160))
    cut = encoded[: int(len(encoded) * kept)]
    with pytest.raises(ValueError, match=r"Premature end|Unsupported|Corrupt"):
        decode_part(cut, read_frame(cut), CropBox(0, 0, height, 160), FULL, 3)


@pytest.mark.parametrize("subsampling", [0, 2])
@pytest.mark.parametrize(("factor", "side"), [(2, 64), (4, 127), (8, 300)])
def test_large_part_comes_at_a_smaller_scale(factor, side, subsampling):
    pixels = photo(500, 400).filter(ImageFilter.GaussianBlur(2 * factor))
    encoded = jpeg(pixels, subsampling=subsampling, quality=95)
    size = (side // factor, side // factor)
    box = CropBox(10 * factor, 5 * factor, side, side)
    part = decode_part(encoded, read_frame(encoded), box, size, 3)
    assert (round(side / factor), round(side / factor)) == part.shape[:2]
    upright = decode_image(encoded, channels=3)
    inside = upright[box.top : box.top + side, box.left : box.left + side]
    expected = np.asarray(Image.fromarray(inside).resize(part.shape[1::-1], Image.Resampling.BOX))
    difference = np.abs(part.astype(int) - expected)
    assert 1.0 > difference.mean()
    assert 6 >= difference.max()
