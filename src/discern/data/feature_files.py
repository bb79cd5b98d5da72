"""Features of images in files: one row an image, with who it is and where the numbers come from.

Owns both forms: `.parquet`, one file; and `.npy` float32 [N, D] beside `<stem>.rows.parquet`, which
holds all but the numbers and the SHA-256 of the array, so that no row goes to another's number.
Axes: N images, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.files import atomic_file, hash_file
from discern.base.names import counted
from discern.data.manifest import NO_SPLIT, SPLITS, Head
from discern.data.manifest_files import head_from_record, label_column
from discern.data.table_files import (
    Table,
    read_parquet_table,
    read_table,
    with_record,
    write_table,
)

VERSION: Final = 1
FEATURE_SUFFIXES: Final = (".parquet", ".npy")
_FEATURES: Final = "features"
_OWN_COLUMNS: Final = frozenset(("id", "path", "split", _FEATURES))


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureOrigin:
    """What the numbers come from; empty texts for an array of somebody else's.

    `model_hash`: SHA-256 over weights and preprocessing: equal hashes and layers give equal
    features. `classes`: the model's class names in its order, by head. `root`: the folder that
    paths are relative to. `opened`: what opens the model again, by the names of its flags.
    """

    model: str = ""
    model_hash: str = ""
    layer: str = ""
    dtype: str = "float32"
    classes: dict[str, list[str]] = field(default_factory=dict)
    root: str = ""
    opened: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureTable:
    """Features float32 [N, D] and their rows' `ids`, `paths`, labels by head, and `split`.

    `split`: int8 [N], a place in SPLITS or -1. Rows are in the order of the data's table.
    """

    features: NDArray[np.float32]
    ids: NDArray[np.str_]
    paths: NDArray[np.str_]
    split: NDArray[np.int8]
    heads: tuple[Head, ...] = ()
    origin: FeatureOrigin = field(default_factory=FeatureOrigin)

    def __post_init__(self) -> None:
        if self.features.ndim != 2:
            raise DataError(
                "features are one row of numbers an image",
                got=f"an array of shape {self.features.shape}",
                expected="[N, D]",
            )
        columns = [self.ids, self.paths, self.split, *(head.targets for head in self.heads)]
        for column in columns:
            if len(column) != len(self.features):
                raise DataError(
                    "the rows of features and of images differ in number",
                    got=len(column),
                    expected=len(self.features),
                )

    def __len__(self) -> int:
        return len(self.features)

    def positions(self, split: str) -> NDArray[np.int64]:
        """The rows of a split (or of `all`), ascending."""
        if split == "all":
            return np.arange(len(self))
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    def head(self, name: str | None = None) -> Head:
        """The labels of the head `name`; None: of the only one with one label an image.

        Raises DataError when there is no such head, or several.
        """
        known = {head.name: head for head in self.heads if head.kind == "single"}
        if name is None and len(known) == 1:
            return next(iter(known.values()))
        if name is None or name not in known:
            raise DataError(
                "these features have no such label column"
                if name
                else "which label column is meant"
                if known
                else "these features have no labels",
                got=name or ", ".join(known) or "none",
                expected=", ".join(known) or "one label an image",
                hint="`discern embed` keeps the labels of DATA that has any",
            )
        return known[name]

    def select(self, rows: NDArray[np.int64]) -> FeatureTable:
        """Only the rows at `rows`, in that order."""
        heads = tuple(Head(h.name, h.kind, h.classes, h.targets[rows]) for h in self.heads)
        return FeatureTable(
            features=self.features[rows],
            ids=self.ids[rows],
            paths=self.paths[rows],
            split=self.split[rows],
            heads=heads,
            origin=self.origin,
        )


def join_feature_tables(tables: Sequence[FeatureTable]) -> FeatureTable:
    """The rows of several tables in a row. Raises DataError if they are not of one kind."""
    first = tables[0]
    for other in tables[1:]:
        for what, mine, its in (
            ("numbers an image", first.features.shape[1], other.features.shape[1]),
            ("model", first.origin.model_hash, other.origin.model_hash),
            ("layer", first.origin.layer, other.origin.layer),
            ("classes", [h.spec for h in first.heads], [h.spec for h in other.heads]),
        ):
            if mine != its:
                raise DataError(f"the features differ in their {what}", got=its, expected=mine)
    heads = tuple(
        Head(h.name, h.kind, h.classes, np.concatenate([t.heads[k].targets for t in tables]))
        for k, h in enumerate(first.heads)
    )
    return FeatureTable(
        features=np.concatenate([table.features for table in tables]),
        ids=np.concatenate([table.ids for table in tables]),
        paths=np.concatenate([table.paths for table in tables]),
        split=np.concatenate([table.split for table in tables]),
        heads=heads,
        origin=first.origin,
    )


def rows_file(path: Path) -> Path:
    """Where the rows of the array at `path` are told."""
    return path.with_name(f"{path.stem}.rows.parquet")


def check_feature_suffix(path: Path) -> None:
    """Raises DataError for a suffix that features cannot be written with."""
    if path.suffix.lower() not in FEATURE_SUFFIXES:
        raise DataError(
            "no feature file has this suffix",
            where=path,
            got=path.suffix or "no suffix",
            expected=", ".join(FEATURE_SUFFIXES),
        )


def write_feature_table(path: Path | str, table: FeatureTable) -> None:
    """Write `table` atomically; the suffix names the form. Raises DataError for another suffix."""
    path = Path(path)
    check_feature_suffix(path)
    array = np.ascontiguousarray(table.features, dtype=np.float32)
    if path.suffix.lower() == ".npy":
        with atomic_file(path) as stream:
            np.save(stream, array, allow_pickle=False)
        rows = _rows(table, {"sha256": hash_file(path), "file": path.name})
        write_table(rows_file(path), rows)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = _rows(table, {})
    content = pa.table({name: list(values) for name, values in rows.columns.items()})
    if array.shape[1]:
        flat = pa.array(array.reshape(-1))
        lists = pa.FixedSizeListArray.from_arrays(flat, array.shape[1])
        content = content.append_column(_FEATURES, lists)
    with atomic_file(path) as stream:
        pq.write_table(with_record(content, rows.meta or {}), stream, compression="zstd")


def _rows(table: FeatureTable, more: dict[str, Any]) -> Table:
    """All but the features, with the record of where they come from."""
    columns: dict[str, list[Any]] = {"id": table.ids.tolist(), "path": table.paths.tolist()}
    columns["split"] = [SPLITS[code] if code >= 0 else None for code in table.split.tolist()]
    for head in table.heads:
        if head.name in _OWN_COLUMNS:
            raise DataError("a label column has the name of one of our own", got=head.name)
        columns[head.name] = label_column(head)
    heads = [head.spec.record() for head in table.heads]
    width = int(table.features.shape[1])
    meta = {"features": VERSION, "width": width, "heads": heads, "origin": asdict(table.origin)}
    return Table(columns, meta | more)


def read_feature_table(path: Path | str) -> FeatureTable:
    """The features in the file at `path`: ours, or a bare `.npy` array [N, D] of numbers.

    Rows of a bare array are called by their numbers and have no labels. Raises DataError for a file
    that is missing, damaged, no features, or not the array that its rows were written for.
    """
    path = Path(path)
    check_feature_suffix(path)
    if not path.is_file():
        raise DataError("there is no such file", where=path)
    if path.suffix.lower() == ".npy":
        features = _read_array(path)
        if not rows_file(path).is_file():
            names = np.array([str(row) for row in range(len(features))], dtype=np.str_)
            split = np.full(len(features), NO_SPLIT, dtype=np.int8)
            return FeatureTable(features=features, ids=names, paths=names, split=split)
        rows = read_table(rows_file(path))
        expected = (rows.meta or {}).get("sha256")
        if expected != hash_file(path):
            raise DataError(
                "the array is not the one that its rows were written for: its SHA-256 differs",
                where=path,
                expected=f"the array of {rows_file(path).name}",
                hint="embed the images again",
            )
        return _table_from(rows, features, rows_file(path))
    rows = read_parquet_table(path, leave_out=_FEATURES)
    if (rows.meta or {}).get("width") == 0:
        return _table_from(rows, np.empty((rows.rows, 0), dtype=np.float32), path)
    return _table_from(rows, _read_list_column(path), path)


def _read_array(path: Path) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DataError("the array cannot be read", where=path, got=str(error)) from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "fiu":
        got = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise DataError("the array holds no features", where=path, got=got, expected="[N, D]")
    return np.ascontiguousarray(array, dtype=np.float32)


def _read_list_column(path: Path) -> NDArray[np.float32]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        column = pq.read_table(path, columns=[_FEATURES])[_FEATURES].combine_chunks()
        width = column.type.list_size
        flat = column.values if isinstance(column, pa.FixedSizeListArray) else column.flatten()
        return np.asarray(flat.to_numpy(zero_copy_only=False), dtype=np.float32).reshape(-1, width)
    except (pa.ArrowException, OSError, KeyError, AttributeError, ValueError) as error:
        raise DataError("the table holds no features", where=path, got=str(error)) from error


def _table_from(rows: Table, features: NDArray[np.float32], path: Path) -> FeatureTable:
    meta = dict(rows.meta or {})
    if meta.get("features") != VERSION:
        raise DataError(
            "the table holds no features that this version can read",
            where=path,
            got=f"version {meta['features']}" if "features" in meta else "a table of another kind",
            expected=f"version {VERSION}",
            hint="`discern embed MODEL DATA --out F` writes them",
        )
    if rows.rows != len(features):
        raise DataError(
            "the rows of features and of images differ in number",
            where=path,
            got=counted(rows.rows, "row"),
            expected=len(features),
        )
    try:
        split = [SPLITS.index(name) if name else NO_SPLIT for name in rows.columns["split"]]
        return FeatureTable(
            features=features,
            ids=np.array(rows.columns["id"], dtype=np.str_),
            paths=np.array(rows.columns["path"], dtype=np.str_),
            split=np.array(split, dtype=np.int8),
            heads=tuple(
                head_from_record(record, rows.columns[record["name"]], path)
                for record in meta["heads"]
            ),
            origin=FeatureOrigin(**meta["origin"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise DataError("the table of features is damaged", where=path, got=repr(error)) from error
