"""Talking to the person or the program at the other end: text, tables, one JSON object, errors.

With `--json` stdout holds exactly one JSON object and all else goes to stderr. Color only on a
terminal; NO_COLOR is obeyed.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

from discern.base.errors import RUN_FAILURE, DiscernError, InternalError, PartError
from discern.base.faults import as_told, traceback_text
from discern.base.names import printable

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True, slots=True)
class Console:
    """How this process speaks: `json`: one object on stdout; `quiet`: only results and warnings.

    `mute`: nothing at all but failures, for one of several ranks that does not speak for them.
    `results`: where that object goes, if not to stdout as it is when it is told.
    """

    json: bool = False
    quiet: bool = False
    debug: bool = False
    mute: bool = False
    results: TextIO | None = None

    @property
    def stream(self) -> TextIO:
        """Where lines for people go."""
        return sys.stderr if self.json else sys.stdout

    @property
    def live(self) -> bool:
        """True if a bar may be redrawn in place: a terminal, and somebody looking."""
        shown = not self.quiet and not self.mute
        return shown and self.stream.isatty() and os.environ.get("TERM") != "dumb"

    def paint(self, text: str, style: str) -> str:
        """`text` in a style, on a terminal that may have color."""
        if not self.stream.isatty() or "NO_COLOR" in os.environ:
            return text
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"

    def say(self, text: str = "") -> None:
        """One line for people; nothing when quiet."""
        if not self.quiet and not self.mute:
            print(text, file=self.stream, flush=True)

    def result(self, text: str) -> None:
        """A line that is a command's result: shown when quiet, too."""
        if not self.mute:
            print(text, file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        """A line that must not be missed."""
        if self.mute:
            return
        print(f"{self.paint('warning:', 'yellow')} {text}", file=sys.stderr, flush=True)  # noqa: T201

    def emit(self, value: dict[str, Any]) -> None:
        """The one JSON object of `--json`; nothing otherwise."""
        if self.json and not self.mute:
            text = json.dumps(value, ensure_ascii=False, allow_nan=False)
            # A file name that is no text keeps its bytes as an escape, which JSON reads back.
            text = text.encode("utf-8", "backslashreplace").decode("utf-8")
            print(text, file=self.results or sys.stdout, flush=True)

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Aligned columns; numbers to the right."""
        if self.quiet or self.mute:
            return
        for line in format_table(headers, rows):
            print(line, file=self.stream, flush=True)

    def fail(self, error: DiscernError) -> int:
        """Tell an error in its full form; gives the exit code."""
        if self.debug:
            traceback.print_exception(error, file=sys.stderr)
        if self.json:
            self.emit({"error": error.record()})
        label = "stopped:" if error.kind == "interrupted" else "error:"
        style = "yellow" if error.kind == "interrupted" else "red"
        print(f"{self.paint(label, style)} {error}", file=sys.stderr, flush=True)  # noqa: T201
        return error.exit_code

    def last_door(self, error: Exception) -> int:
        """Tell whatever left a command: whole, and as one JSON object; gives the exit code.

        A fault of the program itself, or of a part of the user's, comes with its traceback.
        """
        if isinstance(error, DiscernError):
            return self.fail(error)
        if isinstance(error, BrokenPipeError):
            # The reader has gone, as `head` does: nobody is left to tell, nor to flush to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return RUN_FAILURE
        told = as_told(error)
        if told is not error and isinstance(told, InternalError | PartError):
            print(traceback_text(error), end="", file=sys.stderr, flush=True)  # noqa: T201
        return self.fail(told)


def format_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """The lines of a table with aligned columns; a column of numbers is right-aligned."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [
        max(len(header), *(len(row[i]) for row in cells)) if cells else len(header)
        for i, header in enumerate(headers)
    ]
    numeric = [
        bool(rows) and all(isinstance(row[i], (int, float)) or row[i] is None for row in rows)
        for i in range(len(headers))
    ]

    def line(values: Sequence[str]) -> str:
        parts = [
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return [line(list(headers)), line(["-" * width for width in widths]), *map(line, cells)]


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    return printable(str(value))
