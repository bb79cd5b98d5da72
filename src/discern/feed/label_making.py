"""Changes of an image that make their own label: turned how, blurred how much, flared or not.

Owns the side tasks of Catalyst's "multilabel" pipeline (CA-32 to CA-34): each transform returns
the changed image and the number of what was done, a target for a head of its own. Two faults of
the original are not repeated: the blur's kernel had the size of the label (1 to 6) in place of 3 to
9, and its last class was never drawn.

Axes: N samples, C channels (1 or 3), H height, W width, R random numbers of one image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import DataError
from discern.data.images import Pixels
from discern.feed.draws import Draws, Operation
from discern.feed.operations import Rows, check_value
from discern.feed.variates import between, pick

# Ways to turn and mirror a square image: right angles 0 to 3, plus 4 if mirrored.
TURNS = 8


class LabelTransform(Protocol):
    """A change of an image that is a class of its own. `draws`: numbers it takes."""

    @property
    def draws(self) -> int: ...

    @property
    def classes(self) -> int: ...

    def apply(self, image: Pixels, row: Rows) -> tuple[Pixels, int]:
        """`image` uint8 [H,W,C] changed by `row` float64 [R], and the class of the change."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateLabel:
    """A random right angle, then perhaps a mirror: classes 0 to 7, 0 is unchanged.

    `rotate`, `flip`: probability of each.
    """

    rotate: float = 1.0
    flip: float = 0.5
    draws: ClassVar[int] = 3
    classes: ClassVar[int] = TURNS

    def __post_init__(self) -> None:
        check_value(0.0 <= self.rotate <= 1.0, "rotate", self.rotate, "0 to 1")
        check_value(0.0 <= self.flip <= 1.0, "flip", self.flip, "0 to 1")

    def apply(self, image: Pixels, row: Rows) -> tuple[Pixels, int]:
        """See `LabelTransform.apply`. Raises DataError unless the image is a square."""
        if image.shape[0] != image.shape[1]:
            raise DataError(
                "only square images can be turned by right angles and keep their size",
                got=f"{image.shape[0]} x {image.shape[1]}",
                hint="train with a square image size",
            )
        quarters = pick(float(row[1]), range(4)) if row[0] < self.rotate else 0
        factor = quarters + (4 if row[2] < self.flip else 0)
        return turn_image(image, factor), factor


@dataclass(frozen=True, slots=True, kw_only=True)
class BlurLabel:
    """A box blur of `smallest` to `largest` pixels, or none: classes 0 (none) to the largest.

    Class k > 0 is a kernel of smallest + k - 1 pixels; every class is as likely as the others.
    """

    smallest: int = 3
    largest: int = 9
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        sizes = (self.smallest, self.largest)
        check_value(2 <= sizes[0] <= sizes[1], "blur", sizes, "2 <= smallest <= largest")

    @property
    def classes(self) -> int:
        """Sizes of the kernel, and none: largest - smallest + 2."""
        return self.largest - self.smallest + 2

    def apply(self, image: Pixels, row: Rows) -> tuple[Pixels, int]:
        """See `LabelTransform.apply`."""
        factor = pick(float(row[0]), range(self.classes))
        if factor == 0:
            return image.copy(), 0
        return blur_image(image, self.kernel(factor)), factor

    def kernel(self, factor: int) -> int:
        """Side of the kernel of class `factor` > 0, in pixels."""
        return self.smallest + factor - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FlareLabel:
    """A sun flare in the upper half with `probability`: class 1, else 0."""

    probability: float = 0.5
    draws: ClassVar[int] = 4
    classes: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_value(0.0 <= self.probability <= 1.0, "flare", self.probability, "0 to 1")

    def apply(self, image: Pixels, row: Rows) -> tuple[Pixels, int]:
        """See `LabelTransform.apply`."""
        if row[0] >= self.probability:
            return image.copy(), 0
        angle = between(float(row[3]), 0.0, 2.0 * math.pi)
        return flare_image(image, (0.5 * float(row[1]), float(row[2])), angle), 1


def turn_image(image: Pixels, factor: int) -> Pixels:
    """`image` [H,W,C] turned counterclockwise by factor % 4 right angles, mirrored from 4 on."""
    import cv2

    codes = (None, cv2.ROTATE_90_COUNTERCLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_CLOCKWISE)
    code = codes[factor % 4]
    turned = image.copy() if code is None else cv2.rotate(np.ascontiguousarray(image), code)
    turned = cv2.flip(turned, 1) if factor >= 4 else turned
    return turned.reshape(*turned.shape[:2], -1).astype(np.uint8, copy=False)


def blur_image(image: Pixels, kernel: int) -> Pixels:
    """`image` uint8 [H,W,C], each value the mean of `kernel` x `kernel`; borders reflected."""
    import cv2

    blurred = cv2.blur(np.ascontiguousarray(image), (kernel, kernel))
    return blurred.reshape(image.shape).astype(np.uint8, copy=False)


def flare_image(image: Pixels, sun: tuple[float, float], angle: float) -> Pixels:
    """`image` uint8 [H,W,C] with a sun at `sun` (y, x as shares) and rings along a line at `angle`.

    Light is only added. The glow falls off over half the longer side; six faint discs lie on the
    line through the sun, as a lens shows them.
    """
    height, width = image.shape[:2]
    side = max(height, width)
    rows = np.arange(height, dtype=np.float32)[:, None]
    columns = np.arange(width, dtype=np.float32)
    top, left = sun[0] * height, sun[1] * width
    distance = np.hypot(rows - top, columns - left) / side
    light = (np.clip(1.0 - 2.0 * distance, 0.0, 1.0) ** 2).astype(np.float64)
    for number in range(1, 7):
        reach = side * 0.15 * number
        middle = (top + reach * math.sin(angle), left + reach * math.cos(angle))
        radius = side * (0.02 + 0.01 * (number * 5 % 7))
        # Only the box around a disc is looked at: light is 0 or more everywhere else.
        near = tuple(
            slice(max(0, math.floor(center - radius)), max(0, math.ceil(center + radius) + 1))
            for center in middle
        )
        disc = np.hypot(rows[near[0]] - middle[0], columns[near[1]] - middle[1]) < radius
        light[near] = np.maximum(light[near], 0.15 * disc)
    lit = image + (255.0 - image) * light[:, :, None]
    out: Pixels = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return out


def class_rotation(targets: Tensor, factors: Tensor) -> Tensor:
    """The joint target class * 8 + factor, int64 [N]; -1 where the class is missing."""
    return torch.where(targets < 0, targets, targets * TURNS + factors)


def make_labels(
    pixels: Pixels,
    transforms: Mapping[str, LabelTransform],
    draws: Draws,
    positions: Tensor,
) -> tuple[Pixels, dict[str, NDArray[np.int64]]]:
    """`pixels` uint8 [N,H,W,C] changed by `transforms` in order, and a label [N] of each by name.

    `positions` int64 [N] in the manifest: with `draws` they alone decide what is done to an image.
    Raises DataError as the transforms do.
    """
    count = sum(transform.draws for transform in transforms.values())
    table = draws.table(positions, Operation.MADE_LABEL, count).cpu().numpy()
    out = pixels.copy()
    labels = {name: np.zeros(len(pixels), np.int64) for name in transforms}
    for number, row in enumerate(table):
        first = 0
        for name, transform in transforms.items():
            own = row[first : first + transform.draws]
            out[number], labels[name][number] = transform.apply(out[number], own)
            first += transform.draws
    return out, labels
