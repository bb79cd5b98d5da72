"""Arrays of pixels, of any number of channels, in 8 or 16 bit: what is done to them everywhere.

Owns the change of depth and of channels, the antialiased resize (Pillow's filters), and the
picture of an image that a screen cannot show as it is. No file is read here.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

# [H, W, C]; uint16 holds an image of depth 16, whose white is 65535.
Pixels: TypeAlias = NDArray[np.uint8 | np.uint16]

DEPTHS = (8, 16)


class OwnImages:
    """Stands where an array of pixels does: image k comes from a function of the user's.

    `read(k)` gives a file's bytes or pixels [H, W, C]; `name` is what the source is called.
    """

    def __init__(self, read: Callable[[int], Any], count: int, name: str) -> None:
        self._read = read
        self._count = count
        self._name = name

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, position: int) -> bytes | Pixels:
        image = self._read(position)
        if isinstance(image, bytes):
            return image
        if isinstance(image, np.ndarray) and image.dtype in (np.uint8, np.uint16):
            return image[:, :, None] if image.ndim == 2 else _three_axes(image, self._name)
        raise DataError(
            "a source gives file bytes or pixels",
            where=f"{self._name}, image {position}",
            got=getattr(image, "dtype", type(image).__name__),
            expected="bytes, or uint8 or uint16 [H, W, C]",
        )


# 65535 = 257 * 255: both ends of the range are kept.
DEPTH_STEP = 257
# ITU-R 601 luma in parts of 65536, as Pillow has them: red, green, blue.
_LUMA = (19595, 38470, 7471)


def _three_axes(pixels: Pixels, name: str) -> Pixels:
    if pixels.ndim != 3 or not pixels.shape[2]:
        raise _no_image(pixels, name)
    return pixels


def depth_type(depth: int) -> np.dtype[Any]:
    """The array type of images of `depth` bits: uint8 or uint16."""
    return np.dtype(np.uint8 if depth == 8 else np.uint16)


def white_of(depth: int) -> int:
    """The largest value of a pixel of `depth` bits: 255 or 65535."""
    return (1 << depth) - 1


def set_depth(pixels: Pixels, depth: int) -> Pixels:
    """uint8 or uint16 pixels of any shape as those of `depth`; to 16 and back gives the same."""
    if pixels.dtype == depth_type(depth):
        return pixels
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(DEPTH_STEP)
    if pixels.dtype == np.uint16:
        rounded: Pixels = ((pixels.astype(np.uint32) + 128) // DEPTH_STEP).astype(np.uint8)
        return rounded
    raise _no_image(pixels)


def set_channels(pixels: Pixels, channels: int, name: str | None = None) -> Pixels:
    """Grey to RGB (repeated) or RGB to grey (ITU-R 601 luma, as Pillow): [H, W, channels].

    No other change is made: Raises DataError, naming `name`, for images of other channels.
    """
    if pixels.ndim != 3 or pixels.dtype not in (np.uint8, np.uint16) or not pixels.shape[2]:
        raise _no_image(pixels, name)
    given = pixels.shape[2]
    if given == channels:
        return pixels
    if given == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if given == 3 and channels == 1:
        return _luma(pixels)
    raise DataError(
        "the image has other channels than the network",
        where=name,
        got=given,
        expected=channels,
        hint=f"--channels {given} trains on all of them",
    )


def _luma(pixels: Pixels) -> Pixels:
    if pixels.dtype == np.uint8:
        grey = np.asarray(_image(np.ascontiguousarray(pixels)).convert("L"))
        return grey[:, :, None]
    weighed = pixels.astype(np.uint32) * np.array(_LUMA, dtype=np.uint32)
    # The sum stays below 2 ** 32: the weights add up to 65536.
    total = weighed.sum(2, dtype=np.uint32, keepdims=True)
    result: Pixels = ((total + 0x8000) >> 16).astype(np.uint16)
    return result


def _no_image(pixels: NDArray[Any], name: str | None = None) -> DataError:
    return DataError(
        "not an image array",
        where=name,
        got=f"{pixels.dtype} {list(pixels.shape)}",
        expected="uint8 or uint16 [H, W, C], with C of 1 or 3 for grey and RGB",
    )


def resize_pixels(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    """`pixels` [H, W, C] at height x width by one of Pillow's filters, antialiased.

    Grey and RGB in 8 bit go through Pillow's integers; all else channel by channel, 16 bit in
    float32 and rounded (Pillow's own 16-bit resize works on the bytes of a value apart).
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL.Image import Resampling

    way = Resampling["BOX" if interpolation == "area" else interpolation.upper()]
    size = (width, height)
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        return np.asarray(_image(np.ascontiguousarray(pixels)).resize(size, way))
    if pixels.dtype == np.uint8 and pixels.shape[2] == 1:
        one = _image(np.ascontiguousarray(pixels[:, :, 0]))
        return np.asarray(one.resize(size, way))[:, :, None]
    out: Pixels = np.empty((height, width, pixels.shape[2]), dtype=pixels.dtype)
    deep = pixels.dtype == np.uint16
    for channel in range(pixels.shape[2]):
        plane = pixels[:, :, channel]
        plane = plane.astype(np.float32) if deep else np.ascontiguousarray(plane)
        resized = np.asarray(_image(plane).resize(size, way))
        out[:, :, channel] = np.clip(np.rint(resized), 0, 65535) if deep else resized
    return out


def _image(array: NDArray[Any]) -> PillowImage:
    from PIL import Image

    return Image.fromarray(array)


def viewable(pixels: Pixels) -> NDArray[np.uint8]:
    """What a screen can show of [H, W, C]: uint8 [H, W, 3].

    Grey is repeated, of more channels than three the first three are red, green and blue, of two
    the first is shown as grey; 16 bit is scaled to 8. `viewable_note` says so in words.
    """
    shown = pixels[:, :, :3] if pixels.shape[2] >= 3 else pixels[:, :, :1]
    return set_channels(set_depth(shown, 8), 3).astype(np.uint8, copy=False)


def viewable_note(channels: int, depth: int) -> str | None:
    """What pictures of images of `channels` and `depth` do not show, for the reader; else None."""
    parts = []
    if channels == 2:
        parts.append("the first of 2 channels")
    if channels > 3:
        parts.append(f"the first 3 of {channels} channels as red, green and blue")
    if depth == 16:
        parts.append("16 bit scaled to 8")
    return f"pictures show {', '.join(parts)}" if parts else None
