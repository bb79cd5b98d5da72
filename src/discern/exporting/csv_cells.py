"""Text cells of CSV files that spreadsheets may open. Owns the guard against formula injection."""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def csv_cell(text: str) -> str:
    """`text` as a cell that no spreadsheet runs as a formula.

    Text that starts with = + - @, a tab or a carriage return gets an apostrophe before it; plain
    numbers such as "-1" stay as they are. Source: OWASP, "CSV Injection".
    """
    if not text.startswith(_FORMULA_STARTS) or _is_number(text):
        return text
    return "'" + text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
