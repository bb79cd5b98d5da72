"""Decoding, fitting and the rules that all commands share."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from discern.base.errors import ConfigError, DataError
from discern.data.images import Preprocess, check_image, decode_image, fit_image, read_header


def encode(pixels, form="PNG", **options):
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def preprocess(**changes):
    base = {"height": 4, "width": 4, "channels": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocess(**(base | changes))


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_their_pixels(form):
    pixels = noise(5, 7, 3)
    assert np.array_equal(pixels, decode_image(encode(pixels, form), channels=3))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "GIF"])
def test_other_formats_keep_size_and_format_name(form):
    header = read_header(encode(noise(5, 7, 3), form))
    assert (7, 5, form) == (header.width, header.height, header.format)


def test_first_image_of_a_multi_picture_file_counts():
    first, second = (Image.fromarray(noise(8, 8, 3, seed=n)) for n in (1, 2))
    data = encode(first, "MPO", save_all=True, append_images=[second], quality=90)
    assert "MPO" == read_header(data).format
    single = decode_image(encode(first, "JPEG", quality=90), channels=3)
    assert np.array_equal(single, decode_image(data, channels=3))


# For each EXIF orientation: what turns the upright array into the stored one.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    upright = noise(4, 6, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(np.ascontiguousarray(STORED[orientation](upright)), exif=exif)
    assert np.array_equal(upright, decode_image(data, channels=3))
    header = read_header(data)
    assert (6, 4) == (header.width, header.height)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_does_not_spoil_an_image():
    pixels = noise(4, 6, 3)
    data = encode(pixels, exif=b"Exif\0\0MM\0\x2a\0\0\xff\xff junk")
    assert np.array_equal(pixels, decode_image(data, channels=3))


def test_alpha_is_composited_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = (0, 255, 51)
    got = decode_image(encode(pixels), channels=3)
    assert [[255, 255, 255], [200, 0, 0], [244, 204, 204]] == got[0].tolist()


def test_grey_with_alpha_is_composited_and_stays_grey():
    image = Image.fromarray(np.array([[[10, 0], [10, 255]]], np.uint8), "LA")
    assert [[[255], [10]]] == decode_image(encode(image), channels=1).tolist()
    assert read_header(encode(image)).grey


def test_transparent_palette_color_becomes_white():
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([255, 0, 0, 0, 0, 255])
    data = encode(image, transparency=0)
    assert [[[255, 255, 255], [0, 0, 255]]] == decode_image(data, channels=3).tolist()


def test_palette_image_gives_its_colors_and_knows_a_grey_palette():
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([9, 8, 7, 1, 2, 3])
    assert [[[9, 8, 7], [1, 2, 3]]] == decode_image(encode(image), channels=3).tolist()
    assert not read_header(encode(image)).grey
    image.putpalette([9, 9, 9, 2, 2, 2])
    assert read_header(encode(image)).grey


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
    assert [255, 0, 0] == decode_image(encode(image, "TIFF"), channels=3)[0, 0].tolist()


def test_lab_becomes_srgb():
    data = encode(Image.new("LAB", (2, 2), (255, 128, 128)), "TIFF")
    assert np.allclose(255, decode_image(data, channels=3), atol=4)


def test_sixteen_bit_is_scaled_with_both_ends_kept():
    values = np.array([[0, 128, 129, 257, 32767, 65535]], np.uint16)
    got = decode_image(encode(Image.fromarray(values)), channels=1)
    assert [0, 0, 1, 1, 127, 255] == got[0, :, 0].tolist()


def test_one_bit_becomes_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert [[[255], [0]]] == decode_image(encode(image), channels=1).tolist()


@pytest.mark.feature("PP-11")
def test_grey_is_repeated_and_color_becomes_luma():
    grey = noise(3, 4)
    assert np.array_equal(np.stack([grey] * 3, 2), decode_image(encode(grey), channels=3))
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    assert 76 == decode_image(encode(red), channels=1).item()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_cut_off_image_is_an_error_that_names_it(form):
    data = encode(noise(64, 64, 3), form)
    for reading in (decode_cut, check_cut):
        with pytest.raises(DataError) as caught:
            reading(data[: len(data) // 2])
        assert "cats/7.jpg" == caught.value.where


def decode_cut(data):
    decode_image(data, channels=3, name="cats/7.jpg")


def check_cut(data):
    check_image(data, name="cats/7.jpg")


@pytest.mark.parametrize("data", [b"", b"<svg></svg>", b"%PDF-1.4 not an image", b"\xff\xd8\xff"])
def test_what_is_no_image_is_an_error_that_names_it(data):
    with pytest.raises(DataError) as caught:
        decode_image(data, channels=3, name="x.jpg")
    assert "x.jpg" == caught.value.where


def test_format_outside_the_list_is_refused():
    with pytest.raises(DataError, match="known format"):
        decode_image(encode(noise(4, 4, 3), "ICO"), channels=3)


@pytest.mark.parametrize("side", [9_000, 60_000])
def test_bomb_is_refused_before_it_is_decoded(side):
    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    for reading in (read_header, check_image, lambda d: decode_image(d, channels=3)):
        with pytest.raises(DataError, match="too many pixels"):
            reading(data)


def test_float_image_is_refused():
    data = encode(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    with pytest.raises(DataError, match="floating-point"):
        check_image(data)


def test_crop_follows_the_published_rounding():
    pixels = noise(301, 433, 3)
    got = fit_image(
        pixels, height=224, width=224, interpolation="bilinear", crop_pct=0.875, fit="crop"
    )
    resized = Image.fromarray(pixels).resize((int(256 * 433 / 301), 256), Image.Resampling.BILINEAR)
    left = int(round((resized.width - 224) / 2))  # noqa: RUF046
    assert np.array_equal(np.asarray(resized)[16:240, left : left + 224], got)


@given(
    tall=st.integers(1, 40),
    wide=st.integers(1, 40),
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    fit=st.sampled_from(["crop", "squish", "pad"]),
    crop_pct=st.sampled_from([1.0, 0.95, 0.875, 0.5]),
    channels=st.sampled_from([1, 3]),
)
@settings(max_examples=150)
def test_every_fit_gives_the_size_asked_for(tall, wide, height, width, fit, crop_pct, channels):
    got = fit_image(
        noise(tall, wide, channels),
        height=height,
        width=width,
        interpolation="bilinear",
        crop_pct=crop_pct,
        fit=fit,
    )
    assert (height, width, channels) == got.shape
    assert np.uint8 == got.dtype


def test_pad_keeps_the_whole_image_between_black_bars():
    white = np.full((4, 8, 1), 255, np.uint8)
    got = fit_image(white, height=8, width=8, interpolation="area", crop_pct=1.0, fit="pad")
    assert [0, 0, 255, 255, 255, 255, 0, 0] == got[:, 3, 0].tolist()


def test_image_of_the_right_size_is_untouched():
    pixels = noise(4, 4, 3)
    assert np.array_equal(pixels, preprocess().apply(pixels))


def test_apply_decodes_bytes_and_converts_channels():
    pixels = noise(4, 4, 3)
    assert np.array_equal(pixels, preprocess().apply(encode(pixels)))
    grey = preprocess(channels=1, mean=(0.5,), std=(0.5,)).apply(pixels)
    assert np.array_equal(np.asarray(Image.fromarray(pixels).convert("L")), grey[:, :, 0])


def test_record_makes_an_equal_preprocess():
    wanted = preprocess(interpolation="bicubic", crop_pct=0.9, fit="pad")
    assert wanted == Preprocess.from_record(wanted.record())


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"mean": (0.5,)},
        {"std": (0.0, 0.5, 0.5)},
        {"crop_pct": 0.0},
        {"crop_pct": 1.5},
        {"interpolation": "bilinaer"},
        {"fit": "stretch"},
        {"depth": 12},
        {"height": 0},
    ],
)
def test_impossible_preprocess_is_refused(change):
    with pytest.raises(ConfigError):
        preprocess(**change)


def test_unknown_key_of_a_record_names_the_nearest():
    with pytest.raises(ConfigError, match="crop_pct"):
        Preprocess.from_record(preprocess().record() | {"crop_pc": 1.0})
