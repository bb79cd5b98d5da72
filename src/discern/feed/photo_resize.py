"""Pixels brought to the network's size at training speed, straight into the batch.

Owns the choice of the filter and the mirror; the arithmetic is OpenCV's. Evaluation and
prediction never come here: they use the reference of `discern.data.images`.

Axes: H height, W width, C channels (1 or 3).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from discern.data.images import Pixels

if TYPE_CHECKING:
    from types import ModuleType

# "mixed" is antialiased wherever an axis shrinks by more than 1.5; "fast" is linear everywhere.
Resample: TypeAlias = Literal["mixed", "fast"]
RESAMPLES: tuple[Resample, ...] = ("mixed", "fast")

# Up to here linear sampling misses no source pixel by much: mean difference to Pillow 1.6 of 255.
LINEAR_SHRINK = 1.5
# Up to here two linear samples per axis and pixel, averaged, are nearer to Pillow's filter than
# area averaging and take half its time; beyond, area averaging is nearer (docs/lab-log.md).
DOUBLE_SHRINK = 2.5


class Turn(NamedTuple):
    """How resized pixels become the image: transposed first, then flipped."""

    transpose: bool = False
    down_up: bool = False
    left_right: bool = False


UPRIGHT = Turn()
# By EXIF orientation, 1 to 8. Source: Exif 2.32, tag 0x0112.
TURNS = (
    UPRIGHT,
    Turn(left_right=True),
    Turn(down_up=True, left_right=True),
    Turn(down_up=True),
    Turn(transpose=True),
    Turn(transpose=True, left_right=True),
    Turn(transpose=True, down_up=True, left_right=True),
    Turn(transpose=True, down_up=True),
)


def resize_into(out: Pixels, part: Pixels, turn: Turn, resample: Resample) -> None:
    """Fill `out` (uint8 [H,W,C], contiguous) with `part` (uint8 [H,W,C]) resized, then turned."""
    cv2 = _opencv()
    height, width = out.shape[:2]
    if turn.transpose:
        stored = np.empty((width, height, out.shape[2]), dtype=np.uint8)
        _resize(cv2, stored, part, resample)
        cv2.transpose(stored, dst=out)
    else:
        _resize(cv2, out, part, resample)
    if turn.left_right or turn.down_up:
        # In place: no second image is written.
        cv2.flip(out, (-1 if turn.down_up else 1) if turn.left_right else 0, dst=out)


def _resize(cv2: ModuleType, out: Pixels, part: Pixels, resample: Resample) -> None:
    height, width = out.shape[:2]
    tall, wide = part.shape[:2]
    shrink = max(tall / height, wide / width)
    if resample == "fast" or shrink <= LINEAR_SHRINK:
        cv2.resize(part, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    elif shrink <= DOUBLE_SHRINK:
        double = cv2.resize(part, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR)
        cv2.resize(double, (width, height), dst=out, interpolation=cv2.INTER_AREA)
    else:
        # OpenCV averages areas only where neither axis grows: the axes that shrink go first.
        smaller = (min(width, wide), min(height, tall))
        if smaller == (width, height):
            cv2.resize(part, smaller, dst=out, interpolation=cv2.INTER_AREA)
        else:
            shrunk = cv2.resize(part, smaller, interpolation=cv2.INTER_AREA)
            cv2.resize(shrunk, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)


@functools.cache
def _opencv() -> ModuleType:
    """OpenCV without threads of its own: the feed's threads are the parallel ones."""
    import cv2

    cv2.setNumThreads(0)
    module: ModuleType = cv2
    return module
