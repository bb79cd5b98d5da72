from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.feed.augment import PhotoAugment
from discern.feed.photo import CropBox, photo_reader, random_crop


def rows(count, augment, seed=0):
    return np.random.default_rng(seed).random((count, augment.draws))


def test_crops_keep_area_shape_and_borders():
    augment = PhotoAugment(scale=(0.2, 0.8), ratio=(0.5, 2.0))
    boxes = [random_crop(375, 500, augment, row) for row in rows(3000, augment)]
    areas = np.array([box.height * box.width / (375 * 500) for box in boxes])
    shapes = np.array([box.width / box.height for box in boxes])
    assert 0.195 < areas.min() < 0.22
    assert 0.75 < areas.max() < 0.805
    assert 0.49 < shapes.min() < 0.55
    assert 1.8 < shapes.max() < 2.02
    assert all(box.top >= 0 and box.left >= 0 for box in boxes)
    assert 375 == max(box.top + box.height for box in boxes)
    assert 500 == max(box.left + box.width for box in boxes)
    assert 0 == min(box.top for box in boxes) == min(box.left for box in boxes)


def test_crop_has_the_values_of_its_draws():
    augment = PhotoAugment(scale=(0.25, 0.25), ratio=(1.0, 1.0), tries=1)
    assert CropBox(0, 0, 50, 50) == random_crop(100, 100, augment, np.array([0, 0, 0, 0, 0.9]))
    row = np.array([0.3, 0.3, 0.5, 0.999, 0.9])
    assert CropBox(25, 50, 50, 50) == random_crop(100, 100, augment, row)


@pytest.mark.parametrize(
    ("expected", "size"),
    [
        (CropBox(0, 433, 100, 133), (100, 1000)),
        (CropBox(433, 0, 133, 100), (1000, 100)),
        (CropBox(0, 0, 100, 100), (100, 100)),
        (CropBox(0, 0, 1, 1), (1, 2)),
    ],
)
def test_no_fitting_try_gives_the_center(expected, size):
    augment = PhotoAugment(tries=0)
    assert expected == random_crop(*size, augment, rows(1, augment)[0])


def test_one_pixel_image_can_be_cropped():
    augment = PhotoAugment()
    for row in rows(50, augment):
        assert CropBox(0, 0, 1, 1) == random_crop(1, 1, augment, row)


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "area"])
def test_part_is_cropped_then_resized(settings, interpolation, array_source):
    shape = (40, 50, settings.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    augment = PhotoAugment(flip=False)
    row = rows(1, augment, seed=3)[0]
    out = np.empty((8, 10, settings.channels), np.uint8)
    chosen = replace(settings, interpolation=interpolation, fit="crop", crop_pct=0.5)
    photo_reader(chosen, augment)(array_source([pixels]), 0, row, out)
    box = random_crop(40, 50, augment, row)
    part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
    name = "BOX" if interpolation == "area" else interpolation.upper()
    image = Image.fromarray(part.squeeze()).resize((10, 8), Image.Resampling[name])
    assert np.array_equal(np.asarray(image).reshape(out.shape), out)


@pytest.mark.parametrize("flipped", [True, False])
def test_reader_mirrors_half_of_the_images(color, array_source, flipped):
    pixels = color.random_pixels(1)
    augment = PhotoAugment(scale=(1.0, 1.0), ratio=(1.25, 1.25), tries=0)
    out = np.empty_like(pixels[0])
    row = np.array([0.0, 0.0, 0.4999 if flipped else 0.5])
    photo_reader(color, augment)(array_source(pixels), 0, row, out)
    assert np.array_equal(pixels[0][:, ::-1] if flipped else pixels[0], out)


def test_reader_decodes_files(settings, array_source):
    data = io.BytesIO()
    Image.new("RGB", (60, 40), (200, 200, 200)).save(data, "JPEG", quality=95)
    source = array_source([data.getvalue()])
    for row in (None, rows(1, PhotoAugment())[0]):
        out = np.zeros((8, 10, settings.channels), np.uint8)
        photo_reader(settings, PhotoAugment())(source, 0, row, out)
        assert np.abs(out.astype(int) - 200).max() <= 2


def test_grey_pixels_are_fed_to_a_color_network(color, array_source):
    source = array_source([np.full((30, 30, 1), 77, np.uint8)])
    out = np.zeros((8, 10, 3), np.uint8)
    for row in (None, rows(1, PhotoAugment())[0]):
        photo_reader(color, PhotoAugment())(source, 0, row, out)
        assert (out == 77).all()


def test_damaged_file_is_named(color, array_source):
    data = io.BytesIO()
    Image.effect_noise((60, 40), 50).save(data, "JPEG")
    source = array_source([data.getvalue()[:-200]])
    out = np.zeros((8, 10, 3), np.uint8)
    for row in (None, rows(1, PhotoAugment())[0]):
        with pytest.raises(DataError) as caught:
            photo_reader(color, PhotoAugment())(source, 0, row, out)
        assert "image-0.png" == caught.value.where
