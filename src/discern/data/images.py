"""Encoded images to pixels: the one set of rules that train, evaluate and predict share.

Owns decoding (EXIF orientation, alpha on white, CMYK / palette / LAB to sRGB, 16 bit to 8 unless
asked for, grey and RGB or any number of bands), the limits that guard it, and the reference
resize and crop (Pillow, antialiased). See `pixel_arrays` for what is done to arrays, and
`deep_images` for what Pillow does not read.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

import functools
import importlib
import io
import math
import struct
import warnings
import zlib
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.deep_images import (
    deep_color,
    grey_values,
    has_deep_color,
    load_pixels,
    read_bands,
)
from discern.data.pixel_arrays import DEPTHS, depth_type, resize_pixels, set_depth
from discern.data.pixel_arrays import Pixels as Pixels
from discern.data.pixel_arrays import set_channels as set_channels
from discern.data.pixel_arrays import viewable as viewable

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image as PillowImage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "MPO")
# MPO, several JPEGs in a file, is opened by the JPEG reader; its first image counts.
_READERS = tuple(name for name in FORMATS if name != "MPO")
# A photo of 9,000 x 7,000 still passes; as RGB it takes 192 MB. Pillow itself warns at 89 Mpx.
MAX_PIXELS = 64_000_000
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "area")
FITS = ("crop", "squish", "pad")

_ORIENTATION_TAG = 0x0112
_GREY_MODES = frozenset({"1", "L", "LA", "La", "I"})
_WHITE = 255
# What Pillow's readers raise for damaged bytes, by format; a bug of ours raises none of the last.
_DAMAGED = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, IndexError)
_DAMAGED_EXIF = (*_DAMAGED, KeyError, TypeError)


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a file says of its image. `width`, `height`: in pixels, after EXIF orientation."""

    width: int
    height: int
    mode: str
    format: str
    grey: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Everything that evaluation does to an image; stored in bundles.

    mean and std are on 0..1 values, one per channel. interpolation: nearest, bilinear, bicubic,
    lanczos or area. fit: `crop` resizes the short side to size / crop_pct, rounded down, and cuts
    the center; `squish` ignores the shape; `pad` fits the whole image in and fills with black.
    depth: bits of a value, 8 or 16; images of the other depth are scaled.
    per_image: each image is brought to mean 0 and deviation 1 by itself; mean and std are unused.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop_pct: float = 1.0
    fit: str = "crop"
    depth: int = 8
    per_image: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.height < 1 or self.width < 1:
            raise ConfigError("image size is not positive", got=f"{self.height} x {self.width}")
        if self.channels < 1:
            raise ConfigError("images have channels", got=self.channels, expected="1 or more")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ConfigError(
                "mean and std need one value per channel",
                got=f"{len(self.mean)} and {len(self.std)}",
                expected=self.channels,
            )
        if min(self.std) <= 0:
            raise ConfigError("std is not positive", got=self.std, expected="values above 0")
        if not 0 < self.crop_pct <= 1:
            raise ConfigError("crop_pct is out of range", got=self.crop_pct, expected="0 < p <= 1")
        _check_name("interpolation", self.interpolation, INTERPOLATIONS)
        _check_name("fit", self.fit, FITS)
        if self.depth not in DEPTHS:
            raise ConfigError("images are read in 8 or 16 bit", got=self.depth, expected="8 or 16")

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels: uint8, or uint16 at depth 16."""
        return depth_type(self.depth)

    def read(self, image: bytes | Pixels, name: str = "image") -> Pixels:
        """The image in the network's channels and depth, of its own size: [H, W, channels].

        `image`: encoded bytes, or uint8 or uint16 [H, W, C]. Raises DataError for unreadable
        bytes, and for channels that do not become the network's.
        """
        if isinstance(image, bytes | bytearray | memoryview):
            data = bytes(image)
            return decode_image(data, channels=self.channels, name=name, depth=self.depth)
        return set_channels(set_depth(image, self.depth), self.channels, name)

    def apply(self, image: bytes | Pixels, name: str = "image") -> Pixels:
        """The image as the network's size too: `dtype` [height, width, channels]. See `read`."""
        return fit_image(
            self.read(image, name),
            height=self.height,
            width=self.width,
            interpolation=self.interpolation,
            crop_pct=self.crop_pct,
            fit=self.fit,
        )

    def record(self) -> dict[str, Any]:
        """A JSON object from which `from_record` makes an equal one."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> Preprocess:
        """Raises ConfigError for unknown or missing keys and for values out of range."""
        known = [field.name for field in fields(cls)]
        for key in record:
            if key not in known:
                raise ConfigError(
                    "unknown key of a preprocessing record", got=key, hint=did_you_mean(key, known)
                )
        missing = [k for k in ("height", "width", "channels", "mean", "std") if k not in record]
        if missing:
            raise ConfigError("a preprocessing record is incomplete", expected=", ".join(missing))
        return cls(**record)


def decode_image(data: bytes, *, channels: int, name: str = "image", depth: int = 8) -> Pixels:
    """The pixels of an encoded image: [H, W, channels], turned upright by its EXIF tag.

    uint8, or uint16 at depth 16. 1 and 3 channels are grey and RGB of the first page, any other
    number is that of the file's bands, of all pages of a TIFF together.
    Raises DataError naming `name`: unknown format, damaged or cut off, over 64 million pixels.
    """
    try:
        image = _open(data, name)
        if channels not in (1, 3):
            pixels = _turned(read_bands(image, data, channels, name), _orientation(image))
            return set_channels(set_depth(pixels, depth), channels, name)
        load_pixels(image, name)
        if depth != 8:
            return set_channels(_deep(image, data, name), channels, name)
        return _to_array(_to_eight_bit(_upright(image), name), channels)
    except _DAMAGED as error:
        raise _unreadable(data, name, error) from error


def _deep(image: PillowImage, data: bytes, name: str) -> Pixels:
    """uint16 [H, W, 1 or 3] of an image whose pixels are loaded, upright, alpha on white."""
    if has_deep_color(image, data):
        return _turned(deep_color(image, data, name), _orientation(image))
    upright = _upright(image)
    if upright.mode.startswith("I"):
        return grey_values(upright, name)[:, :, None]
    eight = _to_eight_bit(upright, name)
    return set_depth(_to_array(eight, 1 if eight.mode == "L" else 3), 16)


def read_header(data: bytes, *, name: str = "image") -> ImageHeader:
    """Size, mode and format without decoding. Raises DataError as `decode_image` does."""
    try:
        return _header(_open(data, name))
    except _DAMAGED as error:
        raise _unreadable(data, name, error) from error


def check_image(data: bytes, *, name: str = "image") -> ImageHeader:
    """The header of an image after decoding all of it, so that damage anywhere is found.

    Raises DataError as `decode_image` does.
    """
    try:
        image = _open(data, name)
        header = _header(image)
        load_pixels(image, name)
        if image.mode.startswith(("I", "F")):
            _to_eight_bit(image, name)
    except _DAMAGED as error:
        raise _unreadable(data, name, error) from error
    return header


def fit_image(
    pixels: Pixels,
    *,
    height: int,
    width: int,
    interpolation: str,
    crop_pct: float,
    fit: str,
) -> Pixels:
    """`pixels` [H, W, C] at height x width, antialiased: [height, width, C] of the same type.

    Rounding, shown exact against timm's evaluation: the side that decides becomes
    floor(size / crop_pct), the other int(that * long / short), crop offsets int(round(rest / 2)).
    Raises ConfigError for an unknown interpolation or fit.
    """
    _check_name("interpolation", interpolation, INTERPOLATIONS)
    _check_name("fit", fit, FITS)
    tall, wide = pixels.shape[:2]
    if (tall, wide) == (height, width) and (fit != "crop" or crop_pct == 1.0):
        return np.ascontiguousarray(pixels)
    if fit == "squish":
        return resize_pixels(pixels, height, width, interpolation)
    if fit == "pad":
        return _pad(pixels, height, width, interpolation)
    scaled_height, scaled_width = math.floor(height / crop_pct), math.floor(width / crop_pct)
    if scaled_height * wide >= scaled_width * tall:
        new_height, new_width = scaled_height, max(width, scaled_height * wide // tall)
    else:
        new_height, new_width = max(height, scaled_width * tall // wide), scaled_width
    resized = resize_pixels(pixels, new_height, new_width, interpolation)
    top, left = int(round((new_height - height) / 2)), int(round((new_width - width) / 2))  # noqa: RUF046
    return np.ascontiguousarray(resized[top : top + height, left : left + width])


def _pad(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    tall, wide = pixels.shape[:2]
    if height * wide >= width * tall:
        new_height, new_width = max(1, width * tall // wide), width
    else:
        new_height, new_width = height, max(1, height * wide // tall)
    out = np.zeros((height, width, pixels.shape[2]), dtype=pixels.dtype)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    inner = resize_pixels(pixels, new_height, new_width, interpolation)
    out[top : top + new_height, left : left + new_width] = inner
    return out


@functools.cache
def _pillow() -> ModuleType:
    """Pillow's Image module with the readers that we allow; its bomb warning made an error."""
    from PIL import Image

    for reader in ("Mpo", "Tiff", "WebP"):  # importing one registers it; preinit has the others
        importlib.import_module(f"PIL.{reader}ImagePlugin")
    Image.preinit()
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    return Image


def _open(data: bytes, name: str) -> PillowImage:
    """The image with its header read. Raises DataError for an empty file or a bomb."""
    if not data:
        raise DataError("the image file is empty", where=name, got="0 bytes")
    pillow = _pillow()
    try:
        image: PillowImage = pillow.open(io.BytesIO(data), formats=_READERS)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise _bomb(name, str(error)) from error
    if image.width * image.height > MAX_PIXELS:
        raise _bomb(name, f"{image.width} x {image.height}")
    return image


def _bomb(name: str, got: str) -> DataError:
    return DataError(
        "the image has too many pixels",
        where=name,
        got=got,
        expected=f"at most {MAX_PIXELS // 1_000_000} million pixels",
    )


def _unreadable(data: bytes, name: str, error: Exception) -> DataError:
    from PIL import UnidentifiedImageError

    if isinstance(error, UnidentifiedImageError):
        return DataError(
            "not an image in a known format",
            where=name,
            got=f"{len(data)} bytes beginning {data[:8].hex(' ')}",
            expected=", ".join(FORMATS),
        )
    return DataError("the image is damaged or cut off", where=name, got=str(error) or repr(error))


def _header(image: PillowImage) -> ImageHeader:
    width, height = image.size
    if _orientation(image) >= 5:
        width, height = height, width
    return ImageHeader(width, height, image.mode, str(image.format), _is_grey(image))


def _is_grey(image: PillowImage) -> bool:
    if image.mode in ("P", "PA"):
        palette = np.asarray(image.getpalette("RGB") or [0, 1, 2]).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in _GREY_MODES or image.mode.startswith("I;16")


def _orientation(image: PillowImage) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none or the EXIF block is damaged."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DAMAGED_EXIF:
        # As browsers do: a broken note about an image is not a broken image.
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(image: PillowImage) -> PillowImage:
    turns = _pillow().Transpose
    steps = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }
    orientation = _orientation(image)
    if orientation == 1:
        return image
    turned = image.transpose(steps[orientation])
    turned.info = dict(image.info)  # the transparent color, where there is one
    return turned


def _turned(pixels: Pixels, orientation: int) -> Pixels:
    """As `_upright`, for stored pixels [H, W, C]."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    # After the exchange of axes: which orientations are mirrored left to right, and top to bottom.
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _to_eight_bit(image: PillowImage, name: str) -> PillowImage:
    """Any mode as L or RGB, 8 bit, alpha composited on white."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DataError("floating-point images are not read", where=name, got="mode F")
    if image.mode.startswith("I"):
        scaled: PillowImage = _pillow().fromarray(set_depth(grey_values(image, name), 8))
        return scaled
    grey = _is_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pillow = _pillow()
        front = image.convert("RGBA")
        back = pillow.new("RGBA", front.size, (_WHITE, _WHITE, _WHITE, _WHITE))
        image = pillow.alpha_composite(back, front).convert("RGB")
    return image.convert("L" if grey else "RGB")


def _to_array(image: PillowImage, channels: int) -> Pixels:
    wanted = "L" if channels == 1 else "RGB"
    array = np.array(image if image.mode == wanted else image.convert(wanted))
    return array[:, :, None] if channels == 1 else array


def _check_name(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"unknown {key}", got=value, expected=", ".join(known), hint=did_you_mean(value, known)
        )
