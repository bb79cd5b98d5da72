"""What a head answers, without its labels: a name, a kind and class names.

Owns `HeadSpec`, the form in which networks, objectives, scores, bundles and predictions know of
heads. Labels are in `manifest.Head`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """One question: its name, kind (`single`: one class an image; `multi`: any number), classes.

    `side`: it was trained beside the others, on labels that were made of the images themselves; a
    side head is scored and reported, but it chooses no model and answers no prediction.
    """

    name: str
    kind: str
    classes: tuple[str, ...]
    side: bool = False

    @property
    def width(self) -> int:
        """Logits of the head: one a class."""
        return len(self.classes)

    def record(self) -> dict[str, Any]:
        """The head as a JSON object; only a side head says that it is one."""
        plain = {"name": self.name, "kind": self.kind, "classes": list(self.classes)}
        return plain | ({"side": True} if self.side else {})

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> HeadSpec:
        """The head that gave `record`. Raises KeyError or TypeError for anything else."""
        return cls(
            str(record["name"]),
            str(record["kind"]),
            tuple(record["classes"]),
            bool(record.get("side", False)),
        )


def is_plain(heads: Sequence[HeadSpec]) -> bool:
    """True for one head of one class an image: the common case, which has a path of its own."""
    return len(heads) == 1 and heads[0].kind == "single"


def main_heads(heads: Sequence[HeadSpec]) -> tuple[HeadSpec, ...]:
    """The heads that answer: all but the side heads."""
    return tuple(head for head in heads if not head.side)


def find_head(heads: Sequence[HeadSpec], name: str, where: str) -> HeadSpec:
    """The head `name`. Raises ConfigError, with the nearest name, if there is none."""
    for head in heads:
        if head.name == name:
            return head
    names = [head.name for head in heads]
    raise ConfigError(
        f"there is no head '{name}'",
        where=where,
        got=name,
        expected=", ".join(names),
        hint=did_you_mean(name, names),
    )
