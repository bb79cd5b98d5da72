"""Tables of images: CSV, TSV, JSON lines or Parquet with a path and a label per row."""

from __future__ import annotations

import csv
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.listing import SPLIT_FOLDERS, Listing
from discern.data.manifest import NO_SPLIT, Locations

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
PATH_COLUMNS = ("image_path", "filepath", "file_name", "filename", "path", "image", "file")
LABEL_COLUMNS = ("label", "class", "tag", "target", "category", "class_name", "wnid")
_SHOWN = 10

Columns = dict[str, list[Any]]


def is_table(path: Path) -> bool:
    """True if the name is that of a table."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def read_columns(path: Path) -> Columns:
    """The table's columns by name. Raises DataError."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        if suffix == ".jsonl":
            return _read_jsonl(path)
        return _read_csv(path, "\t" if suffix == ".tsv" else ",")
    except UnicodeDecodeError as error:
        raise DataError(
            f"the table is not UTF-8 text: {error.reason}", where=path,
            got=f"byte {error.start}", hint="save it as UTF-8",
        ) from error  # fmt: skip
    except OSError as error:
        raise DataError(f"the table cannot be read: {error}", where=path) from error


def _read_parquet(path: Path) -> Columns:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError(f"not a Parquet file that can be read: {error}", where=path) from error
    return {name: table.column(name).to_pylist() for name in table.column_names}


def _read_jsonl(path: Path) -> Columns:
    rows: list[dict[str, Any]] = []
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DataError(f"not JSON: {error}", where=f"{path}:{number}") from error
            if not isinstance(row, dict):
                raise DataError("a line is not a JSON object", where=f"{path}:{number}")
            rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}


def _read_csv(path: Path, delimiter: str) -> Columns:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        reader = csv.reader(stream, delimiter=delimiter)
        try:
            header = next(reader)
        except StopIteration:
            raise DataError("the table is empty", where=path) from None
        columns: Columns = {name.strip(): [] for name in header}
        if len(columns) != len(header):
            raise DataError("two columns have the same name", where=path, got=", ".join(header))
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    "a row has another number of cells than the header",
                    where=f"{path}:{reader.line_num}",
                    got=len(row),
                    expected=len(header),
                )
            for values, cell in zip(columns.values(), row, strict=True):
                values.append(cell)
    return columns


def list_table(path: Path, label: str | None = None) -> Listing:
    """The images that a table names; relative paths are from its folder. Raises DataError."""
    columns = read_columns(path)
    paths = [
        str(value) for value in columns[_find(columns, None, PATH_COLUMNS, "image path", path)]
    ]
    if not paths:
        raise DataError("the table has no rows", where=path)
    root = path.absolute().parent
    _need_files(paths, root, path)
    name = _find(columns, label, LABEL_COLUMNS, "label", path)
    labels, numeric = _labels(columns[name])
    return Listing(
        locations=Locations.files(paths),
        labels=labels,
        split=_splits(columns.get("split"), len(paths), path),
        root=root,
        layout=f"table of {len(paths)} rows, label column '{name}'",
        name=path.stem,
        numeric=numeric,
        fold=_numbers(columns.get("fold"), np.dtype(np.int32), path, "fold"),
        group=_texts(columns.get("group")),
        weight=_numbers(columns.get("weight"), np.dtype(np.float32), path, "weight"),
    )


def _find(
    columns: Columns, given: str | None, known: tuple[str, ...], what: str, path: Path
) -> str:
    if given is not None:
        if given in columns:
            return given
        raise DataError(
            f"the table has no column '{given}'", where=path, got=", ".join(columns),
            hint=did_you_mean(given, columns),
        )  # fmt: skip
    folded = {name.casefold(): name for name in columns}
    for name in known:
        if name in folded:
            return folded[name]
    raise DataError(
        f"the table has no {what} column", where=path, got=", ".join(columns),
        expected=f"one of {', '.join(known)}",
        hint="--label NAME names the label column" if what == "label" else None,
    )  # fmt: skip


def _need_files(paths: list[str], root: Path, table: Path) -> None:
    missing = [name for name in paths if not (root / name).is_file()]
    if missing:
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{len(missing)} of {len(paths)} images that the table names are not there",
            where=table,
            got=", ".join(missing[:_SHOWN]) + more,
            expected=f"files relative to {root}, or absolute paths",
        )


def _labels(values: list[Any]) -> tuple[list[str | None], bool]:
    labels = [
        None if value is None or value == "" else unicodedata.normalize("NFC", str(value).strip())
        for value in values
    ]
    numeric = all(label is None or label.lstrip("-").isdigit() for label in labels)
    return labels, numeric


def _splits(values: list[Any] | None, count: int, path: Path) -> np.ndarray[Any, np.dtype[np.int8]]:
    if values is None:
        return np.full(count, NO_SPLIT, dtype=np.int8)
    codes = []
    for number, value in enumerate(values):
        text = str(value or "").strip().casefold()
        if text and text not in SPLIT_FOLDERS:
            raise DataError(
                "no such split", where=f"{path}, row {number + 1}", got=value,
                expected=", ".join(SPLIT_FOLDERS),
            )  # fmt: skip
        codes.append(SPLIT_FOLDERS.get(text, NO_SPLIT))
    return np.array(codes, dtype=np.int8)


def _numbers(values: list[Any] | None, kind: np.dtype[Any], path: Path, name: str) -> Any:
    if values is None:
        return None
    try:
        return np.array([float(value) for value in values]).astype(kind)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"column '{name}' holds something else than numbers: {error}", where=path
        ) from error


def _texts(values: list[Any] | None) -> Any:
    return None if values is None else np.array([str(value) for value in values], dtype=np.str_)
