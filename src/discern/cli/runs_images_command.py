"""What `discern runs compare A B --images` does: two runs image by image, as files and a page."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import OK, ConfigError, DiscernError
from discern.base.files import write_text
from discern.cli.comparison_page import comparison_page, verdict
from discern.data.images import Pixels, decode_image, viewable
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.track.paired_answers import PairedAnswers, pair_answers
from discern.track.run_index import read_index
from discern.track.run_query import select_rows

_FILES: Final = ("fixed", "broken", "still_wrong")


def compare_images(words: Sequence[str], root: Path, console: Console, *, out: str) -> int:
    """Match the stored predictions of two runs; write CSV files and a page to the folder `out`.

    `--json`: {"runs", "count", "fixed", "broken", "still_wrong", "right", "accuracy",
    "p_value", "out", "images"}. Raises ConfigError unless two runs are named, RunError for one
    without predictions, DataError when they share no image.
    """
    rows = select_rows(read_index(root), words)
    if len(rows) != 2:
        raise ConfigError(
            "two runs are compared image by image", where="--images", got=" ".join(words),
            expected="the earlier run, then the later",
        )  # fmt: skip
    first, second = rows
    found = pair_answers(first.path, second.path)
    folder = Path(out)
    record = _record(first.id, second.id, found, folder)
    for cell in _FILES:
        write_text(folder / f"{cell}.csv", _csv(found, cell))
    write_text(folder / "comparison.json", json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    read = _reader(first.path, console)
    write_text(folder / "index.html", comparison_page(first.id, second.id, found, read))
    _tell(found, record, folder, console)
    console.emit(record)
    return OK


def _record(first: str, second: str, found: PairedAnswers, folder: Path) -> dict[str, Any]:
    sizes = {cell: len(images) for cell, images in found.cells.items()}
    return {
        "runs": [first, second],
        "count": found.count,
        **sizes,
        "accuracy": [
            (sizes["broken"] + sizes["right"]) / found.count,
            (sizes["fixed"] + sizes["right"]) / found.count,
        ],
        "p_value": found.p_value,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "other_labels": found.other_labels,
        "out": str(folder),
        "images": {cell: [image.record() for image in found.cells[cell]] for cell in _FILES},
    }


def _csv(found: PairedAnswers, cell: str) -> str:
    stream = io.StringIO()
    names = ("id", "image", "true", "first", "second", "first_probability", "second_probability")
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(image.record() for image in found.cells[cell])
    return stream.getvalue()


def _reader(run: Path, console: Console) -> Callable[[str], Pixels] | None:
    """Pixels of an image by its id, out of the data that the run names; None where it is gone."""
    data = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"]["data"]
    request = DataRequest(
        train=data["source"],
        val=data.get("val"),
        test=data.get("test"),
        root=data.get("root"),
        label=data.get("labels"),
        on_bad_image="skip",
        split=None,
    )
    try:
        manifest = scan_data(request).manifest
    except DiscernError as error:
        console.warn(f"no pictures on the page, for the run's data cannot be read: {error.what}")
        return None
    source = open_source(manifest)
    places = {name: row for row, name in enumerate(manifest.ids.tolist())}

    def read(name: str) -> Pixels:
        image = source.read(places[name])
        if isinstance(image, bytes):
            image = decode_image(image, channels=3, name=name)
        return viewable(image)

    return read


def _tell(found: PairedAnswers, record: dict[str, Any], folder: Path, console: Console) -> None:
    was, now = record["accuracy"]
    console.result(
        f"accuracy {was:.4f} and {now:.4f} on the same {found.count:,} images; fixed "
        f"{record['fixed']}, broken {record['broken']}, still wrong {record['still_wrong']}; "
        f"McNemar p = {found.p_value:.3g}"
    )
    console.say(verdict(found))
    if found.only_first or found.only_second or found.other_labels:
        console.warn(
            f"not compared: {found.only_first} images of the first run alone, "
            f"{found.only_second} of the second alone, {found.other_labels} of another label"
        )
    console.say(f"page     {folder}/index.html")
