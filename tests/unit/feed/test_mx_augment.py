from __future__ import annotations

from dataclasses import fields, replace

import cv2
import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.feed.draws import Draws
from discern.feed.mx_augment import AREA, BILINEAR, CUBIC, MxAugment

SQUARE = Preprocess(height=32, width=32, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)


def photo(height=60, width=90, channels=3):
    """Each pixel tells where it is: uint8 [H,W,C]."""
    rows, columns = np.mgrid[0:height, 0:width]
    stacked = np.stack([rows * 2, columns * 2, (rows + columns)], axis=-1)[..., :channels]
    return np.ascontiguousarray(stacked.astype(np.uint8))


def evens(count, seed=0):
    return Draws(seed, 0).table(torch.arange(count), 4, MxAugment.draws).numpy()


def boxes(augment, count, size=(60, 90)):
    """The random resized crops of `count` images."""
    pixels = np.zeros((*size, 1), np.uint8)
    return [augment._resized_box(pixels, row) for row in evens(count)]


def test_default_flags_cut_the_middle():
    pixels = photo()
    made = MxAugment().frame(pixels, evens(1)[0], SQUARE)
    assert np.array_equal(pixels[14:46, 29:61], made)
    assert () == MxAugment().policy().steps


@pytest.mark.feature("MX-36")
def test_random_crop_and_mirror_show_every_place():
    augment = MxAugment(random_crop=True, random_mirror=True)
    pixels = photo(36, 40)
    corners = set()
    for row in evens(900):
        made = augment.frame(pixels, row, SQUARE)
        top, left = made[0, 0, 0] // 2, made[0, 0, 1] // 2
        assert np.array_equal(pixels[top : top + 32, left : left + 32], made)
        corners.add((int(top), int(left)))
    assert {(y, x) for y in range(5) for x in range(9)} == corners
    (mirror,) = augment.policy().steps
    assert ("Mirror", 0.5) == (type(mirror.operation).__name__, mirror.probability)


@pytest.mark.feature("MX-36")
def test_border_shows_the_fill_value():
    assert 127 == MxAugment().fill_value
    made = MxAugment(pad_size=4, fill_value=9).frame(photo(24, 24), evens(1)[0], SQUARE)
    assert (made[:4] == 9).all()
    assert (made[:, -4:] == 9).all()
    assert np.array_equal(photo(24, 24), made[4:28, 4:28])


@pytest.mark.feature("MX-37")
def test_resized_crops_keep_area_and_ratio():
    augment = MxAugment(
        random_resized_crop=True,
        min_random_area=0.08,
        max_random_area=0.6,
        min_random_aspect_ratio=3 / 4,
        max_random_aspect_ratio=4 / 3,
    )
    found = boxes(augment, 3000, (300, 400))
    area = np.array([box.height * box.width for box in found]) / 120_000
    ratio = np.array([box.width / box.height for box in found])
    assert (0.08, 0.6) == pytest.approx((area.min(), area.max()), abs=0.004)
    assert (3 / 4, 4 / 3) == pytest.approx((ratio.min(), ratio.max()), abs=0.02)
    # Areas are drawn evenly.
    assert (0.6 - 0.08) / np.sqrt(12) == pytest.approx(area.std(), rel=0.04)
    assert 300 == max(box.top + box.height for box in found)
    assert 0 == min(box.left for box in found)


@pytest.mark.feature("MX-37")
def test_half_of_the_crops_swap_their_sides():
    augment = MxAugment(
        random_resized_crop=True,
        min_random_area=0.1,
        max_random_area=0.1,
        min_random_aspect_ratio=2.0,
        max_random_aspect_ratio=2.0,
    )
    ratio = np.array([box.width / box.height for box in boxes(augment, 2000, (300, 300))])
    assert {0.5, 2.0} == set(np.round(ratio, 2))
    assert 0.5 == pytest.approx((ratio < 1).mean(), abs=0.04)


@pytest.mark.feature("MX-37")
def test_crop_falls_back_to_the_middle_when_nothing_fits():
    augment = MxAugment(
        random_resized_crop=True,
        min_random_area=1.0,
        min_random_aspect_ratio=3.0,
        max_random_aspect_ratio=3.0,
    )
    assert [None] * 50 == boxes(augment, 50)
    pixels = photo()
    made = augment.frame(pixels, evens(1)[0], SQUARE)
    assert np.array_equal(pixels[14:46, 29:61], made)
    anywhere = [replace(augment, random_crop=True).frame(pixels, r, SQUARE) for r in evens(5)]
    assert len({image.tobytes() for image in anywhere}) > 1


@pytest.mark.feature("MX-37")
@pytest.mark.parametrize(
    "clash",
    [
        {"min_random_scale": 0.5},
        {"max_random_scale": 2.0},
        {"min_crop_size": 10, "max_crop_size": 20},
    ],
)
def test_resized_crop_refuses_other_scales_and_sizes(clash):
    with pytest.raises(ConfigError) as caught:
        MxAugment(random_resized_crop=True, min_random_area=0.5, **clash)
    assert f"augment.{next(iter(clash))}" == caught.value.where
    MxAugment(**clash)
    with pytest.raises(ConfigError):
        MxAugment(min_random_area=0.5)


@pytest.mark.feature("MX-38")
def test_angles_are_whole_and_even():
    augment = MxAugment(max_random_rotate_angle=10)
    counts = np.bincount([augment.angle(v) + 10 for v in evens(21_000)[:, 1]])
    assert 21 == len(counts)
    assert counts == pytest.approx(1000, rel=0.15)
    assert {30} == {MxAugment(rotate=30).angle(v) for v in evens(20)[:, 1]}
    listed = MxAugment(rotate=30, rotate_list=(0, 90, 180))
    assert {0, 90, 180} == {listed.angle(v) for v in evens(60)[:, 1]}


@pytest.mark.feature("MX-38")
def test_warp_turns_scales_and_fills():
    spot = np.zeros((61, 61, 1), np.uint8)
    spot[30, 50] = 255
    grey = replace(SQUARE, height=61, width=61, channels=1, mean=(0.5,), std=(0.5,))
    row = evens(1)[0]

    def found(augment):
        made = augment.frame(spot, row, grey)[:, :, 0].astype(int)
        return divmod(int(np.where(made == augment.fill_value, -1, made).argmax()), 61)

    # MXNet's matrix [[a, b], [-b, a]] sends x to -y at 90 degrees: counterclockwise on the screen.
    # It turns about side / 2, half a pixel off the middle pixel.
    assert (10, 30) == pytest.approx(found(MxAugment(rotate=90, fill_value=0)), abs=1)
    bigger = MxAugment(min_random_scale=1.4, max_random_scale=1.4, fill_value=0)
    assert (30, 58) == pytest.approx(found(bigger), abs=1)
    turned = MxAugment(rotate=45, fill_value=9).frame(spot, row, grey)
    assert [9, 9, 9, 9] == [int(turned[y, x, 0]) for y in (0, -1) for x in (0, -1)]


@pytest.mark.feature("MX-38")
def test_image_sizes_keep_their_limits():
    augment = MxAugment(min_random_scale=0.1, max_random_scale=4.0, max_img_size=100)
    for row in evens(50):
        warped = augment._warp(photo(), row)
        assert max(warped.shape[:2]) <= 100
    least = MxAugment(min_random_scale=0.1, max_random_scale=0.5, min_img_size=50)
    assert 50 == min(least._warp(photo(), row).shape[0] for row in evens(20))


@pytest.mark.feature("MX-39")
def test_crop_sizes_stay_in_their_range():
    augment = MxAugment(min_crop_size=20, max_crop_size=50, random_crop=True)
    sizes = [augment._crop_size(v) for v in evens(2000)[:, 7]]
    assert set(range(20, 51)) == set(sizes)
    fixed = MxAugment(min_crop_size=20, max_crop_size=20)
    pixels = photo()
    expected = cv2.resize(
        np.ascontiguousarray(pixels[20:40, 35:55]), (32, 32), interpolation=cv2.INTER_LINEAR
    )
    assert np.array_equal(expected, fixed.frame(pixels, evens(1)[0], SQUARE))


@pytest.mark.feature("MX-42")
@pytest.mark.parametrize(
    ("expected", "old", "new"),
    [
        (AREA, (100, 100), (50, 50)),
        (CUBIC, (20, 20), (50, 50)),
        (BILINEAR, (20, 100), (50, 50)),
        (BILINEAR, (50, 100), (50, 50)),
    ],
)
def test_auto_picks_area_to_shrink_and_cubic_to_enlarge(expected, old, new):
    assert expected == MxAugment(inter_method=9).method(old, new, 0.3)


@pytest.mark.feature("MX-42")
def test_methods_are_opencvs():
    pixels = photo(90, 90)
    for code in range(5):
        augment = MxAugment(resize=32, inter_method=code)
        expected = cv2.resize(pixels, (32, 32), interpolation=code)
        assert np.array_equal(expected, augment.frame(pixels, evens(1)[0], SQUARE))
    assert BILINEAR == MxAugment().inter_method
    drawn = {MxAugment(inter_method=10).method((9, 9), (5, 5), v) for v in evens(60)[:, 4]}
    assert {0, 1, 2, 3, 4} == drawn


@pytest.mark.feature("MX-43")
def test_order_of_the_steps_is_fixed():
    every = MxAugment(
        resize=40,
        random_crop=True,
        random_mirror=True,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        max_random_h=36,
        max_random_s=50,
        max_random_l=50,
        pca_noise=0.1,
    )
    steps = [type(step.operation).__name__ for step in every.policy().steps]
    assert ["ColorJitter", "HlsJitter", "Lighting", "Mirror"] == steps
    hls = every.policy().steps[1].operation
    assert (36, 50, 50) == (hls.hue, hls.saturation, hls.lightness)


@pytest.mark.feature("MX-43")
def test_order_of_the_framing_is_fixed():
    # Short edge to 20, scaled to 40, border of 6, then the middle: the other orders differ.
    augment = MxAugment(
        resize=20, min_random_scale=2.0, max_random_scale=2.0, pad_size=6, fill_value=200
    )
    pixels = np.full((60, 60, 3), 50, np.uint8)
    large = replace(SQUARE, height=52, width=52)
    made = augment.frame(pixels, evens(1)[0], large)
    assert (made[:6] == 200).all()
    inside = made[6:46, 6:46]
    assert (inside[2:-2, 2:-2] == 50).all()


@pytest.mark.feature("PP-12")
def test_images_too_small_for_the_crop_are_enlarged():
    for shape in ((10, 12), (40, 6), (1, 1), (32, 31)):
        made = MxAugment(random_crop=True).frame(photo(*shape), evens(1)[0], SQUARE)
        assert (32, 32, 3) == made.shape
    made = MxAugment(min_crop_size=50, max_crop_size=50).frame(photo(20, 30), evens(1)[0], SQUARE)
    assert (32, 32, 3) == made.shape


def test_grey_images_pass_every_flag():
    augment = MxAugment(
        resize=50,
        random_crop=True,
        pad_size=3,
        max_random_rotate_angle=20,
        max_random_shear_ratio=0.2,
        max_random_aspect_ratio=0.3,
        min_random_scale=0.8,
        max_random_scale=1.2,
        inter_method=10,
    )
    for row in evens(30):
        made = augment.frame(
            photo(channels=1), row, replace(SQUARE, channels=1, mean=(0.5,), std=(0.5,))
        )
        assert ((32, 32, 1), np.uint8) == (made.shape, made.dtype)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("resize", 0),
        ("pad_size", -1),
        ("fill_value", 256),
        ("brightness", 1.5),
        ("max_random_h", 181),
        ("max_random_rotate_angle", 181),
        ("max_random_shear_ratio", -0.1),
        ("inter_method", 5),
        ("min_crop_size", 10),
        ("pca_noise", -1.0),
        ("max_random_aspect_ratio", 1.0),
    ],
)
def test_bad_value_is_refused(key, value):
    with pytest.raises(ConfigError):
        MxAugment(**{key: value})


def test_flags_have_mxnets_names():
    flags = {field.name for field in fields(MxAugment)}
    assert {
        "random_crop", "random_mirror", "pad_size", "fill_value", "random_resized_crop",
        "min_random_area", "max_random_area", "min_random_aspect_ratio", "max_random_aspect_ratio",
        "max_random_rotate_angle", "max_random_shear_ratio", "min_random_scale", "max_random_scale",
        "rotate", "rotate_list", "min_img_size", "max_img_size", "min_crop_size", "max_crop_size",
        "brightness", "contrast", "saturation", "max_random_h", "max_random_s", "max_random_l",
        "pca_noise", "inter_method", "resize",
    } == flags  # fmt: skip
