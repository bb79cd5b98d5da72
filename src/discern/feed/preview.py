"""What the net sees: augmented and evaluation images side by side, and what the crop cuts off.

Owns the figures and the pixels of `discern data preview`; writing pictures is the caller's.

Axes: N samples, H height, W width, C channels.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.images import Pixels, Preprocess
from discern.data.pixel_arrays import set_depth
from discern.data.sources import Source
from discern.feed.augment import (
    Augment,
    PhotoAugment,
    Policy,
    SmallImageAugment,
    change_pixels,
    framing_of,
)
from discern.feed.draws import Draws, Operation
from discern.feed.framing import framing_reader
from discern.feed.normalize import as_stored
from discern.feed.photo import ReadImage, photo_reader
from discern.feed.pixel_kinds import check_augment
from discern.feed.windows import check_pad, crop_batch, draw_shifts

# Images of a preview.
PREVIEW_IMAGES = 8
# From this share of the median image on that the evaluation's crop never shows, a word is due:
# a square cut out of 3:2 loses a third, out of 4:3 a quarter.
CROP_WARNING = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """Images as the net sees them before normalization: uint8 [N,H,W,C], 16 bit scaled to 8.

    `augmented` and `evaluation` show the same images; `names`: their names in the source.
    """

    names: tuple[str, ...]
    positions: NDArray[np.int64]
    augmented: Pixels
    evaluation: Pixels
    crop_loss: float | None = None

    def record(self) -> dict[str, Any]:
        """Names, positions and the crop's loss as JSON values."""
        return {
            "names": list(self.names),
            "positions": self.positions.tolist(),
            "crop_loss": self.crop_loss,
        }


def crop_loss(preprocess: Preprocess, sizes: Sequence[tuple[int, int]]) -> float:
    """The share of an image's area, 0 to 1, that evaluation cuts off at the median aspect ratio.

    `sizes`: (height, width) of the images, in pixels. Nothing is lost under `squish` and `pad`.
    Raises DataError without sizes.
    """
    if not sizes:
        raise DataError("there is no image to measure", got=0, expected="at least 1 image")
    if preprocess.fit != "crop":
        return 0.0
    shape = statistics.median(width / height for height, width in sizes)
    own = preprocess.width / preprocess.height
    # The crop has crop_pct of the side that decides, and all or less of the other one.
    kept = min(own, shape) / max(own, shape) * preprocess.crop_pct**2
    return 1.0 - kept


def crop_warning(loss: float) -> str | None:
    """A sentence for the terminal if much is cut off, else None."""
    if loss < CROP_WARNING:
        return None
    return (
        f"the crop cuts off {loss:.0%} of the median image: "
        "if what tells the classes apart may lie at the border, use --fit pad or --fit squish"
    )


def preview_images(
    source: Source,
    positions: NDArray[np.int64],
    preprocess: Preprocess,
    augment: Augment,
    *,
    seed: int = 0,
    epoch: int = 0,
    count: int = PREVIEW_IMAGES,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Preview:
    """`count` images spread over `positions`, as training in `epoch` and as evaluation shows them.

    `sizes`: (height, width) of the images, for the crop's loss. Raises DataError naming an image
    that cannot be read.
    """
    if len(positions) == 0:
        raise DataError("there is no image to show", got=0, expected="at least 1 image")
    places = np.unique(np.linspace(0, len(positions) - 1, min(count, len(positions))).astype(int))
    chosen = np.asarray(positions)[places].astype(np.int64)
    shape = (len(chosen), preprocess.height, preprocess.width, preprocess.channels)
    augmented: Pixels = np.empty(shape, preprocess.dtype)
    evaluation: Pixels = np.empty(shape, preprocess.dtype)
    numbers = torch.from_numpy(chosen)
    draws = Draws(seed, epoch)
    read, rows = _reader(preprocess, augment, draws, numbers)
    reference = photo_reader(preprocess, None)
    for number, position in enumerate(chosen.tolist()):
        reference(source, position, None, evaluation[number])
        read(source, position, None if rows is None else rows[number], augmented[number])
    framing = framing_of(augment)
    if isinstance(framing, SmallImageAugment):
        check_pad(framing, preprocess.height, preprocess.width)
        stored = as_stored(torch.from_numpy(augmented))
        crop_batch(stored, framing, draw_shifts(framing, draws, numbers))
    if isinstance(augment, Policy):
        check_augment(augment, preprocess)
        stored = as_stored(torch.from_numpy(augmented))
        changed = change_pixels(stored, augment, augment.table(draws, numbers))
        augmented = changed.numpy().view(preprocess.dtype)
    return Preview(
        names=tuple(source.name(position) for position in chosen.tolist()),
        positions=chosen,
        augmented=set_depth(augmented, 8),
        evaluation=set_depth(evaluation, 8),
        crop_loss=None if not sizes else crop_loss(preprocess, sizes),
    )


def _reader(
    preprocess: Preprocess, augment: Augment, draws: Draws, positions: torch.Tensor
) -> tuple[ReadImage, NDArray[np.float64] | None]:
    """The reader of training images and its random numbers [N,R], None if it takes none."""
    framing = framing_of(augment)
    if framing is None or isinstance(framing, SmallImageAugment):
        return photo_reader(preprocess, None), None
    rows = draws.table(positions, Operation.RESIZED_CROP, framing.draws).numpy()
    if isinstance(framing, PhotoAugment):
        return photo_reader(preprocess, framing), rows
    return framing_reader(preprocess, framing), rows
