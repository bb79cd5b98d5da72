"""The files of a cross-validation: out-of-fold predictions, logits, and the report's table.

Axes: N images in manifest order, K classes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.files import atomic_file, write_text
from discern.exporting.csv_cells import csv_cell
from discern.training.scores import EvalTable
from discern.training.tag_scores import TagTable

PREDICTIONS: Final = "predictions"
LOGITS: Final = "logits.npy"
REPORT: Final = "report.md"
FOLDS: Final = "folds.csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldPredictions:
    """Every image predicted by the model that never saw it.

    `tables`: of each head by name, rows in manifest order; `folds` int32 [N]; `ids` and `paths`
    text [N].
    """

    tables: Mapping[str, EvalTable | TagTable]
    folds: NDArray[np.int32]
    ids: NDArray[np.str_]
    paths: NDArray[np.str_]


def probabilities_of(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Softmax of float32 [N, K] in float64."""
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    whole: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return whole


def prediction_columns(found: FoldPredictions) -> dict[str, list[Any]]:
    """id, path, fold, then of the only head what `_class_columns` or `_tag_columns` gives.

    Of several heads the columns of each begin with its name and a dot.
    """
    columns: dict[str, list[Any]] = {
        "id": found.ids.tolist(),
        "path": found.paths.tolist(),
        "fold": found.folds.tolist(),
    }
    for head, table in found.tables.items():
        own = _tag_columns(table) if isinstance(table, TagTable) else _class_columns(table)
        before = f"{head}." if len(found.tables) > 1 else ""
        columns |= {f"{before}{name}": cells for name, cells in own.items()}
    return columns


def _class_columns(table: EvalTable) -> dict[str, list[Any]]:
    """target, predicted, probability, then the probability of each class.

    The last are missing where the logits were too many to be kept. No label: an empty target.
    """
    names = np.array([*table.classes, ""], dtype=object)
    columns: dict[str, list[Any]] = {
        "target": names[table.targets].tolist(),
        "predicted": names[table.predicted].tolist(),
        "probability": table.top_probabilities[:, 0].astype(np.float64).tolist(),
    }
    if table.logits is not None:
        values = probabilities_of(table.logits)
        columns["probability"] = values[np.arange(len(values)), table.predicted].tolist()
        columns |= {
            f"probability/{name}": values[:, place].tolist()
            for place, name in enumerate(table.classes)
        }
    return columns


def _tag_columns(table: TagTable) -> dict[str, list[Any]]:
    """target/LABEL: 1, 0 or nothing where it is not known; probability/LABEL."""
    columns: dict[str, list[Any]] = {}
    for place, name in enumerate(table.classes):
        told = table.targets[:, place].tolist()
        columns[f"target/{name}"] = [None if math.isnan(value) else int(value) for value in told]
    for place, name in enumerate(table.classes):
        columns[f"probability/{name}"] = table.probabilities[:, place].astype(np.float64).tolist()
    return columns


def write_predictions(folder: Path, found: FoldPredictions) -> dict[str, Path]:
    """Write `predictions.parquet`, `predictions.csv` and `logits.npy`; gives their paths.

    Logits are written of one head of one label an image.

    Row i of each belongs to image i of the manifest.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = prediction_columns(found)
    paths = {"predictions": folder / f"{PREDICTIONS}.parquet", "csv": folder / f"{PREDICTIONS}.csv"}
    with atomic_file(paths["predictions"]) as stream:
        pq.write_table(pa.table(columns), stream)
    rows = [
        [csv_cell(cell) if isinstance(cell, str) else cell for cell in row]
        for row in zip(*columns.values(), strict=True)
    ]
    write_text(paths["csv"], _csv_text([[csv_cell(name) for name in columns], *rows]))
    only = next(iter(found.tables.values())) if len(found.tables) == 1 else None
    if isinstance(only, EvalTable) and only.logits is not None:
        paths["logits"] = folder / LOGITS
        with atomic_file(paths["logits"]) as stream:
            np.save(stream, only.logits)
    return paths


def _csv_text(rows: Sequence[Sequence[Any]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def fold_figures(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The scores of a run by name; those of each of several heads as `HEAD/NAME`."""
    figures = {name: value for name, value in metrics.items() if name != "heads"}
    for head, own in metrics.get("heads", {}).items():
        figures |= {f"{head}/{name}": value for name, value in own.items() if name != "side"}
    return figures


def fold_rows(outcome: Mapping[str, Any]) -> list[list[Any]]:
    """A header, a row per fold, mean and spread; the figures are those that have a mean."""
    names = list(outcome["mean"])
    rows: list[list[Any]] = [["fold", "run", "images", *names]]
    for entry in outcome["folds"]:
        metrics = fold_figures(entry["metrics"])
        rows.append(
            [entry["fold"], entry["run"], metrics["count"], *(metrics[name] for name in names)]
        )
    rows.append(["mean", "", "", *(outcome["mean"][name] for name in names)])
    rows.append(["std", "", "", *(outcome["std"][name] for name in names)])
    return rows


def write_fold_report(folder: Path, outcome: Mapping[str, Any]) -> Path:
    """Write the table as `folds.csv`, and with its explanation as `report.md`; gives the latter."""
    rows = fold_rows(outcome)
    write_text(
        folder / FOLDS,
        _csv_text([[csv_cell(c) if isinstance(c, str) else c for c in row] for row in rows]),
    )
    joined = outcome["out_of_fold"]
    lines = [
        f"# {_plain(outcome['group'])}",
        "",
        f"{len(outcome['folds'])} models, each reported on the fold that it never saw: neither for",
        "its weights nor for any choice. Choices were made on a part of the other folds.",
        "",
        *_markdown(rows),
        "",
        "`std` is the standard deviation of the folds' figures (n - 1). The folds share most of",
        "their training images: it says how much a figure moves, not how sure the mean is.",
        "",
        "All images together, each by the model that never saw it:",
        f"accuracy {joined['accuracy']:.4f} on {joined['count']} images",
        f"(95 % interval {joined['accuracy_low']:.4f} to {joined['accuracy_high']:.4f}).",
        "",
        f"`{PREDICTIONS}.parquet` and `{PREDICTIONS}.csv` hold these predictions, a row per",
        "image in the data's order"
        + (f"; `{LOGITS}` the logits, float32 [images, classes]." if "logits" in outcome else "."),
        "",
    ]
    write_text(folder / REPORT, "\n".join(lines))
    return folder / REPORT


def _markdown(rows: Sequence[Sequence[Any]]) -> list[str]:
    cells = [[_cell(value) for value in row] for row in rows]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return [lines[0], "|" + "---|" * len(cells[0]), *lines[1:]]


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else _plain(str(value))


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
