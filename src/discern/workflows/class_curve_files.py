"""The learning curves by class as a picture and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.files import write_bytes, write_text
from discern.exporting.csv_cells import csv_cell
from discern.training.class_curves import ClassCurves

CURVE_PICTURE: Final = "curves.png"
CURVE_TABLE: Final = "curves.csv"
_INK: Final = "#1f2933"
_LINE: Final = "#2563eb"
# Classes drawn, those first that gain most: a page of small panels is read, a hundred are not.
_DRAWN: Final = 12
_ACROSS: Final = 4


def write_class_curves(curves: ClassCurves, classes: Sequence[str], folder: Path) -> None:
    """Write `curves.png` and `curves.csv` into `folder`."""
    write_text(folder / CURVE_TABLE, curves_table(curves, classes))
    write_bytes(folder / CURVE_PICTURE, curves_picture(curves, classes))


def curves_table(curves: ClassCurves, classes: Sequence[str]) -> str:
    """CSV text: a row for each class and share."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["class", "images", "share", "accuracy", "spread", "gain", "gain_error"])
    for record in curves.records(classes):
        points = zip(record["shares"], record["accuracy"], record["spread"], strict=True)
        for share, accuracy, spread in points:
            writer.writerow(
                [csv_cell(record["class"]), record["images"], share, accuracy, spread,
                 record["gain"], record["gain_error"]]
            )  # fmt: skip
    return stream.getvalue()


def curves_picture(curves: ClassCurves, classes: Sequence[str]) -> bytes:
    """PNG: a small panel for each of the twelve classes that would gain most, with the spread."""
    from matplotlib.figure import Figure

    drawn = curves.records(classes)[:_DRAWN]
    rows = max(1, -(-len(drawn) // _ACROSS))
    figure = Figure(
        figsize=(2.4 * _ACROSS, 2.0 * rows + 0.3), dpi=120, layout="constrained", facecolor="white"
    )
    grid: Any = figure.subplots(rows, _ACROSS, squeeze=False, sharey=True)
    for place, axes in enumerate(grid.ravel()):
        if place >= len(drawn):
            axes.set_axis_off()
            continue
        record = drawn[place]
        numbers = np.array(record["shares"]) * record["images"]
        mean, spread = np.array(record["accuracy"]), np.array(record["spread"])
        axes.fill_between(numbers, mean - spread, mean + spread, color=_LINE, alpha=0.15, lw=0)
        axes.plot(numbers, mean, color=_LINE, marker="o", markersize=3, linewidth=1.6)
        gain, error = 100 * record["gain"], 100 * record["gain_error"]
        name = record["class"].replace("$", r"\$")
        axes.set_title(f"{name}\n2x: {gain:+.1f} ± {error:.1f} points", color=_INK, fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color="#e4e7eb", linewidth=0.7)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("images of the class", color=_INK, fontsize=8)
    figure.supylabel("accuracy on held-out images", color=_INK, fontsize=8)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()
