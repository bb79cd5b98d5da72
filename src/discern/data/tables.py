"""Tables of images: a path and one or more labels per row, and what else a row may say.

Owns what the columns mean; see `table_files` for the formats, `table_labels` for label cells and
`headless_tables` for tables without a header.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.data.class_index import find_class_index, name_classes, read_class_index
from discern.data.label_columns import LabelColumn
from discern.data.label_origin import origin_column
from discern.data.label_spec import LabelChoice, LabelSpec, read_label_specs
from discern.data.listing import SPLIT_FOLDERS, Fault, Listing
from discern.data.manifest import NO_SPLIT, Locations
from discern.data.table_files import Table, read_table
from discern.data.table_labels import find_labels, no_label_column
from discern.data.table_repeats import merge_repeats

PATH_COLUMNS: Final = (
    "image_path", "filepath", "file_name", "filename", "path", "image", "file",
)  # fmt: skip
ROW_COLUMNS: Final = ("split", "fold", "group", "weight")
_SHOWN: Final = 10
_ROOT_HINT: Final = "--root FOLDER says where the paths begin"
# So many rows tell from which folder the paths of a table begin.
_PROBED: Final = 5


def list_table(
    path: Path,
    label: LabelChoice = None,
    *,
    root: Path | None = None,
    class_index: Path | None = None,
    needs_labels: bool = True,
    lenient: bool = False,
    table: Table | None = None,
) -> Listing:
    """The images that a table names, one a row.

    Relative paths begin at `root`, else at the table's folder, or at the one folder beside it that
    has them. `class_index`: a JSON file of class names and numbers, else one found beside a table
    of Catalyst's. `lenient`: missing files are noted and left out. `table`: what was read of the
    file already. Raises DataError.
    """
    table = read_table(path) if table is None else table
    columns = table.columns
    path_name = path_column(columns, path)
    paths = _paths(columns[path_name], path_name, path)
    specs = read_label_specs(label)
    heads, index = _heads(columns, specs, path_name, path, class_index)
    if not heads and needs_labels:
        raise no_label_column(columns, path)
    notes = () if heads else (f"no label column among {', '.join(columns)}: --label NAME names it",)
    heads = heads or (LabelColumn.of_labels([None] * len(paths)),)
    base = table_root(paths, path, root)
    faults, there = _missing(paths, base, path, lenient=lenient)
    listing = Listing(
        locations=Locations.files(paths),
        heads=heads,
        split=_splits(_column(columns, "split", specs), len(paths), path),
        root=base,
        layout=_layout(path, len(paths), heads, index, base),
        name=path.stem,
        fold=_folds(_column(columns, "fold", specs), path),
        group=_groups(_column(columns, "group", specs)),
        weight=_weights(_column(columns, "weight", specs), path),
        origin=origin_column(_column(columns, "origin", specs)),
        notes=notes,
        faults=tuple(faults),
    )
    rows = there + 1
    if len(there) < len(paths):
        listing = listing.select(there)
    return _unsplit_noted(merge_repeats(listing, rows, path))


def path_column(columns: Mapping[str, Sequence[Any]], path: Path) -> str:
    """The name of the column of image paths. Raises DataError if there is none."""
    folded = {name.casefold(): name for name in columns}
    for known in PATH_COLUMNS:
        if known in folded:
            return folded[known]
    raise DataError(
        "the table has no image path column",
        where=path,
        got=", ".join(columns),
        expected=f"one of {', '.join(PATH_COLUMNS)}",
    )


def _paths(values: Sequence[Any], name: str, path: Path) -> list[str]:
    if not len(values):
        raise DataError("the table has no rows", where=path)
    for row, value in enumerate(values, 1):
        if value is None or not str(value).strip():
            raise DataError("a row names no image", where=f"{path}, row {row}, column '{name}'")
    return [str(value) for value in values]


def _column(
    columns: Mapping[str, Sequence[Any]], name: str, specs: Sequence[LabelSpec]
) -> Sequence[Any] | None:
    """The column of that name in any case, unless it is asked for as labels."""
    for column, values in columns.items():
        if column.casefold() == name and column not in [spec.name for spec in specs]:
            return values
    return None


def _heads(
    columns: Mapping[str, Sequence[Any]],
    specs: tuple[LabelSpec, ...],
    path_name: str,
    path: Path,
    given: Path | None,
) -> tuple[tuple[LabelColumn, ...], Path | None]:
    """(label columns, the class file that orders them)."""
    names = {name.casefold(): name for name in columns}
    catalyst = not specs and "tag" in names and path_name.casefold() == "filepath"
    if catalyst:
        specs = (LabelSpec(name=names["tag"]),)
    others = {name for name in columns if name.casefold() in (*PATH_COLUMNS, *ROW_COLUMNS)}
    heads = find_labels(columns, specs, others, path)
    if len(heads) != 1 or heads[0].kind != "single":
        if given is not None:
            raise DataError(
                "a class file orders the classes of one label column",
                where=given,
                got=", ".join(head.name for head in heads) or "no label column",
            )
        return heads, None
    index = given
    if index is None and catalyst:
        index = find_class_index(path, heads[0].used())
    if index is None:
        return heads, None
    return (name_classes(heads[0], read_class_index(index), index),), index


def _layout(
    path: Path, rows: int, heads: tuple[LabelColumn, ...], index: Path | None, base: Path
) -> str:
    several = "s" if len(heads) > 1 else ""
    named = ", ".join(f"'{head.name}'" for head in heads)
    if heads[0].kind == "multi":
        named += f" of {len(heads[0].classes)} classes, several an image"
    elif heads[0].missing().all():
        return f"table of {rows} rows, without labels"
    order = "" if index is None else f", classes by {index.name}"
    inside = "" if base == path.absolute().parent else f", files in {base.name}"
    return f"table of {rows} rows, label column{several} {named}{order}{inside}"


def table_root(paths: list[str], table: Path, root: Path | None) -> Path:
    """The folder that relative paths begin at: the given one, else the table's own.

    Where that has none of the first few files, the only folder beside the table that has them all.
    """
    if root is not None:
        return root.absolute()
    folder = table.absolute().parent
    probes = [name for name in paths if not os.path.isabs(name)][:_PROBED]  # noqa: PTH117
    if not probes or any((folder / name).is_file() for name in probes):
        return folder
    beside = [
        entry
        for entry in sorted(folder.iterdir())
        if entry.is_dir() and all((entry / name).is_file() for name in probes)
    ]
    return beside[0] if len(beside) == 1 else folder


def _missing(
    paths: list[str], root: Path, table: Path, *, lenient: bool
) -> tuple[list[Fault], NDArray[np.int64]]:
    """(faults, rows whose files are there). Raises DataError for missing ones unless lenient."""
    there = np.array([os.path.isfile(os.path.join(root, name)) for name in paths])  # noqa: PTH113 - many files
    missing = [paths[row] for row in np.flatnonzero(~there)]
    if missing and not lenient:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        turned = all((root / name.replace("\\", "/")).is_file() for name in missing[:_SHOWN])
        raise DataError(
            f"{len(missing)} of {len(paths)} images that the table names are not there",
            where=table,
            got=", ".join(missing[:_SHOWN]) + more,
            expected=f"files relative to {root}, or absolute paths",
            hint="write the paths with / instead of \\" if turned else _ROOT_HINT,
        )
    text = f"the table {table.name} names it, but it is not there"
    return [("missing", name, text) for name in missing], np.flatnonzero(there).astype(np.int64)


def _splits(values: Sequence[Any] | None, count: int, path: Path) -> NDArray[np.int8]:
    if values is None:
        return np.full(count, NO_SPLIT, dtype=np.int8)
    codes = []
    for row, value in enumerate(values, 1):
        text = "" if value is None else str(value).strip().casefold()
        if text and text not in SPLIT_FOLDERS:
            raise DataError(
                "no such split", where=f"{path}, row {row}", got=value,
                expected=", ".join(SPLIT_FOLDERS),
            )  # fmt: skip
        codes.append(SPLIT_FOLDERS.get(text, NO_SPLIT))
    return np.array(codes, dtype=np.int8)


def _folds(values: Sequence[Any] | None, path: Path) -> NDArray[np.int32] | None:
    """Whole numbers from 0 on; -1 for an empty cell."""
    if values is None:
        return None
    folds = []
    for row, value in enumerate(values, 1):
        number = -1.0 if value is None or value != value else _number(value)
        if not number.is_integer() or not -1 <= number < 2**31:
            raise _bad_cell("fold", path, row, value, "a whole number from 0 on")
        folds.append(int(number))
    return np.array(folds, dtype=np.int32)


def _weights(values: Sequence[Any] | None, path: Path) -> NDArray[np.float32] | None:
    if values is None:
        return None
    weights = []
    for row, value in enumerate(values, 1):
        number = _number(value)
        if not math.isfinite(number) or number < 0:
            raise _bad_cell("weight", path, row, value, "a number from 0 on")
        weights.append(number)
    return np.array(weights, dtype=np.float32)


def _number(value: Any) -> float:
    """The number in a cell, not-a-number where it holds something else."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _bad_cell(name: str, path: Path, row: int, value: Any, expected: str) -> DataError:
    return DataError(
        f"column '{name}' holds a value that it cannot have",
        where=f"{path}, row {row}",
        got="an empty cell" if value is None else value,
        expected=expected,
    )


def _groups(values: Sequence[Any] | None) -> NDArray[np.str_] | None:
    if values is None:
        return None
    return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)


def _unsplit_noted(listing: Listing) -> Listing:
    """A note if some rows are in a split and others in none: these are not used."""
    unsplit = int((listing.split == NO_SPLIT).sum())
    if not 0 < unsplit < len(listing):
        return listing
    note = f"{unsplit} of {len(listing)} rows are in no split and are not used"
    return replace(listing, notes=(*listing.notes, note))
