"""Tracked figures as text: `log.jsonl`, an object a line, and `log.csv`, a row a figure.

`log.jsonl`: {"name", "step", "time", "value"}. Instead of the value, a distribution has the object
"histogram" (`value_buckets.Buckets`), values of samples have "samples" {"indices", "values"}, an
artifact has "kind" and "file". Numbers that are not finite are "nan", "inf", "-inf". A line
{"rewind": N} drops the earlier ones of steps above N. `log.csv`: name, step, time, value; figures.
"""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any, Final

from discern.base.files import write_bytes
from discern.track.plain_values import to_plain
from discern.track.tracked_records import Artifact, Distribution, Point, Record
from discern.track.value_buckets import bucket_values

JSON_FILE: Final = "log.jsonl"
CSV_FILE: Final = "log.csv"
_COLUMNS: Final = ("name", "step", "time", "value")


class JsonLinesWriter:
    """Appends to `log.jsonl` in `folder`. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JSON_FILE

    def write(self, records: list[Record]) -> None:
        """One line a record."""
        _append(self._path, "".join(_line(json_record(record)) for record in records))

    def rewind(self, step: int) -> None:
        """One line that says so."""
        if self._path.exists():
            _append(self._path, _line({"rewind": step}))

    def flush(self) -> None:
        """Every write is in the file."""

    def close(self) -> None:
        """Nothing stays open."""


class CsvWriter:
    """Appends to `log.csv` in `folder`. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / CSV_FILE

    def write(self, records: list[Record]) -> None:
        """One row a figure."""
        rows = [(r.name, r.step, repr(r.time), repr(r.value)) for r in records if type(r) is Point]
        header = [] if self._path.exists() else [_COLUMNS]
        _append(self._path, _csv_text([*header, *rows]))

    def rewind(self, step: int) -> None:
        """Write the file anew, without the rows of later steps and without a torn last one."""
        if not self._path.exists():
            return
        with open(self._path, newline="", encoding="utf-8", errors="backslashreplace") as stream:
            rows = [row for row in csv.reader(stream) if len(row) == len(_COLUMNS)]
        kept = [row for row in rows[1:] if row[1].isdecimal() and int(row[1]) <= step]
        write_bytes(self._path, _bytes(_csv_text([_COLUMNS, *kept])))

    def flush(self) -> None:
        """Every write is in the file."""

    def close(self) -> None:
        """Nothing stays open."""


def json_record(record: Record) -> dict[str, Any]:
    """One record as a line of `log.jsonl` has it; its numbers and arrays are not yet plain."""
    line = {"name": record.name, "step": record.step, "time": record.time}
    if isinstance(record, Point):
        line["value"] = record.value
    elif isinstance(record, Distribution):
        line["histogram"] = bucket_values(record.values)._asdict()
    elif isinstance(record, Artifact):
        line |= {"kind": record.kind, "file": record.file}
    else:
        line["samples"] = {"indices": record.indices, "values": record.values}
    return line


def _line(record: dict[str, Any]) -> str:
    return json.dumps(to_plain(record), allow_nan=False) + "\n"


def _csv_text(rows: list[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _append(path: Path, text: str) -> None:
    """Append whole lines; a line that a killed writer left unfinished is ended first."""
    if not text:
        return
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        size = os.fstat(handle).st_size
        torn = size and os.pread(handle, 1, size - 1) != b"\n"
        data = memoryview((b"\n" if torn else b"") + _bytes(text))
        while data:
            data = data[os.write(handle, data) :]
    finally:
        os.close(handle)
