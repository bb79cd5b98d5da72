"""What `discern runs compare` does, as functions of plain values."""

from __future__ import annotations

import fnmatch
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from discern.base.console import Console
from discern.base.errors import OK, ConfigError
from discern.base.files import write_bytes
from discern.base.names import did_you_mean, printable
from discern.cli.runs_list_command import tell_notices
from discern.track.curves import common_names, draw_picture, draw_text
from discern.track.metrics_read import Series, read_series
from discern.track.plain_values import to_plain
from discern.track.run_index import read_index
from discern.track.run_query import select_rows
from discern.track.run_rows import RunRow
from discern.track.series_summary import better_way

# What is compared beside the config: what else results may hang on.
_SURROUNDINGS: Final = (
    *("images_hash", "recipe", "layout", "git.commit", "device.name", "ranks.count"),
    "environment.versions.",
)
_UNTOLD: Final = ("config.tracking.",)
_MOST_CHARTS: Final = 2
_MOST_ROWS: Final = 200
_MOST_PICTURES: Final = 12


def compare_command(
    words: Sequence[str],
    root: Path,
    console: Console,
    *,
    series: Sequence[str] = (),
    png: str | None = None,
    everything: bool = False,
) -> int:
    """Runs side by side: parameters that differ (`everything`: all), scores, curves.

    `series`: names or patterns of those to draw; by default two that are scores or losses of an
    evaluation. `png`: a file that gets the curves as a picture. `--json`: {"runs", "parameters",
    "surroundings", "metrics", "series"}, each a mapping of name to a mapping of run to value.
    Raises ConfigError for fewer than two runs or a series that none of them has.
    """
    table = read_index(root)
    rows = select_rows(table, words)
    if len(rows) < 2:
        raise ConfigError("at least two runs are compared", got=" ".join(words))
    facts, summaries = table.facts(), table.series(rows)
    ids = [row.id for row in rows]
    records = {row.id: facts(row) for row in rows}
    summed = {row.id: summaries(row) for row in rows}
    parameters = _differing(_parameters(records), everything=everything)
    told = _chosen(records, _SURROUNDINGS)
    surroundings = _differing(told if everything else _told_by_two(told), everything=everything)
    metrics = _by_name({row.id: row.metrics for row in rows})
    names = common_names([[*summed[run]] for run in ids])
    drawn = _names_to_draw(names, series)
    figures = {name: {run: _figures(name, summed[run].get(name)) for run in ids} for name in names}
    console.emit(
        to_plain(
            {
                "runs": ids,
                "parameters": parameters,
                "surroundings": surroundings,
                "metrics": metrics,
                "series": figures,
            }
        )
    )
    for title, group in (("parameter", parameters), ("surroundings", surroundings)):
        _say_group(title, group, ids, console)
    _say_group("final metric", metrics, ids, console)
    _say_best(figures, ids, console)
    charts = {name: _curves(rows, name, summed) for name in drawn[:_MOST_PICTURES]}
    for name in drawn[: _MOST_CHARTS if not series else None]:
        console.say()
        width = min(shutil.get_terminal_size().columns, 100)
        for line in draw_text(charts.get(name, {}), width=width, title=printable(name)):
            console.say(line)
    if png is not None:
        write_bytes(Path(png), draw_picture(charts))
        console.say(f"curves: {png}")
    tell_notices(table, rows, console)
    return OK


def _parameters(records: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Config values by run; hyper-parameters of a loop of one's own that no config repeats."""
    configs = _chosen(records, ("config.",), cut=True)
    hparams = _chosen(records, ("hparams.",), cut=True)
    return configs | {name: of for name, of in hparams.items() if name not in configs}


def _chosen(
    records: Mapping[str, Mapping[str, Any]], starts: Sequence[str], *, cut: bool = False
) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for run, facts in records.items():
        for path, value in facts.items():
            if path.startswith(_UNTOLD):
                continue
            for start in starts:
                if path == start or (start.endswith(".") and path.startswith(start)):
                    found.setdefault(path.removeprefix(start) if cut else path, {})[run] = value
    return {
        name: {run: of.get(run) for run in records} | {"": len(of) == len(records)}
        for name, of in found.items()
    }


def _told_by_two(values: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Without what one run alone tells: beside an imported one that is no difference."""
    return {
        name: of
        for name, of in values.items()
        if sum(bool(run) and value is not None for run, value in of.items()) > 1
    }


def _differing(
    values: Mapping[str, Mapping[str, Any]], *, everything: bool
) -> dict[str, dict[str, Any]]:
    """Those that are not the same in all runs; one that a run lacks differs."""
    result = {}
    for name, of in values.items():
        runs = {run: value for run, value in of.items() if run}
        same = of[""] and len({repr(value) for value in runs.values()}) == 1
        if everything or not same:
            result[name] = runs
    return result


def _by_name(of_runs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    names = dict.fromkeys(name for values in of_runs.values() for name in values)
    return {name: {run: values.get(name) for run, values in of_runs.items()} for name in names}


def _figures(name: str, summary: Any) -> dict[str, Any] | None:
    if summary is None:
        return None
    best = summary.best(name)
    return {
        **summary.record(),
        "best": None if best is None else best[0],
        "best_step": None if best is None else best[1],
    }


def _names_to_draw(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    """The series to draw. Raises ConfigError for a name or pattern that fits none."""
    if not wanted:
        scores = [name for name in names if better_way(name) is not None]
        return sorted(scores, key=lambda name: not name.startswith(("val", "test")))[:_MOST_CHARTS]
    chosen: dict[str, None] = {}
    for word in wanted:
        found = [name for name in names if name == word] or [
            name for name in names if fnmatch.fnmatchcase(name, word)
        ]
        if not found:
            raise ConfigError(
                f"none of these runs has the series '{word}'",
                where="--series",
                got=word,
                expected=", ".join(names[:20]) or "runs that have logged something",
                hint=did_you_mean(word, names),
            )
        chosen.update(dict.fromkeys(found))
    return [*chosen]


def _curves(
    rows: Sequence[RunRow], name: str, summed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Series]:
    found = {}
    for row in rows:
        if name in summed[row.id]:
            found[row.id] = read_series(row.path, name)
    return found


def _say_group(
    title: str, group: Mapping[str, Mapping[str, Any]], ids: Sequence[str], console: Console
) -> None:
    if not group:
        if title == "parameter":
            console.say("no parameter differs")
        return
    console.table((title, *ids), [(name, *(of[run] for run in ids)) for name, of in group.items()])
    console.say()


def _say_best(
    figures: Mapping[str, Mapping[str, Any]], ids: Sequence[str], console: Console
) -> None:
    rows: list[tuple[object, ...]] = []
    for name, of in figures.items():
        if better_way(name) is None:
            continue
        cells = [of[run] for run in ids]
        best = [
            "-" if c is None or c["best"] is None else _at(c["best"], c["best_step"]) for c in cells
        ]
        rows.append((f"{name}, best", *best))
        rows.append(
            (
                f"{name}, last",
                *("-" if c is None else _at(c["last"], c["last_step"]) for c in cells),
            )
        )
    if rows:
        console.table(("series", *ids), rows[:_MOST_ROWS])
    if len(rows) > _MOST_ROWS:
        console.say(f"... and {(len(rows) - _MOST_ROWS) // 2:,} series more; --json tells all")


def _at(value: float, step: int) -> str:
    return f"{value:.4g} @{step}"
