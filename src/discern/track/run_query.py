"""Choosing and ordering runs: `accuracy>0.9`, `stages.train.lr<=1e-3`, `best(val/loss)<0.2`.

A key names, in this order: a field of the row (`status`, `seconds`), a final metric (`accuracy`), a
config value (`stages.train.lr`), any other fact of the record by its path (`git.commit`), the last
value of a series (`val/loss`). The first kind in which any run has the key is meant for all runs,
so that a column holds one thing only. `metrics.`, `config.` and `last()` say which is meant;
`best()`, `lowest()` and `highest()` are those of a series.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.track.run_folder import FAILED, FINISHED, INTERRUPTED, LOST, RUNNING, UNREADABLE
from discern.track.run_index import RunTable
from discern.track.run_reference import LEAST_UUID, begins_uuid, several_begun
from discern.track.run_rows import RunRow
from discern.track.series_summary import SeriesSummary, better_way

STATUSES: Final = (RUNNING, FINISHED, FAILED, INTERRUPTED, LOST, UNREADABLE)
FIELDS: Final = (
    *("id", "project", "name", "status", "created", "ended", "seconds", "attempt", "kind"),
    *("title", "note", "tags", "problem"),
)
_OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "~": lambda have, wanted: str(wanted).casefold() in str(have).casefold(),
}
_CONDITION: Final = re.compile(
    r"\s*(?:\"(?P<quoted>[^\"]+)\"|(?P<key>.+?))\s*(?P<operator><=|>=|!=|==|=|<|>|~)(?P<value>.*)",
    re.DOTALL,
)
_OF_SERIES: Final = re.compile(r"(?P<what>last|best|lowest|highest)\((?P<series>.+)\)")
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None, "none": None}
_TIMES: Final = ("created", "ended")
Getter = Callable[[RunRow], Any]


@dataclass(frozen=True, slots=True)
class Condition:
    """What a run must fulfil: the value of `key` compared with `value`; `text` as it was given."""

    key: str
    sign: str
    value: Any
    text: str

    def holds(self, have: Any) -> bool:
        """Whether the value `have` fulfils it; a missing one fulfils `!=` and `= null` only."""
        if self.sign == "~":
            return have is not None and bool(_OPERATORS["~"](have, self.value))
        if self.sign in ("=", "==", "!="):
            same = _same(have, self.value)
            return same if self.sign != "!=" else not same
        if isinstance(self.value, str):
            return isinstance(have, str) and bool(have) and _OPERATORS[self.sign](have, self.value)
        number = as_number(have)
        return number is not None and _OPERATORS[self.sign](number, self.value)


def parse_condition(text: str) -> Condition:
    """`KEY OPERATOR VALUE`; a key with odd characters stands in "double quotes".

    Raises ConfigError for another text, and for < or > with something that is no number or time.
    """
    found = _CONDITION.fullmatch(text)
    if found is None or not found["value"].strip():
        raise ConfigError(
            "this is no condition",
            where="--where",
            got=text,
            expected="KEY and a value with <, <=, >, >=, =, != or ~ (contains) between them",
            hint="for example --where 'accuracy>0.9'",
        )
    key, sign = found["quoted"] or found["key"], found["operator"]
    value = _parse_value(found["value"].strip())
    if sign == "~":
        value = found["value"].strip()
    elif sign in ("<", "<=", ">", ">="):
        if key in _TIMES:
            value = found["value"].strip()
        elif isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigError(
                f"{sign} compares with a number", where="--where", got=text, expected="a number"
            )
    return Condition(key, sign, value, text)


def as_number(value: Any) -> float | None:
    """`value` as a number, also "nan", "inf" and "-inf" as records write them; None: it is none."""
    if isinstance(value, bool):
        return float(value)
    if isinstance(value, (int, float)):
        return float(value) if abs(value) < 1 << 1023 else math.copysign(math.inf, value)
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return None


def check_statuses(text: str) -> list[str]:
    """The statuses in `finished,failed`. Raises ConfigError for one that there is not."""
    wanted = [word.strip() for word in text.split(",") if word.strip()]
    for word in wanted:
        if word not in STATUSES:
            raise ConfigError(
                f"no run has the status '{word}'",
                where="--status",
                got=text,
                expected=", ".join(STATUSES),
                hint=did_you_mean(word, STATUSES),
            )
    return wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuery:
    """Which runs, and in which order. All that is given must hold.

    `statuses`: one of them; `tags`: all of them; `text`: words that each occur in id, status, tags,
    title or note; `sort`: keys, descending with a leading `-`; runs without a value come last.
    """

    project: str | None = None
    statuses: Sequence[str] = ()
    tags: Sequence[str] = ()
    text: str = ""
    where: Sequence[Condition] = field(default=())
    sort: Sequence[str] = ()
    limit: int | None = None

    def choose(self, table: RunTable) -> list[RunRow]:
        """The rows of `table` that are meant. Raises ConfigError for a key that no run has."""
        rows = [row for row in table.rows if self._is_meant(row)]
        for condition in self.where:
            get = getter(table, condition.key)
            rows = [row for row in rows if condition.holds(get(row))]
        for key in reversed(self.sort):
            down = key.startswith("-")
            rows = _sorted(rows, getter(table, key.removeprefix("-")), down=down)
        return rows[: self.limit]

    def _is_meant(self, row: RunRow) -> bool:
        if self.project is not None and row.project != self.project:
            return False
        if not set(self.tags) <= set(row.tags):
            return False
        if self.statuses and row.status not in self.statuses:
            return False
        if not self.text:
            return True
        told = " ".join((row.id, row.status, row.title, row.note, *row.tags)).casefold()
        return all(word in told for word in self.text.casefold().split())


def getter(table: RunTable, key: str) -> Getter:
    """The function that gives the value of `key` of a row, None where it has none.

    Raises ConfigError, with the nearest keys, if no run of the table has it. An empty table has
    every key.
    """
    if key in FIELDS:
        return _field_getter(key)
    of_series = _OF_SERIES.fullmatch(key)
    if of_series is not None:
        get = _series_getter(table, of_series["what"], of_series["series"])
        if get is not None:
            return get
    else:
        for prefix in ("metrics.", "config.", "hparams.", "") if key else ():
            get = _fact_getter(table, f"{prefix}{key}")
            if get is not None:
                return get
        get = _series_getter(table, "last", key)
        if get is not None:
            return get
    if not table.rows:
        return lambda _: None
    raise ConfigError(
        f"no run has '{key}'",
        where=table.root,
        got=key,
        hint=did_you_mean(key, all_keys(table))
        or "`discern runs list --keys` names all that can be asked for",
    )


def all_keys(table: RunTable) -> list[str]:
    """All keys that some run of `table` has: fields, facts by their shortest names, series."""
    keys = dict.fromkeys(FIELDS)
    facts, series = table.facts(), table.series()
    for row in table.rows:
        for path in facts(row):
            keys[re.sub(r"^(metrics|config|hparams)\.", "", path)] = None
        keys.update(dict.fromkeys(series(row)))
    return [*keys]


def select_rows(table: RunTable, names: Iterable[str]) -> list[RunRow]:
    """The runs that the words mean: PROJECT/NAME, a NAME that is the only one, a pattern, a folder.

    Patterns hold *, ? or [...] and are compared with PROJECT/NAME. Of a run named by a UUID, its
    beginning will do (`run_reference.begins_uuid`). Each run once, in the order of the words.
    Raises ConfigError for a word that means none, or more than one without being a pattern.
    """
    import fnmatch

    chosen: dict[str, RunRow] = {}
    for word in names:
        found = [row for row in table.rows if word in (row.id, row.name)]
        exact = [row for row in found if row.id == word]
        found = exact or found
        if not found and re.search(r"[*?\[]", word):
            found = [row for row in table.rows if fnmatch.fnmatchcase(row.id, word)]
        elif len(found) > 1:
            raise ConfigError(
                f"{len(found)} runs have the name '{word}'",
                where=table.root,
                got=word,
                expected=" or ".join(sorted(row.id for row in found)),
            )
        if not found:
            folder = Path(word).expanduser().absolute()
            found = [row for row in table.rows if row.path == folder]
        if not found:
            found = _begun(table, word)
        if not found:
            known = [row.id if "/" in word else row.name for row in table.rows]
            raise ConfigError(
                f"there is no run '{word}'",
                where=table.root,
                got=word,
                expected=f"PROJECT/NAME, a NAME, {LEAST_UUID} characters or more of a UUID, or a "
                "pattern such as 'digits/*'",
                hint=did_you_mean(word, known) or "`discern runs list` shows what there is",
            )
        chosen.update((row.id, row) for row in found)
    return [*chosen.values()]


def _begun(table: RunTable, word: str) -> list[RunRow]:
    """The one run whose UUID begins with `word`, or none. Raises ConfigError for several."""
    ids = begins_uuid(word, [row.id for row in table.rows])
    if len(ids) > 1:
        raise several_begun(word, ids, table.root)
    return [row for row in table.rows if row.id in ids]


def _parse_value(text: str) -> Any:
    """A number, truth value or null; else the text, without quotes around it."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "\"'":
        return text[1:-1]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _same(have: Any, wanted: Any) -> bool:
    if isinstance(wanted, str) or wanted is None or have is None:
        # Tags are several: one of them.
        return have == wanted or (isinstance(have, tuple) and wanted in have)
    number = as_number(have)
    if number is None:
        return False
    return number == wanted or (number != number and wanted != wanted)


def _field_getter(name: str) -> Getter:
    def get(row: RunRow) -> Any:
        value = getattr(row, name)
        return None if value in ("", ()) else value

    return get


def _fact_getter(table: RunTable, path: str) -> Getter | None:
    facts = table.facts()
    if any(path in facts(row) for row in table.rows):
        return lambda row: facts(row).get(path)
    return None


def _series_getter(table: RunTable, what: str, name: str) -> Getter | None:
    series = table.series()
    if not any(name in series(row) for row in table.rows):
        return None
    if what == "best" and better_way(name) is None:
        raise ConfigError(
            f"nobody knows which way '{name}' is better",
            got=f"best({name})",
            expected=f"lowest({name}) or highest({name})",
        )

    def get(row: RunRow) -> float | None:
        summary = series(row).get(name)
        return None if summary is None else _figure(summary, what, name)

    return get


def _figure(summary: SeriesSummary, what: str, name: str) -> float | None:
    if what == "best":
        best = summary.best(name)
        return None if best is None else best[0]
    value: float | None = getattr(summary, what)
    return value


def _sorted(rows: Sequence[RunRow], get: Getter, *, down: bool) -> list[RunRow]:
    """Numbers before texts, each in order; what has no value, or is no number, comes last."""

    def rank(value: Any) -> tuple[int, Any]:
        number = as_number(value)
        return (1, str(value).casefold()) if number is None else (0, number)

    values = [(row, get(row)) for row in rows]
    there = [(row, rank(v)) for row, v in values if v is not None and as_number(v) == as_number(v)]
    last = [row for row, v in values if v is None or as_number(v) != as_number(v)]
    # Sorting downwards keeps the order of equal ones, as sorting upwards does.
    there.sort(key=lambda pair: pair[1], reverse=down)
    return [row for row, _ in there] + last
