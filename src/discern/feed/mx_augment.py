"""The augmentation of MXNet's image records, under the names of its flags, in its fixed order.

Owns the record of the flags, which of them exclude each other, and the order: short edge resized,
one affine warp (rotation, shear, scale, aspect), border, crop, then steps that keep the size
(brightness, contrast and saturation in random order, HLS, PCA noise, mirror). By OpenCV, as there.
Source: MXNet's src/io/image_aug_default.cc; the chance is keyed, so the draws are not MXNet's own.

Axes: H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from discern.base.errors import ConfigError
from discern.data.images import Pixels, Preprocess
from discern.feed.augment import Evaluation, Policy, Step
from discern.feed.color_operations import ColorJitter, HlsJitter, Lighting
from discern.feed.operations import Mirror, Rows, check_range, check_value
from discern.feed.variates import between, integer_between, pick, signed
from discern.feed.warps import Box

# Codes of `inter_method`; 0 to 4 are OpenCV's own numbers.
NEAREST, BILINEAR, CUBIC, AREA, LANCZOS, AUTO, RANDOM = 0, 1, 2, 3, 4, 9, 10
_METHODS = (NEAREST, BILINEAR, CUBIC, AREA, LANCZOS, AUTO, RANDOM)
_TRIES = 10
_NO_LIMIT = 1e10

# Places of an image's random numbers; of each try of the random crop: area, ratio, swap.
_SHEAR, _ANGLE, _SCALE, _ASPECT = 0, 1, 2, 3
_RESIZE_METHOD, _WARP_METHOD, _CROP_METHOD = 4, 5, 6
_CROP_SIZE, _TOP, _LEFT, _FIRST_TRY = 7, 8, 9, 10


@dataclass(frozen=True, slots=True, kw_only=True)
class MxAugment:
    """MXNet's flags: a framing, and by `policy()` the whole augmentation; the defaults do nothing.

    `resize`: short edge in pixels, -1 for none. `fill_value`: of borders and corners. A
    `min_random_aspect_ratio` of None means ratios from 1 - max to 1 + max. Angles in degrees, whole
    ones; a fixed `rotate` (-1 for none) and `rotate_list` go before the random angle. Crop sizes in
    pixels, -1 for none. `inter_method`: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos, 9 auto
    (cubic to enlarge, area to shrink), 10 random. Raises ConfigError for values out of range and
    for flags that exclude each other.
    """

    resize: int = -1
    random_crop: bool = False
    random_mirror: bool = False
    pad_size: int = 0
    fill_value: int = 127
    random_resized_crop: bool = False
    min_random_area: float = 1.0
    max_random_area: float = 1.0
    min_random_aspect_ratio: float | None = None
    max_random_aspect_ratio: float = 0.0
    max_random_rotate_angle: int = 0
    max_random_shear_ratio: float = 0.0
    min_random_scale: float = 1.0
    max_random_scale: float = 1.0
    rotate: int = -1
    rotate_list: tuple[int, ...] = ()
    min_img_size: float = 0.0
    max_img_size: float = _NO_LIMIT
    min_crop_size: int = -1
    max_crop_size: int = -1
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    max_random_h: int = 0
    max_random_s: int = 0
    max_random_l: int = 0
    pca_noise: float = 0.0
    inter_method: int = BILINEAR
    draws: ClassVar[int] = _FIRST_TRY + 3 * _TRIES

    def __post_init__(self) -> None:
        check_value(self.resize == -1 or self.resize >= 1, "resize", self.resize, "-1, or pixels")
        check_value(self.pad_size >= 0, "pad_size", self.pad_size, "0 or more pixels")
        check_value(0 <= self.fill_value <= 255, "fill_value", self.fill_value, "0 to 255")
        check_range(self.min_random_area, self.max_random_area, "min_random_area")
        check_value(
            self.min_random_area > 0.0 and self.max_random_area <= 1.0,
            "min_random_area",
            f"{self.min_random_area} to {self.max_random_area}",
            "above 0, at most 1",
        )
        self._check_geometry()
        known = ", ".join(map(str, _METHODS))
        check_value(self.inter_method in _METHODS, "inter_method", self.inter_method, known)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            check_value(0.0 <= value <= 1.0, name, value, "0 to 1")
        self.policy()
        self._check_conflicts()

    def policy(self, name: str = "mxnet") -> Policy:
        """The whole augmentation: this framing, then the steps in MXNet's order."""
        steps = []
        if self.brightness or self.contrast or self.saturation:
            jitter = ColorJitter(
                brightness=self.brightness, contrast=self.contrast, saturation=self.saturation
            )
            steps.append(Step(operation=jitter))
        if self.max_random_h or self.max_random_s or self.max_random_l:
            hls = HlsJitter(
                hue=self.max_random_h, saturation=self.max_random_s, lightness=self.max_random_l
            )
            steps.append(Step(operation=hls))
        if self.pca_noise:
            steps.append(Step(operation=Lighting(sigma=self.pca_noise)))
        if self.random_mirror:
            steps.append(Step(operation=Mirror(), probability=0.5))
        return Policy(name=name, framing=self, steps=tuple(steps), evaluation=Evaluation())

    def frame(self, pixels: Pixels, row: Rows, preprocess: Preprocess) -> Pixels:
        """See `Framing.frame`."""
        pixels = self._resize_short(pixels, row)
        pixels = self._warp(pixels, row)
        if self.pad_size:
            border = ((self.pad_size,) * 2, (self.pad_size,) * 2, (0, 0))
            pixels = np.pad(pixels, border, constant_values=self.fill_value)
        box = self._resized_box(pixels, row)
        if box is None and max(self.min_crop_size, self.max_crop_size) > 0:
            size = self._crop_size(float(row[_CROP_SIZE]))
            pixels = self._enlarge(pixels, size, size, row)
            box = self._place(pixels, size, size, row)
        if box is None:
            pixels = self._enlarge(pixels, preprocess.height, preprocess.width, row)
            box = self._place(pixels, preprocess.height, preprocess.width, row)
        part = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        return self._resize(part, preprocess.height, preprocess.width, float(row[_CROP_METHOD]))

    def angle(self, even: float) -> int:
        """Degrees of the rotation: from the list, the fixed one, or a whole random number."""
        if self.rotate_list:
            return pick(even, self.rotate_list)
        if self.rotate > 0:
            return self.rotate
        return integer_between(even, -self.max_random_rotate_angle, self.max_random_rotate_angle)

    def aspect_ratio(self, even: float) -> float:
        """Width / height drawn between the two ratios."""
        largest = self.max_random_aspect_ratio
        if self.min_random_aspect_ratio is None:
            return 1.0 + signed(even, largest)
        return between(even, self.min_random_aspect_ratio, largest)

    def method(self, old: tuple[int, int], new: tuple[int, int], even: float) -> int:
        """OpenCV's number of the interpolation from size `old` to `new` (height, width)."""
        if self.inter_method == RANDOM:
            return pick(even, (NEAREST, BILINEAR, CUBIC, AREA, LANCZOS))
        if self.inter_method != AUTO:
            return self.inter_method
        if new[0] > old[0] and new[1] > old[1]:
            return CUBIC
        return AREA if new[0] < old[0] and new[1] < old[1] else BILINEAR

    def _check_geometry(self) -> None:
        least = self.min_random_aspect_ratio
        if least is None:
            largest = self.max_random_aspect_ratio
            check_value(0.0 <= largest < 1.0, "max_random_aspect_ratio", largest, "0 to below 1")
        else:
            check_range(least, self.max_random_aspect_ratio, "min_random_aspect_ratio", least=1e-3)
        angle = self.max_random_rotate_angle
        check_value(0 <= angle <= 180, "max_random_rotate_angle", angle, "0 to 180")
        shear = self.max_random_shear_ratio
        check_range(0.0, shear, "max_random_shear_ratio")
        check_range(self.min_random_scale, self.max_random_scale, "min_random_scale", least=1e-3)
        check_range(self.min_img_size, self.max_img_size, "min_img_size")
        sizes = (self.min_crop_size, self.max_crop_size)
        good = sizes == (-1, -1) or 1 <= sizes[0] <= sizes[1]
        check_value(good, "min_crop_size", sizes, "-1 both, or 1 <= smallest <= largest")

    def _check_conflicts(self) -> None:
        """Raises ConfigError for a random resized crop beside other ways to scale or crop."""
        if not self.random_resized_crop:
            if (self.min_random_area, self.max_random_area) != (1.0, 1.0):
                raise ConfigError(
                    "an area is drawn only for a random resized crop",
                    where="augment.min_random_area",
                    got=f"{self.min_random_area} to {self.max_random_area}",
                    hint="set random_resized_crop too",
                )
            return
        others = {
            "min_random_scale": self.min_random_scale != 1.0,
            "max_random_scale": self.max_random_scale != 1.0,
            "min_crop_size": self.min_crop_size != -1,
            "max_crop_size": self.max_crop_size != -1,
        }
        clashing = [name for name, given in others.items() if given]
        if clashing:
            raise ConfigError(
                "random_resized_crop cannot go together with another scale or crop size",
                where=f"augment.{clashing[0]}",
                got=" and ".join(clashing),
                hint="give an area instead: min_random_area and max_random_area",
            )

    def _resize_short(self, pixels: Pixels, row: Rows) -> Pixels:
        if self.resize == -1:
            return pixels
        tall, wide = pixels.shape[:2]
        short = min(tall, wide)
        new = max(1, self.resize * tall // short), max(1, self.resize * wide // short)
        return self._resize(pixels, *new, float(row[_RESIZE_METHOD]))

    def _warp(self, pixels: Pixels, row: Rows) -> Pixels:
        """Rotation, shear, scale and aspect in one warp, if any of them is wanted."""
        aspect = not self.random_resized_crop and (
            self.min_random_aspect_ratio is not None or self.max_random_aspect_ratio != 0.0
        )
        changed = (
            self.max_random_rotate_angle > 0
            or self.max_random_shear_ratio > 0.0
            or self.rotate > 0
            or bool(self.rotate_list)
            or (self.min_random_scale, self.max_random_scale) != (1.0, 1.0)
            or (self.min_img_size, self.max_img_size) != (0.0, _NO_LIMIT)
        )
        if not (changed or aspect):
            return pixels
        import cv2

        tall, wide = pixels.shape[:2]
        shear = signed(float(row[_SHEAR]), self.max_random_shear_ratio)
        turn = math.radians(self.angle(float(row[_ANGLE])))
        cosine, sine = math.cos(turn), math.sin(turn)
        scale = between(float(row[_SCALE]), self.min_random_scale, self.max_random_scale)
        ratio = self.aspect_ratio(float(row[_ASPECT])) if aspect else 1.0
        high = 2.0 * scale / (1.0 + ratio)
        broad = ratio * high
        size = [
            max(1, int(max(self.min_img_size, min(self.max_img_size, scale * side))))
            for side in (tall, wide)
        ]
        linear = np.array(
            [
                [high * cosine - shear * sine * broad, high * sine + shear * cosine * broad],
                [-sine * broad, cosine * broad],
            ]
        )
        middle = (np.array([size[1], size[0]]) - linear @ (wide, tall)) / 2.0
        warped = cv2.warpAffine(
            np.ascontiguousarray(pixels),
            np.column_stack([linear, middle]),
            (size[1], size[0]),
            flags=self.method((tall, wide), (size[0], size[1]), float(row[_WARP_METHOD])),
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(self.fill_value,) * 3,
        )
        return warped.reshape(size[0], size[1], pixels.shape[2]).astype(np.uint8, copy=False)

    def _resized_box(self, pixels: Pixels, row: Rows) -> Box | None:
        """The random resized crop, None if it is not wanted or none of ten tries fits."""
        if not self.random_resized_crop:
            return None
        tall, wide = pixels.shape[:2]
        for number in range(_TRIES):
            first = _FIRST_TRY + 3 * number
            area_even, ratio_even, swap = (float(even) for even in row[first : first + 3])
            area = tall * wide * between(area_even, self.min_random_area, self.max_random_area)
            ratio = self.aspect_ratio(ratio_even)
            height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
            if swap < 0.5:
                height, width = width, height
            if 0 < height <= tall and 0 < width <= wide:
                top = integer_between(float(row[_TOP]), 0, tall - height)
                left = integer_between(float(row[_LEFT]), 0, wide - width)
                return Box(top, left, height, width)
        return None

    def _crop_size(self, even: float) -> int:
        return integer_between(even, self.min_crop_size, self.max_crop_size)

    def _enlarge(self, pixels: Pixels, height: int, width: int, row: Rows) -> Pixels:
        """`pixels` grown, in their own shape, until a crop of this size fits (PP-12)."""
        tall, wide = pixels.shape[:2]
        scale = max(height / tall, width / wide)
        if scale <= 1.0:
            return pixels
        new = max(height, int(tall * scale)), max(width, int(wide * scale))
        return self._resize(pixels, *new, float(row[_CROP_METHOD]))

    def _place(self, pixels: Pixels, height: int, width: int, row: Rows) -> Box:
        """A crop of this size, anywhere with `random_crop`, else in the middle."""
        down, across = pixels.shape[0] - height, pixels.shape[1] - width
        if not self.random_crop:
            return Box(down // 2, across // 2, height, width)
        top = integer_between(float(row[_TOP]), 0, down)
        return Box(top, integer_between(float(row[_LEFT]), 0, across), height, width)

    def _resize(self, pixels: Pixels, height: int, width: int, even: float) -> Pixels:
        tall, wide, channels = pixels.shape
        if (tall, wide) == (height, width):
            return np.ascontiguousarray(pixels)
        import cv2

        method = self.method((tall, wide), (height, width), even)
        resized = cv2.resize(np.ascontiguousarray(pixels), (width, height), interpolation=method)
        return resized.reshape(height, width, channels).astype(np.uint8, copy=False)
