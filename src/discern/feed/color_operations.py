"""Random changes of color: small records with all their settings; see `operations`.

Owns how random numbers become factors and levels; the arithmetic is in `color`.

Axes: N samples, C channels (1 or 3), H height, W width, R random numbers of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.feed import color
from discern.feed.operations import OneByOne, Rows, check_range, check_value
from discern.feed.variates import between, integer_between, normal, order, pick, signed

Change: TypeAlias = Callable[[Tensor, NDArray[np.float64]], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue changed, each image in an order of its own.

    `brightness`, `contrast`, `saturation`: factors from 1 - v (at least 0) to 1 + v. `hue`: moved
    by up to this share of the circle, at most 0.5. What is 0 is left out. As torchvision's.
    """

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    draws: ClassVar[int] = 5
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            check_range(0.0, getattr(self, name), name)
        check_value(0.0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5")

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        changes: list[tuple[Change, NDArray[np.float64]]] = []
        for number, (size, change) in enumerate(
            (
                (self.brightness, _scale(color.scale_brightnesses)),
                (self.contrast, _scale(color.scale_contrasts)),
                (self.saturation, _scale(color.scale_saturations)),
            )
        ):
            if size > 0.0:
                low = max(0.0, 1.0 - size)
                changes.append((change, between_all(rows[:, number], low, 1.0 + size)))
        if self.hue > 0.0:
            changes.append((_turn_hues, between_all(rows[:, 3], -self.hue, self.hue)))
        orders = np.array([order(even, len(changes)) for even in rows[:, 4]], dtype=np.int64)
        return in_orders(images, changes, orders)


# The orders of tensorflow/models' inception_preprocessing: distort_color's color_ordering 0 to 3
# (and 0, 1 of its fast mode); 0 brightness, 1 contrast, 2 saturation, 3 hue.
_INCEPTION_ORDERS = ((0, 2, 3, 1), (2, 0, 1, 3), (1, 3, 0, 2), (3, 2, 1, 0))
_FAST_ORDERS = ((0, 1), (1, 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorDistortion:
    """The color distortion of Inception's training: in one of four orders (LA-16).

    Brightness moved by up to 32 levels of 255, contrast and saturation by factors 0.5 to 1.5, hue
    by up to 0.2 of the circle. `fast`: only brightness and saturation, in one of two orders.
    """

    fast: bool = False
    brightness: float = 32 / 255
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 0.2
    draws: ClassVar[int] = 5
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_value(0.0 <= self.brightness <= 1.0, "brightness", self.brightness, "0 to 1")
        check_range(*self.contrast, "contrast")
        check_range(*self.saturation, "saturation")
        check_value(0.0 <= self.hue <= 0.5, "hue", self.hue, "0 to 0.5")

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        limit = 255.0 * self.brightness
        brightness = (_scale(color.shift_brightnesses), between_all(rows[:, 0], -limit, limit))
        contrast = (_scale(color.scale_contrasts), between_all(rows[:, 1], *self.contrast))
        saturation = (_scale(color.scale_saturations), between_all(rows[:, 2], *self.saturation))
        hue: tuple[Change, NDArray[np.float64]]
        hue = (_turn_hues, between_all(rows[:, 3], -self.hue, self.hue))
        if self.fast:
            orders = np.array([pick(even, _FAST_ORDERS) for even in rows[:, 4]])
            return in_orders(images, [brightness, saturation], orders)
        orders = np.array([pick(even, _INCEPTION_ORDERS) for even in rows[:, 4]])
        return in_orders(images, [brightness, contrast, saturation, hue], orders)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessShift:
    """Up to `limit` levels (of 255) added or taken away."""

    limit: float = 63.0
    draws: ClassVar[int] = 1
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_value(0.0 <= self.limit <= 255.0, "limit", self.limit, "0 to 255")

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        levels = between_all(rows[:, 0], -self.limit, self.limit)
        return color.shift_brightnesses(images, torch.from_numpy(levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Spread about the mean grey value by a factor from `low` to `high`."""

    low: float = 0.2
    high: float = 1.8
    draws: ClassVar[int] = 1
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range(self.low, self.high, "contrast")

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        factors = between_all(rows[:, 0], self.low, self.high)
        return color.scale_contrasts(images, torch.from_numpy(factors))


@dataclass(frozen=True, slots=True, kw_only=True)
class BrightnessContrast:
    """Values times 1 +- `contrast`, plus up to `brightness` of 255 (CA-35: 0.5 each)."""

    brightness: float = 0.5
    contrast: float = 0.5
    draws: ClassVar[int] = 2
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_value(0.0 <= self.brightness <= 1.0, "brightness", self.brightness, "0 to 1")
        check_value(0.0 <= self.contrast <= 1.0, "contrast", self.contrast, "0 to 1")

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        factors = between_all(rows[:, 0], 1.0 - self.contrast, 1.0 + self.contrast)
        levels = between_all(rows[:, 1], -255.0 * self.brightness, 255.0 * self.brightness)
        return color.scale_shift(images, torch.from_numpy(factors), torch.from_numpy(levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lighting:
    """PCA noise: the main colors of ImageNet added, in normal amounts of deviation `sigma`.

    Source: A. Krizhevsky et al., 2012, section 4.1 (sigma 0.1); constants in `color`. Grey images
    stay as they are.
    """

    sigma: float = 0.1
    draws: ClassVar[int] = 3
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_range(0.0, self.sigma, "sigma")

    def levels(self, rows: Rows) -> NDArray[np.float64]:
        """What is added to red, green and blue, in pixel values: [N,3] for `rows` [N,3]."""
        alphas = np.array([[normal(even) for even in row] for row in rows])
        return color.lighting_levels(alphas.reshape(-1, 3) * self.sigma)

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        if images.shape[1] != 3:
            return images
        return color.shift_channels(images, torch.from_numpy(self.levels(rows)))


@dataclass(frozen=True, slots=True, kw_only=True)
class HlsJitter(OneByOne):
    """Hue (of 180), lightness and saturation (of 255) moved, mostly little, by up to these levels.

    Each amount is the mean of two even numbers, weighted 1 and 4, as MXNet draws it "to reduce
    extreme values". Grey images keep their values.
    """

    hue: int = 0
    saturation: int = 0
    lightness: int = 0
    draws: ClassVar[int] = 6

    def __post_init__(self) -> None:
        check_value(0 <= self.hue <= 180, "hue", self.hue, "0 to 180")
        check_value(0 <= self.saturation <= 255, "saturation", self.saturation, "0 to 255")
        check_value(0 <= self.lightness <= 255, "lightness", self.lightness, "0 to 255")

    def levels(self, row: Rows) -> tuple[int, int, int]:
        """The whole levels added to hue, lightness and saturation for `row` [6]."""
        limits = (self.hue, self.saturation, self.lightness)
        drawn = [
            int(signed((row[2 * k] + 4.0 * row[2 * k + 1]) / 5.0, limit))
            for k, limit in enumerate(limits)
        ]
        return drawn[0], drawn[2], drawn[1]

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        hue, lightness, saturation = self.levels(row)
        return color.shift_hls(image, hue, lightness, saturation)


@dataclass(frozen=True, slots=True, kw_only=True)
class HsvShift(OneByOne):
    """Hue (of 180), saturation and value (of 255) moved by up to these levels.

    Defaults: those of albumentations that Catalyst's hard transforms use.
    """

    hue: int = 20
    saturation: int = 30
    value: int = 20
    draws: ClassVar[int] = 3

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        limits = (self.hue, self.saturation, self.value)
        hue, saturation, value = (
            integer_between(even, -limit, limit) for even, limit in zip(row, limits, strict=True)
        )
        return color.shift_hsv(image, hue, saturation, value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grey:
    """Grey values in place of the colors."""

    draws: ClassVar[int] = 0
    gentle: ClassVar[bool] = False

    def apply(self, images: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """See `PixelOperation.apply`."""
        return color.turn_grey(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShift:
    """Up to `limit` levels added to each channel by itself (albumentations' RGBShift: 20)."""

    limit: float = 20.0
    draws: ClassVar[int] = 3
    gentle: ClassVar[bool] = False

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        levels = between_all(rows[:, : images.shape[1]], -self.limit, self.limit)
        return color.shift_channels(images, torch.from_numpy(levels))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelShuffle(OneByOne):
    """The channels in any order."""

    draws: ClassVar[int] = 1

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        return image[list(order(float(row[0]), image.shape[0]))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gamma(OneByOne):
    """Each value of 0..1 to a power from `low` to `high`; defaults as albumentations' (CA-35)."""

    low: float = 0.8
    high: float = 1.2
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.low, self.high, "gamma")

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        return color.bend_gamma(image, between(float(row[0]), self.low, self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Clahe(OneByOne):
    """Lightness equalized part by part, contrast limited to 1 .. `clip` (albumentations: 4, 8)."""

    clip: float = 4.0
    tiles: int = 8
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(1.0, self.clip, "clip")
        check_value(self.tiles >= 1, "tiles", self.tiles, "1 or more")

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        return color.equalize_tiles(image, between(float(row[0]), 1.0, self.clip), self.tiles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jpeg(OneByOne):
    """Compressed as JPEG of quality `low` to `high` and read again (CA-35: 50 and above)."""

    low: int = 50
    high: int = 100
    draws: ClassVar[int] = 1

    def __post_init__(self) -> None:
        check_range(self.low, self.high, "quality", least=1)
        check_value(self.high <= 100, "quality", self.high, "at most 100")

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        return color.compress_jpeg(image, integer_between(float(row[0]), self.low, self.high))


def in_orders(
    images: Tensor,
    changes: list[tuple[Change, NDArray[np.float64]]],
    orders: NDArray[np.int64],
) -> Tensor:
    """`images` after `changes` (function, a value for each image), in each image's own order.

    `orders` int64 [N,P]: row k names the changes of image k, first to last.
    """
    out = images.clone()
    for place in range(len(changes)):
        for number, (change, values) in enumerate(changes):
            chosen = np.flatnonzero(orders[:, place] == number)
            if len(chosen):
                where = torch.from_numpy(chosen).to(out.device)
                out[where] = change(out[where], values[chosen])
    return out


def between_all(evens: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Numbers in [low, high), one for each of `evens`."""
    return low + (high - low) * evens


def _scale(change: Callable[[Tensor, Tensor], Tensor]) -> Change:
    def changed(images: Tensor, values: NDArray[np.float64]) -> Tensor:
        return change(images, torch.from_numpy(values))

    return changed


def _turn_hues(images: Tensor, turns: NDArray[np.float64]) -> Tensor:
    turned = [
        color.turn_hue(image.contiguous(), float(turn))
        for image, turn in zip(images, turns, strict=True)
    ]
    return torch.stack(turned)
