"""The record of lazy configs: every item, its value, where that came from, when it was computed.

Owns the keys of one item's record, which stand in a run's `configs.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from discern.config.lazy_options import MISSING, ConfigItem, Declared
from discern.config.lazy_values import LazyItems, options_of, registries

FORMAT_VERSION: Final = 1
# A network's text can be pages long.
MOST_TEXT: Final = 500
# Places that a person names in so many words; the others are the class's.
_EXPLICIT: Final = ("override", "set")


def items_record(configs: LazyItems | Mapping[str, Any]) -> list[dict[str, Any]]:
    """A record for each item, those of configs that an item holds under `item.name`.

    Keys: `name`, `type` (annotation), `value` (as given: a default's or an option's name counts),
    `computed` (text of what it became, at most 500 characters), `option`, `options`, `order` (from
    0, as computed; None: not yet), `source` (override, set, set_default, aggregate, default,
    option, list, class), `explicit` (set by hand), `hyperparam`, `meta`, `used`, `needs` (items).
    A plain dictionary counts as set by hand and used.
    """
    if isinstance(configs, Mapping):
        return [_plain_record(name, value) for name, value in flat(configs).items()]
    return _records(configs)


def hyperparams_of(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of the hyper-parameters among `records`, by name."""
    return {record["name"]: record["value"] for record in records if record["hyperparam"]}


def plain_values(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values of all items by name: numbers, text and truth values, else their text."""
    return {
        record["name"]: record["computed"] if record["value"] is None else record["value"]
        for record in records
    }


def given_again(
    records: Sequence[Mapping[str, Any]], *, only_hyperparams: bool = True
) -> dict[str, Any]:
    """The overrides that give an earlier run's choices again: hyper-parameters, or all set ones.

    Values that were recorded as text only (objects) cannot be given again and are left out.
    """
    return {
        record["name"]: record["value"]
        for record in records
        if (record["hyperparam"] or (record["explicit"] and not only_hyperparams))
        and not record.get("as_text", False)
    }


def flat(values: Mapping[Any, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dictionaries as one, with dotted names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        path = prefix + (name.name if isinstance(name, ConfigItem) else str(name))
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{path}."))
        else:
            found[path] = value
    return found


def _records(configs: LazyItems) -> list[dict[str, Any]]:
    found = []
    order = list(configs._lazy.values)
    for name, item in configs._items.items():
        found.append(_record(configs, name, item, order))
        part = configs._lazy.parts.get(name)
        if part is not None:
            found += _records(part)
    return found


def _record(configs: LazyItems, name: str, item: Declared, order: list[str]) -> dict[str, Any]:
    state = configs._lazy
    given = _given(configs, name, item)
    used = name in state.values
    marked = _marked(configs, name, "hyperparams")
    value, as_text = plain(given)
    return {
        "name": state.prefix + name,
        "type": item.type_text(),
        "value": value,
        "as_text": as_text,
        "computed": text_of(state.values[name]) if used else None,
        "option": state.options.get(name),
        "options": list(options_of(configs, name)),
        "order": order.index(name) if used else None,
        "source": state.sources.get(name),
        "explicit": name in state.overrides or name in state.given,
        "hyperparam": name in state.overrides if marked is None else marked,
        "meta": bool(_marked(configs, name, "meta")),
        "used": used,
        "needs": list(state.needs.get(name, ())),
    }


def _given(configs: LazyItems, name: str, item: Declared) -> Any:
    """The value that an item was given, before any function: None where none was."""
    state = configs._lazy
    for place in (state.overrides, state.given):
        if name in place:
            return place[name]
    if state.sources.get(name) in ("set_default", "aggregate", "default") and (
        name not in state.options
    ):
        return state.values.get(name)
    if name in state.options:
        return state.options[name]
    return None if item.default is MISSING else item.default


def _marked(configs: LazyItems, name: str, kind: str) -> bool | None:
    """What the most derived class says of the item; None where none does."""
    for registry in registries(type(configs)):
        marks: dict[str, bool] = getattr(registry, kind)
        if name in marks:
            return marks[name]
    return None


def plain(value: Any) -> tuple[Any, bool]:
    """(the value as JSON can hold it, True if that is only its text)."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value, False
    if isinstance(value, (list, tuple)) and all(
        isinstance(one, (bool, int, float, str)) for one in value
    ):
        return list(value), False
    return text_of(value), True


def text_of(value: Any) -> str:
    """The value in at most 500 characters."""
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MOST_TEXT else text[: MOST_TEXT - 3] + "..."


def _plain_record(name: str, given: Any) -> dict[str, Any]:
    value, as_text = plain(given)
    return {
        "name": name,
        "type": type(given).__name__,
        "value": value,
        "as_text": as_text,
        "computed": text_of(given),
        "option": None,
        "options": [],
        "order": None,
        "source": "set",
        "explicit": True,
        "hyperparam": False,
        "meta": False,
        "used": True,
        "needs": [],
    }
