"""Laying config layers over one another, and turning the result into a `RunConfig`.

Later wins: schema defaults < recipe < files in order < flags < `--set`. Mappings merge, lists
replace, null deletes. Every value remembers the layer that it came from.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.schema import RunConfig
from discern.config.yaml_text import KeyPath, YamlDocument, parse_value

EVERY_STAGE = "*"
_SPEC_KEYS = frozenset({"name", "args", "weights"})


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values: a recipe, a file, the flags, or the `--set` pairs."""

    kind: Literal["recipe", "file", "flag", "set"]
    origin: str
    value: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked config and, for each key path given by a layer, where its value came from."""

    config: RunConfig
    origins: dict[KeyPath, str]


def file_layer(document: YamlDocument) -> Layer:
    """The layer of one config file."""
    return Layer("file", document.name, document.value, document.lines)


def pair_layer(kind: Literal["flag", "set"], origin: str, key: str, value: Any) -> Layer:
    """The layer of one flag or `--set` pair: `key` is dotted."""
    parts = key.split(".")
    if not all(parts):
        raise ConfigError("not a key", where=origin, got=key, expected="a.b=value")
    nested: Any = value
    for part in reversed(parts):
        nested = {part: nested}
    return Layer(kind, origin, nested)


def set_layer(text: str) -> Layer:
    """The layer of one `--set KEY=VALUE`; VALUE is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError("--set takes KEY=VALUE", got=text, expected="--set stages.train.lr=0.1")
    return pair_layer("set", f"--set {key}", key.strip(), parse_value(value, f"--set {key}"))


class _Merge:
    def __init__(self) -> None:
        self.value: dict[str, Any] = {}
        self.origins: dict[KeyPath, str] = {}
        self.stage_kinds: set[str] = set()

    def add(self, layer: Layer) -> None:
        value = dict(layer.value)
        stages = value.pop("stages", None)
        self._lay(self.value, value, (), layer)
        if stages is not None:
            self._add_stages(stages, layer)

    def _add_stages(self, stages: Any, layer: Layer) -> None:
        if not isinstance(stages, dict):
            raise ConfigError(
                "stages is a mapping of names to stages",
                where=_place(layer, ("stages",)),
                got=type(stages).__name__,
            )
        if layer.kind == "file" and self.stage_kinds <= {"recipe"}:
            # A recipe is a proposal: a file that names its own stages is not mixed with it.
            self.value.pop("stages", None)
            self.origins = {p: o for p, o in self.origins.items() if p[:1] != ("stages",)}
        self.stage_kinds.add(layer.kind)
        target = self.value.setdefault("stages", {})
        stages = dict(stages)
        everywhere = stages.pop(EVERY_STAGE, None)
        self._lay(target, stages, ("stages",), layer)
        if everywhere is not None:
            for name in target or {"train": None}:
                self._lay(target, {name: everywhere}, ("stages",), layer)

    def _lay(
        self, target: dict[str, Any], new: dict[str, Any], path: KeyPath, layer: Layer
    ) -> None:
        for key, value in new.items():
            here = (*path, key)
            if value is None:
                self._forget(here)
                if path[:1] == ("stages",) and len(path) > 1:
                    target[key] = None  # kept, so that it also takes away what `defaults` holds
                else:
                    target.pop(key, None)
                continue
            old = target.get(key)
            if isinstance(old, str) and isinstance(value, dict) and set(value) <= _SPEC_KEYS:
                old = {"name": old}
            if isinstance(old, dict) and isinstance(value, dict) and not _other_spec(old, value):
                target[key] = dict(old)
                self._lay(target[key], value, here, layer)
            else:
                self._forget(here)
                target[key] = {} if isinstance(value, dict) else value
                if isinstance(value, dict):
                    self._lay(target[key], value, here, layer)
            self.origins[here] = _place(layer, here)

    def _forget(self, path: KeyPath) -> None:
        for known in [p for p in self.origins if p[: len(path)] == path]:
            del self.origins[known]


def _other_spec(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """True when `new` names another thing than `old`: its arguments do not carry over."""
    return "name" in new and set(old) | set(new) <= _SPEC_KEYS and old.get("name") != new["name"]


def _place(layer: Layer, path: KeyPath) -> str:
    line = layer.lines.get(path)
    return layer.origin if line is None else f"{layer.origin}:{line}"


def _inherit(merged: _Merge) -> None:
    """Give each stage what `defaults` holds and the stage does not."""
    defaults = merged.value.pop("defaults", None) or {}
    stages = merged.value.get("stages")
    if stages is None:
        stages = merged.value["stages"] = {"train": {}}
    for name, stage in list(stages.items()):
        if not isinstance(stage, dict):
            continue
        joined = _Merge()
        joined._lay(joined.value, defaults, (), Layer("file", "defaults", {}))
        joined._lay(joined.value, stage, (), Layer("file", "stage", {}))
        stages[name] = joined.value
        for path in joined.origins:
            origin = merged.origins.get(("defaults", *path))
            if origin is not None:
                merged.origins.setdefault(("stages", name, *path), origin)


def resolve(layers: list[Layer]) -> Resolved:
    """The config that the layers give, later ones winning. Raises ConfigError."""
    merged = _Merge()
    for layer in layers:
        merged.add(layer)
    _inherit(merged)
    try:
        config = RunConfig.model_validate(merged.value)
    except ValidationError as error:
        raise _explain_failure(error, merged) from error
    return Resolved(config, merged.origins)


def _explain_failure(error: ValidationError, merged: _Merge) -> ConfigError:
    problems = error.errors(include_url=False)
    first = problems[0]
    path = tuple(str(part) for part in first["loc"])
    if first["type"] not in ("extra_forbidden", "missing"):
        # Behind the key there may stand pydantic's name of a union's member.
        ends = [n for n in range(len(path), 0, -1) if path[:n] in merged.origins]
        path = path[: ends[0]] if ends else path
    key = ".".join(path)
    origin = next(
        (merged.origins[path[:n]] for n in range(len(path), 0, -1) if path[:n] in merged.origins),
        None,
    )
    where = key if origin is None else origin if origin.endswith(f" {key}") else f"{origin}: {key}"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    if first["type"] == "extra_forbidden":
        known = known_keys(path[:-1])
        near = did_you_mean(path[-1], known)
        return ConfigError(
            f"unknown config key '{key}'{more}",
            where=where,
            expected=", ".join(known),
            hint=near or "`discern config schema` lists every key",
        )
    if first["type"] == "missing":
        return ConfigError(f"config key '{key}' is missing{more}", where=where)
    return ConfigError(
        f"config key '{key}' does not fit{more}",
        where=where,
        got=repr(first["input"]),
        expected=first["msg"],
        hint=f"`discern config explain {key}` tells what it is",
    )


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, dict, list):
        for part in typing.get_args(annotation):
            found = _section_in(part)
            if found is not None:
                return found
    return None


def section_at(path: KeyPath) -> type[BaseModel] | None:
    """The schema class at a key path, stage names and list places passed over."""
    section: type[BaseModel] | None = RunConfig
    rest = list(path)
    while rest and section is not None:
        part = rest.pop(0)
        info = section.model_fields.get(part)
        if info is None:
            return None
        if typing.get_origin(info.annotation) in (dict, list) and rest:
            rest.pop(0)
        section = _section_in(info.annotation)
    return section


def known_keys(path: KeyPath) -> list[str]:
    """The keys that may stand at a key path; empty where any may."""
    section = section_at(path)
    return [] if section is None else list(section.model_fields)
