"""What training may change about an image: two small records and their words for the log.

Owns the settings and their checks. The arithmetic is in `windows` (small images, whole batches)
and `photo` (one photo at a time); the random numbers are in `draws`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from discern.base.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallImageAugment:
    """Shift by a crop out of the padded image, then perhaps mirror: the CIFAR standard.

    `pad`: pixels added on each side before the crop; 4 at 32 pixels is that of K. He et al., Deep
    Residual Learning, 2015, section 4.2. `flip`: mirror left to right with probability one half.
    `border`: what the added pixels show; `fill`: their value, 0 to 255, with border "constant".
    """

    pad: int = 4
    flip: bool = True
    border: Literal["constant", "reflect"] = "constant"
    fill: int = 0

    def __post_init__(self) -> None:
        _check(self.pad >= 0, "pad", self.pad, "0 or more pixels")
        _check(0 <= self.fill <= 255, "fill", self.fill, "0 to 255")
        _check(self.border in ("constant", "reflect"), "border", self.border, "constant or reflect")


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoAugment:
    """A crop of random area and shape resized to the network's size, then perhaps mirrored.

    `scale`: share of the image's area, smallest and largest. `ratio`: width / height of the crop,
    smallest and largest, drawn on a log scale. `tries`: draws before the center crop is taken.
    `flip`: mirror left to right with probability one half. The ratios and ten tries are those of C.
    Szegedy et al., Going Deeper with Convolutions, 2014, as torchvision draws them; its smallest
    area of 0.08 is for ImageNet from scratch, and 0.35 is what fine-tuning on few photos bears.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    tries: int = 10

    def __post_init__(self) -> None:
        low, high = self.scale
        _check(0.0 < low <= high <= 1.0, "scale", self.scale, "0 < smallest <= largest <= 1")
        low, high = self.ratio
        _check(0.0 < low <= high, "ratio", self.ratio, "0 < smallest <= largest")
        _check(self.tries >= 0, "tries", self.tries, "0 or more")

    @property
    def draws(self) -> int:
        """Random numbers per image: area and shape of each try, top, left, mirror."""
        return 2 * self.tries + 3


Augment: TypeAlias = SmallImageAugment | PhotoAugment | None


def describe_augment(augment: Augment) -> str:
    """One line for the run's log, such as "shift up to 4 pixels (constant 0), mirror"."""
    parts = []
    if isinstance(augment, SmallImageAugment):
        if augment.pad:
            border = f"constant {augment.fill}" if augment.border == "constant" else "reflected"
            parts.append(f"shift up to {augment.pad} pixels ({border})")
    elif isinstance(augment, PhotoAugment):
        area, shape = augment.scale, augment.ratio
        parts.append(
            f"crop {area[0]:.0%} to {area[1]:.0%} of the area, "
            f"width / height {shape[0]:.2f} to {shape[1]:.2f}"
        )
    if augment is not None and augment.flip:
        parts.append("mirror")
    return ", ".join(parts) or "none"


def _check(good: bool, name: str, got: object, expected: str) -> None:  # noqa: FBT001
    if not good:
        raise ConfigError(
            "an augmentation has a value that cannot be used",
            where=f"augment.{name}",
            got=got,
            expected=expected,
        )
