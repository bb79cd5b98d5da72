"""Making a PNG of the arrays that people log as images."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import RunError

_GRAY, _COLORS, _ALPHA = 1, 3, 4
_IMAGE_AXES, _BATCH_AXES = 3, 4


def encode_png(name: str, pixels: NDArray[Any]) -> bytes:
    """The PNG of one image or of a batch, which becomes a grid.

    `pixels`: [H, W], [C, H, W], [H, W, C] or [N, C, H, W], with 1, 3 or 4 channels; whole numbers
    are taken as 0 to 255, floats as 0 to 1, both clipped. Raises RunError for another shape.
    """
    from PIL import Image

    images = [_rows_columns_channels(name, one) for one in _batch_of(name, pixels)]
    stacked = np.stack(images)
    if stacked.dtype.kind == "f":
        stacked = np.nan_to_num(stacked, nan=0.0, posinf=1.0, neginf=0.0) * 255.0
    elif stacked.dtype.kind == "b":
        stacked = stacked * 255
    batch = np.clip(np.rint(stacked), 0, 255).astype(np.uint8)
    grid = _grid(batch)
    stream = io.BytesIO()
    Image.fromarray(grid[..., 0] if grid.shape[2] == _GRAY else grid).save(stream, "PNG")
    return stream.getvalue()


def check_image(name: str, pixels: NDArray[Any]) -> None:
    """Raises RunError for an array that `encode_png` does not take."""
    for image in _batch_of(name, pixels)[:1]:
        _rows_columns_channels(name, image)
    if pixels.dtype.kind not in "biuf":
        raise RunError(
            f"'{name}' takes images",
            got=f"an array of {pixels.dtype}",
            expected="whole numbers of 0 to 255, or floats of 0 to 1",
        )


def _batch_of(name: str, pixels: NDArray[Any]) -> list[NDArray[Any]]:
    if pixels.ndim == _BATCH_AXES and len(pixels) and 0 not in pixels.shape:
        return list(pixels)
    if pixels.ndim in (2, _IMAGE_AXES) and 0 not in pixels.shape:
        return [pixels]
    raise _no_image(name, pixels)


def _rows_columns_channels(name: str, image: NDArray[Any]) -> NDArray[Any]:
    if image.ndim == 2:
        return image[..., None]
    allowed = (_GRAY, _COLORS, _ALPHA)
    if image.shape[0] in allowed:
        return image.transpose(1, 2, 0)
    if image.shape[2] in allowed:
        return image
    raise _no_image(name, image)


def _grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """[N, H, W, C] as one image of about as many columns as rows; free places are black."""
    count, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    grid = np.zeros((rows * height, columns * width, channels), np.uint8)
    for place, image in enumerate(images):
        top, left = place // columns * height, place % columns * width
        grid[top : top + height, left : left + width] = image
    return grid


def _no_image(name: str, pixels: NDArray[Any]) -> RunError:
    return RunError(
        f"'{name}' takes images",
        got=f"an array of shape {list(pixels.shape)}",
        expected="[H, W], [C, H, W], [H, W, C] or [N, C, H, W] with 1, 3 or 4 channels",
    )
