"""Names of indicators: namespaces, and patterns that say which kind of indicator a name is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Generic, TypeVar

from discern.base.errors import RunError

Kind = TypeVar("Kind")


def full_name(name: object, namespaces: Sequence[str]) -> str:
    """`name` within `namespaces`, the outermost first.

    ".loss" in "train" is "train.loss", "loss." is "loss.train"; without a namespace both are
    "loss". Any other name is itself. Raises RunError for what cannot be a name.
    """
    if not isinstance(name, str) or not name.strip("."):
        raise RunError(
            "an indicator needs a name",
            got=repr(name),
            expected="text, such as 'loss', '.loss' or 'loss.'",
        )
    if name.startswith("."):
        return ".".join([*namespaces, name[1:]])
    if name.endswith("."):
        return ".".join([name[:-1], *namespaces])
    return name


def is_pattern(name: str) -> bool:
    """True if `name` stands for many: it holds `*` (any text) or `?` (one character)."""
    return "*" in name or "?" in name


class NamePatterns(Generic[Kind]):
    """What was declared for names and patterns, and which declaration a name falls under.

    The name itself comes first; then the pattern with the most literal characters; of two with
    equally many, the one declared last. Any other character, `[` too, stands for itself.
    """

    def __init__(self) -> None:
        self._exact: dict[str, Kind] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], Kind]] = {}
        self._order: list[str] = []

    def declare(self, name: str, kind: Kind) -> None:
        """From now on `name`, or what the pattern `name` matches, is of this kind."""
        if not is_pattern(name):
            self._exact[name] = kind
            return
        text = "".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in name)
        self._patterns.pop(name, None)
        self._patterns[name] = (re.compile(text, re.DOTALL), kind)
        newest_first = list(self._patterns)[::-1]
        # A stable sort: of equally many literal characters the newest stays first.
        self._order = sorted(newest_first, key=_literal_count, reverse=True)

    def find(self, name: str) -> Kind | None:
        """The kind declared for `name`; None if there is none."""
        if name in self._exact:
            return self._exact[name]
        for pattern in self._order:
            compiled, kind = self._patterns[pattern]
            if compiled.fullmatch(name):
                return kind
        return None


def _literal_count(pattern: str) -> int:
    return len(pattern) - pattern.count("*") - pattern.count("?")
