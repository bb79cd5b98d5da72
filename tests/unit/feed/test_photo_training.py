from __future__ import annotations

import io
import struct
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from discern.base.errors import ConfigError, DataError
from discern.feed.augment import PhotoAugment
from discern.feed.photo import photo_reader, random_crop
from discern.feed.photo_resize import Turn, resize_into
from discern.feed.photo_training import training_reader

SIDE = 64


def photo(height, width, seed=0, blur=1.0):
    """Waves of all lengths and edges, as a photo has them."""
    generator = np.random.default_rng(seed)
    noise = Image.fromarray(generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    spots = noise.resize((max(1, width // 12), max(1, height // 12)), Image.Resampling.BOX)
    soft = spots.resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(soft, noise.filter(ImageFilter.GaussianBlur(blur)), 0.3)


def saved(image, form="JPEG", **options):
    data = io.BytesIO()
    image.save(data, form, **options)
    return data.getvalue()


def exif(orientation):
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)


def rows(count, augment, seed=0):
    return np.random.default_rng(seed).random((count, augment.draws))


@pytest.fixture
def square(color):
    return replace(color, height=SIDE, width=SIDE)


def both(preprocess, augment, source, position, row, **options):
    """What the training reader and the reference make of the same draws, int [H,W,C] each."""
    shape = (preprocess.height, preprocess.width, preprocess.channels)
    ours, expected = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    training_reader(preprocess, augment, **options)(source, position, row, ours)
    photo_reader(preprocess, augment)(source, position, row, expected)
    return ours.astype(int), expected.astype(int)


@pytest.mark.parametrize(("height", "width"), [(90, 120), (60, 50), (300, 400)])
@pytest.mark.parametrize("subsampling", [0, 2])
def test_parts_are_those_of_the_reference(square, array_source, height, width, subsampling):
    source = array_source([saved(photo(height, width), quality=92, subsampling=subsampling)])
    augment = PhotoAugment(scale=(0.2, 1.0))
    for row in rows(20, augment):
        ours, expected = both(square, augment, source, 0, row)
        assert 3.0 > np.abs(ours - expected).mean()
        shifted = np.abs(ours[:, 2:] - expected[:, :-2]).mean()
        assert shifted > 1.5 * np.abs(ours - expected).mean()


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_honored(square, array_source, orientation, flipped):
    narrow = replace(square, height=40, width=56)
    source = array_source([saved(photo(90, 120), quality=95, exif=exif(orientation))])
    augment = PhotoAugment(scale=(0.3, 0.6))
    row = rows(1, augment, seed=orientation)[0]
    row[-1] = 0.1 if flipped else 0.9
    ours, expected = both(narrow, augment, source, 0, row)
    assert 2.0 > np.abs(ours - expected).mean()


def test_grey_network_gets_the_parts_of_the_reference(array_source, square):
    grey = replace(square, channels=1, mean=(0.5,), std=(0.5,))
    images = [saved(photo(90, 120)), saved(photo(90, 120).convert("L"))]
    augment = PhotoAugment()
    for position in (0, 1):
        for row in rows(5, augment):
            ours, expected = both(grey, augment, array_source(images), position, row)
            assert 2.0 > np.abs(ours - expected).mean()


@pytest.mark.parametrize(
    "data",
    [
        saved(photo(90, 120).convert("CMYK")),
        saved(photo(90, 120), "PNG"),
        saved(photo(90, 120).quantize(dither=Image.Dither.NONE), "PNG"),
        saved(photo(90, 120).convert("LA"), "PNG"),
        saved(photo(90, 120), "WEBP"),
        saved(photo(90, 120), progressive=True),
        saved(photo(90, 120).convert("L")),
    ],
    ids=["cmyk", "png", "palette", "alpha", "webp", "progressive", "grey"],
)
def test_every_kind_of_file_is_read(square, array_source, data):
    augment = PhotoAugment()
    for row in rows(3, augment):
        ours, expected = both(square, augment, array_source([data]), 0, row)
        assert 3.0 > np.abs(ours - expected).mean()


def test_pixels_in_memory_are_read(settings, array_source):
    pixels = np.asarray(photo(60, 80))
    for image in (pixels, pixels[:, :, :1].copy()):
        augment = PhotoAugment(scale=(0.05, 0.05))
        for row in rows(3, augment):
            ours, expected = both(settings, augment, array_source([image]), 0, row)
            assert 3.0 > np.abs(ours - expected).mean()


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("kept", [0.2, 0.6, 0.99])
def test_cut_off_file_is_the_error_of_the_reference(square, array_source, kept, orientation):
    data = saved(photo(200, 200), exif=exif(orientation))
    source = array_source([data[: int(len(data) * kept)]])
    augment = PhotoAugment()
    out = np.zeros((SIDE, SIDE, 3), np.uint8)
    for row in rows(5, augment):
        told = []
        for reader in (training_reader(square, augment), photo_reader(square, augment)):
            with pytest.raises(DataError) as caught:
                reader(source, 0, row, out)
            told.append(str(caught.value))
        assert told[0] == told[1]
        assert "image-0.png" in told[0]


def test_damage_that_pillow_bears_is_borne(square, array_source):
    data = bytearray(saved(photo(200, 200)))
    data[len(data) // 2 : len(data) // 2 + 8] = b"\xff\x00" * 4
    augment = PhotoAugment(scale=(0.9, 1.0))
    source = array_source([bytes(data)])
    for row in rows(3, augment):
        ours, expected = both(square, augment, source, 0, row)
        assert 3.0 > np.abs(ours - expected).mean()


def test_without_random_numbers_the_reference_reads(square, array_source):
    source = array_source([saved(photo(90, 120))])
    ours, expected = both(square, PhotoAugment(), source, 0, None)
    np.testing.assert_array_equal(expected, ours)


def test_nearest_stays_nearest(square, array_source):
    source = array_source([saved(photo(90, 120))])
    chosen = replace(square, interpolation="nearest")
    for row in rows(3, PhotoAugment()):
        ours, expected = both(chosen, PhotoAugment(), source, 0, row)
        np.testing.assert_array_equal(expected, ours)


def test_unknown_resample_is_refused(square):
    with pytest.raises(ConfigError, match="mixed"):
        training_reader(square, PhotoAugment(), "mixt")


def stripes(height, width, period, *, across):
    """Lines of `period` pixels, half white and half black."""
    line = (np.arange(width if across else height) % period < period // 2) * np.uint8(255)
    image = line[None, :] if across else line[:, None]
    shape = (height, width)
    return np.repeat(np.broadcast_to(image, shape)[:, :, None], 3, axis=2).copy()


@pytest.mark.parametrize("across", [True, False])
@pytest.mark.parametrize("shrink", [1.6, 1.9, 2.3, 2.5, 2.9, 3.4, 5.0, 9.0])
@pytest.mark.parametrize("other", [0.8, 1.0, 1.4])
def test_mixed_is_antialiased_where_an_axis_shrinks(shrink, other, across):
    long, short = round(SIDE * shrink), round(SIDE * other)
    size = (short, long) if across else (long, short)
    part = stripes(*size, 2, across=across)
    out = np.zeros((SIDE, SIDE, 3), np.uint8)
    resize_into(out, part, Turn(), "mixed")
    expected = np.asarray(Image.fromarray(part).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    # Finer than the output can show: an even grey, as the reference has it, and no false stripes.
    assert 40 > np.abs(out.astype(int) - expected).mean()
    assert 45 > out.std()
    resize_into(out, part, Turn(), "fast")
    assert shrink > 2 or out.std() > 45


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resample", ["mixed", "fast"])
@pytest.mark.parametrize("shrink", [0.5, 1.0, 1.7, 4.0])
def test_turns_write_into_the_batch(channels, resample, shrink):
    generator = np.random.default_rng(0)
    tall, wide = round(6 * shrink), round(8 * shrink)
    part = generator.integers(0, 256, (tall, wide, channels), dtype=np.uint8)
    batch = np.zeros((2, 6, 8, channels), np.uint8)
    resize_into(batch[0], part, Turn(), resample)
    upright = batch[0].copy()
    assert upright.any()
    for down_up in (False, True):
        for left_right in (False, True):
            resize_into(batch[0], part, Turn(False, down_up, left_right), resample)
            expected = upright[:: -1 if down_up else 1, :: -1 if left_right else 1]
            np.testing.assert_array_equal(expected, batch[0])
    turned = np.ascontiguousarray(part.transpose(1, 0, 2))
    resize_into(batch[0], turned, Turn(transpose=True), resample)
    assert 1 >= np.abs(batch[0].astype(int) - upright).max()
    assert not batch[1].any()


def test_difference_to_pillow_on_real_photos(shared_data, color, array_source):
    """The bounds that the documentation states, on 40 of the photos."""
    with tarfile.open(shared_data / "imagenet_samples" / "imagenet_samples_400.tar") as archive:
        members = [member for member in archive if member.isfile()][::10]
        images = [archive.extractfile(member).read() for member in members]
    preprocess = replace(color, height=224, width=224)
    augment = PhotoAugment(scale=(0.08, 1.0))
    means, tails = [], []
    for position, row in enumerate(rows(len(images), augment)):
        ours, expected = both(preprocess, augment, array_source(images), position, row)
        difference = np.abs(ours - expected)
        means.append(difference.mean())
        tails.append(np.percentile(difference, 99))
    assert 0.8 > np.mean(means)
    assert 6.0 > np.mean(tails)
    assert 4.0 > max(means)


def test_crop_is_drawn_in_the_upright_image():
    augment = PhotoAugment(scale=(0.5, 0.5), ratio=(2.0, 2.0), tries=3)
    row = rows(1, augment)[0]
    assert random_crop(100, 300, augment, row) != random_crop(300, 100, augment, row)
