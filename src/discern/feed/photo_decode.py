"""A part of a JPEG as pixels, without decoding what the part does not need.

Owns the reading of the JPEG header and the decode by libjpeg-turbo (simplejpeg, which releases the
interpreter's lock). Two savings: rows below the part are never decoded, and a part of at least
twice the wanted size is decoded at 1/2, 1/4 or 1/8. Whatever is not a plain JPEG is left to
Pillow (`discern.data.images`), which is also the reference for the pixels.

Axes: H height, W width, C channels (1 or 3).
"""

from __future__ import annotations

import functools
import re
import struct
from typing import TYPE_CHECKING, NamedTuple

from discern.data.images import MAX_PIXELS, Pixels
from discern.feed.photo import CropBox

if TYPE_CHECKING:
    from types import ModuleType

_START = b"\xff\xd8"
_END = b"\xff\xd9"
_SEQUENTIAL, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
_FRAMES = frozenset((_SEQUENTIAL, _EXTENDED, _PROGRESSIVE))
# Lossless, hierarchical and arithmetic frames: C4, C8 and CC are tables.
_OTHER_FRAMES = frozenset(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_SCAN, _NOTES = 0xDA, 0xE1
_BARE = frozenset((0x00, 0x01, *range(0xD0, 0xDA)))  # markers that have no length
_ORIENTATION_TAG = 0x0112
_SHORT = 3
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# As Pillow looks for it where EXIF has no orientation.
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
# Rows below the part that the smooth upsampling of color looks at: 1 color row, 2 pixel rows.
_CONTEXT_ROWS = 2
_FACTORS = (8, 4, 2)


class JpegFrame(NamedTuple):
    """What the header of a plain JPEG says. `height`, `width`: as stored, before orientation.

    `orientation`: of EXIF, 1 to 8. `height_at`: where the height stands in the file, 2 bytes.
    `one_scan`: the rows follow each other in the file, so that the last ones can be left out.
    """

    height: int
    width: int
    orientation: int
    height_at: int
    one_scan: bool


def read_frame(data: bytes) -> JpegFrame | None:
    """The frame of a grey or three-component 8-bit Huffman JPEG; None for everything else.

    None also for a header that is damaged, over the limit of pixels, or whose EXIF block is not
    understood: `decode_image` is to judge those.
    """
    if data[:2] != _START:
        return None
    at, end = 2, len(data) - 12
    kind = components = height_at = 0
    notes: list[bytes] = []
    while at < end:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in _BARE or marker in _OTHER_FRAMES:
            return None
        length = data[at + 2] << 8 | data[at + 3]
        if marker == _SCAN:
            break
        if marker in _FRAMES:
            if kind or data[at + 4] != 8:
                return None
            kind, height_at, components = marker, at + 5, data[at + 9]
        elif marker == _NOTES:
            notes.append(data[at + 4 : at + 2 + length])
        at += 2 + length
    else:
        return None
    orientation = _read_orientation(notes) if notes else 1
    if orientation is None or components not in (1, 3):
        return None
    height, width = struct.unpack_from(">HH", data, height_at)
    if not 0 < height * width <= MAX_PIXELS:
        return None
    one_scan = kind != _PROGRESSIVE and data[at + 4] == components
    return JpegFrame(height, width, orientation, height_at, one_scan)


def decode_part(
    data: bytes, frame: JpegFrame, box: CropBox, size: tuple[int, int], channels: int
) -> Pixels:
    """The pixels of `box` (in the stored image): uint8 [H, W, channels], a view of more.

    `size`: the height and width that the part is wanted in. At full scale the values are Pillow's
    (for `channels` 1 of a color JPEG within 2 of them). A part of at least twice `size` both ways
    comes at 1/2, 1/4 or 1/8, its borders rounded to whole pixels of that scale. Damage below the
    part is not seen. Raises ValueError for data that libjpeg finds damaged or cut off.
    """
    factor = _scale(box, size)
    rows = box.top + box.height + _CONTEXT_ROWS * factor
    # A file that is cut off has lost its end marker: it is decoded in full, and so found out.
    partial = frame.one_scan and rows < frame.height and data.endswith(_END)
    height = rows if partial else frame.height
    pixels: Pixels = _simplejpeg().decode_jpeg(
        _with_height(data, frame, rows) if partial else data,
        "GRAY" if channels == 1 else "RGB",
        min_height=-(-height // factor),
        min_width=-(-frame.width // factor),
        min_factor=factor,
        # What follows the last wanted row is no image data to the decoder: it warns of that.
        strict=not partial,
    )
    half = factor // 2
    top, left = (box.top + half) // factor, (box.left + half) // factor
    bottom = (box.top + box.height + half) // factor
    right = (box.left + box.width + half) // factor
    return pixels[top:bottom, left:right]


def decode_whole(data: bytes, channels: int) -> Pixels | None:
    """All pixels of a plain JPEG as they are stored, uint8 [H, W, channels]; None for others.

    The limit that the feed is measured against. None also for data that libjpeg warns of.
    """
    if read_frame(data) is None:
        return None
    try:
        pixels: Pixels = _simplejpeg().decode_jpeg(data, "GRAY" if channels == 1 else "RGB")
    except ValueError:
        return None
    return pixels


def _with_height(data: bytes, frame: JpegFrame, rows: int) -> bytearray:
    """The same file saying that it has only `rows` rows: the decoder stops there."""
    shorter = bytearray(data)
    shorter[frame.height_at] = rows >> 8
    shorter[frame.height_at + 1] = rows & 0xFF
    return shorter


def _scale(box: CropBox, size: tuple[int, int]) -> int:
    """The largest of 8, 4, 2, 1 by which the part can shrink and still cover `size`."""
    for factor in _FACTORS:
        if box.height >= factor * size[0] and box.width >= factor * size[1]:
            return factor
    return 1


def _read_orientation(notes: list[bytes]) -> int | None:
    """The orientation that EXIF or else XMP gives, 1 if none; None if EXIF is not understood."""
    exif = [note for note in notes if note.startswith(_EXIF)]
    if len(exif) > 1:
        return None
    found = _exif_orientation(exif[0]) if exif else 0
    if found != 0:
        return found
    for note in reversed(notes):
        if note.startswith(_XMP):
            match = _XMP_ORIENTATION.search(note)
            return int(match[1]) if match else 1
    return 1


def _exif_orientation(segment: bytes) -> int | None:
    """The orientation in an EXIF segment, 0 if it has none; None if it is not understood."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(segment[6:10])
    if order is None or len(segment) < 14:
        return None
    (first,) = struct.unpack_from(order + "I", segment, 10)
    at = 6 + first
    if at + 2 > len(segment):
        return None
    (count,) = struct.unpack_from(order + "H", segment, at)
    if at + 2 + 12 * count > len(segment):
        return None
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number, value = struct.unpack_from(order + "HHIH", segment, entry)
        if tag == _ORIENTATION_TAG:
            return value if kind == _SHORT and number == 1 and 1 <= value <= 8 else None
    return 0


@functools.cache
def _simplejpeg() -> ModuleType:
    """The binding, loaded with the first photo."""
    import simplejpeg

    module: ModuleType = simplejpeg
    return module
