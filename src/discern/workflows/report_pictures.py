"""The report's PNG pictures: confusion matrix and curves."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Up to this many classes are labeled and their counts written into the cells.
_LABELED = 40
_COUNTED = 20
_INK = "#1f2933"
_PANELS = (
    ("loss", {"train/loss": "train", "val/loss": "val"}),
    ("accuracy", {"train/accuracy": "train", "val/accuracy": "val"}),
    ("learning rate", {"train/lr": "rate"}),
)
_COLORS = {"train": "#7b8794", "val": "#2563eb", "rate": "#2563eb"}


def _figure(width: float, height: float) -> Figure:
    """A figure without pyplot: no global state, no window system."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=120, layout="constrained", facecolor="white")


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # A class name in a script that the font lacks is drawn as boxes; the page shows it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def confusion_picture(matrix: NDArray[np.int64], classes: tuple[str, ...]) -> bytes:
    """The matrix as PNG; colors are shares of the true class, figures are counts."""
    count = len(classes)
    side = float(np.clip(2.6 + 0.42 * count, 4.0, 14.0))
    figure = _figure(side + 0.6, side)
    axes: Any = figure.add_subplot()
    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = matrix / totals
    drawn = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0)
    bar = figure.colorbar(drawn, ax=axes, shrink=0.75)
    bar.set_label("share of the true class", color=_INK)
    bar.outline.set_visible(False)
    axes.set_xlabel("predicted", color=_INK)
    axes.set_ylabel("true", color=_INK)
    axes.spines[:].set_visible(False)
    if count <= _LABELED:
        # `$` would start a formula: names are shown as they are.
        names = [name.replace("$", r"\$") for name in classes]
        axes.set_xticks(range(count), names, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(count), names)
    if count <= _COUNTED:
        for row, column in zip(*np.nonzero(matrix), strict=True):
            color = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, matrix[row, column], ha="center", va="center", color=color,
                      fontsize=8)  # fmt: skip
    return _png(figure)


def curves_picture(
    curves: Mapping[str, tuple[NDArray[np.int64], NDArray[np.float64]]],
) -> bytes:
    """Loss, accuracy and rate over the steps as PNG."""
    panels = [
        (title, series) for title, series in _PANELS if any(name in curves for name in series)
    ]
    figure = _figure(4.2 * max(1, len(panels)), 3.2)
    for place, (title, series) in enumerate(panels, 1):
        axes: Any = figure.add_subplot(1, len(panels), place)
        for name, label in series.items():
            if name in curves:
                steps, values = curves[name]
                marker = "o" if len(steps) < 40 else None
                axes.plot(steps, values, color=_COLORS[label], label=label, linewidth=1.6,
                          marker=marker, markersize=2.5)  # fmt: skip
        axes.set_title(title, color=_INK, fontsize=11)
        axes.set_xlabel("step", color=_INK)
        axes.grid(color="#e4e7eb", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
        if len(series) > 1:
            axes.legend(frameon=False)
    return _png(figure)


def tags_picture(matrices: NDArray[np.int64], classes: tuple[str, ...]) -> bytes:
    """Of each label [K, 2, 2] (true no, yes; told no, yes) a row of four cells, as PNG.

    Colors are shares of the true answer, figures are counts.
    """
    count = len(classes)
    figure = _figure(6.4, float(np.clip(1.8 + 0.32 * count, 2.6, 14.0)))
    axes: Any = figure.add_subplot()
    counts = matrices.reshape(count, 4)
    shares = (matrices / np.maximum(matrices.sum(axis=2, keepdims=True), 1)).reshape(count, 4)
    drawn = axes.imshow(shares, cmap="Blues", vmin=0.0, vmax=1.0, aspect="auto")
    bar = figure.colorbar(drawn, ax=axes, shrink=0.75)
    bar.set_label("share of the true answer", color=_INK)
    bar.outline.set_visible(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(4), ["no, told no", "no, told yes", "yes, told no", "yes, told yes"])
    if count <= _LABELED:
        axes.set_yticks(range(count), [name.replace("$", r"\$") for name in classes])
        for row, column in np.ndindex(count, 4):
            color = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, counts[row, column], ha="center", va="center", color=color,
                      fontsize=8)  # fmt: skip
    return _png(figure)
