from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.feed.normalize import Normalizer

CPU = torch.device("cpu")


def build(settings, dtype=torch.float32, batch_size=16):
    shape = (settings.height, settings.width, settings.channels)
    return Normalizer(
        settings.mean, settings.std, shape=shape, batch_size=batch_size, device=CPU, dtype=dtype
    )


def test_values_are_those_of_the_formula(settings):
    pixels = settings.random_pixels(16)
    got = build(settings)(torch.from_numpy(pixels))
    assert torch.float32 == got.dtype
    np.testing.assert_allclose(got.numpy(), settings.normalized(pixels), atol=2e-6)


def test_bfloat16_is_the_rounded_float32(settings):
    pixels = torch.from_numpy(settings.random_pixels(16))
    expected = build(settings)(pixels).to(torch.bfloat16)
    assert torch.equal(expected, build(settings, torch.bfloat16)(pixels))


def test_layout_is_channels_last_and_memory_is_used_again(color):
    normalize = build(color)
    first = normalize(torch.from_numpy(color.random_pixels(16)))
    assert (16, 3, 8, 10) == first.shape
    assert first.is_contiguous(memory_format=torch.channels_last)
    second = normalize(torch.from_numpy(color.random_pixels(7)))
    assert first.data_ptr() == second.data_ptr()
    assert (7, 3, 8, 10) == second.shape


def test_smaller_batch_has_the_same_values(settings):
    pixels = torch.from_numpy(settings.random_pixels(16))
    whole = build(settings)(pixels).clone()
    assert torch.equal(whole[:5], build(settings)(pixels[:5]))


@pytest.mark.parametrize(("mean", "std"), [((0.5,), (0.5,)), ((0, 0, 0), (1, 0, 1))])
def test_constants_that_do_not_fit_are_an_error(mean, std):
    with pytest.raises(ConfigError, match="mean and std"):
        Normalizer(mean, std, shape=(8, 8, 3), batch_size=4, device=CPU, dtype=torch.float32)
