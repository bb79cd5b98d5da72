"""Saved views of the table of runs: filters, order and columns under a name.

Owns `.views.json` under the root of runs, made to be edited: {"version": 1, "views": {NAME:
{"columns": [{"key", "title", "width", "visible"}], "sort", "where", ...}}}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from discern.base.errors import ConfigError, RunError
from discern.base.files import write_json
from discern.base.names import did_you_mean

VIEWS_FILE: Final = ".views.json"
VIEWS_VERSION: Final = 1
_VALUES: Final[dict[str, type]] = {"project": str, "status": str, "text": str, "limit": int}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `key` as in conditions, `title` above it, `width` at most; may be not `visible`."""

    key: str
    title: str = ""
    width: int | None = None
    visible: bool = True

    @classmethod
    def parse(cls, text: str) -> Self:
        """`KEY`, `KEY=TITLE`, either with `:WIDTH`. Raises ConfigError."""
        spec, colon, width = text.rpartition(":")
        if not colon or not width.isdecimal():
            spec, width = text, ""
        key, _, title = spec.partition("=")
        if not key.strip() or width == "0":
            raise ConfigError(
                "this names no column", where="--columns", got=text, expected="KEY[=TITLE][:WIDTH]"
            )
        return cls(key.strip(), title.strip(), int(width) if width else None)


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What a list shows. `sort` and `where` are as they are typed."""

    columns: tuple[Column, ...] = ()
    project: str | None = None
    status: str | None = None
    tags: tuple[str, ...] = ()
    text: str = ""
    where: tuple[str, ...] = ()
    sort: tuple[str, ...] = ()
    limit: int | None = None

    def record(self) -> dict[str, Any]:
        """As the file holds it: what is not set is left out."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        columns = [
            {name: getattr(column, name) for name in Column.__dataclass_fields__}
            for column in self.columns
        ]
        plain = {n: list(v) if isinstance(v, tuple) else v for n, v in values.items() if v}
        return plain | ({"columns": columns} if columns else {})


@dataclass(slots=True)
class Views:
    """All views under a root."""

    root: Path
    views: dict[str, View] = field(default_factory=dict)

    def get(self, name: str) -> View:
        """The view called `name`. Raises ConfigError, with the nearest, if there is none."""
        if name not in self.views:
            raise ConfigError(
                f"there is no view '{name}'",
                where=self.root / VIEWS_FILE,
                got=name,
                expected=", ".join(self.views) or "none is saved yet",
                hint=did_you_mean(name, self.views) or "--save-view NAME saves one",
            )
        return self.views[name]

    def save(self) -> None:
        """Write them all. Raises RunError if the root cannot be written."""
        views = {name: view.record() for name, view in self.views.items()}
        try:
            write_json(self.root / VIEWS_FILE, {"version": VIEWS_VERSION, "views": views})
        except OSError as error:
            raise RunError(
                f"views cannot be saved here: {error.strerror or error}",
                where=self.root / VIEWS_FILE,
            ) from error


def read_views(root: Path) -> Views:
    """The views saved under `root`. Raises ConfigError for a file that cannot be understood."""
    path = root / VIEWS_FILE
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return Views(root)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"the saved views cannot be read: {error}", where=path) from error
    if not isinstance(content, dict) or content.get("version") != VIEWS_VERSION:
        got = content.get("version") if isinstance(content, dict) else type(content).__name__
        raise ConfigError(
            "the saved views are of another version", where=path, got=got, expected=VIEWS_VERSION
        )
    views = content.get("views")
    if not isinstance(views, dict):
        raise ConfigError("the saved views are no mapping", where=path)
    return Views(root, {name: _view(record, path, name) for name, record in views.items()})


def _view(record: Any, path: Path, name: str) -> View:
    if not isinstance(record, dict):
        raise ConfigError(f"the view '{name}' is no mapping", where=path)
    values: dict[str, Any] = {}
    for key, value in record.items():
        where = f"{path}, view '{name}'"
        if key == "columns" and isinstance(value, list):
            values[key] = tuple(_column(entry, where) for entry in value)
        elif key in ("tags", "where", "sort") and isinstance(value, list):
            values[key] = tuple(map(str, value))
        elif isinstance(value, _VALUES.get(key, ())) and value not in (True, False, 0):
            values[key] = value
        else:
            known = [*View.__dataclass_fields__]
            raise ConfigError(
                f"a view has no '{key}' of this kind",
                where=where,
                got=value,
                expected=", ".join(known),
                hint=did_you_mean(key, known),
            )
    return View(**values)


def _column(entry: Any, where: str) -> Column:
    if isinstance(entry, str):
        return Column.parse(entry)
    kinds: Mapping[str, Any] = {"key": str, "title": str, "width": (int, type(None))}
    kinds = {**kinds, "visible": bool}
    known = isinstance(entry, dict) and isinstance(entry.get("key"), str)
    if not known or any(not isinstance(v, kinds.get(k, ())) for k, v in entry.items()):
        raise ConfigError("this names no column", where=where, got=entry, expected=", ".join(kinds))
    return Column(**entry)
