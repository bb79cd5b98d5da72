"""One image looked at in full: does it decode, what is odd about it, and a small picture of it.

Owns what `discern data check` learns from the bytes of a single image. Plain JPEGs go through
libjpeg-turbo, which decodes every coefficient (damage is always met) but computes only a reduced
picture; what it complains of is put before the house rules of `discern.data.images`, and those
alone decide whether the image can be used. All other formats are decoded by those rules.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import hash_bytes
from discern.data.duplicates import PICTURE_SIDE
from discern.data.images import (
    MAX_PIXELS,
    ImageHeader,
    Pixels,
    decode_image,
    read_header,
    viewable,
)

# Least side of the reduced JPEG: twice the small picture's, so that its means are over 4 pixels
# and more. Measured on 787 real photos: it costs 0.82 of decoding in full, and the hash differs
# from that of the full picture by 2 bits in the median, 8 at most.
_LEAST_SIDE: Final = 2 * PICTURE_SIDE
_UPRIGHT: Final = 1
_ORIENTATION_TAG: Final = 0x0112
_SUFFIX_FORMATS: Final = {
    ".jpg": "JPEG", ".jpeg": "JPEG", ".mpo": "JPEG", ".png": "PNG", ".webp": "WEBP",
    ".bmp": "BMP", ".gif": "GIF", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM",
}  # fmt: skip
_ODD_MODES: Final = {
    "1": "one bit a pixel: read as grey",
    "P": "palette: read as the colors it stands for",
    "PA": "palette with transparency: put on white",
    "CMYK": "CMYK inks: converted to RGB",
    "LAB": "LAB colors: converted to sRGB",
    "YCbCr": "YCbCr colors: converted to RGB",
    "HSV": "HSV colors: converted to RGB",
    "RGBA": "transparency: put on white",
    "RGBa": "transparency: put on white",
    "LA": "transparency: put on white",
    "La": "transparency: put on white",
    "I": "16 bit: scaled to 8",
}
# First bytes of what is not an image that is read, and what it is.
_FOREIGN: Final = (
    (b"%!PS", "an EPS or PostScript drawing"),
    (b"\xc5\xd0\xd3\xc6", "an EPS drawing"),
    (b"%PDF", "a PDF document"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x00\x00\x00\x0cjP", "a JPEG 2000 image"),
    (b"\xff\x0a", "a JPEG XL image"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file it stands for"),
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML or SVG text"),
)
_JPEG_MODES: Final = {"Gray": "L", "YCbCr": "RGB", "RGB": "RGB"}
_JPEG_START: Final = b"\xff\xd8\xff"
# The application segments and comments of a JPEG, and its quantization tables.
_BEFORE_PICTURE: Final = frozenset(bytes([mark]) for mark in (*range(0xE0, 0xF0), 0xFE, 0xDB))
# The EXIF orientations from here on have height and width exchanged.
_FIRST_ACROSS: Final = 5
_PNG_START: Final = b"\x89PNG\r\n\x1a\n"
_MARKS: Final = (
    (_JPEG_START, "JPEG"), (_PNG_START, "PNG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
)  # fmt: skip


class Fault(NamedTuple):
    """What is wrong or odd with one image: a kind of `check_findings`, and the words for it."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of one image. `picture`: uint8 [32, 32, 3], upright; None if unreadable.

    `digest`: SHA-256 of the bytes, "" if they could not be read. `grey`: stored as grey.
    """

    digest: str
    size: int
    faults: tuple[Fault, ...]
    height: int = 0
    width: int = 0
    grey: bool = False
    picture: NDArray[np.uint8] | None = None


def examine(data: bytes, name: str) -> Examined:
    """All that can be told of the image file `data`; never raises for what is in it."""
    digest = hash_bytes(data)
    if not data:
        return Examined(digest, 0, (Fault("zero-bytes", "the file has 0 bytes"),))
    damage: list[Fault] = []
    try:
        plain = _plain_jpeg(data) if data.startswith(_JPEG_START) else None
        if plain is None:
            header = read_header(data, name=name)
            turn = _orientation(data)
            picture = _shrunk(_decoded(data, header, name))
            damage = _damage(data, header)
        else:
            header, turn, picture = plain
    except DataError as error:
        return Examined(digest, len(data), (_fault(data, error),))
    faults = (*damage, *_oddities(data, header, turn, name))
    return Examined(digest, len(data), faults, header.height, header.width, header.grey, picture)


def examine_pixels(pixels: Pixels) -> Examined:
    """What can be told of pixels in memory, [H, W, C]; looks are those of `viewable`."""
    height, width, channels = pixels.shape
    picture = _shrunk(viewable(pixels))
    digest = hash_bytes(np.ascontiguousarray(pixels).data)
    return Examined(digest, pixels.nbytes, (), height, width, channels == 1, picture)


def _plain_jpeg(data: bytes) -> tuple[ImageHeader, int, NDArray[np.uint8]] | None:
    """Header, orientation, small upright picture of a JPEG that is read without a complaint.

    None for any complaint, for inks, and for more pixels than are allowed: the house rules decide
    on those.
    """
    import simplejpeg

    try:
        height, width, colors, _ = simplejpeg.decode_jpeg_header(data)
        if colors not in _JPEG_MODES or height * width > MAX_PIXELS:
            return None
        reduced = simplejpeg.decode_jpeg(
            data, "RGB", min_height=_LEAST_SIDE, min_width=_LEAST_SIDE, min_factor=1.0
        )
    except ValueError:
        return None
    turn = _orientation(data)
    if turn >= _FIRST_ACROSS:
        height, width = width, height
    mode = _JPEG_MODES[colors]
    header = ImageHeader(width, height, mode, "JPEG", mode == "L")
    return header, turn, _turned(_shrunk(reduced), turn)


def _decoded(data: bytes, header: ImageHeader, name: str) -> Pixels:
    """The pixels by the house rules. Raises DataError."""
    try:
        return decode_image(data, channels=3, name=name)
    except TypeError as error:
        # Pillow computes with what stands in a damaged TIFF directory: fractions as offsets.
        if header.format != "TIFF":
            raise
        raise DataError(
            "the image is damaged or cut off", where=name, got=f"its TIFF directory: {error}"
        ) from error


def _damage(data: bytes, header: ImageHeader) -> list[Fault]:
    """What Pillow reads over: told by the JPEG library, or by the check sums of a PNG."""
    if header.format == "PNG":
        return _png_damage(data)
    if header.format in ("JPEG", "MPO") and header.mode in _JPEG_MODES.values():
        import simplejpeg

        try:
            simplejpeg.decode_jpeg(data, "RGB", min_height=1, min_width=1, min_factor=8.0)
        except ValueError as error:
            return [Fault("damaged", f"readable, but mended by the decoder: {error}")]
    return []


def _shrunk(pixels: Pixels) -> NDArray[np.uint8]:
    """uint8 [H, W, 3] as [32, 32, 3], whatever its shape; tiny ones are enlarged smoothly."""
    from PIL import Image

    way = Image.Resampling.BOX
    if min(pixels.shape[:2]) < PICTURE_SIDE:
        way = Image.Resampling.BILINEAR
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.asarray(image.resize((PICTURE_SIDE, PICTURE_SIDE), way))


def _turned(picture: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A square picture as its EXIF orientation 1 to 8 wants it seen."""
    if turn >= _FIRST_ACROSS:
        picture = picture.transpose(1, 0, 2)
    # After the transpose: 5 is done, 6 needs a mirror, 7 a half turn, 8 a flip.
    if turn in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if turn in (3, 4, 7, 8):
        picture = picture[::-1]
    return picture


def _orientation(data: bytes) -> int:
    """The EXIF orientation, 1 to 8; the file is opened for it only where there is an EXIF block."""
    if not _has_exif(data):
        return _UPRIGHT
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            value = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, KeyError, TypeError):
        # As in `images`: a broken note about an image is not a broken image.
        return _UPRIGHT
    return value if isinstance(value, int) and 1 <= value <= 8 else _UPRIGHT


def _has_exif(data: bytes) -> bool:
    """Whether there is an EXIF block; of a JPEG, only the segments before its picture are seen."""
    if data.startswith(_JPEG_START):
        place = 2
        while data[place : place + 1] == b"\xff" and data[place + 1 : place + 2] in _BEFORE_PICTURE:
            if data[place + 4 : place + 10] == b"Exif\0\0":
                return True
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        return False
    if data.startswith(_PNG_START):
        return b"eXIf" in data
    return data[:4] in (b"II*\0", b"MM\0*") or (data[:4] == b"RIFF" and b"EXIF" in data)


def _oddities(data: bytes, header: ImageHeader, turn: int, name: str) -> list[Fault]:
    found = []
    suffix = PurePosixPath(name).suffix.lower()
    wanted = _SUFFIX_FORMATS.get(suffix)
    actual = "JPEG" if header.format == "MPO" else header.format
    if wanted is not None and wanted != actual:
        found.append(Fault("wrong-extension", f"a {actual} image named {suffix}"))
    mode = "I" if header.mode.startswith("I") else header.mode
    if header.format == "PNG" and data[24] == 16:  # the IHDR chunk's bit depth
        mode = "I"
    if mode in _ODD_MODES:
        found.append(Fault("odd-mode", _ODD_MODES[mode]))
    if turn != _UPRIGHT:
        found.append(Fault("exif-rotated", f"stored turned (EXIF orientation {turn})"))
    return found


def _fault(data: bytes, error: DataError) -> Fault:
    """The kind of an image that cannot be read, and why in one line."""
    text = error.what if error.got is None else f"{error.what}: {error.got}"
    if "too many pixels" in error.what:
        return Fault("huge", f"{text}; {error.expected} are read")
    foreign = foreign_type(data)
    if foreign is not None:
        return Fault("wrong-extension", f"not an image: {foreign}")
    if not data.strip(b"\0"):
        return Fault("corrupt", f"all {len(data):,} bytes are zero")
    if _ends_early(data) or "truncated" in text.lower():
        return Fault("truncated", text)
    return Fault("corrupt", text)


def foreign_type(data: bytes) -> str | None:
    """What `data` is, if it is of a known kind that is not read; None otherwise."""
    start = data[:512].removeprefix(b"\xef\xbb\xbf").lstrip()
    for mark, what in _FOREIGN:
        if start[: len(mark)].lower() == mark.lower():
            return what
    if data[4:8] == b"ftyp":
        brand = data[8:12].decode("ascii", "replace").strip()
        return f"a HEIF, AVIF or video file (brand {brand})"
    if data[:4] == b"RIFF" and data[8:12] == b"AVI ":
        return "an AVI video"
    if start and all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in start):
        return "a text file"
    return None


def foreign_image(data: bytes) -> str | None:
    """What `data` begins, if it is an image of a kind that is not read; None otherwise."""
    what = foreign_type(data)
    images = ("HEIF", "JPEG", "Photoshop", "LFS")
    return what if what is not None and any(word in what for word in images) else None


def image_type(data: bytes) -> str | None:
    """The format that the first bytes stand for, if it is one that is read; None otherwise."""
    for mark, name in _MARKS:
        if data.startswith(mark):
            return name
    return "WEBP" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None


def _ends_early(data: bytes) -> bool:
    """Whether the file's own marks say that bytes are missing at its end."""
    if data[:2] == b"\xff\xd8":
        return not data.rstrip(b"\0").endswith(b"\xff\xd9")
    if data[:8] == _PNG_START:
        return b"IEND" not in data[-16:]
    if data[:4] == b"RIFF" and len(data) >= 8:
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data[:2] == b"BM" and len(data) >= 6:
        return int.from_bytes(data[2:6], "little") > len(data)
    if data[:3] == b"GIF":
        return not data.rstrip(b"\0").endswith(b";")
    return False


def _png_damage(data: bytes) -> list[Fault]:
    """The first chunk of a PNG whose check sum is wrong: Pillow reads such pixels silently."""
    place = len(_PNG_START)
    view = memoryview(data)
    while place + 12 <= len(data):
        length = int.from_bytes(view[place : place + 4], "big")
        end = place + 8 + length
        if end + 4 > len(data):
            return [Fault("damaged", "readable, but the PNG file is cut short")]
        stored = int.from_bytes(view[end : end + 4], "big")
        if zlib.crc32(view[place + 4 : end]) != stored:
            kind = bytes(view[place + 4 : place + 8]).decode("ascii", "replace")
            return [Fault("damaged", f"readable, but the PNG chunk {kind} has a wrong check sum")]
        if data[place + 4 : place + 8] == b"IEND":
            return []
        place = end + 4
    return [Fault("damaged", "readable, but the PNG file has no end mark")]
