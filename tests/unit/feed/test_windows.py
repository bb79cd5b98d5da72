from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.feed.augment import SmallImageAugment
from discern.feed.draws import Draws
from discern.feed.windows import CropWindows, Shifts, check_pad, crop_batch, draw_shifts


def plainly_cropped(pixels, augment, shifts):
    """The same by np.pad, slicing and reversal, one image after the other."""
    pad = ((augment.pad, augment.pad), (augment.pad, augment.pad), (0, 0))
    height, width = pixels.shape[1:3]
    out = []
    for image, top, left, flip in zip(pixels, *(part.tolist() for part in shifts), strict=True):
        if augment.border == "reflect":
            padded = np.pad(image, pad, mode="reflect")
        else:
            padded = np.pad(image, pad, constant_values=augment.fill)
        cut = padded[top : top + height, left : left + width]
        out.append(cut[:, ::-1] if flip else cut)
    return np.stack(out)


AUGMENTS = [
    SmallImageAugment(pad=3),
    SmallImageAugment(pad=4, fill=127),
    SmallImageAugment(pad=2, border="reflect"),
    SmallImageAugment(pad=7, border="reflect"),
    SmallImageAugment(pad=3, flip=False),
    SmallImageAugment(pad=0),
]


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("mirror", [True, False])
def test_windows_are_plain_slices_of_every_image(settings, augment, mirror):
    pixels = settings.random_pixels(300)
    shifts = draw_shifts(augment, Draws(3, 1), torch.arange(300))
    windows = CropWindows(torch.from_numpy(pixels), augment, mirror=mirror)
    out = torch.empty(pixels.shape, dtype=torch.uint8)
    got = windows.take(windows.begins(torch.arange(300), shifts), shifts.flip, out)
    assert np.array_equal(plainly_cropped(pixels, augment, shifts), got.numpy())


@pytest.mark.parametrize("augment", AUGMENTS)
def test_crop_without_kept_windows_is_the_same(settings, augment):
    pixels = settings.random_pixels(50)
    shifts = draw_shifts(augment, Draws(3, 1), torch.arange(50))
    got = crop_batch(torch.from_numpy(pixels.copy()), augment, shifts)
    assert np.array_equal(plainly_cropped(pixels, augment, shifts), got.numpy())


@pytest.mark.parametrize("top", [0, 6])
@pytest.mark.parametrize("left", [0, 6])
@pytest.mark.parametrize("flip", [True, False])
def test_corners_of_the_first_and_last_image(settings, top, left, flip):
    augment = SmallImageAugment(pad=3)
    pixels = settings.random_pixels(5)
    shifts = Shifts(torch.full((5,), top), torch.full((5,), left), torch.full((5,), flip))
    windows = CropWindows(torch.from_numpy(pixels), augment, mirror=True)
    out = torch.empty(pixels.shape, dtype=torch.uint8)
    got = windows.take(windows.begins(torch.arange(5), shifts), shifts.flip, out)
    assert np.array_equal(plainly_cropped(pixels, augment, shifts), got.numpy())


def test_shifts_fill_their_range_evenly():
    shifts = draw_shifts(SmallImageAugment(pad=4), Draws(0, 0), torch.arange(90_000))
    for part in (shifts.top, shifts.left):
        counts = np.bincount(part.numpy(), minlength=9)
        assert 9 == len(counts)
        assert ((counts - 10_000) ** 2 / 10_000).sum() < 30  # 8 degrees of freedom
    assert 0.5 == pytest.approx(shifts.flip.double().mean().item(), abs=0.01)
    joint = np.bincount((shifts.top * 9 + shifts.left).numpy(), minlength=81)
    assert ((joint - 90_000 / 81) ** 2 / (90_000 / 81)).sum() < 130  # 80 degrees of freedom


def test_reflection_wider_than_the_image_is_an_error():
    with pytest.raises(ConfigError, match="wider"):
        check_pad(SmallImageAugment(pad=8, border="reflect"), 8, 10)
    check_pad(SmallImageAugment(pad=8), 8, 10)
