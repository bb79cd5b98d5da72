"""Random changes of uint8 images that keep their size: small records with all their settings.

Owns what a policy's steps are made of: each record says how many random numbers an image takes
and turns them into parameters of the functions in `color` and `warps`. A record knows no seed and
no state: equal numbers give equal images, in any batch. See `augment` for policies.

Axes: N samples, C channels (1 or 3), H height, W width, R random numbers of one image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError
from discern.feed import warps
from discern.feed.draws import Draws
from discern.feed.variates import between, normal, pick, signed

Rows = NDArray[np.float64]


class PixelOperation(Protocol):
    """A random change of images.

    `draws`: random numbers of an image. `gentle`: it stays when strong augmentation is closed.
    """

    @property
    def draws(self) -> int: ...

    @property
    def gentle(self) -> bool: ...

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """`images` uint8 [N,C,H,W] changed by `rows` float64 [N,R] in [0, 1): uint8 [N,C,H,W].

        Image k of the result depends on image k and row k alone. The input stays as it is.
        """
        ...


class OneByOne:
    """An operation whose images are changed each by itself."""

    gentle: ClassVar[bool] = False

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        changed = [
            self.change(image.contiguous(), row) for image, row in zip(images, rows, strict=True)
        ]
        return torch.stack(changed)

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """`image` uint8 [C,H,W], contiguous, changed by `row` float64 [R]."""
        raise NotImplementedError


def check_value(good: bool, name: str, got: object, expected: str) -> None:  # noqa: FBT001
    """Raises ConfigError naming `augment.<name>` unless `good`."""
    if not good:
        raise ConfigError(
            "an augmentation has a value that cannot be used",
            where=f"augment.{name}",
            got=got,
            expected=expected,
        )


def check_range(low: float, high: float, name: str, least: float = 0.0) -> None:
    """Raises ConfigError unless `least` <= `low` <= `high`."""
    check_value(least <= low <= high, name, f"{low} to {high}", f"{least} <= smallest <= largest")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """Left and right exchanged."""

    draws: ClassVar[int] = 0
    gentle: ClassVar[bool] = True

    def apply(self, images: Tensor, rows: Rows) -> Tensor:  # noqa: ARG002
        """See `PixelOperation.apply`."""
        return images.flip(-1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftScaleRotate(OneByOne):
    """Moved by up to `shift` of the side, scaled by 1 +- `scale`, turned by up to `angle` degrees.

    Borders are reflected. Defaults: Catalyst.Classification's hard transforms (CA-35).
    """

    shift: float = 0.1
    scale: float = 0.1
    angle: float = 15.0
    draws: ClassVar[int] = 4

    def __post_init__(self) -> None:
        check_range(0.0, self.shift, "shift")
        check_value(0.0 <= self.scale < 1.0, "scale", self.scale, "0 <= scale < 1")
        check_range(0.0, self.angle, "angle")

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        return warps.shift_scale_rotate(
            image,
            right=signed(row[0], self.shift),
            down=signed(row[1], self.shift),
            scale=1.0 + signed(row[2], self.scale),
            degrees=signed(row[3], self.angle),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Perspective(OneByOne):
    """The corners drawn inward by |normal| x a size between `low` and `high` of the side.

    Defaults: Catalyst.Classification's hard transforms (CA-35).
    """

    low: float = 0.02
    high: float = 0.05
    draws: ClassVar[int] = 9

    def __post_init__(self) -> None:
        check_range(self.low, self.high, "perspective")
        check_value(self.high <= 0.1, "perspective", self.high, "at most 0.1")

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        size = between(row[0], self.low, self.high)
        drawn = np.array([abs(normal(even)) for even in row[1:]])
        # Two points that pass each other would turn the image inside out.
        return warps.tilt(image, np.minimum(drawn * size, 0.45).reshape(4, 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cutout(OneByOne):
    """`holes` rectangles of `share` of each side, about any point of the image, show `fill`.

    Source: T. DeVries and G. Taylor, Improved Regularization with Cutout, 2017; defaults:
    Catalyst.Classification's hard transforms (CA-35).
    """

    holes: int = 4
    share: float = 0.25
    fill: int = 0

    def __post_init__(self) -> None:
        check_value(self.holes >= 1, "holes", self.holes, "1 or more")
        check_value(0.0 < self.share <= 1.0, "share", self.share, "0 < share <= 1")
        check_value(0 <= self.fill <= 255, "fill", self.fill, "0 to 255")

    @property
    def draws(self) -> int:
        """Middle of each hole."""
        return 2 * self.holes

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        height, width = image.shape[-2:]
        size = (max(1, int(height * self.share)), max(1, int(width * self.share)))
        fill = torch.tensor(self.fill, dtype=torch.uint8, device=image.device)
        for hole in range(self.holes):
            middle = (float(row[2 * hole]), float(row[2 * hole + 1]))
            image = warps.fill_box(image, warps.centered_box(image, size, middle), fill)
        return image


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomErasing(OneByOne):
    """A rectangle of random area and shape shows noise, or `fill` if one is given.

    `area`: share of the image; `ratio`: height / width, on a log scale. An image for which none
    of `tries` boxes fits stays whole. Source: Z. Zhong et al., Random Erasing Data Augmentation,
    2017, with timm's ratio of 0.3 to 1 / 0.3; the noise is even over 0..255.
    """

    area: tuple[float, float] = (0.02, 1 / 3)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)
    fill: int | None = None
    tries: int = 10

    def __post_init__(self) -> None:
        check_range(*self.area, "area")
        check_value(self.area[0] > 0.0 and self.area[1] <= 1.0, "area", self.area, "0 to 1")
        check_value(0.0 < self.ratio[0] <= self.ratio[1], "ratio", self.ratio, "0 < low <= high")
        check_value(self.tries >= 1, "tries", self.tries, "1 or more")
        good = self.fill is None or 0 <= self.fill <= 255
        check_value(good, "fill", self.fill, "0 to 255, or none for noise")

    @property
    def draws(self) -> int:
        """Area and shape of each try, then top, left, key of the noise."""
        return 2 * self.tries + 3

    def change(self, image: Tensor, row: Rows) -> Tensor:
        """See `OneByOne.change`."""
        place = (float(row[-3]), float(row[-2]))
        low, high = np.log(self.ratio)
        for number in range(self.tries):
            area = between(float(row[2 * number]), *self.area)
            ratio = float(np.exp(between(float(row[2 * number + 1]), low, high)))
            box = warps.box_of_area(image, area, ratio, place)
            if box is not None:
                return warps.fill_box(image, box, self._filling(image, box, float(row[-1])))
        return image

    def _filling(self, image: Tensor, box: warps.Box, even: float) -> Tensor:
        """What the box shows: one value, or a byte of hashed noise for each value."""
        if self.fill is not None:
            return torch.tensor(self.fill, dtype=torch.uint8, device=image.device)
        shape = (image.shape[0], box.height, box.width)
        places = torch.arange(shape[0] * shape[1] * shape[2], dtype=torch.int64)
        noise = Draws(int(even * 2.0**53), 0).integers(places, 0, 0, 256)
        return noise.to(torch.uint8).reshape(shape).to(image.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class OneOf:
    """One of `options`, each as likely as the others."""

    options: tuple[PixelOperation, ...]
    gentle: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_value(len(self.options) > 0, "options", "none", "1 or more operations")

    @property
    def draws(self) -> int:
        """Which one, then its numbers."""
        return 1 + max(option.draws for option in self.options)

    def apply(self, images: Tensor, rows: Rows) -> Tensor:
        """See `PixelOperation.apply`."""
        chosen = np.array([pick(even, range(len(self.options))) for even in rows[:, 0]])
        out = images.clone()
        for number, option in enumerate(self.options):
            apply_where(option, out, rows[:, 1 : 1 + option.draws], chosen == number)
        return out


def apply_where(
    operation: PixelOperation, images: Tensor, rows: Rows, chosen: NDArray[np.bool_]
) -> None:
    """Change the `chosen` (bool [N]) of `images` in place."""
    if chosen.all():
        images.copy_(_changed(operation, images, rows))
    elif chosen.any():
        places = torch.from_numpy(np.flatnonzero(chosen)).to(images.device)
        images[places] = _changed(operation, images[places], rows[chosen])


def _changed(operation: PixelOperation, images: Tensor, rows: Rows) -> Tensor:
    """What `operation` makes of `images`. Raises ConfigError if that is not as many like them.

    A float or a smaller image would be cut or stretched in silence when it is put in place.
    """
    changed = operation.apply(images, rows)
    if not isinstance(changed, Tensor):
        raise _no_images(operation, images, type(changed).__name__)
    if changed.shape != images.shape or changed.dtype != images.dtype:
        raise _no_images(operation, images, f"{changed.dtype} {list(changed.shape)}")
    return changed


def _no_images(operation: PixelOperation, images: Tensor, got: str) -> ConfigError:
    return ConfigError(
        "an augmentation gives as many images, of the same size and type",
        where=f"{type(operation).__name__}.apply",
        got=got,
        expected=f"{images.dtype} {list(images.shape)}",
    )
