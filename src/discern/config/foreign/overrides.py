"""Catalyst's overrides on the command line: `--a/b/c=value:type`. No text is ever evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.yaml_text import parse_value

_KINDS: Final[dict[str, type | tuple[type, ...]]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
}


def apply_overrides(config: dict[str, Any], texts: Sequence[str]) -> dict[str, Any]:
    """`config` with each `--a/b/c=value:type` laid in; `None:str` gives null.

    A path through what is no mapping, and a value that is not of its type, raise ConfigError. A
    last part that is not there is added, as Catalyst adds it.
    """
    result = config
    for text in texts:
        path, equals, rest = text.removeprefix("--").partition("=")
        if not equals or not text.startswith("--"):
            raise ConfigError("not an override", got=text, expected="--a/b/c=value:type")
        value, colon, kind = rest.rpartition(":")
        if not colon or kind not in _KINDS:
            value, kind = rest, ""
        result = _lay(result, path.split("/"), _typed(value, kind, text), text)
    return result


def _typed(text: str, kind: str, where: str) -> Any:
    if kind == "str":
        return None if text == "None" else text
    value = parse_value(text, where)
    if not kind:
        return value
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and kind == "bool" and text in ("True", "False"):
        return text == "True"
    wanted = _KINDS[kind]
    if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
        raise ConfigError("the value is not of its type", where=where, got=text, expected=kind)
    return value


def _lay(config: dict[str, Any], path: list[str], value: Any, text: str) -> dict[str, Any]:
    name, *rest = path
    if not name:
        raise ConfigError("an override's path has an empty part", got=text)
    if not rest:
        return {**config, name: value}
    inner = config.get(name)
    if not isinstance(inner, dict):
        raise ConfigError(
            f"there is no section '{name}' to override something in",
            where=text,
            got=None if name not in config else type(inner).__name__,
            expected=", ".join(key for key, one in config.items() if isinstance(one, dict)),
            hint=did_you_mean(name, list(config)),
        )
    return {**config, name: _lay(inner, rest, value, text)}
