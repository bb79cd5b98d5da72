"""The picture of `discern data preview`: what training sees above what evaluation sees."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from discern.base.files import write_bytes
from discern.data.images import Pixels, viewable

# A cell is at least this wide: smaller images are enlarged by whole factors, pixel by pixel.
_CELL: Final = 112
_GAP: Final = 6
_CAPTION: Final = 18
_PAPER: Final = (246, 247, 249)
_INK: Final = (20, 24, 31)


def write_preview(rows: dict[str, Pixels], path: Path) -> None:
    """Write the picture of `preview_picture` to `path`."""
    write_bytes(path, preview_picture(rows))


def preview_picture(rows: dict[str, Pixels]) -> bytes:
    """A PNG with one captioned row of images for each of `rows`: [N, H, W, C]."""
    from PIL import Image, ImageDraw

    shown = [_enlarged(pixels) for pixels in rows.values()]
    count = max(len(pixels) for pixels in shown)
    height, width = shown[0].shape[1:3]
    page = Image.new(
        "RGB",
        (count * (width + _GAP) + _GAP, len(shown) * (height + _CAPTION + _GAP) + _GAP),
        _PAPER,
    )
    draw = ImageDraw.Draw(page)
    for number, (caption, pixels) in enumerate(zip(rows, shown, strict=True)):
        top = _GAP + number * (height + _CAPTION + _GAP)
        draw.text((_GAP, top), caption, fill=_INK)
        for place, image in enumerate(pixels):
            page.paste(Image.fromarray(image), (_GAP + place * (width + _GAP), top + _CAPTION))
    stream = io.BytesIO()
    page.save(stream, format="PNG")
    return stream.getvalue()


def numbered_picture(images: Sequence[Pixels], columns: int = 4) -> bytes:
    """A PNG with RGB `images` of any size, made small, in rows, numbered from 1."""
    from PIL import Image, ImageDraw

    rows = -(-len(images) // columns)
    wide, high = _CELL + _GAP, _CELL + _CAPTION + _GAP
    page = Image.new("RGB", (columns * wide + _GAP, rows * high + _GAP), _PAPER)
    draw = ImageDraw.Draw(page)
    for number, pixels in enumerate(images):
        left, top = _GAP + number % columns * wide, _GAP + number // columns * high
        draw.text((left, top), str(number + 1), fill=_INK)
        image = Image.fromarray(pixels)
        scale = _CELL / max(image.size)
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        page.paste(image.resize(size, Image.Resampling.BOX), (left, top + _CAPTION))
    stream = io.BytesIO()
    page.save(stream, format="PNG")
    return stream.getvalue()


def _enlarged(pixels: Pixels) -> Pixels:
    """RGB, each pixel repeated so that an image fills its cell."""
    factor = max(1, _CELL // pixels.shape[2])
    colored = np.stack([viewable(image) for image in pixels])
    return np.repeat(np.repeat(colored, factor, axis=1), factor, axis=2)
