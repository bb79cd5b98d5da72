"""Random crops and mirror images of small images, a whole batch in one copy.

Owns the padded array and the windows into it. A window is a strided view of the padded pixels, so
a crop is found by one number, and a batch of crops is one `index_select` over all windows.

Axes: N samples, H height, W width, C channels, P pad.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from discern.base.errors import ConfigError
from discern.data.pixel_arrays import DEPTH_STEP
from discern.feed.augment import SmallImageAugment
from discern.feed.draws import Draws, Operation
from discern.feed.normalize import as_stored

# Images padded at a time: bounds the extra memory while the padded array is made.
_SLICE = 4096


class Shifts(NamedTuple):
    """Where each sample is cut: int64 [N] top and left within the padded image, bool [N] flip."""

    top: Tensor
    left: Tensor
    flip: Tensor

    def part(self, begin: int, end: int) -> Shifts:
        """Those of samples `begin` to `end`."""
        return Shifts(self.top[begin:end], self.left[begin:end], self.flip[begin:end])


def draw_shifts(augment: SmallImageAugment, draws: Draws, positions: Tensor) -> Shifts:
    """The crop and flip of each position, int64 [N]; on the device of `positions`."""
    span = 2 * augment.pad + 1
    top = draws.integers(positions, Operation.CROP, 0, span, draw=0)
    left = draws.integers(positions, Operation.CROP, 0, span, draw=1)
    if augment.flip:
        flip = draws.integers(positions, Operation.FLIP, 0, 2).bool()
    else:
        flip = torch.zeros_like(positions, dtype=torch.bool)
    return Shifts(top, left, flip)


class CropWindows:
    """The images, padded, with every H x W window of them addressable by one number."""

    def __init__(self, pixels: Tensor, augment: SmallImageAugment, *, mirror: bool) -> None:
        """`pixels` [N,H,W,C]; `mirror` keeps a mirrored copy too, for twice the memory.

        uint8; 16 bit is uint16, or int16 of the same bits, and windows come as int16.
        """
        pixels = as_stored(pixels)
        count, height, width, channels = pixels.shape
        pad = augment.pad
        self._pad = pad
        self._size = (height + 2 * pad, width + 2 * pad)
        self._count = count
        self._mirror = mirror
        self._shape = (height, width, channels)
        tall, wide = self._size
        padded = torch.empty(
            (count * (1 + mirror), tall, wide, channels), dtype=pixels.dtype, device=pixels.device
        )
        for begin in range(0, count, _SLICE):
            end = min(begin + _SLICE, count)
            part = padded[begin:end]
            _fill_padded(part, pixels[begin:end], augment)
            if mirror:
                padded[count + begin : count + end] = part.flip(2)
        # One view per pixel at which a window can begin: rows lie `wide` pixels apart.
        begins = len(padded) * tall * wide - ((height - 1) * wide + width - 1)
        self._windows = padded.as_strided(
            (begins, height, width * channels), (channels, wide * channels, 1)
        )

    def begins(self, samples: Tensor, shifts: Shifts) -> Tensor:
        """The number of each sample's window, int64 [N]; `samples` number the images given."""
        tall, wide = self._size
        left, images = shifts.left, samples
        if self._mirror:
            # The crop is cut first and mirrored then: in the mirrored copy it lies opposite.
            left = torch.where(shifts.flip, 2 * self._pad - left, left)
            images = samples + shifts.flip * self._count
        return (images * tall + shifts.top) * wide + left

    def take(self, begins: Tensor, flip: Tensor, out: Tensor) -> Tensor:
        """The windows `begins`, mirrored where `flip`, written to `out` [N,H,W,C]."""
        height, width, channels = self._shape
        rows = out.view(len(out), height, width * channels)
        torch.index_select(self._windows, 0, begins, out=rows)
        if not self._mirror:
            if out.device.type != "cpu":  # picking them out would wait for their number
                out.copy_(torch.where(flip[:, None, None, None], out.flip(2), out))
            else:
                out[flip] = out[flip].flip(2)
        return out


def crop_batch(pixels: Tensor, augment: SmallImageAugment, shifts: Shifts) -> Tensor:
    """Crop and mirror `pixels` [N,H,W,C] in place, without keeping a padded array."""
    windows = CropWindows(pixels, augment, mirror=False)
    samples = torch.arange(len(pixels), device=pixels.device)
    windows.take(windows.begins(samples, shifts), shifts.flip, as_stored(pixels))
    return pixels


def padded_values(count: int, shape: tuple[int, int, int], pad: int) -> int:
    """Values of `count` images of `shape` (H, W, C), padded, without the mirrored copy."""
    height, width, channels = shape
    return count * (height + 2 * pad) * (width + 2 * pad) * channels


def check_pad(augment: SmallImageAugment, height: int, width: int) -> None:
    """Raises ConfigError when a reflected border is wider than the image has pixels to reflect."""
    if augment.border == "reflect" and augment.pad >= min(height, width):
        raise ConfigError(
            "the border is wider than the image",
            where="augment.pad",
            got=augment.pad,
            expected=f"below {min(height, width)} for images of {height} x {width}",
        )


def _fill_padded(padded: Tensor, pixels: Tensor, augment: SmallImageAugment) -> None:
    """Write `pixels` with their border into `padded`."""
    pad = augment.pad
    _, height, width, _ = pixels.shape
    if augment.border == "constant":
        padded.fill_(_stored_fill(augment.fill, padded.dtype))
        padded[:, pad : pad + height, pad : pad + width] = pixels
        return
    rows = _reflected(height, pad).to(pixels.device)
    columns = _reflected(width, pad).to(pixels.device)
    padded.copy_(pixels.index_select(1, rows).index_select(2, columns))


def _stored_fill(fill: int, dtype: torch.dtype) -> int:
    """`fill` of 0..255 in the pixels' own range; above 32767 the bits of uint16 are negative."""
    if dtype == torch.uint8:
        return fill
    level = fill * DEPTH_STEP
    return level - 65536 if level > 32767 else level


def _reflected(size: int, pad: int) -> Tensor:
    """Which pixel each of the `size` + 2 `pad` places shows; the edge itself is not repeated."""
    places = torch.arange(-pad, size + pad).abs()
    return torch.where(places < size, places, 2 * (size - 1) - places)
