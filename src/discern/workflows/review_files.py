"""The files of a review: its queue in three formats, all its images, its page, its curves.

Each is written whole or not at all; the record comes last. What they hold: `data.review_queue`.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.files import write_bytes, write_json, write_text
from discern.data.manifest import Head, Manifest
from discern.data.review_queue import (
    IMAGES_FILE,
    QUEUE_FILE,
    RECORD_FILE,
    VERSION,
    QueueRow,
    ReviewedImage,
    images_table,
    queue_columns,
)
from discern.data.sources import Source
from discern.data.table_files import Table, write_table
from discern.exporting.csv_cells import csv_cell
from discern.training.class_curves import ClassCurves
from discern.workflows.class_curve_files import CURVE_PICTURE, CURVE_TABLE, write_class_curves

PAGE: Final = "index.html"
QUEUE_PARQUET: Final = "queue.parquet"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewContent:
    """What a review found of N images. `codes` and `predicted` int64 [N]: labels (-1: none, or of

    a class that is alone) and the likeliest class out of fold. `accuracy`: with its interval.
    `overlay`: the version of the decisions that the labels are from, 0 for the data's own.
    """

    name: str
    evidence: str
    manifest: Manifest
    source: Source
    head: Head
    rows: list[QueueRow]
    codes: NDArray[np.int64]
    predicted: NDArray[np.int64]
    accuracy: dict[str, float]
    overlay: int
    curves: ClassCurves | None = None


def write_review(folder: Path, content: ReviewContent) -> dict[str, Path]:
    """Write all files into `folder`; gives their paths by name."""
    from discern.workflows.review_page import render_review_page

    files = {
        "queue": folder / QUEUE_FILE,
        "parquet": folder / QUEUE_PARQUET,
        "images": folder / IMAGES_FILE,
        "page": folder / PAGE,
        "record": folder / RECORD_FILE,
    }
    write_table(files["images"], images_table(_images(content)))
    columns = queue_columns(content.rows, joined=False)
    write_table(files["parquet"], Table(columns))
    write_text(files["queue"], _queue_text(content.rows))
    if content.curves is not None:
        classes = content.head.classes
        write_class_curves(content.curves, classes, folder)
        files |= {"curve": folder / CURVE_PICTURE, "curve_table": folder / CURVE_TABLE}
    write_bytes(files["page"], render_review_page(content).encode())
    write_json(files["record"], _record(content))
    return files


def _images(content: ReviewContent) -> list[ReviewedImage]:
    manifest, head = content.manifest, content.head
    queued: dict[str, QueueRow] = {row.id: row for row in content.rows}
    images = []
    columns = (manifest.ids.tolist(), manifest.locations.paths.tolist(), head.targets.tolist())
    for name, path, code in zip(*columns, strict=True):
        row = queued.get(name)
        images.append(
            ReviewedImage(
                id=name,
                path=path,
                label=head.classes[code] if code >= 0 else None,
                rank=row.rank if row else None,
                suggested=row.suggested if row else None,
                copies=row.copies if row else (),
            )
        )
    return images


def _queue_text(rows: list[QueueRow]) -> str:
    columns = queue_columns(rows, joined=True)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(columns)
    for cells in zip(*columns.values(), strict=True):
        writer.writerow([csv_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return stream.getvalue()


def _record(content: ReviewContent) -> dict[str, Any]:
    return {
        "version": VERSION,
        "data": content.name,
        "head": content.head.name,
        "classes": list(content.head.classes),
        "evidence": content.evidence,
        "images": len(content.manifest),
        **content.accuracy,
        "overlay": content.overlay,
        "queue": [row.record() for row in content.rows],
        "curves": None if content.curves is None else content.curves.records(content.head.classes),
    }
