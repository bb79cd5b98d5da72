"""Names for people: the nearest known one when one is not known, and a noun with its number."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest_names(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Up to `limit` known names that look like `name`, the most alike first."""
    candidates = list(known)
    folded = {candidate.casefold(): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.casefold(), list(folded), n=limit, cutoff=0.5)
    return [folded[match] for match in close]


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint such as "did you mean 'epochs'?", or None when nothing is near."""
    near = nearest_names(name, known)
    if not near:
        return None
    return "did you mean " + " or ".join(f"'{match}'" for match in near) + "?"


def counted(count: int, noun: str, many: str | None = None) -> str:
    """`1 thread`, `2,000 threads`; `many`: the plural that is not made by an s."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def printable(text: str) -> str:
    """`text` fit for a terminal: control characters and broken ones as escapes, such as `\\x1b`.

    Names and notes are anybody's; a terminal would obey what is in them.
    """
    if text.isprintable():
        return text
    kept = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(kept)
