"""How a training image comes to the network's size: framings beside the random resized crop.

Owns the framings that read whole images (`photo` has the one with the fast readers) and the
reader that feeds of photos call for them. Resizing is the reference's: Pillow, antialiased.

Axes: H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from discern.base.errors import DataError
from discern.data.images import (
    FITS,
    INTERPOLATIONS,
    Pixels,
    Preprocess,
    fit_image,
)
from discern.data.sources import Source
from discern.feed.augment import Framing, PhotoAugment
from discern.feed.operations import Rows, check_range, check_value
from discern.feed.photo import ReadImage, random_crop
from discern.feed.variates import integer_between, pick


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Framed as evaluation does, under another `fit`: no chance in it."""

    fit: str = "pad"
    draws: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_value(self.fit in FITS, "fit", self.fit, " or ".join(FITS))

    def frame(self, pixels: Pixels, row: Rows, preprocess: Preprocess) -> Pixels:  # noqa: ARG002
        """See `Framing.frame`."""
        return replace(preprocess, fit=self.fit, crop_pct=1.0).apply(pixels)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShortSideCrop:
    """The short side resized to `low` .. `high` pixels, then a crop of the network's size.

    `network`: the network's size that `low` and `high` are meant for; for another they are scaled,
    with 0 they are not. Where the short side would be smaller than the crop, it is the crop's.
    Source: K. Simonyan and A. Zisserman, Very Deep Convolutional Networks, 2014, section 3.1: 256
    to 512 for 224.
    """

    low: int = 256
    high: int = 512
    network: int = 0
    draws: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_range(self.low, self.high, "short side", least=1)
        check_value(self.network >= 0, "network", self.network, "pixels, or 0")

    def frame(self, pixels: Pixels, row: Rows, preprocess: Preprocess) -> Pixels:
        """See `Framing.frame`."""
        tall, wide = pixels.shape[:2]
        short = integer_between(float(row[0]), self.low, self.high) * (
            min(preprocess.height, preprocess.width) / self.network if self.network else 1.0
        )
        scale = max(short / min(tall, wide), preprocess.height / tall, preprocess.width / wide)
        # The crop is cut first and resized then: the pixels outside it need no work.
        height = min(tall, max(1, round(preprocess.height / scale)))
        width = min(wide, max(1, round(preprocess.width / scale)))
        top = int(float(row[1]) * (tall - height + 1))
        left = int(float(row[2]) * (wide - width + 1))
        part = pixels[top : top + height, left : left + width]
        return _squish(part, preprocess, preprocess.interpolation)


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxCrop:
    """A box of random area and shape, resized by a randomly chosen interpolation.

    Defaults: Inception's training (LA-16): area 0.05 to 1, ratio 0.75 to 1.33, one of four ways.
    """

    scale: tuple[float, float] = (0.05, 1.0)
    ratio: tuple[float, float] = (0.75, 1.33)
    interpolations: tuple[str, ...] = ("bilinear", "nearest", "bicubic", "area")
    tries: int = 10

    def __post_init__(self) -> None:
        PhotoAugment(scale=self.scale, ratio=self.ratio, tries=self.tries)
        check_value(
            bool(self.interpolations) and set(self.interpolations) <= set(INTERPOLATIONS),
            "interpolations",
            self.interpolations,
            "some of " + ", ".join(INTERPOLATIONS),
        )

    @property
    def draws(self) -> int:
        """Those of the crop, then the interpolation."""
        return self._crop().draws + 1

    def frame(self, pixels: Pixels, row: Rows, preprocess: Preprocess) -> Pixels:
        """See `Framing.frame`."""
        box = random_crop(pixels.shape[0], pixels.shape[1], self._crop(), row[:-1])
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        return _squish(part, preprocess, pick(float(row[-1]), self.interpolations))

    def _crop(self) -> PhotoAugment:
        return PhotoAugment(scale=self.scale, ratio=self.ratio, tries=self.tries)


def framing_reader(preprocess: Preprocess, framing: Framing) -> ReadImage:
    """A reader for `framing`: without random numbers it does what evaluation does.

    Raises (when called) DataError naming the image that cannot be read.
    """

    def read_image(source: Source, position: int, row: Rows | None, out: Pixels) -> None:
        pixels = source.read(position)
        name = source.name(position)
        if row is None:
            out[...] = preprocess.apply(pixels, name)
            return
        framed = framing.frame(preprocess.read(pixels, name), row, preprocess)
        if framed.shape != out.shape:
            raise DataError(
                "a framing gave an image of the wrong size",
                where=name,
                got=list(framed.shape),
                expected=list(out.shape),
            )
        out[...] = framed

    return read_image


def _squish(pixels: Pixels, preprocess: Preprocess, interpolation: str) -> Pixels:
    return fit_image(
        np.ascontiguousarray(pixels),
        height=preprocess.height,
        width=preprocess.width,
        interpolation=interpolation,
        crop_pct=1.0,
        fit="squish",
    )
