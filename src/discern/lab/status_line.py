"""The last line of the terminal, which may be written again; whole lines where nobody looks."""

from __future__ import annotations

import shutil
from typing import Final

from discern.base.console import Console

_CLEAR_REST: Final = "\x1b[K"


class StatusLine:
    """One line of `console` that `show` writes anew and `end` finishes.

    Without a terminal `show` writes nothing and `end` a plain line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = Console() if console is None else console
        self._is_open = False

    def show(self, text: str) -> None:
        """Replace the line by `text`, cut to the terminal's width."""
        if not self.console.live:
            return
        width = max(shutil.get_terminal_size().columns - 1, 1)
        self.console.stream.write(f"\r{text[:width]}{_CLEAR_REST}")
        self.console.stream.flush()
        self._is_open = True

    def end(self, text: str) -> None:
        """Put `text` in place of the line, and go to the next."""
        if self._is_open:
            self.console.stream.write(f"\r{_CLEAR_REST}")
            self._is_open = False
        self.console.say(text)

    def leave(self, text: str) -> None:
        """Finish a line that other output is to follow; nothing if none was shown."""
        if self._is_open:
            self.end(text)


# One for the process, as there is one terminal.
status_line: Final = StatusLine()
