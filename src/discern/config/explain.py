"""What is to be said of a config key: meaning, values, origins, and what hangs together with it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.dependents import dependents_of, sources_of
from discern.config.layers import Resolved
from discern.config.reference import KeyReference, reference_rows

CHOSEN = "chosen for this run"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyValue:
    """One place of a key: its full name, its value, and who set it."""

    key: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """A key or choice that hangs together with the one asked for; `value` is null without a key."""

    key: str
    how: str
    value: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of one key."""

    reference: KeyReference
    values: tuple[KeyValue, ...]
    dependents: tuple[Related, ...] = field(default=())
    depends_on: tuple[Related, ...] = field(default=())

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        row = self.reference
        return {
            "key": row.key,
            "type": row.type,
            "default": row.default,
            "help": row.help,
            "values": [_fields(value) for value in self.values],
            "dependents": [_fields(one) for one in self.dependents],
            "depends_on": [_fields(one) for one in self.depends_on],
        }

    def lines(self) -> list[str]:
        """For the terminal."""
        row = self.reference
        lines = [f"{row.key}: {row.help}", f"  type      {row.type}", f"  default   {row.default}"]
        lines += [f"  {one.key} = {_text(one.value)}   from {one.origin}" for one in self.values]
        for title, related in (
            ("what depends on it", self.dependents),
            ("what it depends on", self.depends_on),
        ):
            if related:
                lines.append(f"  {title}:")
            lines += [f"    {_shown(one)}: {one.how}" for one in related]
        return lines


def _fields(one: KeyValue | Related) -> dict[str, Any]:
    names = ("key", "value", "origin") if isinstance(one, KeyValue) else ("key", "value", "how")
    return {name: getattr(one, name) for name in names}


def _shown(one: Related) -> str:
    return one.key if one.key[0].isupper() else f"{one.key} = {_text(one.value)}"


def _text(value: Any) -> str:
    """`value` as a config has it, a bare name for a name without arguments."""
    if isinstance(value, dict) and set(value) == {"name", "args"} and not value["args"]:
        value = value["name"]
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def explain_key(
    key: str, resolved: Resolved, *, stored_origins: Mapping[str, str] | None = None
) -> list[Explanation]:
    """What is known of `key`, or of each key below it where it names a section.

    `stored_origins`: of a run, dotted key to origin; the values are then that run's. Raises
    ConfigError for a key that there is not.
    """
    rows = {row.key: row for row in reference_rows()}
    record = resolved.config.record()
    found = _full_keys(key, list(rows), list(resolved.config.stages))
    return [
        _explain(wanted, rows[_general(wanted)], record, resolved, stored_origins)
        for wanted in found
    ]


def origin_record(resolved: Resolved) -> dict[str, str]:
    """The origins of a config's values by dotted key, for a run's record."""
    return {".".join(path): origin for path, origin in resolved.origins.items()}


def _explain(
    wanted: str,
    row: KeyReference,
    record: dict[str, Any],
    resolved: Resolved,
    stored: Mapping[str, str] | None,
) -> Explanation:
    def origin(name: str, value: Any) -> str:
        known = origin_record(resolved) if stored is None else stored
        if name in known:
            return known[name]
        return "default" if stored is None or value == row.default_value else CHOSEN

    def related(other: str, how: str) -> list[Related]:
        if other[0].isupper():
            return [Related(key=other, how=how)]
        stage = wanted.split(".")[1] if wanted.startswith("stages.") else "*"
        there = _values(record, other.replace("*", stage, 1))
        return [Related(key=name, how=how, value=value) for name, value in there]

    values = _values(record, wanted)
    return Explanation(
        reference=row,
        values=tuple(KeyValue(key=n, value=v, origin=origin(n, v)) for n, v in values),
        dependents=tuple(
            one for d in dependents_of(row.key) for one in related(d.dependent, d.how)
        ),
        depends_on=tuple(one for d in sources_of(row.key) for one in related(d.key, d.how)),
    )


def _general(key: str) -> str:
    parts = key.split(".")
    if parts[0] == "stages" and len(parts) > 2:
        parts[1] = "*"
    return ".".join(parts)


def _full_keys(key: str, known: list[str], stages: list[str]) -> list[str]:
    parts = key.split(".")
    if parts[0] == "stages" and len(parts) > 1 and parts[1] not in ("*", *stages):
        raise ConfigError(
            f"there is no stage '{parts[1]}'", where=key, expected=", ".join(stages),
            hint=did_you_mean(parts[1], stages) or f"stages.*.{'.'.join(parts[2:]) or 'lr'}",
        )  # fmt: skip
    if _general(key) in known:
        return [key]
    stage = parts[1] if parts[0] == "stages" and len(parts) > 1 else "*"
    section = f"stages.{'*' if len(parts) < 3 else parts[2]}" if parts[0] == "stages" else key
    inside = [name for name in known if name.startswith(f"{section}.")]
    if inside and len(parts) < 3:
        return [name.replace("*", stage, 1) for name in inside]
    ends = [name for name in known if name.endswith(f".{key}")]
    if len(ends) == 1:
        return ends
    raise ConfigError(
        f"no config key '{key}'" if not ends else f"'{key}' could be several keys",
        expected=", ".join(ends) if ends else None,
        hint=did_you_mean(key, [*known, *(name.rpartition(".")[2] for name in known)])
        or f"stages here: {', '.join(stages)}",
    )


def _values(record: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    """(full key, value) of each place that `key` names; `*` stands for every stage."""
    places: list[tuple[str, Any]] = [("", record)]
    for part in key.split("."):
        following = []
        for name, value in places:
            names = list(value) if part == "*" else [part]
            following += [
                (f"{name}.{item}".lstrip("."), value[item])
                for item in names
                if isinstance(value, dict) and item in value
            ]
        places = following
    return places
