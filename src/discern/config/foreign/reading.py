"""A foreign config read key by key: what was mapped, what was left out and why, what is refused.

Owns the rule that nothing is passed over in silence: a value that no reader took is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.yaml_text import KeyPath

Fate = Literal["mapped", "left out", "refused"]
SEPARATOR = "/"


@dataclass(frozen=True, slots=True)
class ImportRow:
    """What became of one value: the config key that it went to, and what stands there now.

    `key` is "" and `written` None for what went nowhere.
    """

    source: str
    value: Any
    fate: Fate
    why: str = ""
    key: str = ""
    written: Any = None

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        names = ("source", "value", "fate", "key", "written", "why")
        return {name: getattr(self, name) for name in names}


@dataclass(slots=True)
class Reading:
    """What is read so far. `skip`: source keys that the user wants left out, refused or not."""

    skip: tuple[str, ...] = ()
    config: dict[str, Any] = field(default_factory=dict)
    comments: dict[KeyPath, str] = field(default_factory=dict)
    rows: list[ImportRow] = field(default_factory=list)
    _skipped: set[str] = field(default_factory=set)

    def put(self, key: str, written: Any, source: str, value: Any, why: str = "") -> None:
        """Set the dotted `key`; another value that it already has refuses this one."""
        *parents, last = path = tuple(key.split("."))
        place = self.config
        for part in parents:
            place = place.setdefault(part, {})
        if last in place and place[last] != written:
            self.refuse(source, value, f"{key} is already {place[last]!r} for the whole run")
            return
        place[last] = written
        self.comments[path] = source
        self._add(ImportRow(source, value, "mapped", why, key, written))

    def leave(self, source: str, value: Any, why: str) -> None:
        """Leave a value out that changes nothing here."""
        self._add(ImportRow(source, value, "left out", why))

    def refuse(self, source: str, value: Any, why: str) -> None:
        """A value that cannot be honored; left out if the user said so."""
        for wanted in self.skip:
            if source == wanted or source.startswith(wanted + SEPARATOR):
                self._skipped.add(wanted)
                self.leave(source, value, f"--skip; {why}")
                return
        self._add(ImportRow(source, value, "refused", why))

    def _add(self, row: ImportRow) -> None:
        if row not in self.rows:
            self.rows.append(row)

    @property
    def refused(self) -> list[ImportRow]:
        """What cannot be honored."""
        return [row for row in self.rows if row.fate == "refused"]

    def finish(self) -> None:
        """Raise ConfigError for a `--skip` that skipped nothing."""
        vain = [wanted for wanted in self.skip if wanted not in self._skipped]
        if vain:
            known = [row.source for row in self.refused]
            raise ConfigError(
                "--skip names nothing that is refused", got=vain[0],
                expected=", ".join(known) or "nothing is refused",
                hint=did_you_mean(vain[0], known),
            )  # fmt: skip


class Part:
    """One mapping of the foreign config, as several places give it: later ones win, deeply.

    `places`: (source path, mapping). What is neither taken nor told is refused by `close`.
    """

    def __init__(self, reading: Reading, places: Sequence[tuple[str, Any]], what: str = "") -> None:
        self.reading = reading
        self.what = what
        self._places: list[tuple[str, Mapping[str, Any]]] = []
        for source, value in places:
            if isinstance(value, Mapping):
                self._places.append((source, value))
            elif value is not None:
                reading.refuse(source, value, "a mapping is wanted here")
        self.value: dict[str, Any] = {}
        for _, value in self._places:
            self.value = merge_deep(self.value, value)
        self._taken: set[str] = set()
        self._told: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.value

    @property
    def names(self) -> list[str]:
        """The names that nothing took yet."""
        return [name for name in self.value if name not in self._taken]

    def source(self, name: str) -> str:
        """Where the value of `name` stands: the last place that has it."""
        there = [source for source, value in self._places if name in value]
        base = there[-1] if there else self._places[-1][0] if self._places else ""
        return f"{base}{SEPARATOR}{name}" if base else name

    def take(self, name: str, default: Any = None) -> Any:
        """The value of `name`, which the caller tells what becomes of."""
        self._taken.add(name)
        return self.value.get(name, default)

    def number(self, name: str, default: float) -> float:
        """The number at `name`; `default` where there is none, and where something else is."""
        value = self.value.get(name)
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        self.refuse(name, "a number is wanted here")
        return default

    def part(self, name: str, what: str = "") -> Part:
        """The mapping at `name`, empty where there is none."""
        self._taken.add(name)
        places = [
            (f"{source}{SEPARATOR}{name}" if source else name, value[name])
            for source, value in self._places
            if name in value
        ]
        return Part(self.reading, places, what or self.what)

    def put(self, name: str, key: str, written: Any = ..., why: str = "") -> None:
        """`name` goes to `key`: its own value, or `written`.

        Nothing happens where it is not there, is null, or was told of before; so for the others.
        """
        if self._untold(name) and self.value[name] is not None:
            value = self.value[name]
            shown = value if written is ... else written
            self.reading.put(key, shown, self.source(name), value, why)

    def leave(self, name: str, why: str) -> None:
        """`name` is left out, where it is there."""
        if self._untold(name):
            self.reading.leave(self.source(name), self.value[name], why)

    def join(self, name: str, key: str) -> None:
        """`name` has gone into the value of `key`, together with others."""
        if self._untold(name):
            row = ImportRow(self.source(name), self.value[name], "mapped", "", key)
            self.reading.rows.append(row)

    def refuse(self, name: str, why: str) -> None:
        """`name` cannot be honored, where it is there."""
        if self._untold(name):
            self.reading.refuse(self.source(name), self.value[name], why)

    def _untold(self, name: str) -> bool:
        """Whether `name` is there and nothing was told of it yet: now it is."""
        self._taken.add(name)
        if name not in self.value or name in self._told:
            return False
        self._told.add(name)
        return True

    def close(self) -> None:
        """Refuse every name that nothing took; null says nothing and is passed."""
        for name in self.names:
            if self.value[name] is not None:
                self.refuse(name, f"not known{f' {self.what}' if self.what else ''}")


def merge_deep(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """`new` over `old`: mappings merge, all else is replaced."""
    merged = dict(old)
    for key, value in new.items():
        before = merged.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_deep(before, value)
        else:
            merged[key] = value
    return merged
