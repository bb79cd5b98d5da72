"""Reading and writing YAML 1.2 text as plain values, strictly and within bounds.

`1e-3` is a number, `no` is text, dates stay text. Duplicate keys, tags, too deep or too large
documents are refused, each with its line. Anchors, aliases and the merge key `<<` are expanded, and
what they expand to is counted. A file called `.json` is read as JSON.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 50
MAX_NODES: Final = 100_000

KeyPath = tuple[str, ...]

_MERGE: Final = "<<"
_PLAIN_TAGS: Final = ("map", "seq")
_NULLS: Final = ("", "~", "null")
_VERSION = re.compile(r"^%YAML[ \t]+(?!1\.2\b)(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class YamlDocument:
    """A mapping read from text, and the line (from 1) on which each key path stands."""

    value: dict[str, Any]
    lines: dict[KeyPath, int]
    name: str


class _Reader:
    """Turns a composed node graph into plain values; aliases are expanded and counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lines: dict[KeyPath, int] = {}
        self.nodes = 0

    def refuse(
        self, what: str, node: Any, got: object = None, hint: str | None = None
    ) -> ConfigError:
        return ConfigError(
            what, where=f"{self.name}:{node.start_mark.line + 1}", got=got, hint=hint
        )

    def value(self, node: Any, path: KeyPath) -> Any:
        self.nodes += 1
        if len(path) > MAX_DEPTH:
            raise self.refuse(f"nested deeper than {MAX_DEPTH} levels", node)
        if self.nodes > MAX_NODES:
            raise self.refuse(f"expands to more than {MAX_NODES} values", node)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if node.id in ("mapping", "sequence") and _tag_name(node) not in _PLAIN_TAGS:
            raise self.refuse("tags are not allowed", node, got=node.tag)
        if node.id == "mapping":
            return self._mapping(node, path)
        if node.id == "sequence":
            return [self.value(item, (*path, str(i))) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[dict[str, Any]] = []
        for key_node, value_node in node.value:
            if key_node.id != "scalar":
                raise self.refuse("a key must be plain text", key_node)
            key = str(key_node.value)
            if key == _MERGE and key_node.style is None:
                merged += self._merged(value_node, path)
                continue
            if key in result:
                raise self.refuse("the same key twice", key_node, got=".".join((*path, key)))
            self.lines[*path, key] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, (*path, key))
        inherited: dict[str, Any] = {}
        for one in merged:  # the first one named wins, and a key of the mapping's own over all
            inherited = {**one, **inherited}
        return {**inherited, **result}

    def _merged(self, node: Any, path: KeyPath) -> list[dict[str, Any]]:
        """What the merge key `<<` names: one mapping, or several in a list."""
        value = self.value(node, path)
        found = value if isinstance(value, list) else [value]
        if not all(isinstance(one, dict) for one in found):
            raise self.refuse("<< takes a mapping, or a list of them", node)
        return found

    def _scalar(self, node: Any) -> Any:
        tag, text = _tag_name(node), str(node.value)
        if tag in ("str", "timestamp"):
            return text
        try:
            if tag == "null" and text.lower() in _NULLS:
                return None
            if tag == "bool" and text.lower() in ("true", "false"):
                return text.lower() == "true"
            if tag == "int":
                return _integer(text)
            if tag == "float":
                return _float(text)
        except ValueError:
            raise self.refuse("not a number that can be read", node, got=text[:40]) from None
        raise self.refuse("tags are not allowed", node, got=node.tag)


def _tag_name(node: Any) -> str:
    """The last part of the node's tag: str, int, map, ..."""
    return str(node.tag).rpartition(":")[2]


def _integer(text: str) -> int:
    plain = text.replace("_", "").lower()
    sign = -1 if plain.startswith("-") else 1
    digits = plain.lstrip("+-")
    if digits.startswith(("0x", "0o", "0b")):
        return sign * int(digits, 0)
    return sign * int(digits, 10)


def _float(text: str) -> float:
    plain = text.replace("_", "").lower()
    if plain.endswith(".nan"):
        return math.nan
    if plain.endswith(".inf"):
        return -math.inf if plain.startswith("-") else math.inf
    return float(plain)


def _compose(text: str, name: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    _check_text(text, name)
    try:
        return YAML(typ="rt", pure=True).compose(StringIO(text))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = name if mark is None else f"{name}:{mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"not valid YAML: {problem}", where=where) from error
    except RecursionError:
        raise _too_deep(name) from None


def _check_text(text: str, name: str) -> None:
    """Raise ConfigError for text that is too large, not UTF-8, or of another version of YAML."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ConfigError("the text is not UTF-8", where=name) from None
    if size > MAX_BYTES:
        raise ConfigError("the file is too large for a config", where=name, expected="at most 1 MB")
    version = _VERSION.search(text)
    if version is not None:
        raise ConfigError(
            "another version of YAML, in which words such as `no` mean something else",
            where=f"{name}:{text.count(chr(10), 0, version.start()) + 1}",
            got=version[1],
            expected="YAML 1.2, or no %YAML line",
        )


def _too_deep(name: str) -> ConfigError:
    return ConfigError(f"nested deeper than {MAX_DEPTH} levels", where=name)


def parse_document(text: str, name: str) -> YamlDocument:
    """The mapping in `text`; `name` stands for the file in errors. Raises ConfigError."""
    node = _compose(text, name)
    if node is None:
        return YamlDocument({}, {}, name)
    reader = _Reader(name)
    value = reader.value(node, ())
    if not isinstance(value, dict):
        raise ConfigError("a config file holds a mapping", where=name, got=type(value).__name__)
    return YamlDocument(value, reader.lines, name)


def read_document(path: Path) -> YamlDocument:
    """The mapping in the file at `path`. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError("no such config file", where=path) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file cannot be read: {error}", where=path) from error
    if path.suffix.lower() == ".json":
        return _parse_json(text, str(path))
    return parse_document(text, str(path))


def _parse_json(text: str, name: str) -> YamlDocument:
    """The object in JSON `text`; where its keys stand is not known. Raises ConfigError."""
    _check_text(text, name)

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise ConfigError("the same key twice", where=name, got=key)
            found[key] = value
        return found

    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        raise ConfigError(f"not valid JSON: {error}", where=name) from error
    except RecursionError:
        raise _too_deep(name) from None
    if not isinstance(value, dict):
        raise ConfigError("a config file holds a mapping", where=name, got=type(value).__name__)
    if _depth(value) > MAX_DEPTH:
        raise _too_deep(name)
    return YamlDocument(value, {}, name)


def _depth(value: Any) -> int:
    """Levels of mappings and lists, counted to one beyond the bound."""
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        inside = [one for one in level if isinstance(one, dict | list)]
        level = [v for one in inside for v in (one.values() if isinstance(one, dict) else one)]
        depth += bool(inside)
    return depth


def parse_value(text: str, name: str) -> Any:
    """One value written as YAML, as in `--set key=VALUE`; empty text is the empty string."""
    node = _compose(text, name)
    return "" if node is None else _Reader(name).value(node, ())


def dump_text(value: dict[str, Any]) -> str:
    """`value` as YAML text that `parse_document` reads back to equal values."""
    from ruamel.yaml import YAML

    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.allow_unicode = True
    writer.width = 100
    stream = StringIO()
    writer.dump(value, stream)
    return stream.getvalue()
