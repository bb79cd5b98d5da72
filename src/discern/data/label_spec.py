"""Which label columns are asked for: one name, several, or how a multi-label column is written.

Owns the reading of the config value `data.labels`: `color`, `[color, shape]`, or
`{tags: {kind: multi, delimiter: ";"}}`. See `table_labels` for the columns themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean

KINDS: Final = ("single", "multi")
EMPTY: Final = ("missing", "none")

LabelChoice: TypeAlias = (
    "str | Sequence[str | Mapping[str, Any]] | Mapping[str, Mapping[str, Any] | None] | None"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """One label column that is asked for.

    `delimiter`: what stands between the labels of a cell. `columns`: columns of 0 and 1 that make
    up the question, one a class. `empty`: whether an empty cell of a multi column means that
    nothing is known (missing) or that no label applies (none).
    """

    name: str
    kind: str = "single"
    delimiter: str | None = None
    columns: tuple[str, ...] = ()
    empty: str = "missing"


def read_label_specs(choice: LabelChoice) -> tuple[LabelSpec, ...]:
    """The label columns that `choice` asks for; none means: found by name.

    Raises ConfigError for an unknown key or value.
    """
    if choice is None:
        return ()
    if isinstance(choice, str):
        return (LabelSpec(name=choice),)
    if isinstance(choice, Mapping):
        return tuple(_read_spec(name, options) for name, options in choice.items())
    specs: list[LabelSpec] = []
    for item in choice:
        specs += read_label_specs(item)
    if not specs:
        raise ConfigError("no label column is named", where="data.labels", got="an empty list")
    names = [spec.name for spec in specs]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ConfigError(
            "a label column is named twice", where="data.labels", got=", ".join(repeated)
        )
    return tuple(specs)


def _read_spec(name: str, options: Mapping[str, Any] | None) -> LabelSpec:
    where = f"data.labels.{name}"
    given = dict(options or {})
    known = [field.name for field in fields(LabelSpec) if field.name != "name"]
    for key in given:
        if key not in known:
            raise ConfigError(
                f"unknown key '{key}'", where=where, expected=", ".join(known),
                hint=did_you_mean(key, known),
            )  # fmt: skip
    columns = given.get("columns", ())
    if isinstance(columns, str):
        columns = [columns]
    delimiter = given.get("delimiter")
    if delimiter is not None and (not isinstance(delimiter, str) or not delimiter):
        raise ConfigError("a delimiter is a text", where=f"{where}.delimiter", got=delimiter)
    kind = given.get("kind", "multi" if delimiter else "single")
    spec = LabelSpec(
        name=name,
        kind=kind,
        delimiter=delimiter,
        columns=tuple(str(column) for column in columns),
        empty=given.get("empty", "missing"),
    )
    for key, allowed in (("kind", KINDS), ("empty", EMPTY)):
        value = getattr(spec, key)
        if value not in allowed:
            raise ConfigError(
                f"there is no such {key}", where=f"{where}.{key}", got=value,
                expected=" or ".join(allowed),
            )  # fmt: skip
    if kind == "single" and delimiter:
        raise ConfigError(
            "a delimiter is for several labels an image", where=where, got="kind: single",
            expected="kind: multi",
        )  # fmt: skip
    return spec
