"""The reader of training photos: a random part of each, at speed.

Owns the way from a source's image to a row of the batch. The parts are those that the reference
reader (`photo.photo_reader`) cuts for the same random numbers; their pixels differ by the filter
of the resize alone. Evaluation and prediction keep to the reference.

Axes: H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.data.images import Pixels, Preprocess, decode_image, set_channels
from discern.data.pixel_arrays import set_depth
from discern.data.sources import Source
from discern.feed.augment import PhotoAugment
from discern.feed.photo import CropBox, ReadImage, photo_reader, random_crop
from discern.feed.photo_decode import JpegFrame, decode_part, read_frame
from discern.feed.photo_resize import (
    RESAMPLES,
    TURNS,
    UPRIGHT,
    Resample,
    Turn,
    resize_into,
)


def training_reader(
    preprocess: Preprocess, augment: PhotoAugment, resample: Resample = "mixed"
) -> ReadImage:
    """Reads a random part of a photo for training, resized by `resample`.

    Plain JPEGs are decoded by libjpeg-turbo, no further down than the part; all else, and what it
    refuses, goes through Pillow; so do images of 16 bit and of many channels, by the reference
    reader. `resample` "mixed" is antialiased wherever an axis shrinks by
    more than 1.5, "fast" is linear everywhere; `preprocess.interpolation` is evaluation's, and
    only "nearest" is kept in training too, by the reference reader. Without random numbers the
    image is read as the reference does.

    Against the reference on 400 photos (area 0.08 to 1 to 224 pixels, in 1/255, mean over the
    images): mean 0.9, 99th percentile 6.5, largest 21; "fast" 1.4, 10 and 33. A part of twice the
    wanted size or more, which is decoded at a smaller scale, may be moved by half an output pixel.

    Raises ConfigError for an unknown `resample`, and when called DataError naming the image.
    Source of the figures: benchmarks/photos.py; of the two filters: docs/lab-log.md.
    """
    if resample not in RESAMPLES:
        raise ConfigError(
            "unknown way to resample",
            where="resample",
            got=resample,
            expected=", ".join(RESAMPLES),
            hint=did_you_mean(resample, RESAMPLES),
        )
    reference = photo_reader(preprocess, augment)
    usual = preprocess.depth == 8 and preprocess.channels in (1, 3)
    if preprocess.interpolation == "nearest" or not usual:
        return reference
    cutter = PhotoCutter(preprocess, augment)

    def read_image(
        source: Source, position: int, row: NDArray[np.float64] | None, out: Pixels
    ) -> None:
        if row is None:
            reference(source, position, row, out)
            return
        part, turn = cutter.cut(source.read(position), row, source, position)
        resize_into(out, part, turn, resample)

    return read_image


class PhotoCutter:
    """The random part of an image: decoded where that is needed, not yet resized.

    Safe in threads, since it keeps nothing.
    """

    def __init__(self, preprocess: Preprocess, augment: PhotoAugment) -> None:
        self._size = (preprocess.height, preprocess.width)
        self._channels = preprocess.channels
        self._augment = augment
        self._mirror_draw = 2 * augment.tries + 2

    def cut(
        self, image: bytes | Pixels, row: NDArray[np.float64], source: Source, position: int
    ) -> tuple[Pixels, Turn]:
        """The part of `image` that `row` draws, uint8 [H,W,C], and how it is to be turned.

        `source` and `position` name the image in the DataError that is raised if it is damaged.
        """
        if isinstance(image, bytes):
            found = self._cut_jpeg(image, row)
            if found is not None:
                return found
            pixels = decode_image(image, channels=self._channels, name=source.name(position))
        else:
            pixels = set_channels(set_depth(image, 8), self._channels)
        box = random_crop(pixels.shape[0], pixels.shape[1], self._augment, row)
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        return part, self._turn(UPRIGHT, row)

    def _cut_jpeg(self, data: bytes, row: NDArray[np.float64]) -> tuple[Pixels, Turn] | None:
        """The part of a plain JPEG; None for anything that Pillow has to judge."""
        frame = read_frame(data)
        if frame is None:
            return None
        turn = TURNS[frame.orientation - 1]
        if turn.transpose:
            box = random_crop(frame.width, frame.height, self._augment, row)
            size = self._size[::-1]
        else:
            box = random_crop(frame.height, frame.width, self._augment, row)
            size = self._size
        try:
            part = decode_part(data, frame, _stored_box(box, frame, turn), size, self._channels)
        except ValueError:
            # Pillow reads some of what libjpeg-turbo only warns of, and names the rest.
            return None
        return part, self._turn(turn, row)

    def _turn(self, turn: Turn, row: NDArray[np.float64]) -> Turn:
        """`turn` with the mirror that `row` draws."""
        if self._augment.flip and row[self._mirror_draw] < 0.5:
            return turn._replace(left_right=not turn.left_right)
        return turn


def _stored_box(box: CropBox, frame: JpegFrame, turn: Turn) -> CropBox:
    """Where a part of the upright image lies in the stored one."""
    if turn == UPRIGHT:
        return box
    top, left, tall, wide = box
    height, width = (frame.width, frame.height) if turn.transpose else (frame.height, frame.width)
    top = height - top - tall if turn.down_up else top
    left = width - left - wide if turn.left_right else left
    return CropBox(left, top, wide, tall) if turn.transpose else CropBox(top, left, tall, wide)
