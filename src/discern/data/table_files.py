"""Columns of text and numbers in CSV, TSV, JSON lines and Parquet files, both ways.

Owns the three file formats, not what a column means. A table of our own making carries a record
(`meta`): in Parquet's schema metadata, in a first line `#discern: {...}` of a CSV, in a first
object `{"discern": {...}}` of JSON lines.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import DataError
from discern.base.files import atomic_file, write_bytes

TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_META_KEY = "discern"
_CSV_MARK = "#discern: "


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, by name, in file order; None is a missing value."""

    columns: Mapping[str, Sequence[Any]]
    meta: Mapping[str, Any] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))


def read_table(path: Path) -> Table:
    """The table in the file at `path`; its format goes by the suffix.

    CSV and TSV cells are strings, "" is missing. Raises DataError for a damaged or empty table.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(path)
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError("the table cannot be read", where=path, got=str(error)) from error
    if suffix in (".jsonl", ".ndjson"):
        return _parse_lines(text, path)
    return _parse_csv(text, path, "\t" if suffix == ".tsv" else ",")


def read_meta(path: Path) -> Mapping[str, Any] | None:
    """The record of a table of our own making, without its rows; None for anybody else's.

    Raises DataError if the file cannot be opened or its record is damaged.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet_meta(path)
        with open(path, "rb") as stream:
            first = stream.readline().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError("the table cannot be read", where=path, got=str(error)) from error
    if first.startswith(_CSV_MARK):
        return _parse_json(first.removeprefix(_CSV_MARK), path, 1)
    if first.startswith(f'{{"{_META_KEY}": {{'):
        meta: dict[str, Any] = _parse_json(first, path, 1)[_META_KEY]
        return meta
    return None


def write_table(path: Path, table: Table) -> None:
    """Write the table atomically; its format goes by the suffix. Raises DataError for others."""
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        _write_parquet(path, table)
    elif suffix in (".jsonl", ".ndjson"):
        lines = [] if table.meta is None else [_json({_META_KEY: table.meta})]
        names = list(table.columns)
        rows = zip(*table.columns.values(), strict=True)
        lines += [_json(dict(zip(names, row, strict=True))) for row in rows]
        write_bytes(path, "".join(line + "\n" for line in lines).encode())
    elif suffix in (".csv", ".tsv"):
        stream = io.StringIO(newline="")
        if table.meta is not None:
            stream.write(_CSV_MARK + _json(table.meta) + "\n")
        delimiter = "\t" if suffix == ".tsv" else ","
        # Only characters of the line end are quoted: with "\n" alone a "\r" in a name would not be.
        writer = csv.writer(stream, lineterminator="\r\n", delimiter=delimiter)
        writer.writerow(table.columns)
        writer.writerows(
            [_cell(value) for value in row] for row in zip(*table.columns.values(), strict=True)
        )
        write_bytes(path, stream.getvalue().encode())
    else:
        raise DataError(
            "no table format has this suffix",
            where=path,
            got=suffix or "no suffix",
            expected=", ".join(TABLE_SUFFIXES),
        )


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return _json(value) if isinstance(value, list) else value


def _parse_csv(text: str, path: Path, delimiter: str) -> Table:
    meta = None
    if text.startswith(_CSV_MARK):
        first, _, text = text.partition("\n")
        meta = _parse_json(first.removeprefix(_CSV_MARK), path, 1)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        rows = [row for row in reader if row]
    except csv.Error as error:
        raise DataError("the table is damaged", where=path, got=str(error)) from error
    if not rows:
        raise DataError("the table is empty", where=path)
    header = [name.strip() for name in rows[0]]
    for number, row in enumerate(rows[1:], start=2 if meta is None else 3):
        if len(row) != len(header):
            raise DataError(
                "a row of the table has another number of cells than its header",
                where=f"{path}, row {number}",
                got=len(row),
                expected=len(header),
            )
    columns = zip(*rows[1:], strict=True) if rows[1:] else [()] * len(header)
    return Table(_named(header, [[cell or None for cell in c] for c in columns], path), meta)


def _parse_lines(text: str, path: Path) -> Table:
    meta = None
    columns: dict[str, list[Any]] = {}
    count = 0
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        row = _parse_json(line, path, number)
        if number == 1 and list(row) == [_META_KEY]:
            meta = row[_META_KEY]
            continue
        for name, value in row.items():
            columns.setdefault(name, [None] * count).append(value)
        count += 1
        for values in columns.values():
            if len(values) < count:
                values.append(None)
    if not count and meta is None:
        raise DataError("the table is empty", where=path)
    return Table(columns, meta)


def _parse_json(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise DataError(
            "a line is not JSON", where=f"{path}, line {number}", got=str(error)
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            "a line is not a JSON object",
            where=f"{path}, line {number}",
            got=type(value).__name__,
        )
    return value


def _named(header: list[str], columns: list[list[Any]], path: Path) -> dict[str, list[Any]]:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise DataError(
            "two columns of the table have one name", where=path, got=", ".join(sorted(repeated))
        )
    return dict(zip(header, columns, strict=True))


def _read_parquet(path: Path) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise DataError("the table is damaged", where=path, got=str(error)) from error
    raw = (table.schema.metadata or {}).get(_META_KEY.encode())
    meta = None if raw is None else _parse_json(raw.decode(), path, 1)
    names = list(table.column_names)
    return Table(_named(names, [column.to_pylist() for column in table.columns], path), meta)


def _read_parquet_meta(path: Path) -> dict[str, Any] | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_schema(path).metadata or {}
    except pa.ArrowException as error:
        raise DataError("the table is damaged", where=path, got=str(error)) from error
    raw = metadata.get(_META_KEY.encode())
    return None if raw is None else _parse_json(raw.decode(), path, 1)


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.table({name: list(values) for name, values in table.columns.items()})
    if table.meta is not None:
        content = content.replace_schema_metadata({_META_KEY: _json(table.meta)})
    with atomic_file(path) as stream:
        pq.write_table(content, stream, compression="zstd")
