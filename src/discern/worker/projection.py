"""The verb `project`: features for TensorBoard's projector, and as coordinates to draw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.console import Console
from discern.base.errors import DataError
from discern.base.names import counted
from discern.config.request import Request
from discern.data.catalog import OWN_SETS
from discern.data.feature_files import FeatureTable, read_feature_table
from discern.data.images import Pixels, Preprocess
from discern.data.manifest import SPLITS
from discern.data.manifest_files import label_column
from discern.data.sources import open_source
from discern.data.table_files import Table, write_table
from discern.track.projector_files import CONFIG_FILE, Sprite, write_projector
from discern.worker.embedding import scan_images
from discern.workflows.projection import check_method, project, sprite_sheet

COORDINATES: Final = "coordinates.parquet"
_AXES: Final = "xyz"


def projection_verb(request: Request, console: Console) -> int:
    """Do one `project` request."""
    given = request.arguments
    out = Path(given["out"])
    for method in given["methods"]:
        check_method(method)
    table = read_feature_table(given["features"])
    rows = sampled_rows(len(table), given["num_rows"])
    table = table.select(rows)
    sprite = None
    if given["img_size"]:
        pictures = _pictures(table, request, console)
        sprite = Sprite(sprite_sheet(pictures, given["img_size"]), given["img_size"])
    columns = _columns(table)
    texts = [tuple(map(_text, row)) for row in zip(*columns.values(), strict=True)]
    write_projector(out, table.features, tuple(columns), texts, sprite=sprite)
    points: dict[str, list[Any]] = {}
    for method in given["methods"]:
        drawn = project(table.features, method)
        for axis in range(drawn.shape[1]):
            points[f"{method}_{_AXES[axis]}"] = drawn[:, axis].tolist()
    write_table(out / COORDINATES, Table({**columns, **points}, {"coordinates": 1}))
    console.result(f"{counted(len(table), 'image')} in {out}: {CONFIG_FILE}, {COORDINATES}")
    console.say(f"tensorboard --logdir {out}")
    console.emit({"out": str(out), "rows": len(table), "width": int(table.features.shape[1]),
                  "methods": given["methods"], "sprite": sprite is not None})  # fmt: skip
    return 0


def sampled_rows(count: int, most: int | None) -> np.ndarray[Any, np.dtype[np.int64]]:
    """At most `most` of `count` rows, evenly spread, ascending."""
    if most is None or most >= count:
        return np.arange(count)
    return np.arange(most, dtype=np.int64) * count // most


def _columns(table: FeatureTable) -> dict[str, list[Any]]:
    """What is told of each row: id, path, split, and the labels."""
    split = [SPLITS[code] if code >= 0 else None for code in table.split.tolist()]
    columns: dict[str, list[Any]] = {
        "id": table.ids.tolist(), "path": table.paths.tolist(), "split": split,
    }  # fmt: skip
    return columns | {head.name: label_column(head) for head in table.heads}


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _pictures(table: FeatureTable, request: Request, console: Console) -> list[Pixels]:
    """The image of each row: of DATA by id where it is given, else what the row names.

    That is a file, or an image of a built-in set that needs none.
    """
    side = request.arguments["img_size"]
    preprocess = Preprocess(
        height=side, width=side, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, fit="squish"
    )
    data = request.arguments["data"] or _built_in(table)
    if data is not None:
        asked = replace(request, arguments={**request.arguments, "data": data})
        manifest = scan_images(asked, console).manifest
        source = open_source(manifest)
        places = {name: row for row, name in enumerate(manifest.ids.tolist())}
        missing = [name for name in table.ids.tolist() if name not in places]
        if missing:
            raise DataError("the data lacks images of the features", where="--data",
                            got=f"{len(missing)} of {len(table)}")  # fmt: skip
        rows = [places[name] for name in table.ids.tolist()]
        return [preprocess.apply(source.read(row), name=source.name(row)) for row in rows]
    pictures = []
    for path in table.paths.tolist():
        file = Path(table.origin.root) / path
        if not table.origin.root or not file.is_file():
            raise DataError(
                "an image of the features is no file here",
                where=file,
                hint="--data DATA says where the images are; --img-size 0 leaves the sheet out",
            )
        pictures.append(preprocess.apply(file.read_bytes(), name=str(file)))
    return pictures


def _built_in(table: FeatureTable) -> str | None:
    """The built-in set that comes with Discern whose images all rows are; None if there is none."""
    names = {path.partition("/")[0] if "#" in path else "" for path in table.paths.tolist()}
    name = names.pop() if len(names) == 1 else ""
    return name if name in OWN_SETS else None
