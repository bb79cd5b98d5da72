"""The verb `predict`: name what is on images, as text, CSV or JSON."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.errors import DataError
from discern.base.files import write_text
from discern.base.names import counted
from discern.config.request import Request
from discern.data.folders import list_images
from discern.exporting.csv_cells import csv_cell
from discern.worker.open_model import open_model
from discern.worker.out_of_memory import scoring_memory_told
from discern.worker.request_values import (
    open_request,
    pair_value,
    scoring_precision,
    set_threads,
)


def prediction_verb(request: Request, console: Console) -> int:
    """Do one `predict` request."""
    given = request.arguments
    set_threads(request)
    amp_dtype = scoring_precision(request)
    opened = open_model(open_request(request))
    paths = expand_images(given["images"])
    with scoring_memory_told(opened.name, opened.device, given["batch_size"]):
        predictions = opened.predictor(amp_dtype).predict(
            paths,
            top_k=given["top_k"],
            batch_size=given["batch_size"],
            on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        )
    rows = predictions.rows()
    for problem in predictions.problems:
        console.warn(f"left out: {problem}")
    if given["out"] is not None or given["format"] == "csv":
        text = rows_as_csv(rows)
        if given["out"] is not None:
            write_text(Path(given["out"]), text)
            console.say(f"{counted(len(rows), 'prediction')} in {given['out']}")
        elif not console.json:
            console.result(text.rstrip("\n"))
    elif not console.json:
        for row in rows:
            console.result(row_as_text(row))
    console.emit({"model": opened.name, "predictions": rows})
    return 0


def expand_images(given: list[str]) -> list[Path]:
    """Files as they are, folders as all images below them, in order. Raises DataError."""
    paths: list[Path] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            found, _, _ = list_images(path)
            if not found:
                raise DataError("there are no images in the folder", where=path)
            paths += [path / name for name in found]
        elif path.is_file():
            paths.append(path)
        else:
            raise DataError("no such image", where=text)
    return paths


def row_as_text(row: dict[str, Any]) -> str:
    """One image's name and its classes with probabilities, best first; of several heads each's.

    Of several labels an image those that count as there are marked with a star.
    """
    lines = [str(row["image"])]
    for head, answer in _answers(row).items():
        if head:
            lines.append(f"  {head}")
        if "unknown" in answer:
            lines.append(f"  answer   {answer['class']}")
        there = {entry["class"] for entry in answer.get("labels", ())}
        for entry in answer["top"]:
            star = " *" if entry["class"] in there else ""
            lines.append(f"  {entry['probability']:7.4f}  {entry['class']}{star}")
    return "\n".join(lines)


def _answers(row: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The answers in `row` by head name; that of the only head by no name."""
    found: dict[str, dict[str, Any]] = row.get("heads") or {"": row}
    return found


def rows_as_csv(rows: list[dict[str, Any]]) -> str:
    """A line per image: image, class, probability, then the further classes.

    Of several labels an image `labels`, joined by `;`, stands before them, and where the bundle's
    rules may reject `answer`; of several heads each column begins with the head's name and a dot.
    """
    header = ["image"]
    answers = _answers(rows[0]) if rows else {}
    for head, answer in answers.items():
        before = f"{head}." if head else ""
        names = ["labels"] if "labels" in answer else ["answer"] if "unknown" in answer else []
        count = max(len(_answers(row)[head]["top"]) for row in rows)
        names += [name for k in range(1, count + 1) for name in (f"class{k}", f"probability{k}")]
        header += [before + name for name in names]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in header])
    for row in rows:
        cells = [csv_cell(str(row["image"]))]
        for answer in _answers(row).values():
            if "labels" in answer:
                cells.append(csv_cell(";".join(entry["class"] for entry in answer["labels"])))
            if "unknown" in answer:
                cells.append(csv_cell(answer["class"]))
            for entry in answer["top"]:
                cells += [csv_cell(entry["class"]), f"{entry['probability']:.6f}"]
        writer.writerow(cells)
    return stream.getvalue()
