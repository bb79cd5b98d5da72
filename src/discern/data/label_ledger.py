"""The rounds of automatic labeling: an append-only ledger of entries, and the labels it stands for.

Owns the files `entry-NNNNN.json`: written whole, never changed, each with the checksum of its own
content and of the entry before it. Everything else (the grown folder, tables, manifests) follows
from them and can be made again.

Kinds of entries: `round` (labels given by one trial), `placed` (what an entry asks of the folder is
done), `withdrawn` (labels taken back, with the reason), `undone` (a round taken back),
`verdicts` (what a human said of the audit sample).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError, DataError
from discern.base.files import hash_json, write_json

FORMAT: Final = "discern.autolabel"
VERSION: Final = 1
LEDGER_FOLDER: Final = ".discern-autolabel"

ROUND: Final = "round"
PLACED: Final = "placed"
WITHDRAWN: Final = "withdrawn"
UNDONE: Final = "undone"
VERDICTS: Final = "verdicts"
_KINDS: Final = (ROUND, PLACED, WITHDRAWN, UNDONE, VERDICTS)
# What changes the labels has to be carried out in the folder, and is then marked as placed.
_CHANGES: Final = (ROUND, WITHDRAWN, UNDONE)


@dataclass(frozen=True, slots=True, kw_only=True)
class GivenLabel:
    """One image labeled by a model. `id`: its content, 16 hex digits; `source`: the raw file.

    `path`: where it stands in the clean folder, relative to it; None where nothing is placed.
    """

    id: str
    source: str
    path: str | None
    tag: str
    confidence: float
    round: int

    @property
    def origin(self) -> str:
        """As in a manifest: pseudo:ROUND."""
        return f"pseudo:{self.round}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its place, kind and content."""

    number: int
    kind: str
    content: dict[str, Any]


@dataclass(slots=True)
class LabelState:
    """What the entries so far come to.

    `labels`: those that stand, by content. `barred`: contents that a human took the label off, and
    that get none again. `verdicts`: content -> (round, whether a human found the label right).
    `waiting`: entries that are not yet carried out in the folder. `rounds`: what each one recorded.
    """

    labels: dict[str, GivenLabel] = field(default_factory=dict)
    barred: set[str] = field(default_factory=set)
    verdicts: dict[str, tuple[int, bool]] = field(default_factory=dict)
    waiting: list[Entry] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)

    def take(self, entry: Entry) -> None:
        """Go on by one entry."""
        content = entry.content
        if entry.kind == ROUND:
            self.rounds.append(content)
            self._take_back(content.get("withdrawn", ()))
            for record in content["labels"]:
                self.labels[record["id"]] = GivenLabel(**record)
        elif entry.kind == WITHDRAWN:
            self._take_back(content["labels"])
            self.barred |= {r["id"] for r in content["labels"] if r["reason"] in _BY_HAND}
        elif entry.kind == UNDONE:
            self._take_back(content["labels"])
            self.undone.add(content["round"])
            kept = {k: v for k, v in self.verdicts.items() if v[0] != content["round"]}
            self.verdicts = kept
        elif entry.kind == VERDICTS:
            self.verdicts |= {v["id"]: (v["round"], v["right"]) for v in content["verdicts"]}
        elif entry.kind == PLACED:
            done = content["entry"]
            self.waiting = [one for one in self.waiting if one.number != done]
        if entry.kind in _CHANGES:
            self.waiting.append(entry)

    def _take_back(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            self.labels.pop(record["id"], None)

    def of_round(self, number: int) -> list[GivenLabel]:
        """The labels of a round that still stand."""
        return [label for label in self.labels.values() if label.round == number]


# Reasons of a human: the label is not given again.
LABELED_BY_HAND: Final = "labeled by hand"
REMOVED_BY_HAND: Final = "removed by hand"
FOUND_WRONG: Final = "found wrong in the audit"
_BY_HAND: Final = (LABELED_BY_HAND, REMOVED_BY_HAND, FOUND_WRONG)
# A model's: it may be given again.
NAMED_OTHERWISE: Final = "a later model names another class"


class LabelLedger:
    """The entries in `folder`, and what they come to. One process at a time may append."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = LabelState()
        self._count = 0
        self._last: str | None = None
        for path in sorted(folder.glob("entry-*.json")):
            self._take(self._read(path))

    def __len__(self) -> int:
        return self._count

    def append(self, kind: str, content: dict[str, Any]) -> Entry:
        """Write the next entry, whole, and take it into account. Raises DataError."""
        path = self.folder / _name(self._count)
        if path.exists():
            raise DataError(
                "the ledger has grown meanwhile", where=path,
                hint="another process labels the same folder: let it end, then begin anew",
            )  # fmt: skip
        body = {
            "format": FORMAT,
            "version": VERSION,
            "number": self._count,
            "kind": kind,
            "previous": self._last,
            "content": content,
        }
        write_json(path, {**body, "sha256": hash_json(body)})
        entry = Entry(self._count, kind, content)
        self._take((entry, hash_json(body)))
        return entry

    def _take(self, read: tuple[Entry, str]) -> None:
        entry, digest = read
        self.state.take(entry)
        self._count += 1
        self._last = digest

    def _read(self, path: Path) -> tuple[Entry, str]:
        try:
            record = json.loads(path.read_bytes())
            digest = record.pop("sha256")
            version, number, kind = record["version"], record["number"], record["kind"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise _damaged(path, repr(error)) from error
        if version != VERSION:
            raise DataError(
                "the ledger was written by another version of Discern",
                where=path, got=version, expected=VERSION,
            )  # fmt: skip
        if hash_json(record) != digest or kind not in _KINDS:
            raise _damaged(path, "its checksum does not fit")
        if number != self._count or record["previous"] != self._last:
            raise _damaged(path, "an entry before it is missing or was changed")
        return Entry(number, kind, record["content"]), digest

    def undo(self, number: int) -> list[GivenLabel]:
        """Take back the labels of a round that still stand; gives them. Raises ConfigError."""
        known = [content["round"] for content in self.state.rounds]
        if number not in known or number in self.state.undone:
            open_rounds = [n for n in known if n not in self.state.undone]
            raise ConfigError(
                "the round is undone already" if number in known else "there is no such round",
                where="--undo",
                got=number,
                expected=", ".join(map(str, open_rounds)) or "no round that could be undone",
            )
        labels = self.state.of_round(number)
        self.append(UNDONE, {"round": number, "labels": label_records(labels)})
        return labels

    def withdraw(self, labels: Sequence[GivenLabel], reasons: Sequence[str]) -> None:
        """Take back single labels, each for its reason."""
        records = [
            {**record, "reason": reason}
            for record, reason in zip(label_records(labels), reasons, strict=True)
        ]
        self.append(WITHDRAWN, {"labels": records})

    def judge(self, verdicts: dict[GivenLabel, bool]) -> None:
        """Keep what a human said of labels of the audit sample: whether each is right."""
        records = [
            {"id": label.id, "round": label.round, "right": right}
            for label, right in verdicts.items()
        ]
        self.append(VERDICTS, {"verdicts": records})

    def mark_placed(self, entry: Entry) -> None:
        """The folder is as `entry` wants it."""
        self.append(PLACED, {"entry": entry.number})


def label_records(labels: Iterable[GivenLabel]) -> list[dict[str, Any]]:
    """The labels as JSON objects, in the order given."""
    return [asdict(label) for label in labels]


def _name(number: int) -> str:
    return f"entry-{number:05d}.json"


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        "the ledger of automatic labels is damaged",
        where=path,
        got=why,
        hint="put back a copy of its folder; what it says of each image cannot be guessed",
    )
