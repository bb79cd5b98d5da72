"""One photo to one image of the network's size: the leaf that feeds of photos call.

Owns the random resized crop and the reference reader of photos (Pillow, antialiased). A reader is
a function (source, position, draws, out) that fills `out`; a faster decoder replaces it whole.

Axes: H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from discern.data.images import Pixels, Preprocess
from discern.data.sources import Source
from discern.feed.augment import PhotoAugment

# (source, position, random numbers float64 [R] in [0, 1) or None, out [H,W,C]) -> None.
ReadImage: TypeAlias = Callable[[Source, int, NDArray[np.float64] | None, Pixels], None]


class CropBox(NamedTuple):
    """A part of an image, in whole pixels."""

    top: int
    left: int
    height: int
    width: int


def random_crop(
    height: int, width: int, augment: PhotoAugment, row: NDArray[np.float64]
) -> CropBox:
    """The random resized crop of a `height` x `width` image that `row` (float64 [R]) draws.

    The first try whose box fits inside is taken; if none does, the largest centered box of an
    allowed shape. `row` holds area and shape of each try, then top and left, as `PhotoAugment`
    counts them. Source: torchvision's RandomResizedCrop, with keyed numbers.
    """
    area = height * width
    (smallest, largest), (narrow, broad) = augment.scale, augment.ratio
    low, high = math.log(narrow), math.log(broad)
    place = 2 * augment.tries
    for number in range(augment.tries):
        target = area * (smallest + (largest - smallest) * float(row[2 * number]))
        shape = math.exp(low + (high - low) * float(row[2 * number + 1]))
        wide, tall = round(math.sqrt(target * shape)), round(math.sqrt(target / shape))
        if 0 < wide <= width and 0 < tall <= height:
            top = int(float(row[place]) * (height - tall + 1))
            left = int(float(row[place + 1]) * (width - wide + 1))
            return CropBox(top, left, tall, wide)
    return _center_crop(height, width, narrow, broad)


def photo_reader(preprocess: Preprocess, augment: PhotoAugment | None) -> ReadImage:
    """The reference reader: `preprocess` without random numbers, a random crop with them.

    Raises (when called) DataError naming the image that cannot be read.
    """

    # The drawn box brought to the network's size as a whole: "squish" is just that.
    whole = replace(preprocess, fit="squish")

    def read_image(
        source: Source, position: int, row: NDArray[np.float64] | None, out: Pixels
    ) -> None:
        pixels = source.read(position)
        if isinstance(pixels, bytes):
            pixels = preprocess.read(pixels, source.name(position))
        if row is None or augment is None:
            out[...] = preprocess.apply(pixels, source.name(position))
            return
        box = random_crop(pixels.shape[0], pixels.shape[1], augment, row)
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        fitted = whole.apply(part, source.name(position))
        mirrored = augment.flip and row[2 * augment.tries + 2] < 0.5
        out[...] = fitted[:, ::-1] if mirrored else fitted

    return read_image


def _center_crop(height: int, width: int, narrow: float, broad: float) -> CropBox:
    """The largest centered box whose shape lies between `narrow` and `broad`."""
    shape = width / height
    tall, wide = height, width
    if shape < narrow:
        tall = max(1, min(height, round(width / narrow)))
    elif shape > broad:
        wide = max(1, min(width, round(height * broad)))
    return CropBox((height - tall) // 2, (width - wide) // 2, tall, wide)
