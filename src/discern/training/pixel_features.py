"""Features of small pictures without any network: directions of edges, and colors.

Owns what stands in for a pretrained network where there is none. On 10,000 CIFAR-10 images a
linear probe on them is right on 51.7 %, one on 256 principal directions of the pixels on 37.2 %.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.data.images import Pixels

# Side of the pictures that features are made of, cells a side, directions of an edge, and colors a
# side. Source: histograms of oriented gradients (Dalal and Triggs, 2005): 9 directions, values
# clipped at 0.2; cells of 4 pixels, for pictures of 32 pixels hold no more than a part of a thing.
SIDE: Final = 32
_CELLS: Final = 8
_DIRECTIONS: Final = 9
_COLORS: Final = 4
_CLIP: Final = 0.2
_FLAT: Final = 1e-3
# Pictures worked on at once: their gradients take 25 MB.
_BLOCK: Final = 512


def pixel_features(pixels: Pixels) -> NDArray[np.float32]:
    """Features of uint8 or uint16 pictures [N, 32, 32, C]: float32 [N, 576 + 16 C].

    Square roots of histograms of edge directions, then the mean square root of each channel in
    4 x 4 fields.
    """
    width = _CELLS * _CELLS * _DIRECTIONS + _COLORS * _COLORS * pixels.shape[3]
    result = np.empty((len(pixels), width), dtype=np.float32)
    white = float(np.iinfo(pixels.dtype).max)
    for begin in range(0, len(pixels), _BLOCK):
        values = np.sqrt(pixels[begin : begin + _BLOCK].astype(np.float32) / white)
        edges = _edges(values).reshape(len(values), -1)
        fields = SIDE // _COLORS
        parts = values.reshape(len(values), _COLORS, fields, _COLORS, fields, -1)
        colors = parts.mean(axis=(2, 4)).reshape(len(values), -1)
        result[begin : begin + _BLOCK] = np.concatenate([edges, colors], axis=1)
    return result


def _edges(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Histograms [N, cells, cells, directions] of the strongest channel's gradient."""
    across, down = np.zeros_like(values), np.zeros_like(values)
    across[:, :, 1:-1] = values[:, :, 2:] - values[:, :, :-2]
    down[:, 1:-1] = values[:, 2:] - values[:, :-2]
    length = np.hypot(across, down)
    strongest = length.argmax(axis=3)[..., None]
    length, across, down = (
        np.take_along_axis(part, strongest, axis=3)[..., 0] for part in (length, across, down)
    )
    # A direction is shared between the two nearest of nine; opposite ones are one.
    angle = (np.arctan2(down, across) / np.pi % 1.0) * _DIRECTIONS
    low = np.floor(angle).astype(np.int64)
    part = angle - low
    cell = np.arange(SIDE) * _CELLS // SIDE
    place = (cell[:, None] * _CELLS + cell) * _DIRECTIONS
    base = np.arange(len(values))[:, None, None] * (_CELLS * _CELLS * _DIRECTIONS) + place
    size = len(values) * _CELLS * _CELLS * _DIRECTIONS
    table = np.zeros(size)
    for number, weight in ((low, 1.0 - part), (low + 1, part)):
        where = (base + number % _DIRECTIONS).ravel()
        table += np.bincount(where, (length * weight).ravel(), minlength=size)
    cells = table.reshape(len(values), _CELLS, _CELLS, _DIRECTIONS)
    return np.sqrt(np.minimum(cells * _contrast(cells)[..., None], _CLIP)).astype(np.float32)


def _contrast(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """One over the strength around each cell: the mean over the four 2 x 2 fields it is in."""
    energy = (cells**2).sum(axis=3)
    fields = energy[:, :-1, :-1] + energy[:, 1:, :-1] + energy[:, :-1, 1:] + energy[:, 1:, 1:]
    inverse = np.pad(1.0 / np.sqrt(fields + _FLAT), ((0, 0), (1, 1), (1, 1)), mode="edge")
    corners = (inverse[:, :-1, :-1], inverse[:, 1:, :-1], inverse[:, :-1, 1:], inverse[:, 1:, 1:])
    result: NDArray[np.float64] = np.add.reduce(corners) / 4
    return result
