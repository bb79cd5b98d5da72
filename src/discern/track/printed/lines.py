"""A stream of printed bytes as lines: progress bars, colors, torn and endless lines."""

from __future__ import annotations

import re
from typing import Final

# A line is ended by \n or \r (a redrawn bar). One without an end beyond this is no line of a
# person's making: it is passed over up to the next end.
_LONGEST: Final = 1 << 16
# A line of figures is short; longer ones are data.
LONGEST_TOLD: Final = 4096
# Colors and cursor moves; window titles; what else begins with escape; other control characters.
_CONTROLS: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"
    r"|\x1b[@-Z\\-_]|[\x00-\x08\x0b-\x1f\x7f]"
)


# Bytes that no printed line holds: all controls but \b, tab, escape and the bell that ends titles.
_NOT_PRINTED: Final = bytes({*range(32)} - {0x07, 0x08, 0x09, 0x1B})


class LineSplitter:
    """Gives the whole lines of one stream as its bytes come in, in pieces of any size."""

    def __init__(self) -> None:
        self._rest = b""
        self._passing_over = False

    @property
    def rest(self) -> bytes:
        """The beginning of a line whose end has not come."""
        return self._rest

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their ends; empty ones are left out."""
        pieces = data.replace(b"\r", b"\n").split(b"\n")
        if len(pieces) > 1:
            pieces[0] = b"" if self._passing_over else self._rest + pieces[0]
            self._passing_over = False
            self._rest = pieces.pop()
            return [piece for piece in pieces if piece]
        if not self._passing_over:
            self._rest += pieces[0]
            if len(self._rest) > _LONGEST:
                self._rest, self._passing_over = b"", True
        return []

    def pass_over(self, data: bytes) -> None:
        """As `feed`, for bytes whose lines nobody wants."""
        end = max(data.rfind(b"\n"), data.rfind(b"\r"))
        if end < 0:
            self.feed(data)
        else:
            self._rest, self._passing_over = b"", False
            self.feed(data[end + 1 :])

    def end(self) -> list[bytes]:
        """The last line, if the stream ends in the middle of one."""
        rest, self._rest = self._rest, b""
        return [rest] if rest and not self._passing_over else []


def is_printed(line: bytes) -> bool:
    """False for a line of binary data."""
    return len(line.translate(None, _NOT_PRINTED)) == len(line)


def plain_text(line: bytes) -> str:
    """`line` without colors, cursor moves and control characters; no UTF-8 becomes U+FFFD."""
    text = line.decode("utf-8", "replace")
    return text if text.isprintable() else _CONTROLS.sub("", text)
