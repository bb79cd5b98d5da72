"""What a class of lazy configs declares: its items, and the functions that compute them.

Owns how a function is called: with the configs, with nothing, or with the values of items that were
listed.
"""

from __future__ import annotations

import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from discern.base.errors import ConfigError, UnknownItem
from discern.base.names import did_you_mean

MISSING: Final = object()
# Names that say a first parameter is the configs, where it has no annotation.
_CONFIGS_NAMES: Final = frozenset({"c", "conf", "config", "configs"})
_NOT_VALUES: Final = (types.FunctionType, classmethod, staticmethod, property, type)


@dataclass(frozen=True, slots=True)
class ConfigItem:
    """What an item is seen from its class: `Configs.model`."""

    name: str
    owner: type

    def __repr__(self) -> str:
        return f"{self.owner.__name__}.{self.name}"


@dataclass(frozen=True, slots=True)
class Declared:
    """An item as declared: its annotation as text or type, its default, the module of either."""

    annotation: Any = MISSING
    default: Any = MISSING
    module: str = ""

    def over(self, base: Declared | None) -> Declared:
        """This declaration, completed by that of a base class."""
        if base is None:
            return self
        own = self.annotation is not MISSING
        return Declared(
            self.annotation if own else base.annotation,
            base.default if self.default is MISSING else self.default,
            self.module if own else base.module,
        )

    def type_text(self) -> str | None:
        """The annotation as it was written."""
        if self.annotation is MISSING:
            return None
        if isinstance(self.annotation, str):
            return self.annotation
        return str(getattr(self.annotation, "__qualname__", self.annotation))

    def resolved(self) -> Any:
        """The annotation as an object; MISSING where there is none or its names are not found."""
        if not isinstance(self.annotation, str):
            return self.annotation
        holder = type("Holder", (), {"__annotations__": {"item": self.annotation}})
        names = vars(sys.modules[self.module]) if self.module in sys.modules else {}
        try:
            return typing.get_type_hints(holder, globalns=dict(names))["item"]
        except (NameError, AttributeError, TypeError, SyntaxError):
            return MISSING


@dataclass(frozen=True, slots=True)
class Option:
    """A named function that computes `items`: one value, or a tuple of as many as items."""

    name: str
    items: tuple[str, ...]
    function: Callable[..., Any]
    parameters: tuple[str, ...] | None
    takes_configs: bool
    grouped: bool

    def call(self, configs: Any) -> Any:
        """The function's result for `configs`."""
        if self.parameters is not None:
            return self.function(*(getattr(configs, name) for name in self.parameters))
        return self.function(configs) if self.takes_configs else self.function()


@dataclass(slots=True)
class Registry:
    """What one class adds to its bases."""

    items: dict[str, Declared] = field(default_factory=dict)
    options: dict[str, dict[str, Option]] = field(default_factory=dict)
    appended: dict[str, list[Option]] = field(default_factory=dict)
    presets: list[tuple[str, Any, dict[str, Any]]] = field(default_factory=list)
    hyperparams: dict[str, bool] = field(default_factory=dict)
    meta: dict[str, bool] = field(default_factory=dict)


def declared_items(cls: type) -> dict[str, Declared]:
    """The items in the body of `cls`: what is annotated, and what has a value that is no method."""
    annotations = inspect.get_annotations(cls)
    found = {}
    for name in [*annotations, *(name for name in vars(cls) if name not in annotations)]:
        annotation = annotations.get(name, MISSING)
        value = vars(cls).get(name, MISSING)
        if name.startswith("_") or "ClassVar" in str(annotation):
            continue
        if annotation is MISSING and isinstance(value, _NOT_VALUES):
            continue
        found[name] = Declared(annotation, value, cls.__module__)
    return found


def name_of(item: object) -> str:
    """The name of an item given as `Configs.item` or as text. Raises ConfigError."""
    if isinstance(item, ConfigItem):
        return item.name
    if isinstance(item, str):
        return item
    raise ConfigError(
        "this is no config item",
        got=repr(item),
        expected="Configs.item, or its name",
        hint="an item is declared in the class body: `item: type` or `item = default`",
    )


def make_option(
    items: Sequence[str],
    name: str | None,
    parameters: Iterable[object] | None,
    function: Callable[..., Any],
    *,
    grouped: bool = False,
) -> Option:
    """`function` as an option. Raises ConfigError where it wants more than it will be given."""
    given = None if parameters is None else tuple(name_of(item) for item in parameters)
    label = name or str(getattr(function, "__name__", "option"))
    wanted, most = _positional(function)
    takes = wanted > 0 or (most > 0 and first_is_configs(function))
    count = len(given) if given is not None else int(takes)
    if wanted > count or (given is not None and count > most):
        raise ConfigError(
            f"the function of option '{label}' cannot be called",
            where=", ".join(items),
            got=f"{wanted} parameters",
            expected="the configs, nothing, or one parameter for each item listed",
            hint="list the items that it takes: calc(Configs.item, 'option', [Configs.other])",
        )
    return Option(label, tuple(items), function, given, takes, grouped)


def first_is_configs(function: Callable[..., Any]) -> bool:
    """True if the first parameter is meant for the configs, by its name or its annotation."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    if not parameters:
        return False
    annotation = parameters[0].annotation
    if annotation is inspect.Parameter.empty:
        return parameters[0].name in _CONFIGS_NAMES
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")
    return parameters[0].name in _CONFIGS_NAMES or text.rpartition(".")[2].endswith("Configs")


def can_be_made_of_configs(cls: object) -> bool:
    """True if `cls` is a class with a constructor that takes the configs and no more."""
    return isinstance(cls, type) and _positional(cls)[0] == 1 and first_is_configs(cls)


def unknown_item(owner: type, name: str, known: Iterable[str]) -> UnknownItem:
    """The error of a name that `owner` has not."""
    names = sorted(known)
    return UnknownItem(
        f"there is no config item '{name}'",
        where=owner.__name__,
        got=name,
        expected=", ".join(names) or "no items",
        hint=did_you_mean(name, names) or "declare it in the class body",
    )


def _positional(function: Callable[..., Any]) -> tuple[float, float]:
    """(positional parameters without a default, most positional arguments)."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return 0, float("inf")  # a built-in that does not tell
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = float("inf") if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(plain)
    return sum(p.default is p.empty for p in plain), most
