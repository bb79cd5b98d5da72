"""From pixels to normalized floats, in reused memory.

Owns the one conversion that training and evaluation share, so that they cannot differ, and how
pixels of 16 bit lie in tensors: as int16 of the same bits, since torch can neither index nor
mirror uint16 everywhere.

Axes: N samples, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from discern.base.errors import ConfigError
from discern.data.pixel_arrays import white_of


def stored_type(depth: int) -> torch.dtype:
    """The type of tensors that hold pixels of `depth`: uint8, or int16 for the bits of uint16."""
    return torch.uint8 if depth == 8 else torch.int16


def as_stored(pixels: Tensor) -> Tensor:
    """The same memory, uint16 seen as int16; other types as they are."""
    return pixels.view(torch.int16) if pixels.dtype == torch.uint16 else pixels


def as_levels(pixels: Tensor) -> Tensor:
    """The opposite of `as_stored`: int16 seen as uint16."""
    return pixels.view(torch.uint16) if pixels.dtype == torch.int16 else pixels


class Normalizer:
    """(pixels / white - mean) / std, as one multiplication and one addition per value.

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
        per_image: bool = False,
        depth: int = 8,
    ) -> None:
        """`shape`: (H, W, C) of an image; `batch_size`: the most images at a time.

        `depth`: bits of a value: white is 255, or 65535 at depth 16.
        `per_image`: each image gets mean 0 and deviation 1 by itself; `mean`, `std` are unused.
        """
        height, width, channels = shape
        if len(mean) != channels or len(std) != channels or min(std) <= 0.0:
            raise ConfigError(
                "mean and std do not fit the images",
                got=f"mean {mean}, std {std}",
                expected=f"{channels} values each, std above 0",
            )
        self._shape = shape
        self._per_image = per_image
        scale = [1.0 / (float(white_of(depth)) * one) for one in std]
        shift = [-middle / one for middle, one in zip(mean, std, strict=True)]
        self._scale = torch.tensor(scale * width, dtype=torch.float32, device=device)
        self._shift = torch.tensor(shift * width, dtype=torch.float32, device=device)
        size = (batch_size, height, width * channels)
        self._floats = torch.empty(size, dtype=torch.float32, device=device)
        self._output = (
            self._floats if dtype == torch.float32 else torch.empty_like(self._floats, dtype=dtype)
        )

    def __call__(self, pixels: Tensor) -> Tensor:
        """Pixels [N,H,W,C] -> float [N,C,H,W], channels last; valid until the next call.

        uint8; at depth 16 uint16, or int16 of the same bits.
        """
        pixels = as_levels(pixels)
        count = len(pixels)
        floats, output = self._floats[:count], self._output[:count]
        if self._per_image:
            single = standardize(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            floats.copy_(single.reshape(floats.shape))
        else:
            floats.copy_(pixels.reshape(floats.shape))
            torch.addcmul(self._shift, floats, self._scale, out=floats)
        if output is not floats and output.dtype != floats.dtype:
            output.copy_(floats)
        return output.view(count, *self._shape).permute(0, 3, 1, 2)


def standardize(images: Tensor) -> Tensor:
    """`images` [N,C,H,W] of any scale, each brought to mean 0 and deviation 1: float32.

    The deviation is at least 1 / sqrt(C * H * W) of a level, so that an image of one color becomes
    zeros: as TensorFlow's per_image_standardization, which Lambda's CIFAR preset uses. The sums of
    uint8 images are whole numbers, so that an image comes out the same in any batch.
    """
    count = images[0].numel()
    if images.dtype == torch.uint8:
        sums = images.sum((1, 2, 3), dtype=torch.int64).double()
        squares = images.to(torch.int32).square_().sum((1, 2, 3), dtype=torch.int64).double()
        mean = sums / count
        deviation = (squares / count - mean.square()).clamp_(min=0.0).sqrt_()
        shape = (-1, 1, 1, 1)
        mean, deviation = mean.view(shape).float(), deviation.view(shape).float()
        return (images.to(torch.float32) - mean) / deviation.clamp_(min=count**-0.5)
    values = images.to(torch.float32)
    centered = values - values.mean((1, 2, 3), keepdim=True)
    deviation = centered.square().mean((1, 2, 3), keepdim=True).sqrt_()
    return centered / deviation.clamp_(min=count**-0.5)
