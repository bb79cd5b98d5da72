"""Lazy configs: a class of items that are computed when they are first used, each once.

    class Configs(BaseConfigs):
        epochs: int = 10            # a default
        model: nn.Module            # computed later

    @Configs.calc(Configs.model)
    def small(c: Configs):
        return Net(c.width)

A value is looked for in this order: overrides given for the calculation; set on the object;
`set_default`; an aggregate's preset; the class's default; the first option; the annotated class,
made of the configs. A text that names an option stands for that option. What an item needs is
learned by watching which items are read while it is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from discern.base.errors import ConfigError
from discern.config.lazy_options import (
    MISSING,
    ConfigItem,
    Declared,
    Registry,
    declared_items,
    make_option,
    name_of,
    unknown_item,
)
from discern.config.lazy_values import (
    LazyItems,
    LazyState,
    Watcher,
    check_unused,
    part_of,
    read_item,
)

_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Slot:
    """An item of a class: the item itself from the class, its value from an object."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, configs: BaseConfigs | None, owner: type) -> Any:
        return ConfigItem(self.name, owner) if configs is None else read_item(configs, self.name)

    def __set__(self, configs: BaseConfigs, value: Any) -> None:
        check_unused(configs, self.name)
        configs._lazy.given[self.name] = value


class BaseConfigs(LazyItems):
    """The base of config classes. Keyword arguments set items.

    Items are the annotated names of the class body and the values in it that are no methods; names
    with an underscore in front are not. Classes combine by inheritance. An item that holds other
    configs gives these, or their item `_primary` where they name one. Raises UnknownItem (an
    AttributeError) for what is no item, UsedItem (a ValueError) for one set after its use.
    """

    def __init_subclass__(cls, **words: Any) -> None:
        super().__init_subclass__(**words)
        cls._registry = Registry(items=declared_items(cls))
        items: dict[str, Declared] = {}
        for base in reversed(cls.__mro__):
            own = vars(base).get("_registry", Registry()).items
            for name in vars(base):
                if name not in own:
                    items.pop(name, None)  # a method took the name
            items.update({name: item.over(items.get(name)) for name, item in own.items()})
        cls._items = items
        taken = [name for name in cls._registry.items if hasattr(BaseConfigs, name)]
        if taken:
            raise ConfigError(
                f"a config item cannot be called '{taken[0]}'",
                where=cls.__name__,
                expected="another name: this is a method of all configs",
            )
        for name in cls._registry.items:
            setattr(cls, name, _Slot(name))

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """The object with its state, whatever a subclass does in `__init__`."""
        configs = super().__new__(cls)
        object.__setattr__(configs, "_lazy", LazyState())
        return configs

    def __init__(self, **values: Any) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and not hasattr(type(self), name):
            raise unknown_item(type(self), name, self._items)
        object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        # Python asks here, too, when the function of an item raised an AttributeError of its own.
        error = self._lazy.failed.pop(name, None)
        if error is not None:
            raise error
        if hasattr(type(self), name):
            return object.__getattribute__(self, name)
        raise unknown_item(type(self), name, self._items)

    @classmethod
    def calc(
        cls, item: Any = None, option: str | None = None, pass_params: Sequence[Any] | None = None
    ) -> Callable[[_Function], _Function]:
        """Register a function that computes `item`, under the name `option` (else its own).

        `item`: `Configs.item`, its name, or a list of items that the function gives as a tuple;
        without one, the item that is called as the function. The function takes the configs, or
        nothing, or the values of the items in `pass_params`.
        """

        def register(function: _Function) -> _Function:
            given = getattr(function, "__name__", "") if item is None else item
            many = isinstance(given, (tuple, list))
            names = [name_of(one) for one in (given if many else [given])]
            made = make_option(names, option, pass_params, function, grouped=many)
            for name in names:
                if name not in cls._items:
                    raise unknown_item(cls, name, cls._items)
                cls._registry.options.setdefault(name, {})[made.name] = made
            return function

        return register

    @classmethod
    def aggregate(cls, item: Any, option: Any, *presets: tuple[Any, Any]) -> None:
        """Where `item` has the value `option`, let each (item, value) of `presets` hold."""
        values = {name_of(target): value for target, value in presets}
        for name in (name_of(item), *values):
            if name not in cls._items:
                raise unknown_item(cls, name, cls._items)
        cls._registry.presets.append((name_of(item), option, values))

    @classmethod
    def set_hyperparams(cls, *items: Any, is_hyperparam: bool = True) -> None:
        """Mark items as hyper-parameters, or as none, also where they are overridden."""
        cls._registry.hyperparams.update({name_of(item): is_hyperparam for item in items})

    @classmethod
    def set_meta(cls, *items: Any, is_meta: bool = True) -> None:
        """Mark items as being about the run, not about the training."""
        cls._registry.meta.update({name_of(item): is_meta for item in items})

    def set_default(
        self, item: Any, value: Any = MISSING, *, func: Callable[[], Any] | None = None
    ) -> None:
        """The value of `item` where none is set: `value`, or what `func` gives when it is used."""
        name = name_of(item)
        if name not in self._items:
            raise unknown_item(type(self), name, self._items)
        if (value is MISSING) is (func is None):
            raise ConfigError("give a value or a function", where=f"set_default of {name}")
        check_unused(self, name)
        self._lazy.defaults[name] = func if func is not None else lambda: value

    @classmethod
    def list(cls, item: Any) -> Callable[[_Function], _Function]:
        """Register a function whose result is appended to the list that `item` is."""

        def register(function: _Function) -> _Function:
            name = name_of(item)
            if name not in cls._items:
                raise unknown_item(cls, name, cls._items)
            made = make_option([name], None, None, function)
            cls._registry.appended.setdefault(name, []).append(made)
            return function

        return register


Configs: Final = BaseConfigs


def override(configs: LazyItems, values: Mapping[Any, Any]) -> None:
    """Set items from outside, before all else; they count as hyper-parameters.

    `optimizer.learning_rate` reaches into configs that an item holds. Raises UnknownItem, UsedItem.
    """
    for item, value in values.items():
        name, dot, rest = name_of(item).partition(".")
        if name not in configs._items:
            raise unknown_item(type(configs), name, configs._items)
        if dot:
            override(part_of(configs, name), {rest: value})
        else:
            check_unused(configs, name)
            configs._lazy.overrides[name] = value


def compute(configs: BaseConfigs, run_order: Iterable[str | Sequence[str]]) -> None:
    """Compute the named items and what these need, in this order; a group is a list of names.

    A method's name is allowed and computes nothing: what it uses is computed when it runs.
    """
    for group in run_order:
        for name in [group] if isinstance(group, str) else group:
            first = name.partition(".")[0]
            if first not in configs._items and not callable(getattr(type(configs), first, None)):
                raise unknown_item(type(configs), name, configs._items)
            holder: Any = configs
            *path, last = name.split(".")
            for part in path:
                holder = part_of(holder, part)
            getattr(holder, last)


def watch(configs: BaseConfigs, watcher: Watcher | None) -> None:
    """Let `watcher` be told of each item that is computed."""
    configs._lazy.watcher = watcher


def option(item: Any, name: str | None = None, pass_params: Sequence[Any] | None = None) -> Any:
    """`@option(Configs.item, "name")`: as `Configs.calc`, without naming the class twice."""
    return _owner(item).calc(item, name, pass_params)


def calculate(item: Any, *given: Any) -> Any:
    """`calculate(Configs.item, ["name",] [[parameters],] function)`: an option as a call."""
    *others, function = given
    name = next((one for one in others if isinstance(one, str)), None)
    parameters = next((one for one in others if isinstance(one, (list, tuple))), None)
    return _owner(item).calc(item, name, parameters)(function)


def aggregate(item: Any, name: Any, *presets: tuple[Any, Any]) -> None:
    """`aggregate(Configs.item, "name", (Configs.other, value), ...)`, see `Configs.aggregate`."""
    _owner(item).aggregate(item, name, *presets)


def hyperparams(*items: ConfigItem, is_hyperparam: bool = True) -> None:
    """Mark items as hyper-parameters, or as none."""
    for item in items:
        _owner(item).set_hyperparams(item, is_hyperparam=is_hyperparam)


def meta_config(*items: ConfigItem, is_meta: bool = True) -> None:
    """Mark items as being about the run, not about the training."""
    for item in items:
        _owner(item).set_meta(item, is_meta=is_meta)


def _owner(item: Any) -> type[BaseConfigs]:
    first = item[0] if isinstance(item, (list, tuple)) else item
    if isinstance(first, ConfigItem) and issubclass(first.owner, BaseConfigs):
        return first.owner
    raise ConfigError(
        "this is no config item",
        got=repr(item),
        expected="Configs.item, or a list of these",
        hint="an item is declared in the class body: `item: type` or `item = default`",
    )
