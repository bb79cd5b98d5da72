"""Tables without a header, as the Lambda demo suite reads them: `path,label` in every row.

The delimiter is a comma and the quote character a single quote, so that a path may hold a comma;
where a row begins with a double quote, that is the quote character.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from discern.base.errors import DataError
from discern.data.listing import SUFFIXES, Listing
from discern.data.table_files import Table, read_rows
from discern.data.tables import list_table

_CELLS = 2
_LONGEST = 1 << 16  # bytes of a first row that are looked at


def is_headless(path: Path) -> bool:
    """True for a CSV whose first row begins with the name of an image, as no header does."""
    if path.suffix.lower() != ".csv":
        return False
    with open(path, "rb") as stream:
        first = stream.readline(_LONGEST).decode("utf-8-sig", errors="replace").strip()
    cell = first[1:].partition(first[0])[0] if first[:1] in ("'", '"') else first.partition(",")[0]
    return Path(cell.strip()).suffix.lower() in SUFFIXES


def list_headless(path: Path, *, root: Path | None = None, lenient: bool = False) -> Listing:
    """The images of a table without a header; `root`, `lenient` as in `tables.list_table`.

    Raises DataError for rows of another form.
    """
    quote = '"' if re.search(rb'^(?:\xef\xbb\xbf)?"', path.read_bytes(), re.MULTILINE) else "'"
    rows = read_rows(path, delimiter=",", quote=quote)
    for line, row in rows:
        if len(row) != _CELLS:
            raise DataError(
                "a row of a table without a header is not a path and a label",
                where=f"{path}, line {line}",
                got=f"{len(row)} cells",
                expected=f"path,label; a path with a comma is put between {quote}",
            )
    columns: dict[str, list[Any]] = {
        "path": [row[0].strip() for _, row in rows],
        "label": [row[1].strip() or None for _, row in rows],
    }
    listing = list_table(path, "label", root=root, lenient=lenient, table=Table(columns))
    return replace(listing, layout=f"table of {len(rows)} rows without a header: path, label")
