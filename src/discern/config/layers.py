"""Laying config layers over one another, and turning the result into a `RunConfig`.

Later wins: schema defaults < recipe < files in order < flags < `--set`. Mappings merge, lists
replace, null deletes (but in `args`, where it is a value like others). `stages.*` stands for every
stage, those of later layers included. Every value remembers the layer that it came from.
"""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.foreign_kinds import foreign_kind
from discern.config.rate_keys import check_rate_keys
from discern.config.schema import RunConfig
from discern.config.stage_lengths import LENGTHS
from discern.config.yaml_text import KeyPath, YamlDocument, parse_value

EVERY_STAGE = "*"
# What belongs to the thing that `name` names, and goes when another one is named.
_OF_THE_NAME = ("args", "weights")
_SPEC = frozenset(("name", "args"))
_NOTHING: Any = object()


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values: a recipe, a file, a flag, or a `--set` pair.

    `key` is the dotted key of a flag or pair, "" for the others.
    """

    kind: Literal["recipe", "file", "flag", "set"]
    origin: str
    value: dict[str, Any]
    lines: dict[KeyPath, int] = field(default_factory=dict)
    key: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A checked config and, for each key path given by a layer, where its value came from."""

    config: RunConfig
    origins: dict[KeyPath, str]


def file_layer(document: YamlDocument) -> Layer:
    """The layer of one config file. Raises ConfigError for another suite's config."""
    kind = foreign_kind(document.value)
    if kind is not None:
        raise ConfigError(
            f"this is a config of {kind}",
            where=document.name,
            hint=f"discern config import {document.name} --out config.yaml",
        )
    return Layer("file", document.name, document.value, document.lines)


def pair_layer(kind: Literal["flag", "set"], origin: str, key: str, value: Any) -> Layer:
    """The layer of one flag or `--set` pair: `key` is dotted."""
    parts = key.split(".")
    if not all(parts):
        raise ConfigError("not a key", where=origin, got=key, expected="a.b=value")
    nested: Any = value
    for part in reversed(parts):
        nested = {part: nested}
    return Layer(kind, origin, nested, key=key)


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
        self.inherited: set[KeyPath] = set()  # what stages have from `defaults`
        self._everywhere: list[tuple[dict[str, Any], Layer]] = []
        self._proposed = False  # by a recipe or file: what stages there are is known
        self._named = False
        self._length_kinds: dict[KeyPath, str] = {}

    def add(self, layer: Layer) -> None:
        value = dict(layer.value)
        stages = value.pop("stages", _NOTHING)
        if not isinstance(value.get("defaults", {}), dict | None):
            raise ConfigError(
                "defaults is a mapping of a stage's keys",
                where=_place(layer, ("defaults",)),
                got=type(value["defaults"]).__name__,
            )
        self._lay(self.value, value, (), layer)
        if stages is not _NOTHING:
            self._add_stages(stages, layer)

    def _add_stages(self, stages: Any, layer: Layer) -> None:
        if not isinstance(stages, dict):
            raise ConfigError(
                "stages is a mapping of names to stages",
                where=_place(layer, ("stages",)),
                got="nothing" if stages is None else type(stages).__name__,
            )
        target = self.value.setdefault("stages", {})
        for name, stage in stages.items():
            if name == EVERY_STAGE:
                continue
            if name not in target:
                self._check_new(name, stage, layer)
                for everywhere, earlier in self._everywhere if stage is not None else ():
                    self._lay(target, {name: everywhere}, ("stages",), earlier)
            self._lay(target, {name: stage}, ("stages",), layer)
            self._named = True
            self._proposed |= layer.kind in ("recipe", "file")
        if EVERY_STAGE in stages:
            self._add_everywhere(stages[EVERY_STAGE], layer)

    def _add_everywhere(self, value: Any, layer: Layer) -> None:
        if not isinstance(value, dict):
            raise ConfigError(
                "stages.* is a mapping of a stage's keys",
                where=_place(layer, ("stages", EVERY_STAGE)),
                got=repr(value),
            )
        self._everywhere.append((value, layer))
        for name in self.value["stages"]:
            self._lay(self.value["stages"], {name: value}, ("stages",), layer)

    def _check_new(self, name: str, stage: Any, layer: Layer) -> None:
        """A flag or `--set` adds a stage as a whole only: a key in an unknown one is a slip."""
        whole = layer.key.count(".") < 2 and stage is not None
        if layer.kind in ("recipe", "file") or whole or not self._proposed:
            return
        known = list(self.value["stages"])
        raise ConfigError(
            f"there is no stage '{name}'",
            where=layer.origin,
            expected=", ".join(known),
            hint=did_you_mean(name, known) or f"--set 'stages.{name}={{...}}' adds a stage",
        )

    def finish(self) -> None:
        """Give each stage what `defaults` holds; without any stage there is one called train."""
        defaults = self.value.pop("defaults", None) or {}
        if not self.value.get("stages") and not self._named:
            self.value["stages"] = {"train": {}}
            for everywhere, layer in self._everywhere:
                self._lay(self.value["stages"], {"train": everywhere}, ("stages",), layer)
        stages = self.value.setdefault("stages", {})
        for name, stage in list(stages.items()):
            if not isinstance(stage, dict):
                continue
            joined = _Merge()
            inherited = dict(defaults)
            _drop_length(inherited, stage)
            joined._lay(joined.value, inherited, (), Layer("file", "defaults", {}))
            joined._lay(joined.value, stage, (), Layer("file", "stage", {}))
            stages[name] = joined.value
            for path in joined.origins:
                origin = self.origins.get(("defaults", *path))
                if origin is not None and ("stages", name, *path) not in self.origins:
                    self.origins["stages", name, *path] = origin
                    self.inherited.add(("stages", name, *path))

    def _lay(
        self, target: dict[str, Any], new: dict[str, Any], path: KeyPath, layer: Layer
    ) -> None:
        if path[:1] == ("defaults",) or (path[:1] == ("stages",) and len(path) == 2):
            self._replace_length(target, new, path, layer)
        for key, value in new.items():
            here = (*path, key)
            if value is None and "args" not in path:
                self._forget(here)
                if path[:1] == ("stages",) and len(path) > 1:
                    target[key] = None  # kept, so that it also takes away what `defaults` holds
                else:
                    target.pop(key, None)
                continue
            old, value = _both_named(target.get(key), value)
            if isinstance(old, dict) and isinstance(value, dict):
                target[key] = dict(old)
                if "name" in old and value.get("name", old["name"]) != old["name"]:
                    for part in _OF_THE_NAME:
                        target[key].pop(part, None)
                        self._forget((*here, part))
                self._lay(target[key], value, here, layer)
            else:
                self._forget(here)
                target[key] = {} if isinstance(value, dict) else value
                if isinstance(value, dict):
                    self._lay(target[key], value, here, layer)
            self.origins[here] = _place(layer, here)

    def _replace_length(
        self, target: dict[str, Any], new: dict[str, Any], path: KeyPath, layer: Layer
    ) -> None:
        """A length in `new` takes the place of another one below; two flags are left to clash."""
        if _drop_length(target, new, unless=self._length_kinds.get(path) == layer.kind != "file"):
            for key in LENGTHS:
                self._forget((*path, key))
        if _has_length(new):
            self._length_kinds[path] = layer.kind

    def _forget(self, path: KeyPath) -> None:
        for known in [p for p in self.origins if p[: len(path)] == path]:
            del self.origins[known]


def _both_named(old: Any, new: Any) -> tuple[Any, Any]:
    """A bare name beside {name, args} says the same as {name: ...}."""
    if isinstance(old, str) and isinstance(new, dict) and set(new) <= {"name", *_OF_THE_NAME}:
        return {"name": old}, new
    if isinstance(new, str) and isinstance(old, dict) and "name" in old and set(old) <= _SPEC:
        return old, {"name": new}
    return old, new


def _has_length(stage: dict[str, Any]) -> bool:
    return any(stage.get(key) is not None for key in LENGTHS)


def _drop_length(old: dict[str, Any], new: dict[str, Any], *, unless: bool = False) -> bool:
    """Take the length out of `old` if `new` has one; True if so."""
    if unless or not _has_length(new):
        return False
    for key in LENGTHS:
        old.pop(key, None)
    return True


def _place(layer: Layer, path: KeyPath) -> str:
    line = layer.lines.get(path)
    return layer.origin if line is None else f"{layer.origin}:{line}"


def resolve(layers: list[Layer]) -> Resolved:
    """The config that the layers give, later ones winning. Raises ConfigError."""
    merged = _Merge()
    own_stages = any(layer.kind == "file" and _names_a_stage(layer.value) for layer in layers)
    for layer in layers:
        merged.add(_without_training(layer) if own_stages and layer.kind == "recipe" else layer)
    merged.finish()
    _check_defaults_count(layers, merged)
    try:
        config = RunConfig.model_validate(merged.value)
    except ValidationError as error:
        raise _explain_failure(error, merged) from error
    typed = {layer.origin for layer in layers if layer.kind in ("flag", "set")}
    check_rate_keys(config.stages, merged.origins, typed)
    return Resolved(config, merged.origins)


def _names_a_stage(value: dict[str, Any]) -> bool:
    stages = value.get("stages")
    return isinstance(stages, dict) and any(
        name != EVERY_STAGE and stage is not None for name, stage in stages.items()
    )


def _without_training(recipe: Layer) -> Layer:
    """A recipe is a proposal: a file that names its own stages is not mixed with it."""
    rest = {key: v for key, v in recipe.value.items() if key not in ("stages", "defaults")}
    return Layer(recipe.kind, recipe.origin, rest, recipe.lines)


def _check_defaults_count(layers: list[Layer], merged: _Merge) -> None:
    """Refuse `--set defaults.KEY=...` where each stage has a value of its own: it says nothing."""
    for layer in layers:
        first, _, key = layer.key.partition(".")
        if layer.kind != "set" or first != "defaults" or not key:
            continue
        path = tuple(key.split("."))
        stages = merged.value["stages"]
        if stages and not any(("stages", name, *path) in merged.inherited for name in stages):
            raise ConfigError(
                f"every stage has its own '{key}', so its default changes nothing",
                where=layer.origin,
                hint=f"--set stages.*.{key}=... sets it in every stage",
            )


def _explain_failure(error: ValidationError, merged: _Merge) -> ConfigError:
    problems = error.errors(include_url=False)
    first = problems[0]
    path = tuple(str(part) for part in first["loc"])
    if first["type"] not in ("extra_forbidden", "missing"):
        # Behind the key there may stand pydantic's name of a union's member.
        ends = [n for n in range(len(path), 0, -1) if path[:n] in merged.origins]
        path = path[: ends[0]] if ends else path
    shown = ("defaults", *path[2:]) if path in merged.inherited else path
    key = ".".join(shown)
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
        expected=first["msg"].removeprefix("Value error, ").removeprefix("Input should be "),
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
