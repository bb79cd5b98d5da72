"""TrivialAugment, RandAugment and AugMix: chosen changes of chosen strength, by keyed numbers.

Owns the choice. The changes themselves are torchvision's functionals (TrivialAugment, AugMix) and
timm's table of operations (RandAugment), called with explicit strengths; neither library's random
classes are used. See `operations` for the contract.

Axes: C channels (1 or 3), H height, W width, R random numbers of one image.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from discern.feed.color import from_rows, to_rows
from discern.feed.operations import OneByOne, Rows, check_value
from discern.feed.variates import beta, normal, pick, shares

# Strongest magnitude of TrivialAugment's wide space: S. Mueller and F. Hutter, TrivialAugment:
# Tuning-free Yet State-of-the-Art Data Augmentation, 2021, table 2, as torchvision bins them (31).
_WIDE = {
    "Identity": None,
    "ShearX": 0.99,
    "ShearY": 0.99,
    "TranslateX": 32.0,
    "TranslateY": 32.0,
    "Rotate": 135.0,
    "Brightness": 0.99,
    "Color": 0.99,
    "Contrast": 0.99,
    "Sharpness": 0.99,
    "Posterize": 6.0,
    "Solarize": 1.0,
    "AutoContrast": None,
    "Equalize": None,
}
_BINS = 31
# AugMix's space: D. Hendrycks et al., AugMix, 2019, as torchvision bins it (10); translations are
# shares of the side.
_MIXED = {
    "ShearX": 0.3,
    "ShearY": 0.3,
    "TranslateX": 1 / 3,
    "TranslateY": 1 / 3,
    "Rotate": 30.0,
    "Posterize": 4.0,
    "Solarize": 1.0,
    "AutoContrast": None,
    "Equalize": None,
    "Brightness": 0.9,
    "Color": 0.9,
    "Contrast": 0.9,
    "Sharpness": 0.9,
}
_MIXED_BINS = 10
_UNSIGNED = frozenset({"Identity", "Posterize", "Solarize", "AutoContrast", "Equalize", "Invert"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrivialAugment(OneByOne):
    """One change out of 14, of any of 31 strengths: TrivialAugment (wide).

    `fill`: what comes in from outside the image, 0 to 255.
    """

    fill: int = 0
    draws: ClassVar[int] = 3

    def choice(self, row: Rows) -> tuple[str, float]:
        """The change's name and its magnitude, with its sign, for `row` [3]."""
        name = pick(float(row[0]), tuple(_WIDE))
        level = pick(float(row[1]), range(_BINS)) / (_BINS - 1)
        largest = _WIDE[name]
        if largest is None:
            return name, 0.0
        if name == "Posterize":
            return name, float(round(8.0 - level * largest))
        if name == "Solarize":
            return name, 1.0 - level
        return name, level * largest * (-1.0 if row[2] < 0.5 else 1.0)

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        name, magnitude = self.choice(row)
        return change_by_name(image, name, magnitude, interpolation="nearest", fill=self.fill)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugMix(OneByOne):
    """The image mixed with `width` chains of changes, in random shares.

    `severity`: 1 to 10, strength of a change; `depth`: changes of a chain, 0 for 1 to 3 of them;
    `alpha`: of the beta and Dirichlet distributions of the shares. Defaults: torchvision's.
    """

    severity: int = 3
    width: int = 3
    depth: int = 0
    alpha: float = 1.0
    fill: int = 0

    def __post_init__(self) -> None:
        check_value(1 <= self.severity <= 10, "severity", self.severity, "1 to 10")
        check_value(self.width >= 1, "width", self.width, "1 or more")
        check_value(0 <= self.depth <= 10, "depth", self.depth, "0 (random) to 10")
        check_value(self.alpha > 0.0, "alpha", self.alpha, "above 0")

    @property
    def draws(self) -> int:
        """Share of the image, share of each chain, then length and changes of each."""
        return 1 + self.width * (2 + 3 * (self.depth or 3))

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        kept = beta(float(row[0]), self.alpha)
        parts = shares([float(even) for even in row[1 : 1 + self.width]], self.alpha)
        mixed = image.to(torch.float32) * kept
        longest = self.depth or 3
        chains = row[1 + self.width :].reshape(self.width, 1 + 3 * longest)
        for part, numbers in zip(parts, chains, strict=True):
            length = self.depth or 1 + pick(float(numbers[0]), range(3))
            changed = image
            for own in numbers[1 : 1 + 3 * length].reshape(length, 3):
                changed = self._link(changed, own)
            mixed += changed.to(torch.float32) * ((1.0 - kept) * part)
        return mixed.round_().clamp_(0, 255).to(torch.uint8)

    def _link(self, image: Tensor, row: Rows) -> Tensor:
        """One change of a chain."""
        name = pick(float(row[0]), tuple(_MIXED))
        largest = _MIXED[name]
        level = pick(float(row[1]), range(self.severity)) / (_MIXED_BINS - 1)
        magnitude = 0.0 if largest is None else level * largest
        if name == "Posterize":
            # No bit kept would be a black image; torchvision's space goes from 4 bits to none.
            magnitude = max(1.0, float(round(4.0 - magnitude)))
        elif name == "Solarize":
            magnitude = 1.0 - magnitude
        elif name in ("TranslateX", "TranslateY"):
            magnitude *= image.shape[-1 if name == "TranslateX" else -2]
        if name not in _UNSIGNED and row[2] < 0.5:
            magnitude = -magnitude
        return change_by_name(image, name, magnitude, interpolation="bilinear", fill=self.fill)


def change_by_name(
    image: Tensor, name: str, magnitude: float, *, interpolation: str, fill: int
) -> Tensor:
    """`image` uint8 [C,H,W] after the change `name` of torchvision's automatic policies.

    `magnitude`: tangent of a shear, pixels of a translation, degrees of a rotation, what is added
    to a factor of 1 for a color change, bits kept, or the threshold (0 to 1) of solarizing.
    """
    from torchvision.transforms.v2 import functional as F
    from torchvision.transforms.v2.functional import InterpolationMode

    warp: dict[str, Any] = {
        "interpolation": InterpolationMode(interpolation),
        "fill": [float(fill)] * image.shape[0],
    }
    shear = math.degrees(math.atan(magnitude))
    flat = {"angle": 0.0, "scale": 1.0}
    still, upright = [0, 0], [0.0, 0.0]
    changes: dict[str, Callable[[], Tensor]] = {
        "Identity": lambda: image,
        "ShearX": lambda: F.affine(
            image, translate=still, shear=[shear, 0.0], center=upright, **flat, **warp
        ),
        "ShearY": lambda: F.affine(
            image, translate=still, shear=[0.0, shear], center=upright, **flat, **warp
        ),
        "TranslateX": lambda: F.affine(
            image, translate=[int(magnitude), 0], shear=upright, **flat, **warp
        ),
        "TranslateY": lambda: F.affine(
            image, translate=[0, int(magnitude)], shear=upright, **flat, **warp
        ),
        "Rotate": lambda: F.rotate(image, angle=magnitude, **warp),
        "Brightness": lambda: F.adjust_brightness(image, 1.0 + magnitude),
        "Color": lambda: F.adjust_saturation(image, 1.0 + magnitude),
        "Contrast": lambda: F.adjust_contrast(image, 1.0 + magnitude),
        "Sharpness": lambda: F.adjust_sharpness(image, 1.0 + magnitude),
        "Posterize": lambda: F.posterize(image, bits=int(magnitude)),
        "Solarize": lambda: F.solarize(image, threshold=255.0 * magnitude),
        "AutoContrast": lambda: F.autocontrast(image),
        "Equalize": lambda: F.equalize(image),
        "Invert": lambda: F.invert(image),
    }
    return changes[name]()


# timm's set of operations whose effect grows with the magnitude ("inc1"), each with what turns a
# level of 0 to 1 into its argument and whether that takes a sign. Ranges: timm.data.auto_augment.
_Argument = Callable[[float], float | int]
_INCREASING: dict[str, tuple[_Argument | None, bool]] = {
    "AutoContrast": (None, False),
    "Equalize": (None, False),
    "Invert": (None, False),
    "Rotate": (lambda level: 30.0 * level, True),
    # One bit at least: Pillow refuses to keep none, which timm asks for at full strength.
    "PosterizeIncreasing": (lambda level: max(1, 4 - int(4 * level)), False),
    "SolarizeIncreasing": (lambda level: 256 - min(256, int(256 * level)), False),
    "SolarizeAdd": (lambda level: min(128, int(110 * level)), False),
    "ColorIncreasing": (lambda level: 0.9 * level, True),
    "ContrastIncreasing": (lambda level: 0.9 * level, True),
    "BrightnessIncreasing": (lambda level: 0.9 * level, True),
    "SharpnessIncreasing": (lambda level: 0.9 * level, True),
    "ShearX": (lambda level: 0.3 * level, True),
    "ShearY": (lambda level: 0.3 * level, True),
    "TranslateXRel": (lambda level: 0.45 * level, True),
    "TranslateYRel": (lambda level: 0.45 * level, True),
}
_FACTORS = frozenset(
    {"ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"}
)
_WARPS = frozenset({"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class RandAugment(OneByOne):
    """`n` changes of magnitude `m` (0 to 10), each done with `probability`, out of timm's set.

    `deviation`: of a normal distribution of the magnitude about `m`. Source: E. Cubuk et al.,
    RandAugment, 2019; defaults those of timm's "rand-m9-mstd0.5-inc1".
    """

    n: int = 2
    m: float = 9.0
    deviation: float = 0.5
    probability: float = 0.5
    fill: int = 128

    def __post_init__(self) -> None:
        check_value(self.n >= 1, "n", self.n, "1 or more")
        check_value(0.0 <= self.m <= 10.0, "m", self.m, "0 to 10")
        check_value(self.deviation >= 0.0, "deviation", self.deviation, "0 or more")
        check_value(0.0 <= self.probability <= 1.0, "probability", self.probability, "0 to 1")
        check_value(0 <= self.fill <= 255, "fill", self.fill, "0 to 255")

    @property
    def draws(self) -> int:
        """Of each change: which, whether, how strong, its sign."""
        return 4 * self.n

    def choices(self, row: Rows) -> list[tuple[str, float | int | None]]:
        """Name and argument of each change that is done, in order, for `row` [4n]."""
        done: list[tuple[str, float | int | None]] = []
        for which, whether, strength, sign in row.reshape(self.n, 4).tolist():
            if whether >= self.probability:
                continue
            name = pick(which, tuple(_INCREASING))
            level = self.m + (self.deviation * normal(strength) if self.deviation else 0.0)
            done.append((name, _argument(name, min(10.0, max(0.0, level)) / 10.0, sign)))
        return done

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        choices = self.choices(row)
        if not choices:
            return image
        from PIL import Image
        from timm.data.auto_augment import NAME_TO_OP

        table: Mapping[str, Any] = NAME_TO_OP
        pixels = to_rows(image)
        grey = pixels.shape[2] == 1
        picture = Image.fromarray(pixels[:, :, 0] if grey else pixels)
        fill = self.fill if grey else (self.fill,) * 3
        for name, argument in choices:
            # Bilinear where timm tosses a coin between bilinear and bicubic.
            warp = {"fillcolor": fill, "resample": Image.Resampling.BILINEAR}
            arguments = () if argument is None else (argument,)
            picture = table[name](picture, *arguments, **(warp if name in _WARPS else {}))
        return from_rows(np.array(picture), image)


def _argument(name: str, level: float, sign: float) -> float | int | None:
    """What timm's operation `name` is called with at `level` 0 to 1; `sign`: even number."""
    convert, has_sign = _INCREASING[name]
    if convert is None:
        return None
    value = convert(level)
    if has_sign and sign < 0.5:
        value = -value
    return max(0.1, 1.0 + value) if name in _FACTORS else value
