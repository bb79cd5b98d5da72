"""What Pillow's eight bits and four bands leave out: 16-bit color, and images of many bands.

Owns the values of 16-bit grey images, the decoding of 16-bit color (OpenCV, since Pillow keeps
the upper byte alone), and the bands of an image or of the pages of a TIFF. `discern.data.images`
opens the file, turns the image upright and answers for its limits.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.pixel_arrays import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

_WHITE: Final = 65535
# Tags of TIFF 6.0.
_BITS, _COMPOSITION, _SAMPLES, _PLANES, _EXTRA = 258, 262, 277, 284, 338
_RGB_COMPOSITION: Final = 2
_ONE_PLANE: Final = 1
_PREMULTIPLIED, _ALPHA = 1, 2
# Bit depth and color type in a PNG's header, always its first chunk; PNG 1.2, 11.2.2.
_PNG_DEPTH, _PNG_TYPE = 24, 25
_PNG_WITH_ALPHA: Final = (4, 6)
_PNG_COLORS: Final = (2, 4, 6)
# Modes whose bands are the file's own.
_PLAIN_MODES: Final = ("L", "LA", "RGB", "RGBA", "CMYK")


def load_pixels(image: PillowImage, name: str) -> PillowImage:
    """`image` with its pixels decoded. Raises DataError for a damaged TIFF directory."""
    try:
        image.load()
    except TypeError as error:
        # Pillow computes with what stands in a damaged TIFF directory: fractions as offsets.
        if image.format != "TIFF":
            raise
        raise _damaged(name, f"its TIFF directory: {error}") from error
    return image


def grey_values(image: PillowImage, name: str) -> NDArray[np.uint16]:
    """The values of an image of mode I or I;16: uint16 [H, W]. Raises DataError above 16 bits."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > _WHITE:
        raise DataError(
            "the image has more than 16 bits",
            where=name,
            got=f"values {values.min()} to {values.max()}",
            expected="0 to 65535",
        )
    return values.astype(np.uint16)


def has_deep_color(image: PillowImage, data: bytes) -> bool:
    """Whether a file has several bands of 16 bits, of which Pillow gives 8."""
    if image.format == "PNG":
        return data[_PNG_DEPTH] == 16 and data[_PNG_TYPE] in _PNG_COLORS
    if image.format == "TIFF":
        return _tag(image, _SAMPLES, 1) > 1 and 16 in _tags(image, _BITS)
    return image.format == "PPM" and image.mode == "RGB" and _ppm_white(data) > 255


def deep_color(image: PillowImage, data: bytes, name: str) -> Pixels:
    """The color of a file that `has_deep_color`, alpha composited on white.

    uint16 [H, W, 3], or [H, W, 1] of grey with alpha. A TIFF comes upright, others as they are
    stored. Raises DataError for what cannot be read.
    """
    values = _decode(image, data, name)
    if values.shape[2] == 3:
        return values
    color, alpha = values[:, :, :-1].astype(np.int64), values[:, :, -1:].astype(np.int64)
    kind = _alpha_kind(image, data)
    if kind == _ALPHA:
        color = (color * alpha + _WHITE * (_WHITE - alpha) + _WHITE // 2) // _WHITE
    elif kind == _PREMULTIPLIED:
        color = np.minimum(color + (_WHITE - alpha), _WHITE)
    return color.astype(np.uint16)


def read_bands(image: PillowImage, data: bytes, channels: int, name: str) -> Pixels:
    """The bands of an image as they are, uint8 or uint16 [H, W, C]; those of all pages of a TIFF.

    Alpha is a band like any other. Reads no page beyond what `channels` need and one. A TIFF
    comes upright, others as they are stored. Raises DataError.
    """
    size = image.size
    load_pixels(image, name)
    if image.format != "TIFF":
        return _decode(image, data, name) if has_deep_color(image, data) else _page(image, name)
    pages: list[Pixels] = []
    bands = 0
    while bands <= channels:
        if pages and image.size != size:
            raise DataError(
                "the pages of a TIFF differ in size",
                where=name,
                got=f"{image.size[0]} x {image.size[1]}",
                expected=f"{size[0]} x {size[1]}, as the first one",
            )
        pages.append(_tiff_page(image, data, name, first=not pages))
        bands += pages[-1].shape[2]
        if not _next_page(image, len(pages), name):
            return np.concatenate(pages, axis=2)
    raise DataError(
        "the image has other channels than the network",
        where=name,
        got=f"{bands} or more",
        expected=channels,
        hint="--channels N trains on all of them",
    )


def _next_page(image: PillowImage, number: int, name: str) -> bool:
    """Go to page `number` of a TIFF; False if there is none."""
    try:
        image.seek(number)
    except EOFError:
        return False
    except (TypeError, KeyError) as error:
        # Pillow looks up what stands in a damaged TIFF directory.
        raise _damaged(name, f"the directory of page {number + 1}: {error}") from error
    return True


def _damaged(name: str, got: str) -> DataError:
    return DataError("the image is damaged or cut off", where=name, got=got)


def _tiff_page(image: PillowImage, data: bytes, name: str, *, first: bool) -> Pixels:
    samples = _tag(image, _SAMPLES, 1)
    deep = has_deep_color(image, data)
    load_pixels(image, name)
    if not deep and samples == len(image.getbands()):
        return _page(image, name)
    if first and samples in (3, 4):
        return _decode(image, data, name)
    kind = "16-bit color" if deep else f"{samples} bands in one page"
    raise DataError(
        "the page of a TIFF cannot be read",
        where=name,
        got=kind,
        expected="8-bit pages of up to 4 bands, or grey pages of 8 or 16 bit",
        hint="save each band as a page of its own, or all images as arrays in a .npz",
    )


def _page(image: PillowImage, name: str) -> Pixels:
    """The bands of one image that Pillow has decoded."""
    if image.mode.startswith("I"):
        return grey_values(image, name)[:, :, None]
    if image.mode == "F":
        raise DataError("floating-point images are not read", where=name, got="mode F")
    if image.mode not in _PLAIN_MODES:
        image = image.convert("L" if image.mode in ("1", "La") else "RGB")
    pixels = np.array(image)
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _decode(image: PillowImage, data: bytes, name: str) -> Pixels:
    """The file's three or four bands by OpenCV, red first: uint8 or uint16 [H, W, C]."""
    import cv2

    if image.format == "TIFF" and (
        _tag(image, _COMPOSITION, 0) != _RGB_COMPOSITION
        or _tag(image, _PLANES, _ONE_PLANE) != _ONE_PLANE
    ):
        raise DataError(
            "the bands of the TIFF cannot be read",
            where=name,
            expected="RGB with the bands of a pixel side by side",
        )
    try:
        values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise _damaged(name, str(error)) from error
    if values is None or values.ndim != 3 or values.dtype not in (np.uint8, np.uint16):
        raise _damaged(name, "no color in 16 bit")
    if image.format == "PNG" and data[_PNG_TYPE] == 4:
        return np.ascontiguousarray(values[:, :, 2:])  # OpenCV repeats the grey before alpha
    order = [2, 1, 0, 3][: values.shape[2]]
    pixels: Pixels = np.ascontiguousarray(values[:, :, order])
    white = _ppm_white(data) if image.format == "PPM" else _WHITE
    if white != _WHITE:
        scaled = (pixels.astype(np.int64) * _WHITE + white // 2) // white
        pixels = np.minimum(scaled, _WHITE).astype(np.uint16)
    return pixels


def _alpha_kind(image: PillowImage, data: bytes) -> int:
    if image.format == "PNG":
        return _ALPHA if data[_PNG_TYPE] in _PNG_WITH_ALPHA else 0
    extra = _tags(image, _EXTRA)
    return extra[0] if extra else 0


def _tags(image: PillowImage, number: int) -> tuple[int, ...]:
    directory: Any = getattr(image, "tag_v2", {})
    value = directory.get(number, ())
    return tuple(value) if isinstance(value, tuple) else (value,)


def _tag(image: PillowImage, number: int, usual: int) -> int:
    values = _tags(image, number)
    return values[0] if values else usual


def _ppm_white(data: bytes) -> int:
    """The largest value that a PPM's header states: its fourth word, comments left out."""
    words: list[bytes] = []
    for line in data[:4096].splitlines():
        words += line.partition(b"#")[0].split()
        if len(words) >= 4:
            break
    return int(words[3]) if len(words) >= 4 and words[3].isdigit() else 255
