"""The folder of an index: versioned, with the SHA-256 of each file, and nothing in it runs.

`index.json`: what it is; `pca.npy`: the reduced features [N, P]; `pipeline.safetensors`: the fitted
steps; `rows.parquet`: which image each row is; `knn.safetensors`: the cells of approximate search.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from discern.base.errors import DataError
from discern.base.files import hash_file, write_bytes, write_json
from discern.data.feature_files import FeatureTable, read_feature_table, write_feature_table
from discern.exporting.folders import replaced_folder
from discern.workflows.index.approximate import NOT_HERE, Cells, Choice, Trial, have_faiss
from discern.workflows.index.reduction import Reduction

VERSION: Final = 1
Metric = Literal["l2", "cosine", "angular"]
METRICS: Final = ("l2", "cosine", "angular")
RECORD: Final = "index.json"
_VECTORS: Final = "pca.npy"
_PIPELINE: Final = "pipeline.safetensors"
_ROWS: Final = "rows.parquet"
_CELLS: Final = "knn.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexParts:
    """What an index is made of. `table`: its rows, without features (width 0)."""

    table: FeatureTable
    vectors: NDArray[np.float32]
    reduction: Reduction
    metric: Metric
    choice: Choice
    cells: Cells | None = None


def write_index(folder: Path, index: IndexParts) -> None:
    """Write `index`; an older index at `folder` gives way once the new one is whole."""
    with replaced_folder(folder, marker=RECORD) as fresh:
        buffer = io.BytesIO()
        np.save(buffer, index.vectors, allow_pickle=False)
        write_bytes(fresh / _VECTORS, buffer.getvalue())
        steps = {"mean": index.reduction.mean, "scale": index.reduction.scale}
        if index.reduction.axes is not None:
            steps["axes"] = index.reduction.axes
        write_bytes(fresh / _PIPELINE, save(steps))
        write_feature_table(fresh / _ROWS, index.table)
        if index.cells is not None:
            tensors = {"centers": index.cells.centers, "cell": index.cells.cell}
            write_bytes(fresh / _CELLS, save(tensors))
        names = sorted(path.name for path in fresh.iterdir())
        choice = index.choice
        trial = None if choice.trial is None else asdict(choice.trial)
        record = {
            "version": VERSION,
            "images": len(index.vectors),
            "metric": index.metric,
            "pca": None if index.reduction.axes is None else len(index.reduction.axes),
            "explained_variance": index.reduction.explained_variance,
            "search": {
                "approximate": choice.approximate, "reason": choice.reason, "trial": trial,
            },
            "origin": asdict(index.table.origin),
            "files": {name: hash_file(fresh / name) for name in names},
        }  # fmt: skip
        write_json(fresh / RECORD, record)


@contextlib.contextmanager
def changing_index(folder: Path) -> Iterator[None]:
    """One at a time changes the index in `folder`: others wait, so that no change is lost.

    The lock lies beside the folder, which each change replaces.
    """
    folder = folder.resolve()
    if not folder.is_dir():  # the reader tells what is wrong
        yield
        return
    with open(folder.with_name(f".{folder.name}.lock"), "wb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def read_index(folder: Path) -> IndexParts:
    """The index in `folder`. Raises DataError naming what is missing, damaged or unknown."""
    record = _read_record(folder)
    for name, digest in record["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or hash_file(path) != digest:
            raise DataError(
                "a file of the index is missing or damaged: its SHA-256 differs",
                where=path,
                hint="build the index again from its features",
            )
    try:
        vectors: NDArray[np.float32] = np.load(folder / _VECTORS, allow_pickle=False)
        steps = load_file(folder / _PIPELINE)
        reduction = Reduction(
            mean=steps["mean"],
            scale=steps["scale"],
            axes=steps.get("axes"),
            explained_variance=float(record["explained_variance"]),
        )
        cells = None
        if _CELLS in record["files"]:
            cells = Cells(**load_file(folder / _CELLS))
        search, metric = record["search"], record["metric"]
        trial = None if search["trial"] is None else _trial(search["trial"])
        choice = Choice(
            approximate=bool(search["approximate"]), reason=str(search["reason"]), trial=trial
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DataError("the index is damaged", where=folder, got=repr(error)) from error
    if metric not in METRICS or (choice.approximate and (cells is None or trial is None)):
        raise DataError("the index is damaged", where=folder / RECORD, got=f"metric {metric}")
    if choice.approximate and not have_faiss():
        choice = Choice(approximate=False, reason=NOT_HERE, trial=trial)
    table = read_feature_table(folder / _ROWS)
    if len(table) != len(vectors):
        raise DataError("the index is damaged: rows and vectors differ in number", where=folder)
    return IndexParts(
        table=table, vectors=vectors, reduction=reduction, metric=metric, choice=choice, cells=cells
    )


def _trial(record: dict[str, Any]) -> Trial:
    known = {"images": 0} | record
    return Trial(**{field.name: known[field.name] for field in fields(Trial)})


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = record["version"]
        files = record["files"]
    except FileNotFoundError:
        raise DataError(
            "there is no index in this folder",
            where=folder,
            hint="`discern index build F --out DIR` makes one",
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError("the index is damaged", where=path, got=repr(error)) from error
    if version != VERSION or not {_VECTORS, _PIPELINE, _ROWS} <= files.keys():
        raise DataError(
            "the index is of a version that cannot be read here",
            where=path,
            got=version,
            expected=VERSION,
        )
    return record
