"""Whose fault an exception is: the user's part's, the system's, or Discern's own.

Owns how whatever leaves a command is told as one of the errors of `discern.base.errors`.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from types import TracebackType

from discern.base.errors import DiscernError, InternalError, Interrupted, PartError, SystemRefusal
from discern.base.plugins import opened_files

_OWN_FOLDER = str(Path(__file__).resolve().parents[1])


def as_told(error: BaseException) -> DiscernError:
    """`error` as a DiscernError: itself if it is one, a part's failure, or a fault of Discern."""
    if isinstance(error, DiscernError):
        return error
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("stopped before there was anything to save")
    if isinstance(error, OSError):
        return SystemRefusal(error)
    got = f"{type(error).__name__}: {error}"
    place = _place_in_part(error)
    if place is not None:
        part, entry = place
        code = entry.tb_frame.f_code
        return PartError(
            f"a part of your own failed: {part}",
            where=f"{code.co_filename}, line {entry.tb_lineno}, in {code.co_name}",
            got=got,
            hint="mend that line, or what it is given; the traceback above leads to it",
        )
    return InternalError(
        "this is a fault of Discern", got=got, hint="report it with the traceback above"
    )


def traceback_text(error: BaseException) -> str:
    """The traceback of `error`; that of a part of the user's begins in the part."""
    place = _place_in_part(error)
    entry = error.__traceback__ if place is None else place[1]
    return "".join(traceback.format_exception(type(error), error, entry))


def _place_in_part(error: BaseException) -> tuple[str, TracebackType] | None:
    """(import path, innermost line) of the part that failed; None if Discern's code came after."""
    files = opened_files()
    found = None
    entry = error.__traceback__
    while entry is not None:
        file = entry.tb_frame.f_code.co_filename
        if file in files:
            found = files[file], entry
        elif file.startswith(_OWN_FOLDER):
            found = None
        entry = entry.tb_next
    return found
