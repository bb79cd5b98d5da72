"""Embeddings as TensorBoard's projector reads them: vectors, their rows' names, and its config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.base.files import write_bytes, write_text

CONFIG_FILE: Final = "projector_config.pbtxt"
_VECTORS: Final = "projector/{}.bytes"
_ROWS: Final = "projector/{}.tsv"
_SPRITE: Final = "projector/{}.png"


@dataclass(frozen=True, slots=True)
class Sprite:
    """A sheet of small pictures as PNG bytes, row by row, and the side of each in pixels."""

    png: bytes
    side: int


def write_projector(
    folder: Path,
    vectors: NDArray[np.float32],
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    name: str = "embeddings",
    sprite: Sprite | None = None,
) -> Path:
    """Write `vectors` [N, D] and a row of texts for each into `folder`, beside the event files.

    Gives the config's path. Raises ValueError for another number of rows, OSError.
    """
    if len(rows) != len(vectors):
        raise ValueError(f"{len(rows)} rows for {len(vectors)} vectors")
    count, width = vectors.shape
    write_bytes(folder / _VECTORS.format(name), vectors.astype("<f4").tobytes())
    # A single column has no heading: the projector would take it for a row.
    lines = [*([columns] if len(columns) > 1 else []), *rows]
    text = "".join("\t".join(_cell(cell) for cell in line) + "\n" for line in lines)
    write_text(folder / _ROWS.format(name), text)
    pictures = ""
    if sprite is not None:
        write_bytes(folder / _SPRITE.format(name), sprite.png)
        side = f"    single_image_dim: {sprite.side}\n"
        path = f'    image_path: "{_SPRITE.format(name)}"\n'
        pictures = f"  sprite {{\n{path}{side}{side}  }}\n"
    config = (
        "embeddings {\n"
        f'  tensor_name: "{name}"\n'
        f'  tensor_path: "{_VECTORS.format(name)}"\n'
        f"  tensor_shape: {count}\n  tensor_shape: {width}\n"
        f'  metadata_path: "{_ROWS.format(name)}"\n'
        f"{pictures}}}\n"
    )
    write_text(folder / CONFIG_FILE, config)
    return folder / CONFIG_FILE


def _cell(text: str) -> str:
    """No tab and no line end: they part cells and rows."""
    return " ".join(text.split()) or "-"
