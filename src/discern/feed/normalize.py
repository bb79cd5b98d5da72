"""From uint8 pixels to normalized floats, in reused memory.

Owns the one conversion that training and evaluation share, so that they cannot differ.

Axes: N samples, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from discern.base.errors import ConfigError


class Normalizer:
    """(pixels / 255 - mean) / std, as one multiplication and one addition per value.

    On the CPU the channel constants are repeated along the row, so that the inner loop is W * C
    long instead of C, and the output is written into the same memory each time: fresh memory and a
    loop of three together took four times as long.
    """

    def __init__(
        self,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        *,
        shape: tuple[int, int, int],
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        """`shape`: (H, W, C) of an image; `batch_size`: the most images at a time."""
        height, width, channels = shape
        if len(mean) != channels or len(std) != channels or min(std) <= 0.0:
            raise ConfigError(
                "mean and std do not fit the images",
                got=f"mean {mean}, std {std}",
                expected=f"{channels} values each, std above 0",
            )
        self._shape = shape
        scale = [1.0 / (255.0 * one) for one in std]
        shift = [-middle / one for middle, one in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale * width, dtype=torch.float32, device=device)
        self._shift = torch.tensor(shift * width, dtype=torch.float32, device=device)
        size = (batch_size, height, width * channels)
        self._floats = torch.empty(size, dtype=torch.float32, device=device)
        self._output = (
            self._floats if dtype == torch.float32 else torch.empty_like(self._floats, dtype=dtype)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 [N,H,W,C] -> float [N,C,H,W], channels last; valid until the next call."""
        count = len(pixels)
        floats, output = self._floats[:count], self._output[:count]
        floats.copy_(pixels.reshape(floats.shape))
        torch.addcmul(self._shift, floats, self._scale, out=floats)
        if output is not floats and output.dtype != floats.dtype:
            output.copy_(floats)
        return output.view(count, *self._shape).permute(0, 3, 1, 2)
