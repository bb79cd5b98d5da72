"""What `discern runs list` and `runs views` do, as functions of plain values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import OK, ConfigError
from discern.base.names import printable
from discern.track.run_index import RunTable, read_index
from discern.track.run_query import RunQuery, all_keys, check_statuses, getter, parse_condition
from discern.track.run_rows import RunRow
from discern.track.run_views import Column, View, read_views
from discern.track.series_summary import better_way

_SHORT_TIME: Final = len("2026-01-31T12:34:56")
_DEFAULT: Final = (
    Column("id", "run"),
    Column("status"),
    Column("created", "started (UTC)"),
)
_SCORES: Final = ("accuracy", "loss")
_MOST_SCORES: Final = 4
_NOT_FINITE: Final = ("nan", "inf", "-inf")  # how a record holds them
_FIELDS: Final = ("id", "status", "created", "title", "tags")


def list_command(
    root: Path,
    console: Console,
    given: View | None = None,
    *,
    view: str | None = None,
    save_view: str | None = None,
    only: str | None = None,
) -> int:
    """The runs under `root`, newest first, as the view `given` says; of a saved `view`, what it
    does not say. `only`: "ids" or "keys", one a line, instead of the table.

    `--json`: {"runs": [{id, project, name, status, created, seconds, title, tags, metrics,
    problem}], "notices": [...]}; with chosen columns each run has `columns`, a mapping of key to
    value. A run whose record cannot be read is listed as unreadable. Raises ConfigError for a
    status, condition, key or view that there is not.
    """
    wanted = given or View()
    if view is not None:
        wanted = _over(read_views(root).get(view), wanted)
    query = query_of(wanted)
    table = read_index(root)
    rows = query.choose(table)
    columns = [column for column in wanted.columns if column.visible]
    getters = {column.key: getter(table, column.key) for column in columns}
    if save_view is not None:
        _save_view(root, save_view, wanted, console)
    runs = [_summary(row) for row in rows]
    if columns:
        for run, row in zip(runs, rows, strict=True):
            run["columns"] = {key: _plain(get(row)) for key, get in getters.items()}
    if only == "keys":
        keys = all_keys(table)
        console.emit({"keys": keys, "notices": table.notices})
        _lines(keys, console)
        return OK
    console.emit({"runs": runs, "notices": table.notices})
    if only == "ids":
        _lines([row.id for row in rows], console)
    elif not rows:
        matching = " that match" if table.rows else ""
        console.say(f"no runs{matching} under {printable(str(root))}")
    else:
        _say_table(rows, columns, getters, console)
    tell_notices(table, rows, console)
    return OK


def views_command(root: Path, console: Console, *, delete: str | None = None) -> int:
    """The saved views, or one less. `--json`: {"views": {name: view}}."""
    views = read_views(root)
    if delete is not None:
        views.get(delete)
        del views.views[delete]
        views.save()
    console.emit({"views": {name: view.record() for name, view in views.views.items()}})
    if not views.views:
        console.say("no saved views; `discern runs list ... --save-view NAME` saves one")
    for name, view in views.views.items():
        told = (f"{key}={_brief(value)}" for key, value in view.record().items())
        console.result(printable(f"{name}: {' '.join(told)}"))
    return OK


def query_of(view: View) -> RunQuery:
    """The query that a view means. Raises ConfigError."""
    return RunQuery(
        project=view.project,
        statuses=check_statuses(view.status or ""),
        tags=view.tags,
        text=view.text,
        where=[parse_condition(text) for text in view.where],
        sort=view.sort,
        limit=view.limit,
    )


def tell_notices(table: RunTable, rows: Sequence[RunRow], console: Console) -> None:
    """Warn of what is wrong with the index and with these runs."""
    for notice in dict.fromkeys(table.notices):
        console.warn(printable(notice))
    for row in rows:
        if row.problem is not None:
            console.warn(printable(f"{row.id}: {row.problem}"))


def _over(saved: View, given: View) -> View:
    """The saved view, with what is given on the command line in place of its own."""
    return replace(saved, **{name: getattr(given, name) for name in given.record()})


def _save_view(root: Path, name: str, view: View, console: Console) -> None:
    if not name.strip() or not name.isprintable():
        raise ConfigError("this cannot name a view", where="--save-view", got=name)
    views = read_views(root)
    views.views[name] = view
    views.save()
    console.say(f"view '{name}' is saved; `discern runs list --view {name}` shows it")


def _summary(row: RunRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "project": row.project,
        "name": row.name,
        "status": row.status,
        "created": row.created,
        "seconds": row.seconds,
        "title": row.title,
        "tags": list(row.tags),
        "metrics": dict(row.metrics),
        "problem": row.problem,
    }


def _say_table(
    rows: Sequence[RunRow], chosen: Sequence[Column], getters: dict[str, Any], console: Console
) -> None:
    scores = _scores(rows)
    columns = list(chosen) or [*_DEFAULT, *map(Column, scores), *_extra_columns(rows)]

    def cell(row: RunRow, column: Column) -> object:
        if chosen:
            value = getters[column.key](row)
        elif column.key in scores:
            value = row.metrics.get(column.key)
            value = value if isinstance(value, (int, float)) or value in _NOT_FINITE else None
        else:
            value = getattr(row, column.key)
        if isinstance(value, tuple):
            value = ",".join(value)
        if column.key in ("created", "ended"):
            value = str(value or "-")[:_SHORT_TIME].replace("T", " ")
        if column.width is not None and isinstance(value, str) and len(value) > column.width:
            value = value[: column.width - 1] + "…"
        return value if value != "" else None

    headers = [printable(column.title or column.key) for column in columns]
    console.table(headers, [[cell(row, column) for column in columns] for row in rows])


def _scores(rows: Sequence[RunRow]) -> list[str]:
    """Accuracy and loss; where no run has either, what their loops called their scores."""
    names = dict.fromkeys(name for row in rows for name in row.metrics)
    found = [name for name in names if name not in _FIELDS and better_way(name) is not None]
    if found and not names.keys() & set(_SCORES):
        return found[:_MOST_SCORES]
    return [*_SCORES]


def _extra_columns(rows: Sequence[RunRow]) -> list[Column]:
    """Titles and tags, where some run has one."""
    found = [Column("title", width=40)] if any(row.title for row in rows) else []
    return [*found, Column("tags")] if any(row.tags for row in rows) else found


def _lines(texts: Sequence[str], console: Console) -> None:
    if not console.json:
        for text in texts:
            console.result(printable(text))


def _plain(value: Any) -> Any:
    from discern.track.plain_values import to_plain

    return to_plain(value)


def _brief(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(e["key"] if isinstance(e, dict) else str(e) for e in value)
    return str(value)
