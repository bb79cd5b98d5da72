"""Encoded images to uint8 pixels: the one set of rules that train, evaluate and predict share.

Owns decoding (EXIF orientation, alpha on white, CMYK / palette / LAB to sRGB, 16 bit to 8, grey
and RGB), the limits that guard it, and the reference resize and crop (Pillow, antialiased).

Axes: H height, W width, C channels (1 or 3).
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
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean

if TYPE_CHECKING:
    from types import ModuleType

    from PIL.Image import Image as PillowImage

Pixels: TypeAlias = NDArray[np.uint8]

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

    def __post_init__(self) -> None:
        object.__setattr__(self, "mean", tuple(float(value) for value in self.mean))
        object.__setattr__(self, "std", tuple(float(value) for value in self.std))
        if self.height < 1 or self.width < 1:
            raise ConfigError("image size is not positive", got=f"{self.height} x {self.width}")
        if self.channels not in (1, 3):
            raise ConfigError("images have 1 or 3 channels", got=self.channels, expected="1 or 3")
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
        if self.depth != 8:
            raise ConfigError("only 8-bit images are read", got=self.depth, expected="depth 8")

    def apply(self, image: bytes | Pixels, name: str = "image") -> Pixels:
        """The image as the network's size and channels: uint8 [height, width, channels].

        `image`: encoded bytes, or uint8 [H, W, 1 or 3]. Raises DataError for unreadable bytes.
        """
        if isinstance(image, bytes | bytearray | memoryview):
            pixels = decode_image(bytes(image), channels=self.channels, name=name)
        else:
            pixels = set_channels(image, self.channels)
        return fit_image(
            pixels,
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


def decode_image(data: bytes, *, channels: int, name: str = "image") -> Pixels:
    """The pixels of an encoded image: uint8 [H, W, channels], turned upright by its EXIF tag.

    Raises DataError naming `name`: unknown format, damaged or cut off, over 64 million pixels.
    """
    try:
        image = _open(data, name)
        image.load()
        upright = _upright(image)
        return _to_array(_to_eight_bit(upright, name), channels)
    except _DAMAGED as error:
        raise _unreadable(data, name, error) from error


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
        image.load()
        if image.mode.startswith(("I", "F")):
            _to_eight_bit(image, name)
    except _DAMAGED as error:
        raise _unreadable(data, name, error) from error
    return header


def set_channels(pixels: Pixels, channels: int) -> Pixels:
    """Grey to RGB (repeated) or RGB to grey (ITU-R 601 luma, as Pillow): uint8 [H, W, channels]."""
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] not in (1, 3):
        raise DataError(
            "not an image array",
            got=f"{pixels.dtype} {list(pixels.shape)}",
            expected="uint8 [H, W, 1] or [H, W, 3]",
        )
    if pixels.shape[2] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=2)
    grey = _pillow().fromarray(np.ascontiguousarray(pixels)).convert("L")
    return np.asarray(grey)[:, :, None]


def fit_image(
    pixels: Pixels,
    *,
    height: int,
    width: int,
    interpolation: str,
    crop_pct: float,
    fit: str,
) -> Pixels:
    """`pixels` [H, W, C] at height x width, antialiased: uint8 [height, width, C].

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
        return _resize(pixels, height, width, interpolation)
    if fit == "pad":
        return _pad(pixels, height, width, interpolation)
    scaled_height, scaled_width = math.floor(height / crop_pct), math.floor(width / crop_pct)
    if scaled_height * wide >= scaled_width * tall:
        new_height, new_width = scaled_height, max(width, scaled_height * wide // tall)
    else:
        new_height, new_width = max(height, scaled_width * tall // wide), scaled_width
    resized = _resize(pixels, new_height, new_width, interpolation)
    top, left = int(round((new_height - height) / 2)), int(round((new_width - width) / 2))  # noqa: RUF046
    return np.ascontiguousarray(resized[top : top + height, left : left + width])


def _pad(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    tall, wide = pixels.shape[:2]
    if height * wide >= width * tall:
        new_height, new_width = max(1, width * tall // wide), width
    else:
        new_height, new_width = height, max(1, height * wide // tall)
    out = np.zeros((height, width, pixels.shape[2]), dtype=np.uint8)
    top, left = (height - new_height) // 2, (width - new_width) // 2
    inner = _resize(pixels, new_height, new_width, interpolation)
    out[top : top + new_height, left : left + new_width] = inner
    return out


def _resize(pixels: Pixels, height: int, width: int, interpolation: str) -> Pixels:
    if pixels.shape[:2] == (height, width):
        return pixels
    pillow = _pillow()
    name = "BOX" if interpolation == "area" else interpolation.upper()
    grey = pixels.shape[2] == 1
    image = pillow.fromarray(np.ascontiguousarray(pixels[:, :, 0] if grey else pixels))
    resized = np.asarray(image.resize((width, height), pillow.Resampling[name]))
    return resized[:, :, None] if grey else resized


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


def _to_eight_bit(image: PillowImage, name: str) -> PillowImage:
    """Any mode as L or RGB, 8 bit, alpha composited on white."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise DataError("floating-point images are not read", where=name, got="mode F")
    if image.mode.startswith("I"):
        return _from_sixteen_bit(image, name)
    grey = _is_grey(image)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pillow = _pillow()
        front = image.convert("RGBA")
        back = pillow.new("RGBA", front.size, (_WHITE, _WHITE, _WHITE, _WHITE))
        image = pillow.alpha_composite(back, front).convert("RGB")
    return image.convert("L" if grey else "RGB")


def _from_sixteen_bit(image: PillowImage, name: str) -> PillowImage:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise DataError(
            "the image has more than 16 bits",
            where=name,
            got=f"values {values.min()} to {values.max()}",
            expected="0 to 65535",
        )
    # 65535 / 257 = 255: both ends of the range are kept.
    scaled: PillowImage = _pillow().fromarray(((values + 128) // 257).astype(np.uint8))
    return scaled


def _to_array(image: PillowImage, channels: int) -> Pixels:
    wanted = "L" if channels == 1 else "RGB"
    array = np.array(image if image.mode == wanted else image.convert(wanted))
    return array[:, :, None] if channels == 1 else array


def _check_name(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigError(
            f"unknown {key}", got=value, expected=", ".join(known), hint=did_you_mean(value, known)
        )
