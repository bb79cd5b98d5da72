"""What can be done to the shape of one uint8 image, as functions of (image, parameters).

Owns no chance: the parameters come from outside. The size of the image stays, but for `turn`.

Axes: C channels (1 or 3), H height, W width.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.feed.color import from_rows, to_rows


class Box(NamedTuple):
    """A part of an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def shift_scale_rotate(
    image: Tensor, *, right: float, down: float, scale: float, degrees: float
) -> Tensor:
    """`image` uint8 [C,H,W] turned and scaled about its center, then moved; borders reflected.

    `right`, `down`: shares of width and height. `degrees`: counterclockwise. By OpenCV, bilinear:
    torchvision's affine cannot reflect.
    """
    import cv2

    height, width = image.shape[-2:]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, scale)
    matrix[:, 2] += np.array([right * width, down * height])
    warped = cv2.warpAffine(
        to_rows(image),
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return from_rows(warped, image)


def tilt(image: Tensor, insets: NDArray[np.float64]) -> Tensor:
    """`image` uint8 [C,H,W] as seen from aside: four inner points become the corners.

    `insets` [4,2]: how far the points lie inside the corners (top left, top right, bottom right,
    bottom left), as shares of width and height, each below one half.
    """
    from torchvision.transforms.v2 import functional as F

    height, width = image.shape[-2:]
    if min(height, width) < 2:  # four corners in one place
        return image
    across, down = insets[:, 0] * (width - 1), insets[:, 1] * (height - 1)
    right, bottom = width - 1.0, height - 1.0
    inner = [
        [across[0], down[0]],
        [right - across[1], down[1]],
        [right - across[2], bottom - down[2]],
        [across[3], bottom - down[3]],
    ]
    corners = [[0.0, 0.0], [right, 0.0], [right, bottom], [0.0, bottom]]
    warped: Tensor = F.perspective(image, inner, corners)
    return warped


def turn(image: Tensor, quarters: int) -> Tensor:
    """`image` [C,H,W] turned counterclockwise by `quarters` right angles."""
    return torch.rot90(image, quarters, (-2, -1))


def fill_box(image: Tensor, box: Box, fill: Tensor) -> Tensor:
    """A copy of `image` uint8 [C,H,W] with `box` showing `fill`, which broadcasts to [C,h,w]."""
    from torchvision.transforms.v2 import functional as F

    filled: Tensor = F.erase(image, box.top, box.left, box.height, box.width, fill)
    return filled


def centered_box(image: Tensor, size: tuple[int, int], middle: tuple[float, float]) -> Box:
    """What of a box of `size` (h, w) about `middle` (y, x as shares) lies inside the image."""
    height, width = image.shape[-2:]
    top = int(middle[0] * height) - size[0] // 2
    left = int(middle[1] * width) - size[1] // 2
    bottom, right = min(height, top + size[0]), min(width, left + size[1])
    top, left = max(0, top), max(0, left)
    return Box(top, left, bottom - top, right - left)


def box_of_area(image: Tensor, area: float, ratio: float, place: tuple[float, float]) -> Box | None:
    """A box of `area` (share) and `ratio` (height / width) inside the image, None if too large.

    `place`: where it lies among all places, top and left, in [0, 1).
    """
    height, width = image.shape[-2:]
    tall = round(math.sqrt(height * width * area * ratio))
    wide = round(math.sqrt(height * width * area / ratio))
    if not (0 < tall < height and 0 < wide < width):
        return None
    top, left = int(place[0] * (height - tall + 1)), int(place[1] * (width - wide + 1))
    return Box(top, left, tall, wide)
