"""Which augmentations bear images of 16 bit, or of other channels than grey and RGB.

Owns the refusal of those that do not: they compute in 0 to 255, or in colors.
"""

from __future__ import annotations

from collections.abc import Iterator

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.feed.augment import (
    Augment,
    PhotoAugment,
    Policy,
    SmallImageAugment,
    framing_of,
    operation_name,
)
from discern.feed.framing import BoxCrop, ShortSideCrop, Whole
from discern.feed.operations import Cutout, Mirror, OneOf, PixelOperation, RandomErasing

# Framings that crop, mirror and resize by the reference.
_FRAMINGS = (SmallImageAugment, PhotoAugment, Whole, ShortSideCrop, BoxCrop)
# Steps that move pixels without computing with them, and those that also write values of 8 bit.
_MOVING = (Mirror,)
_FILLING = (Cutout, RandomErasing)


def check_augment(augment: Augment, preprocess: Preprocess) -> None:
    """Raises ConfigError naming the parts of `augment` that the images do not bear."""
    plain_channels = preprocess.channels in (1, 3)
    if preprocess.depth == 8 and plain_channels:
        return
    framing = framing_of(augment)
    refused: list[type[object]] = []
    if framing is not None and not isinstance(framing, _FRAMINGS):
        refused.append(type(framing))
    if isinstance(augment, Policy):
        allowed = _MOVING if preprocess.depth != 8 else (*_MOVING, *_FILLING)
        steps = [part for step in augment.steps for part in _parts(step.operation)]
        refused += [type(part) for part in steps if not isinstance(part, allowed)]
    if refused:
        images = f"{preprocess.channels} channels of {preprocess.depth} bit"
        raise ConfigError(
            f"the augmentation does not work on images of {images}",
            where="augment",
            got=", ".join(dict.fromkeys(operation_name(kind) for kind in refused)),
            expected="auto, small, photo or none: crops and mirroring",
            hint=None if plain_channels else "or read the images with --channels 3",
        )


def _parts(operation: PixelOperation) -> Iterator[PixelOperation]:
    if isinstance(operation, OneOf):
        for option in operation.options:
            yield from _parts(option)
    else:
        yield operation
