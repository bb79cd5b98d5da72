"""The files of `discern lr-find`: the curve as a PNG and as a CSV."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.files import write_bytes
from discern.training.lr_finder import RateCurve

PICTURE: Final = "curve.png"
TABLE: Final = "lr.csv"
COLUMNS: Final = ("step", "rate", "loss", "smoothed")
_INK = "#1f2933"
_RAW, _SMOOTHED, _CHOSEN = "#c3cad3", "#2563eb", "#b45309"
# Beyond this multiple of the range between the first and the least loss the curve is cut off.
_HEADROOM = 1.0


def write_curve(curve: RateCurve, folder: Path) -> tuple[Path, Path]:
    """Write the picture and the table into `folder`; gives their paths."""
    picture, table = folder / PICTURE, folder / TABLE
    write_bytes(table, curve_table(curve).encode())
    write_bytes(picture, curve_picture(curve))
    return picture, table


def curve_table(curve: RateCurve) -> str:
    """CSV text, one row for each update; numbers in full, `nan` and `inf` where not finite."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    columns = (curve.rates.tolist(), curve.losses.tolist(), curve.smoothed.tolist())
    for step, row in enumerate(zip(*columns, strict=True)):
        writer.writerow([step, *map(repr, row)])
    return stream.getvalue()


def curve_picture(curve: RateCurve) -> bytes:
    """Loss over rate as PNG: single batches, smoothed, and the suggested rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=120, layout="constrained", facecolor="white")
    axes: Any = figure.add_subplot()
    axes.plot(curve.rates, curve.losses, color=_RAW, linewidth=1.0, label="batch")
    axes.plot(curve.rates, curve.smoothed, color=_SMOOTHED, linewidth=1.8, label="smoothed")
    if curve.suggestion is not None:
        axes.axvline(
            curve.suggestion,
            color=_CHOSEN,
            linewidth=1.4,
            linestyle="--",
            label=f"suggested {curve.suggestion:.2g}",
        )
    if curve.scale == "log":
        axes.set_xscale("log")
    low, high = _loss_range(curve)
    axes.set_ylim(low, high)
    axes.set_xlabel("learning rate", color=_INK)
    axes.set_ylabel("training loss", color=_INK)
    axes.grid(color="#e4e7eb", linewidth=0.7)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _loss_range(curve: RateCurve) -> tuple[float, float]:
    """The losses to show: the end's explosion must not flatten the rest."""
    losses = curve.losses[np.isfinite(curve.losses)]
    if not len(losses):
        return 0.0, 1.0
    low = float(losses.min())
    fall = max(float(losses[0]) - low, 1e-3 * abs(low), 1e-6)
    high = min(float(losses.max()), float(losses[0]) + _HEADROOM * fall)
    return low - 0.05 * fall, high + 0.05 * fall
