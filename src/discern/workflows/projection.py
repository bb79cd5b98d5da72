"""Features as points of a plane or of space, and their images on one sheet.

Axes: N images, D features, S the side of a small picture.
"""

from __future__ import annotations

import importlib.util
import io
import math
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from discern.base.errors import ConfigError, DataError
from discern.data.images import Pixels
from discern.workflows.index.reduction import fit_reduction

METHODS: Final = ("pca", "tsne", "umap")
# t-SNE and UMAP begin from so many principal axes: the usual 50 of van der Maaten.
_AXES: Final = 50
_PERPLEXITY: Final = 30.0
# The largest sheet that TensorBoard's projector draws, a limit of graphics cards.
SHEET_SIDE: Final = 8192


def project(features: NDArray[np.float32], method: str) -> NDArray[np.float32]:
    """Points float32 [N, 3] for `pca`, [N, 2] for `tsne` and `umap`; the same each time.

    Raises ConfigError for an unknown method or one that is not installed, DataError for fewer than
    four images.
    """
    check_method(method)
    if len(features) < 4:
        raise DataError("too few images to draw", got=len(features), expected=">= 4")
    count = 3 if method == "pca" else _AXES
    reduction = fit_reduction(features, min(count, *features.shape))
    axes = reduction.axes
    if axes is None:
        raise TypeError("no axes")
    scaled = (features - reduction.mean) / reduction.scale
    points = np.asarray(scaled @ axes.T, dtype=np.float32)
    if method == "pca":
        padded = np.pad(points, ((0, 0), (0, 3 - points.shape[1])))
        return np.asarray(padded, dtype=np.float32)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(_PERPLEXITY, (len(points) - 1) / 3)
        drawn = TSNE(2, perplexity=perplexity, init="pca", random_state=0).fit_transform(points)
    else:
        import umap

        near = min(15, len(points) - 1)
        drawn = umap.UMAP(n_neighbors=near, random_state=0, n_jobs=1).fit_transform(points)
    return np.asarray(drawn, dtype=np.float32)


def check_method(method: str) -> None:
    """Raises ConfigError for an unknown method or one that is not installed."""
    if method not in METHODS:
        raise ConfigError(
            "no such projection", where="--method", got=method, expected=", ".join(METHODS)
        )
    if method == "umap" and importlib.util.find_spec("umap") is None:
        raise ConfigError(
            "UMAP is not installed", where="--method", got=method,
            expected="pca or tsne", hint="pip install 'discern[umap]'",
        )  # fmt: skip


def sprite_sheet(pictures: Sequence[Pixels], side: int) -> bytes:
    """A PNG of `pictures` uint8 [H, W, C] at S x S, row by row, as many rows as columns.

    Raises ConfigError if the sheet would be larger than the projector draws.
    """
    columns = math.ceil(math.sqrt(len(pictures)))
    if columns * side > SHEET_SIDE:
        raise ConfigError(
            "so many pictures do not fit on one sheet",
            where="--img-size",
            got=f"{len(pictures)} of {side} pixels",
            expected=f"at most {(SHEET_SIDE // side) ** 2}",
            hint="fewer --num-rows, or smaller pictures",
        )
    sheet = Image.new("RGB", (columns * side, columns * side))
    for place, pixels in enumerate(pictures):
        plain = pixels[:, :, 0] if pixels.shape[2] in (1, 2) else pixels[:, :, :3]
        small = Image.fromarray(plain).convert("RGB").resize((side, side))
        sheet.paste(small, (place % columns * side, place // columns * side))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()
