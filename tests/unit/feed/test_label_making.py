from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError
from discern.feed.draws import Draws
from discern.feed.label_making import (
    BlurLabel,
    FlareLabel,
    RotateLabel,
    blur_image,
    class_rotation,
    flare_image,
    make_labels,
    turn_image,
)


def picture(side=24, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (side, side, channels), dtype=np.uint8)


def evens(count, numbers):
    return Draws(1, 0).table(torch.arange(count), 7, numbers).numpy()


@pytest.mark.feature("CA-33")
def test_all_eight_turns_appear_and_tell_themselves():
    image = picture()
    rotate = RotateLabel()
    counts = np.zeros(8, int)
    for row in evens(1600, 3):
        made, factor = rotate.apply(image, row)
        expected = np.rot90(image, factor % 4)
        expected = expected[:, ::-1] if factor >= 4 else expected
        assert np.array_equal(expected, made)
        counts[factor] += 1
    assert counts == pytest.approx(200, rel=0.25)
    assert 8 == len({turn_image(image, factor).tobytes() for factor in range(8)})
    assert np.array_equal(image, turn_image(image, 0))


def test_turning_and_mirroring_can_be_left_out():
    rows = evens(200, 3)
    assert {0, 1, 2, 3} == {RotateLabel(flip=0.0).apply(picture(), r)[1] for r in rows}
    assert {0, 4} == {RotateLabel(rotate=0.0).apply(picture(), r)[1] for r in rows}


@pytest.mark.feature("CA-33")
def test_class_rotation_is_class_times_eight_and_factor():
    targets, factors = torch.tensor([0, 3, -1, 2]), torch.tensor([5, 0, 4, 7])
    assert [5, 24, -1, 23] == class_rotation(targets, factors).tolist()


def test_only_squares_are_turned():
    with pytest.raises(DataError):
        RotateLabel().apply(np.zeros((4, 6, 3), np.uint8), evens(1, 3)[0])


@pytest.mark.feature("CA-34")
def test_blur_has_its_real_kernel_and_reaches_the_top_class():
    image = picture()
    blur = BlurLabel()
    assert 8 == blur.classes == 9 - 3 + 2
    assert list(range(3, 10)) == [blur.kernel(factor) for factor in range(1, 8)]
    counts = np.zeros(8, int)
    for row in evens(1600, 1):
        made, factor = blur.apply(image, row)
        if factor:
            kernel = factor + 2
            assert np.array_equal(cv2.blur(image, (kernel, kernel)), made)
        else:
            assert np.array_equal(image, made)
        counts[factor] += 1
    assert counts == pytest.approx(200, rel=0.25)


@pytest.mark.feature("CA-34")
def test_blur_spreads_a_point_over_its_kernel():
    for kernel in range(3, 10):
        point = np.zeros((21, 21, 1), np.uint8)
        point[10, 10] = 255
        made = blur_image(point, kernel)[:, :, 0] > 0
        assert (kernel, kernel) == (made.any(1).sum(), made.any(0).sum())


@pytest.mark.feature("CA-34")
def test_flare_is_drawn_in_half_of_the_images():
    image = picture(48)
    flare = FlareLabel()
    assert 2 == flare.classes
    labels = []
    for row in evens(400, 4):
        made, label = flare.apply(image, row)
        changed = bool((made != image).any())
        assert changed == bool(label)
        assert (made >= image).all()
        labels.append(label)
    assert 0.5 == pytest.approx(np.mean(labels), abs=0.08)


def test_flare_shines_at_its_sun():
    image = np.full((60, 80, 3), 40, np.uint8)
    made = flare_image(image, (0.2, 0.7), 1.0)
    assert (12, 56) == divmod(int(made[:, :, 0].argmax()), 80)
    assert 255 == made.max()
    assert 40 == made[-1, 0].max()
    assert image.shape[:2] == flare_image(image[:, :, :1], (0.2, 0.7), 1.0).shape[:2]


def flare_in_full(image, sun, angle):
    """The same formula over the whole image, without boxes around the discs."""
    height, width = image.shape[:2]
    side = max(height, width)
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    top, left = sun[0] * height, sun[1] * width
    distance = np.hypot(rows - top, columns - left) / side
    light = np.clip(1.0 - 2.0 * distance, 0.0, 1.0) ** 2
    for number in range(1, 7):
        reach = side * 0.15 * number
        radius = side * (0.02 + 0.01 * (number * 5 % 7))
        middle = (top + reach * np.sin(angle), left + reach * np.cos(angle))
        disc = np.hypot(rows - middle[0], columns - middle[1]) < radius
        light = np.maximum(light, 0.15 * disc)
    lit = image + (255.0 - image) * light[:, :, None]
    return np.clip(np.rint(lit), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (40, 61, 3)])
def test_boxes_around_the_discs_of_a_flare_change_no_bit(shape):
    draws = np.random.default_rng(1)
    image = draws.integers(0, 256, shape, dtype=np.uint8)
    for down, along, turn in draws.random((50, 3)):
        sun, angle = (0.5 * down, along), 2 * np.pi * turn
        assert np.array_equal(flare_in_full(image, sun, angle), flare_image(image, sun, angle))


def test_labels_of_all_side_heads_depend_on_the_position_alone():
    transforms = {"rotation": RotateLabel(), "blur": BlurLabel(), "flare": FlareLabel()}
    assert [8, 8, 2] == [transform.classes for transform in transforms.values()]
    pixels = np.stack([picture(seed=k) for k in range(9)])
    positions = torch.tensor([4, 7, 0, 31, 2, 90, 11, 5, 3])
    draws = Draws(4, 2)
    whole, labels = make_labels(pixels, transforms, draws, positions)
    assert {"rotation", "blur", "flare"} == set(labels)
    for part in ([3], [8, 1], [5, 4, 0, 2]):
        made, own = make_labels(pixels[part], transforms, draws, positions[part])
        assert np.array_equal(whole[part], made)
        for name in labels:
            assert np.array_equal(labels[name][part], own[name])
    other, _ = make_labels(pixels, transforms, Draws(4, 3), positions)
    assert not np.array_equal(whole, other)


@pytest.mark.parametrize(
    "build",
    [
        lambda: RotateLabel(flip=1.5),
        lambda: BlurLabel(smallest=1),
        lambda: BlurLabel(smallest=9, largest=3),
        lambda: FlareLabel(probability=-0.1),
    ],
)
def test_bad_value_is_refused(build):
    with pytest.raises(ConfigError):
        build()
