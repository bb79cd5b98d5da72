"""Styled lines and looks at values: `logger.log("Loss ", (0.25, Text.value))`.

Colors on a terminal and in a notebook only; NO_COLOR is obeyed.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from discern.base.errors import DiscernError
from discern.track.logged_values import as_array

__all__ = ["Color", "Style", "Text", "inspect", "log"]

_MOST_ROWS: Final = 20
_LONGEST: Final = 80


class Style(enum.Enum):
    """How letters look."""

    none = ""
    normal = "not bold"
    bold = "bold"
    underline = "underline"
    light = "dim"


class Color(enum.Enum):
    """The color of letters."""

    none = ""
    black = "black"
    red = "red"
    green = "green"
    orange = "yellow"
    blue = "blue"
    purple = "magenta"
    cyan = "cyan"
    white = "white"


class Text(enum.Enum):
    """What a text is."""

    none = ""
    danger = "red"
    success = "green"
    warning = "yellow"
    meta = "blue"
    key = "cyan"
    meta2 = "magenta"
    title = "bold underline"
    heading = "underline"
    value = "bold"
    highlight = "bold yellow"
    subtle = "dim"
    link = "underline blue"


StyleCode = Style | Color | Text


def log(*parts: Any, is_new_line: bool = True) -> None:
    """Print parts one after another: texts, (text, style ...), lists of these, or numbers.

    A style after a text styles it: `log("Saved", Text.success)`. `is_new_line`: end the line.
    """
    from rich.console import Console
    from rich.text import Text as Line

    line = Line()
    for words, style in _pieces(parts):
        line.append(words, style or None)
    # Rich would break long lines, also when they go to a file.
    Console(soft_wrap=True, highlight=False).print(line, end="\n" if is_new_line else "")


def inspect(*values: Any, **named: Any) -> None:
    """Print what values are: shape, type and range of arrays and tensors, entries of mappings."""
    for value in values:
        _inspect_one("", value)
    for name, value in named.items():
        _inspect_one(name, value)


def _pieces(parts: Any) -> list[tuple[str, str]]:
    """(text, rich style) of each part; a style that stands alone belongs to the text before it."""
    pieces: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, (Style, Color, Text)):
            if pieces:
                words, style = pieces[-1]
                pieces[-1] = (words, f"{style} {part.value}".strip())
        elif isinstance(part, tuple) and part and not isinstance(part[0], (list, tuple)):
            styles = " ".join(code.value for code in part[1:] if code is not None)
            pieces.append((str(part[0]), styles.strip()))
        elif isinstance(part, (list, tuple)):
            pieces += _pieces(part)
        else:
            pieces.append((str(part), ""))
    return pieces


def _inspect_one(name: str, value: Any) -> None:
    head: list[Any] = [(f"{name}: ", Text.key)] if name else []
    if isinstance(value, Mapping):
        log(*head, (f"{type(value).__name__} of {len(value)}", Text.subtle))
        for key, entry in list(value.items())[:_MOST_ROWS]:
            log(f"  {key}: ", Text.key, describe(entry))
        if len(value) > _MOST_ROWS:
            log(f"  and {len(value) - _MOST_ROWS} more", Text.subtle)
        return
    log(*head, describe(value))


def describe(value: Any) -> str:
    """One line about a value: an array's type, shape and range; the text of anything else."""
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        text = repr(value) if isinstance(value, str) else str(value)
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    shape = ", ".join(str(size) for size in value.shape)
    head = f"{type(value).__name__} [{shape}] {str(value.dtype).removeprefix('torch.')}"
    try:
        array = np.asarray(as_array(value))
    except (DiscernError, TypeError, ValueError):
        return head
    if array.dtype.kind not in "biuf" or not array.size:
        return head
    numbers = array.astype(np.float64)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return f"{head} without a finite value"
    range_text = f"{finite.min():.5g} to {finite.max():.5g}, mean {finite.mean():.5g}"
    lost = numbers.size - len(finite)
    return f"{head} {range_text}" + (f", {lost} not finite" if lost else "")
