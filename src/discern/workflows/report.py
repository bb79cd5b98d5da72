"""The folder `report/`: everything that one evaluation says, as files and as one page.

report.json, per_class.csv, confusion.csv, predictions.csv, predictions.parquet, confusion.png,
curves.png, index.html. Written beside and renamed: a reader sees the old report or the new one.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.data.images import Pixels
from discern.exporting.csv_cells import csv_cell
from discern.exporting.folders import replaced_folder
from discern.training.scores import (
    EvalTable,
    confusion_matrix,
    most_confused_pairs,
    per_class,
)
from discern.workflows.report_page import render_page, sureness
from discern.workflows.report_pictures import confusion_picture, curves_picture

MARKER = "report.json"
CONFUSION = "confusion.png"
Points = tuple[NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportContent:
    """What a report is made of.

    `names` and `ids`: per row of `table`. `metrics` as in run.json. `curves`: series name to
    (steps, values). `parts`: what was found beyond the scores, by name, each a JSON object or None
    (leak_free, calibration, coverage, slices, groups, stress, tta, answers). `thumbnail` gives an
    image's pixels by its manifest position, for the page.
    Raises ValueError when names or ids do not fit the table.
    """

    title: str
    table: EvalTable
    names: list[str]
    ids: list[str]
    metrics: Mapping[str, Any]
    val_metrics: Mapping[str, Any] | None = None
    curves: Mapping[str, Points] = field(default_factory=dict)
    facts: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    config_text: str = ""
    commands: tuple[str, ...] = ()
    thumbnail: Callable[[int], Pixels] | None = None
    parts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for key in ("names", "ids"):
            if len(getattr(self, key)) != len(self.table):
                raise ValueError(f"{len(getattr(self, key))} {key} for {len(self.table)} images")


def write_report(folder: Path, content: ReportContent) -> None:
    """Write the report to `folder`, replacing an older report there."""
    with replaced_folder(folder, marker=MARKER) as temporary:
        write_files(temporary, content)


def write_files(folder: Path, content: ReportContent) -> None:
    """Write the report's files into `folder`, which is there."""
    (folder / "per_class.csv").write_text(per_class_csv(content.table), encoding="utf-8")
    (folder / "confusion.csv").write_text(confusion_csv(content.table), encoding="utf-8")
    write_predictions(folder, prediction_columns(content))
    confusion = confusion_picture(confusion_matrix(content.table), content.table.classes)
    (folder / CONFUSION).write_bytes(confusion)
    curves = curves_picture(content.curves) if content.curves else None
    if curves is not None:
        (folder / "curves.png").write_bytes(curves)
    write_json(folder / MARKER, report_record(content))
    (folder / "index.html").write_text(render_page(content), encoding="utf-8")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """One JSON object for people and programs."""
    text = json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def report_record(content: ReportContent) -> dict[str, Any]:
    """All figures of the report as one JSON object."""
    return {
        "version": 1,
        "title": content.title,
        "metrics": dict(content.metrics),
        "val_metrics": None if content.val_metrics is None else dict(content.val_metrics),
        "warnings": list(content.warnings),
        "facts": dict(content.facts),
        "environment": dict(content.environment),
        "calibration": _calibration_record(content.table),
        "parts": dict(content.parts),
        "per_class": class_rows(content.table),
        "most_confused": [pair.record() for pair in most_confused_pairs(content.table, 20)],
    }


def _calibration_record(table: EvalTable) -> dict[str, Any] | None:
    found = sureness(table)
    if found is None:
        return None
    return {"error": found.error, "bias": found.bias, "bins": len(found.count)}


def class_rows(table: EvalTable) -> list[dict[str, Any]]:
    """Support, precision, recall and F1 of each class; None where it is not defined."""
    scores = per_class(table)

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return [
        {
            "class": name,
            "support": int(scores.support[row]),
            "precision": plain(scores.precision[row]),
            "recall": plain(scores.recall[row]),
            "f1": plain(scores.f1[row]),
        }
        for row, name in enumerate(scores.classes)
    ]


def csv_text(rows: list[list[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def per_class_csv(table: EvalTable) -> str:
    """class, support, precision, recall, f1; an undefined figure is an empty cell."""
    rows: list[list[Any]] = [["class", "support", "precision", "recall", "f1"]]
    for row in class_rows(table):
        figures = [row[key] for key in ("precision", "recall", "f1")]
        cells = ["" if value is None else f"{value:.6f}" for value in figures]
        rows.append([csv_cell(row["class"]), row["support"], *cells])
    return csv_text(rows)


def confusion_csv(table: EvalTable) -> str:
    """Counts: a row per true class, a column per predicted one."""
    names = [csv_cell(name) for name in table.classes]
    matrix = confusion_matrix(table)
    return csv_text(
        [["true \\ predicted", *names]]
        + [[name, *row.tolist()] for name, row in zip(names, matrix, strict=True)]
    )


def six_places(values: NDArray[np.float32]) -> list[float | None]:
    """Six places each; None for what is no number."""
    return [round(float(value), 6) if np.isfinite(value) else None for value in values]


def prediction_columns(content: ReportContent) -> dict[str, list[Any]]:
    """Columns of the predictions, an entry per image."""
    table = content.table
    classes = np.array(table.classes, dtype=object)
    labeled = table.targets >= 0
    columns: dict[str, list[Any]] = {
        "image": content.names,
        "id": content.ids,
        "true": [
            classes[t] if known else "" for t, known in zip(table.targets, labeled, strict=True)
        ],
        "predicted": classes[table.top_classes[:, 0]].tolist(),
        "probability": six_places(table.top_probabilities[:, 0]),
        "correct": [
            bool(right) if known else None
            for right, known in zip(table.correct, labeled, strict=True)
        ],
        "loss": six_places(table.losses),
    }
    for k in range(1, table.top_classes.shape[1]):
        columns[f"class{k + 1}"] = classes[table.top_classes[:, k]].tolist()
        columns[f"probability{k + 1}"] = six_places(table.top_probabilities[:, k])
    return columns


def write_predictions(folder: Path, columns: Mapping[str, list[Any]]) -> None:
    """predictions.parquet and predictions.csv."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(dict(columns)), folder / "predictions.parquet")
    rows = [
        [csv_cell(cell) if isinstance(cell, str) else cell for cell in row]
        for row in zip(*columns.values(), strict=True)
    ]
    (folder / "predictions.csv").write_text(csv_text([list(columns), *rows]), encoding="utf-8")
