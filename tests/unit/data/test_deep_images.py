"""16-bit color and many bands, out of files written here byte by byte."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.images import Preprocess, check_image, decode_image
from discern.data.pixel_arrays import set_depth

BANDS = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG 1.2: color types by the number of bands


def noise(*shape, seed=0, dtype=np.uint16):
    limit = np.iinfo(dtype).max + 1
    return np.random.default_rng(seed).integers(0, limit, shape, dtype=dtype)


def png(pixels, *, exif=b""):
    """A 16-bit PNG of uint16 [H, W, 1 to 4]."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(
            ">I", zlib.crc32(kind + data)
        )  # fmt: skip

    height, width, bands = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    head = struct.pack(">IIBBBBB", width, height, 16, BANDS[bands], 0, 0, 0)
    parts = chunk(b"IHDR", head) + (chunk(b"eXIf", exif) if exif else b"")
    return b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def orientation_exif(number):
    return b"MM\0\x2a\0\0\0\x08" + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, number, 0, 0)


def tiff(pixels, *, orientation=1, planar=1, extra=0):
    """An uncompressed TIFF of [H, W, C], uint8 or uint16, in one strip (a plane each if planar)."""
    height, width, bands = pixels.shape
    little = pixels.astype(pixels.dtype.newbyteorder("<"))
    parts = [little] if planar == 1 else [little[:, :, band] for band in range(bands)]
    data = b"".join(part.tobytes() for part in parts)
    each = len(data) // len(parts)
    usual = 3 if bands >= 3 else 1
    entries = [
        (256, "I", [width]), (257, "I", [height]), (258, "H", [8 * pixels.itemsize] * bands),
        (259, "H", [1]), (262, "H", [2 if bands >= 3 else 1]),
        (273, "I", [8 + part * each for part in range(len(parts))]), (274, "H", [orientation]),
        (277, "H", [bands]), (278, "I", [height]), (279, "I", [each] * len(parts)),
        (284, "H", [planar]),
    ]  # fmt: skip
    if bands > usual:
        entries.append((338, "H", [extra] * (bands - usual)))
    heap = 8 + len(data) + 2 + 12 * len(entries) + 4
    rows, values = b"", b""
    for tag, form, numbers in entries:
        packed = struct.pack(f"<{len(numbers)}{form}", *numbers)
        if len(packed) > 4:
            values, packed = values + packed, struct.pack("<I", heap + len(values))
        kind = 3 if form == "H" else 4
        rows += struct.pack("<HHI", tag, kind, len(numbers)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<I", 8 + len(data)) + data
    return head + struct.pack("<H", len(entries)) + rows + bytes(4) + values


def pages(*images, **options):
    first, *rest = [Image.fromarray(pixels) for pixels in images]
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=rest, **options)
    return stream.getvalue()


def read(data, channels, depth=16):
    return decode_image(data, channels=channels, name="a.img", depth=depth)


# ---- 16 bit ----


@pytest.mark.parametrize("write", [png, tiff])
@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bit_file_gives_its_values(write, bands):
    pixels = noise(5, 7, bands)
    got = read(write(pixels), bands)
    assert np.uint16 == got.dtype
    assert np.array_equal(pixels, got)


@pytest.mark.parametrize("white", [65535, 1023])
@pytest.mark.parametrize(("magic", "bands"), [("P5", 1), ("P6", 3)])
def test_portable_maps_are_scaled_to_all_of_the_range(magic, bands, white):
    pixels = np.random.default_rng(0).integers(0, white + 1, (5, 7, bands))
    data = f"{magic} # a comment 9\n7 5\n{white}\n".encode() + pixels.astype(">u2").tobytes()
    wanted = np.rint(pixels * (65535 / white))
    assert np.abs(wanted - read(data, bands)).max() <= 1


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_deflate"])
def test_compressed_tiff_gives_its_values(compression):
    values = noise(5, 7)
    assert np.array_equal(values[:, :, None], read(pages(values, compression=compression), 1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("bands", [1, 3])
def test_orientation_turns_sixteen_bit_as_it_turns_eight(orientation, bands):
    pixels = noise(5, 7, bands)
    eight = (pixels >> 8).astype(np.uint8)
    stream = io.BytesIO()
    exif = orientation_exif(orientation)
    flat = eight[:, :, 0] if bands == 1 else eight
    Image.fromarray(flat).save(stream, "PNG", exif=exif)
    wanted = decode_image(stream.getvalue(), channels=bands)
    assert np.array_equal(wanted, read(png(pixels, exif=exif), bands) >> 8)
    assert np.array_equal(wanted, read(tiff(pixels, orientation=orientation), bands) >> 8)


def test_alpha_of_sixteen_bit_is_composited_on_white():
    pixels = np.zeros((1, 3, 4), np.uint16)
    pixels[0, :, 0] = 1000
    pixels[0, :, 3] = (0, 65535, 13107)
    got = read(png(pixels), 3)
    assert [[65535] * 3, [1000, 0, 0], [52628, 52428, 52428]] == got[0].tolist()
    assert np.array_equal(got, read(tiff(pixels, extra=2), 3))
    assert [1000, 0, 0] == read(tiff(pixels, extra=0), 3)[0, 0].tolist()


def test_grey_with_alpha_of_sixteen_bit():
    pixels = np.array([[[500, 65535], [500, 0]]], np.uint16)
    assert [[[500], [65535]]] == read(png(pixels), 1).tolist()
    assert [[[500] * 3, [65535] * 3]] == read(png(pixels), 3).tolist()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_eight_bit_files_at_sixteen_bit_are_those_of_eight_times_257(form):
    stream = io.BytesIO()
    Image.fromarray(noise(6, 8, 3, dtype=np.uint8)).save(stream, form)
    eight = decode_image(stream.getvalue(), channels=3)
    assert np.array_equal(eight.astype(int) * 257, read(stream.getvalue(), 3))


def test_at_eight_bit_nothing_has_changed():
    pixels = noise(5, 7)
    got = read(png(pixels[:, :, None]), 1, depth=8)
    assert np.array_equal((pixels.astype(int) + 128) // 257, got[:, :, 0])
    assert np.uint8 == got.dtype


def test_planes_apart_are_refused_and_not_read_wrong():
    with pytest.raises(DataError) as caught:
        read(tiff(noise(5, 7, 3), planar=2), 3)
    assert "a.img" == caught.value.where


@pytest.mark.parametrize("write", [png, tiff])
def test_cut_off_sixteen_bit_color_is_an_error_that_names_it(write):
    data = write(noise(64, 64, 3))
    with pytest.raises(DataError) as caught:
        read(data[: len(data) // 2], 3)
    assert "a.img" == caught.value.where


# ---- many bands ----


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [2, 5, 7])
def test_pages_of_a_tiff_are_its_bands(dtype, count):
    pixels = noise(5, 7, count, dtype=dtype)
    data = pages(*[np.ascontiguousarray(pixels[:, :, page]) for page in range(count)])
    check_image(data)
    own = 8 * np.dtype(dtype).itemsize
    assert np.array_equal(pixels, read(data, count, depth=own))
    other = read(data, count, depth=24 - own)
    assert np.array_equal(set_depth(pixels, 24 - own), other)


def test_bands_of_all_pages_count_together():
    color, grey = noise(5, 7, 3, dtype=np.uint8), noise(5, 7, dtype=np.uint8)
    got = read(pages(color, grey), 4, depth=8)
    assert np.array_equal(np.concatenate([color, grey[:, :, None]], 2), got)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("write", [png, tiff])
def test_alpha_is_a_band_like_others_among_four(write, dtype):
    pixels = noise(5, 7, 4, dtype=dtype)
    if dtype == np.uint8 and write is png:
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "PNG")
        data = stream.getvalue()
    else:
        data = write(pixels)
    assert np.array_equal(pixels, read(data, 4, depth=8 * pixels.itemsize))


def test_other_number_of_bands_is_an_error_with_the_flag():
    data = pages(*[noise(5, 7, dtype=np.uint8, seed=page) for page in range(5)])
    for wanted, got in ((2, "3 or more"), (4, "5"), (6, "5")):
        with pytest.raises(DataError, match="other channels") as caught:
            read(data, wanted, depth=8)
        assert ("a.img", got, str(wanted)) == (
            caught.value.where, caught.value.got, caught.value.expected,
        )  # fmt: skip


def test_pages_of_different_sizes_are_refused():
    with pytest.raises(DataError, match="differ in size"):
        read(pages(noise(5, 7), noise(5, 8)), 2)


@pytest.mark.parametrize("planar", [1, 2])
def test_five_bands_in_one_page_are_refused_with_a_way_out(planar):
    with pytest.raises(DataError) as caught:
        read(tiff(noise(5, 7, 5, dtype=np.uint8), planar=planar), 5, depth=8)
    assert "a.img" == caught.value.where


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_are_read_or_refused_and_nothing_else():
    files = [
        (png(noise(9, 7, 3)), 3),
        (png(noise(9, 7, 2)), 1),
        (tiff(noise(9, 7, 3)), 3),
        (tiff(noise(9, 7, 4)), 4),
        (pages(*[noise(9, 7) for _ in range(5)]), 5),
        (b"P6\n7 9\n65535\n" + noise(9, 7, 3).tobytes(), 3),
    ]
    draws = np.random.default_rng(1)
    told = []
    for number in range(600):
        data, channels = files[number % len(files)]
        damaged = bytearray(data)
        for _ in range(draws.integers(1, 6)):
            damaged[draws.integers(len(damaged))] = draws.integers(256)
        try:
            read(bytes(damaged), channels)
        except DataError as error:
            told.append(error.where)
    assert {"a.img"} == set(told)
    assert 100 < len(told) < 600


# ---- what evaluation makes of them ----


def test_preprocess_of_depth_16_resizes_without_losing_bits():
    values = np.full((40, 40, 1), 20_000, np.uint16)
    values[:, 20:] = 20_005
    settings = {"height": 10, "width": 10, "channels": 1, "mean": (0.0,), "std": (1.0,)}
    deep = Preprocess(**settings, depth=16)
    for image in (png(values), values):
        got = deep.apply(image)
        assert (np.uint16, (10, 10, 1)) == (got.dtype, got.shape)
        assert (20_000, 20_005) == (got[0, 0, 0], got[0, 9, 0])
        assert {78} == set(Preprocess(**settings).apply(image).ravel().tolist())
    assert deep == Preprocess.from_record(deep.record())


def test_preprocess_takes_any_number_of_channels():
    pixels = noise(9, 12, 6, dtype=np.uint8)
    settings = {"height": 6, "width": 6, "mean": (0.5,) * 6, "std": (0.5,) * 6}
    assert (6, 6, 6) == Preprocess(**settings, channels=6).apply(pixels).shape
    padded = Preprocess(**settings, channels=6, fit="pad").apply(pixels)
    assert (0, False) == (padded[0].max(), padded[2].max() == 0)
