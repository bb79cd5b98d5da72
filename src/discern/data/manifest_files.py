"""Manifest files: `.parquet`, `.csv`, `.tsv` and `.jsonl`, both ways, versioned and atomic.

Owns the columns and the record that travels with them (version, root, layout, heads with class
names in order). See `table_files` for the formats themselves.

Axes: N images, K classes of a head.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.manifest import MISSING, NO_SPLIT, SPLITS, Head, Locations, Manifest
from discern.data.table_files import Table, read_meta, read_table, write_table

VERSION: Final = 1
_OPTIONAL: Final[dict[str, type[Any]]] = {
    "fold": np.int32,
    "group": np.str_,
    "weight": np.float32,
    "origin": np.str_,
    "confidence": np.float32,
    "numbers": np.int64,
}
_OWN_COLUMNS = frozenset(("id", "path", "container", "offset", "length", "split", *_OPTIONAL))


def write_manifest(manifest: Manifest, path: Path | str) -> None:
    """Write `manifest` atomically; the suffix names the format.

    Images of a built-in set are recorded by set and number; their pixels are not in the file.
    Raises DataError for an unknown suffix or a head named like a column of the manifest itself.
    """
    where = manifest.locations
    inside = (where.containers >= 0).tolist()
    columns: dict[str, list[Any]] = {"id": manifest.ids.tolist(), "path": where.paths.tolist()}
    if any(inside):
        names = where.container_names
        numbers = where.containers.tolist()
        columns["container"] = [names[number] if number >= 0 else None for number in numbers]
        for name, values in (("offset", where.offsets), ("length", where.lengths)):
            pairs = zip(values.tolist(), inside, strict=True)
            columns[name] = [value if has else None for value, has in pairs]
    for head in manifest.heads:
        if head.name in _OWN_COLUMNS:
            raise DataError("a head has the name of a manifest column", got=head.name)
        columns[head.name] = label_column(head)
    columns["split"] = [SPLITS[code] if code >= 0 else None for code in manifest.split.tolist()]
    for name in _OPTIONAL:
        column = getattr(manifest, name)
        if column is not None:
            columns[name] = [_present(value) for value in column.tolist()]
    heads = [
        {"name": head.name, "kind": head.kind, "classes": list(head.classes)}
        for head in manifest.heads
    ]
    root = os.path.abspath(manifest.root)  # noqa: PTH100 - links in the root stay as they are
    meta = {"manifest": VERSION, "root": root, "layout": manifest.layout, "heads": heads}
    write_table(Path(path), Table(columns, meta))


def read_manifest(path: Path | str) -> Manifest:
    """The manifest in the file at `path`.

    Its root is the recorded folder, or the file's own where that folder is gone. Raises DataError
    if the file is no manifest, is damaged, or was written by another version.
    """
    path = Path(path)
    table = read_table(path)
    if table.meta is None or "manifest" not in table.meta:
        raise DataError("the table is no manifest of Discern", where=path)
    version = table.meta["manifest"]
    if version != VERSION:
        newer = isinstance(version, int) and version > VERSION
        raise DataError(
            f"the manifest was written by {'a newer' if newer else 'another'} version of Discern",
            where=path,
            got=f"manifest version {version}",
            expected=f"version {VERSION}",
            hint="upgrade Discern" if newer else None,
        )
    try:
        return _manifest_from(table, path)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise DataError("the manifest is damaged", where=path, got=repr(error)) from error


def is_manifest(path: Path | str) -> bool:
    """Whether the table at `path` carries a manifest's record: only the record is read."""
    meta = read_meta(Path(path))
    return meta is not None and "manifest" in meta


def _manifest_from(table: Table, path: Path) -> Manifest:
    columns, meta = table.columns, dict(table.meta or {})
    root = Path(meta["root"])
    optional: dict[str, Any] = {
        name: _optional(columns[name], dtype)
        for name, dtype in _OPTIONAL.items()
        if name in columns
    }
    return Manifest(
        ids=np.array(columns["id"], dtype=np.str_),
        locations=_locations_from(columns),
        heads=tuple(
            head_from_record(record, columns[record["name"]], path) for record in meta["heads"]
        ),
        split=np.array([_code(name) for name in columns["split"]], dtype=np.int8),
        root=root if root.is_dir() else path.absolute().parent,
        layout=str(meta["layout"]),
        **optional,
    )


def _code(name: str | None) -> int:
    return SPLITS.index(name) if name else NO_SPLIT


def _locations_from(columns: Mapping[str, Sequence[Any]]) -> Locations:
    paths = [str(path) for path in columns["path"]]
    if "container" not in columns:
        return Locations.files(paths)
    places = columns["container"]
    names = tuple(dict.fromkeys(str(name) for name in places if name))
    numbers = {name: number for number, name in enumerate(names)}
    offsets, lengths = (
        np.array([int(value or 0) for value in columns[name]], dtype=np.int64)
        for name in ("offset", "length")
    )
    return Locations(
        np.array(paths, dtype=np.str_),
        np.array([numbers[str(name)] if name else -1 for name in places], dtype=np.int32),
        offsets,
        lengths,
        names,
    )


def label_column(head: Head) -> list[Any]:
    """The labels as a table holds them: class names, or a list of numbers; None is missing."""
    if head.kind == "single":
        return [head.classes[target] if target >= 0 else None for target in head.targets.tolist()]
    return [[_present(value) for value in row] for row in head.targets.tolist()]


def head_from_record(record: dict[str, Any], values: Sequence[Any], path: Path) -> Head:
    """The head whose record (name, kind, classes) and column are given. Raises DataError."""
    classes = tuple(record["classes"])
    if record["kind"] == "multi":
        rows = [json.loads(row) if isinstance(row, str) else row for row in values]
        filled = [[np.nan if value is None else value for value in row] for row in rows]
        targets = np.array(filled, dtype=np.float32).reshape(len(rows), len(classes))
        return Head(record["name"], "multi", classes, targets)
    numbers = {name: number for number, name in enumerate(classes)}
    for value in values:
        if value is not None and str(value) not in numbers:
            raise DataError(
                "a label of the manifest is not one of its classes",
                where=path,
                got=value,
                hint=did_you_mean(str(value), classes),
            )
    codes = [MISSING if value is None else numbers[str(value)] for value in values]
    return Head(record["name"], "single", classes, np.array(codes, dtype=np.int64))


def _present(value: Any) -> Any:
    """None for the two spellings of 'nothing' in arrays: an empty text and not-a-number."""
    return None if value == "" or value != value else value


def _optional(values: Sequence[Any], dtype: type[Any]) -> NDArray[Any]:
    if dtype is np.str_:
        return np.array(["" if value is None else str(value) for value in values], dtype=np.str_)
    missing = np.nan if dtype is np.float32 else -1
    return np.array([missing if value is None else float(value) for value in values]).astype(dtype)
