"""Columns of text and numbers in CSV, TSV, JSON lines and Parquet files, both ways.

Owns the three file formats, not what a column means. A table of our own making carries a record
(`meta`): in Parquet's schema metadata, in a first line `#discern: {...}` of a CSV, in a first
object `{"discern": {...}}` of JSON lines.

Text is UTF-8, or what a byte order mark says; anything else is refused with the place.
"""

from __future__ import annotations

import codecs
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
# The longest first: UTF-32's begins like UTF-16's.
_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of equal length, by name, in file order; None is a missing value."""

    columns: Mapping[str, Sequence[Any]]
    meta: Mapping[str, Any] | None = None

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values()), ()))


def is_table(path: Path) -> bool:
    """True if the name is that of a table."""
    return path.name.lower().endswith(TABLE_SUFFIXES)


def read_table(path: Path) -> Table:
    """The table in the file at `path`; its format goes by the suffix.

    CSV and TSV cells are strings, "" is missing. A CSV without a comma in its header may have
    semicolons or tabs instead. Raises DataError for a damaged or empty table.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return read_parquet_table(path)
    text = _read_text(path)
    if suffix in (".jsonl", ".ndjson"):
        return _parse_lines(text, path)
    return _parse_csv(text, path, "\t" if suffix == ".tsv" else None)


def read_rows(path: Path, *, delimiter: str, quote: str) -> list[tuple[int, list[str]]]:
    """(line number, cells) of each row that is not blank, of text without a header.

    A row's line is its last one, where a quoted cell has several. Raises DataError.
    """
    return _parse_rows(_read_text(path), path, delimiter, quote)


def _read_text(path: Path) -> str:
    """The file's text without its byte order mark. Raises DataError for other encodings."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError("the table cannot be read", where=path, got=error.strerror) from error
    mark, encoding = next(
        ((mark, name) for mark, name in _ORDER_MARKS if data.startswith(mark)), (b"", "utf-8")
    )
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        place = len(mark) + error.start
        raise DataError(
            f"the table is not {encoding.upper()} text",
            where=_line(path, data.count(b"\n", 0, place)),
            got=f"{error.reason} at byte {place}",
            expected="UTF-8, or UTF-16 with its byte order mark",
            hint="save it as UTF-8; a file from Windows may be Latin-1 (cp1252)",
        ) from error
    zero = text.find("\0")
    if zero >= 0:
        raise DataError(
            "there is a NUL byte in the table",
            where=_line(path, text.count("\n", 0, zero)),
            expected="text",
            hint="the file is damaged, or UTF-16 without its byte order mark: save it as UTF-8",
        )
    return text


def _line(path: Path, before: int) -> str:
    return f"{path}, line {before + 1}"


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
        raise DataError("the table cannot be read", where=path, got=error.strerror) from error
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


def _parse_csv(text: str, path: Path, delimiter: str | None) -> Table:
    meta = None
    if text.startswith(_CSV_MARK):
        first, _, text = text.partition("\n")
        meta = _parse_json(first.removeprefix(_CSV_MARK), path, 1)
    delimiter = delimiter or _delimiter(text.partition("\n")[0])
    rows = _parse_rows(text, path, delimiter, '"', first_line=1 if meta is None else 2)
    if not rows:
        raise DataError("the table is empty", where=path)
    header = [name.strip() for name in rows[0][1]]
    for number, row in rows[1:]:
        if len(row) != len(header):
            raise DataError(
                "a row of the table has another number of cells than its header",
                where=f"{path}, line {number}",
                got=len(row),
                expected=len(header),
                hint="cells that hold a comma or a quote are put into double quotes",
            )
    columns = zip(*(row for _, row in rows[1:]), strict=True) if rows[1:] else [()] * len(header)
    return Table(_named(header, [[cell or None for cell in c] for c in columns], path), meta)


def _delimiter(header: str) -> str:
    """A comma, unless the header has none but semicolons or tabs, as spreadsheets write them."""
    return next((mark for mark in ",;\t" if mark in header), ",")


def _parse_rows(
    text: str, path: Path, delimiter: str, quote: str, first_line: int = 1
) -> list[tuple[int, list[str]]]:
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote, strict=True
    )
    try:
        return [(reader.line_num + first_line - 1, row) for row in reader if row]
    except csv.Error as error:
        raise DataError(
            "the table is damaged",
            where=f"{path}, line {reader.line_num + first_line - 1}",
            got=str(error),
        ) from error


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
    except (ValueError, RecursionError) as error:
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


def read_parquet_table(path: Path, *, leave_out: str | None = None) -> Table:
    """The Parquet table at `path`, but for the column `leave_out`. Raises DataError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = [name for name in pq.read_schema(path).names if name != leave_out]
        table = pq.read_table(path, columns=names if leave_out else None)
    except (pa.ArrowException, OSError) as error:
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
    except (pa.ArrowException, OSError) as error:
        raise DataError("the table is damaged", where=path, got=str(error)) from error
    raw = metadata.get(_META_KEY.encode())
    return None if raw is None else _parse_json(raw.decode(), path, 1)


def _write_parquet(path: Path, table: Table) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    content = pa.table({name: list(values) for name, values in table.columns.items()})
    if table.meta is not None:
        content = with_record(content, table.meta)
    with atomic_file(path) as stream:
        pq.write_table(content, stream, compression="zstd")


def with_record(content: Any, meta: Mapping[str, Any]) -> Any:
    """The Arrow table `content` with the record `meta`, as Parquet files of ours carry it."""
    return content.replace_schema_metadata({_META_KEY: _json(meta)})
