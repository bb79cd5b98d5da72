"""The picture of `discern data preview`: what training sees above what evaluation sees."""

from __future__ import annotations

import io
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
    """Write a PNG with one captioned row of images for each of `rows`: [N, H, W, C]."""
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
    write_bytes(path, stream.getvalue())


def _enlarged(pixels: Pixels) -> Pixels:
    """RGB, each pixel repeated so that an image fills its cell."""
    factor = max(1, _CELL // pixels.shape[2])
    colored = np.stack([viewable(image) for image in pixels])
    return np.repeat(np.repeat(colored, factor, axis=1), factor, axis=2)
