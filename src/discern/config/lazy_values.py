"""How an item of lazy configs gets its value: where it is looked for, once, without cycles.

Works on any object with the fields of `LazyItems`; the classes that people write are in `lazy`.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any, Final, Protocol

from discern.base.errors import ConfigError, ItemError, UsedItem
from discern.base.names import did_you_mean
from discern.config.lazy_options import (
    MISSING,
    Declared,
    Option,
    Registry,
    can_be_made_of_configs,
)

# As alike as a word of five letters with one wrong, such as `smell` for `small`.
_MISSPELLED: Final = 0.8
# What is being computed in this thread, outermost first: (configs, item).
_computing: ContextVar[tuple[tuple[LazyItems, str], ...]] = ContextVar("computing", default=())


class Watcher(Protocol):
    """Is told when items are computed."""

    def preparing(self, item: str) -> contextlib.AbstractContextManager[object]:
        """A block around the function that computes `item`."""

    def prepared(self, item: str) -> None:
        """`item` has got its value."""


class LazyState:
    """What one object of a config class knows; its fields are read by the record of items."""

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self.given: dict[str, Any] = {}
        self.defaults: dict[str, Callable[[], Any]] = {}
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.options: dict[str, str] = {}
        self.needs: dict[str, list[str]] = {}
        self.groups: dict[Option, tuple[str, Sequence[Any]]] = {}
        self.parts: dict[str, LazyItems] = {}
        self.failed: dict[str, AttributeError] = {}
        self.prefix = ""
        self.root: LazyItems | None = None
        self.watcher: Watcher | None = None


class LazyItems:
    """The fields of configs: what the class declares, and the state of the object."""

    _registry: Registry
    _items: dict[str, Declared]
    _lazy: LazyState
    _primary: str | None = None


def registries(cls: type[LazyItems]) -> list[Registry]:
    """What `cls` and its bases declare, the most derived first."""
    return [vars(base)["_registry"] for base in cls.__mro__ if "_registry" in vars(base)]


def options_of(configs: LazyItems, name: str) -> dict[str, Option]:
    """The options of an item, the default one first: of the class itself, then of its bases."""
    found: dict[str, Option] = {}
    for registry in registries(type(configs)):
        for option, made in registry.options.get(name, {}).items():
            found.setdefault(option, made)
    return found


def check_unused(configs: LazyItems, name: str) -> None:
    """Raises UsedItem if the item has been used."""
    if name in configs._lazy.values:
        raise UsedItem(
            f"config item '{configs._lazy.prefix}{name}' is set after it was used",
            where=type(configs).__name__,
            got=f"its value is {configs._lazy.values[name]!r:.80}",
            hint="set it before whatever reads it",
        )


def read_item(configs: LazyItems, name: str) -> Any:
    state = configs._lazy
    chain = _computing.get()
    if chain:
        asker, item = chain[-1]
        needed = state.prefix + name
        needs = asker._lazy.needs.setdefault(item, [])
        if needed not in needs:
            needs.append(needed)
    try:
        return state.values[name]
    except KeyError:
        pass
    try:
        return _prepare(configs, name, chain)
    except AttributeError as error:
        state.failed[name] = error
        raise


def _prepare(configs: LazyItems, name: str, chain: tuple[tuple[LazyItems, str], ...]) -> Any:
    state = configs._lazy
    for place, (holder, item) in enumerate(chain):
        if holder is configs and item == name:
            path = [h._lazy.prefix + i for h, i in chain[place:]]
            raise ItemError(
                f"config item '{path[0]}' needs itself",
                where=type(configs).__name__,
                got=" -> ".join([*path, path[0]]),
                hint="let one of these functions do without another's item, or set one by hand",
            )
    state.needs[name] = []
    token = _computing.set((*chain, (configs, name)))
    try:
        value = _resolve(configs, name)
    finally:
        _computing.reset(token)
    # Two threads may have computed it: all are given the value of the first.
    value = state.values.setdefault(name, value)
    watcher = (state.root or configs)._lazy.watcher
    if watcher is not None:
        watcher.prepared(state.prefix + name)
    return value


def _resolve(configs: LazyItems, name: str) -> Any:
    options = options_of(configs, name)
    for source, given in _values(configs, name):
        if source == "default" and given is None and options:
            continue  # `item = None` with an option says that it is computed
        configs._lazy.sources[name] = source
        value = _realize(configs, name, given, options)
        return value if source != "default" else _append(configs, name, value)
    if options:
        configs._lazy.sources[name] = "option"
        return _call(configs, name, next(iter(options.values())))
    if any(name in registry.appended for registry in registries(type(configs))):
        configs._lazy.sources[name] = "list"
        return _append(configs, name, [])
    made = configs._items[name].resolved()
    if isinstance(made, type) and issubclass(made, LazyItems):
        configs._lazy.sources[name] = "class"
        return _held(part_of(configs, name))
    if can_be_made_of_configs(made):
        configs._lazy.sources[name] = "class"
        with _section(configs, name):
            return made(configs)
    known = [item for item in configs._items if item != name]
    raise ItemError(
        f"config item '{configs._lazy.prefix}{name}' has no value",
        where=type(configs).__name__,
        got=f"{name}: {configs._items[name].type_text() or 'no annotation'}",
        expected="a default, an option, a value set before its use, or a class made of the configs",
        hint=did_you_mean(name, known)
        or f"write a function under @{type(configs).__name__}.calc({name!r})",
    )


def _values(configs: LazyItems, name: str) -> Iterator[tuple[str, Any]]:
    """(source, value) of each place that gives the item a value, the strongest first."""
    state = configs._lazy
    if name in state.overrides:
        yield "override", state.overrides[name]
    if name in state.given:
        yield "set", state.given[name]
    if name in state.defaults:
        yield "set_default", state.defaults[name]()
    for registry in registries(type(configs)):
        for item, option, presets in registry.presets:
            if name in presets and _has_value(configs, item) and getattr(configs, item) == option:
                yield "aggregate", presets[name]
    default = configs._items[name].default
    if default is not MISSING:
        # A list of the class must not be shared by the runs of a grid.
        yield "default", copy.copy(default) if isinstance(default, (list, dict, set)) else default


def _has_value(configs: LazyItems, name: str) -> bool:
    """True if something gives the item a value; an aggregate's name may be left open."""
    state = configs._lazy
    places = (state.values, state.overrides, state.given, state.defaults, options_of(configs, name))
    return any(name in place for place in places[:-1]) or bool(
        places[-1] or configs._items[name].default is not MISSING
    )


def _realize(configs: LazyItems, name: str, given: Any, options: dict[str, Option]) -> Any:
    if isinstance(given, LazyItems):
        return _held(part_of(configs, name, given))
    if not isinstance(given, str) or not options:
        return given
    if given in options:
        return _call(configs, name, options[given])
    wanted = configs._items[name].resolved()
    if wanted is not Any and isinstance(wanted, type) and not issubclass(str, wanted):
        raise ItemError(
            f"config item '{configs._lazy.prefix}{name}' has no option '{given}'",
            where=type(configs).__name__,
            got=given,
            expected=", ".join(options),
            hint=did_you_mean(given, options),
        )
    near = [] if wanted is str else difflib.get_close_matches(given, options, 1, _MISSPELLED)
    if near:
        warnings.warn(
            f"config item '{configs._lazy.prefix}{name}' has no option '{given}': the text itself "
            f"is its value; did you mean '{near[0]}'?",
            stacklevel=2,
        )
    return given


def _call(configs: LazyItems, name: str, option: Option) -> Any:
    state = configs._lazy
    state.options[name] = option.name
    if not option.grouped:
        with _section(configs, name):
            return option.call(configs)
    if option not in state.groups:
        with _section(configs, name):
            values = option.call(configs)
        if not isinstance(values, (tuple, list)) or len(values) != len(option.items):
            raise ItemError(
                f"option '{option.name}' computes {len(option.items)} items",
                where=", ".join(option.items),
                got=f"{type(values).__name__}: {values!r:.80}",
                expected=f"a tuple of {len(option.items)} values",
            )
        state.groups[option] = (name, values)
    computed_for, values = state.groups[option]
    if computed_for != name:
        state.needs[name] = list(state.needs[computed_for])
    return values[option.items.index(name)]


def _append(configs: LazyItems, name: str, start: Any) -> Any:
    functions = [
        option
        for registry in reversed(registries(type(configs)))
        for option in registry.appended.get(name, ())
    ]
    if not functions:
        return start
    with _section(configs, name):
        return [*start, *(option.call(configs) for option in functions)]


def _section(configs: LazyItems, name: str) -> contextlib.AbstractContextManager[object]:
    state = configs._lazy
    watcher = (state.root or configs)._lazy.watcher
    return contextlib.nullcontext() if watcher is None else watcher.preparing(state.prefix + name)


def _held(part: LazyItems) -> Any:
    """What an item gives that holds other configs."""
    return part if part._primary is None else getattr(part, part._primary)


def part_of(configs: LazyItems, name: str, given: Any = MISSING) -> LazyItems:
    """The configs that an item holds: `given`, else those that were set, else those of its class.

    A default of the class is shared by all its objects, so each has a copy. Raises ConfigError.
    """
    state = configs._lazy
    if name not in state.parts:
        item = configs._items[name]
        if given is MISSING or given is item.default:
            given = state.overrides.get(name, state.given.get(name, item.default))
        made = item.resolved()
        if isinstance(given, LazyItems):
            part = given
            if given is item.default:
                part = type(given)()
                part._lazy.given.update(given._lazy.given)
                part._lazy.overrides.update(given._lazy.overrides)
        elif given is MISSING and isinstance(made, type) and issubclass(made, LazyItems):
            part = made()
        else:
            raise ConfigError(
                f"config item '{state.prefix}{name}' holds no other configs",
                where=type(configs).__name__,
                got=f"{name}: {item.type_text()}",
                expected=f"a config class, to reach '{name}.*' in it",
            )
        part._lazy.prefix = f"{state.prefix}{name}."
        part._lazy.root = state.root or configs
        state.parts[name] = part
    return state.parts[name]
