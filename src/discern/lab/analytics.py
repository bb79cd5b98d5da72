"""Questions to recorded runs, from Python: runs as rows, figures as arrays, charts.

    from discern.lab import analytics

    runs = analytics.runs("digits/*", where="accuracy>0.9", sort="-accuracy")
    runs.column("stages.train.lr"), runs.series("val/loss"), runs.to_arrow("accuracy")

It reads run folders through the index, as `discern runs` does, and needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from discern.base.errors import ConfigError
from discern.track.metrics_read import Series
from discern.track.recorded_runs import RecordedRun, RecordedRuns
from discern.track.run_charts import (
    Chart,
    distribution_chart,
    heat_chart,
    histogram_chart,
    scatter_chart,
)
from discern.track.run_folder import runs_root
from discern.track.run_index import read_index
from discern.track.run_query import RunQuery, check_statuses, parse_condition, select_rows

__all__ = [
    "Chart",
    "RecordedRun",
    "RecordedRuns",
    "Series",
    "artifact_data",
    "binned_heatmap",
    "distribution",
    "get_run",
    "histogram",
    "indicator_data",
    "runs",
    "scatter",
]

Texts = str | Iterable[str]


def runs(
    *names: str,
    where: Texts = (),
    sort: Texts = (),
    project: str | None = None,
    status: str | None = None,
    tags: Texts = (),
    text: str = "",
    limit: int | None = None,
    root: str | Path | None = None,
) -> RecordedRuns:
    """The runs called `names` (ids, names, patterns as 'digits/*'; default all) that fulfil it all.

    `where`, `sort`: as in `discern runs list`; `status`: one or several with commas; `tags`: all
    must be there; `root`: the folder of all runs, by default $DISCERN_RUNS, else ./runs. Raises
    ConfigError for a name, key, status or condition that there is not.
    """
    query = RunQuery(
        project=project,
        statuses=check_statuses(status or ""),
        tags=_listed(tags),
        text=text,
        where=[parse_condition(condition) for condition in _listed(where)],
        sort=_listed(sort),
    )
    table = read_index(runs_root(None if root is None else str(root)))
    rows = query.choose(table)
    if names:
        meant = select_rows(table, names)
        rows = [row for row in (rows if query.sort else meant) if row in meant and row in rows]
    return RecordedRuns(tuple(rows[:limit]), table)


def get_run(name: str, root: str | Path | None = None) -> RecordedRun:
    """The one run that `name` means: PROJECT/NAME, a NAME, or a folder. Raises ConfigError."""
    found = runs(name, root=root)
    if len(found) != 1:
        raise ConfigError(
            f"'{name}' means {len(found)} runs", got=name, expected=" or ".join(found.ids)
        )
    return found[0]


def indicator_data(
    chosen: RecordedRuns | RecordedRun, *names: str
) -> list[tuple[str, str, Series]]:
    """(run id, name, points) of the series called `names`, which may be patterns; else of all.

    Raises RunError for a name that none of the runs has.
    """
    return _many(chosen).select(*names)


def artifact_data(chosen: RecordedRun, name: str) -> list[tuple[int, Any]]:
    """(step, content) of an image, text or tensor of a run. Raises RunError if there is none."""
    return chosen.artifacts(name)


def distribution(chosen: RecordedRuns | RecordedRun, *names: str, bins: int = 50) -> Chart:
    """How the values of series spread, over the steps. Raises ConfigError, RunError."""
    points = _many(chosen).points(*names)
    return distribution_chart(points["step"], points["value"], ", ".join(names), bins)


def histogram(chosen: RecordedRuns | RecordedRun, *names: str, bins: int = 30) -> Chart:
    """How often the values of series occur. Raises ConfigError, RunError."""
    return histogram_chart(_many(chosen).points(*names)["value"], ", ".join(names), bins)


def scatter(
    chosen: RecordedRuns | RecordedRun, x: str, y: str, *, by: Literal["run", "step"] = "run"
) -> Chart:
    """`y` over `x`: a point for each run, of two keys, or for each step, of two series.

    Steps that both series of a run have are paired. Raises ConfigError, RunError.
    """
    return scatter_chart(*_pairs(_many(chosen), x, y, by), (x, y))


def binned_heatmap(
    chosen: RecordedRuns | RecordedRun,
    x: str,
    y: str,
    *,
    by: Literal["run", "step"] = "step",
    bins: int = 20,
) -> Chart:
    """How often pairs occur, in `bins` times `bins` fields. Raises ConfigError, RunError."""
    return heat_chart(*_pairs(_many(chosen), x, y, by), (x, y), bins)


def _listed(texts: Texts) -> Sequence[str]:
    return (texts,) if isinstance(texts, str) else tuple(texts)


def _many(chosen: RecordedRuns | RecordedRun) -> RecordedRuns:
    if isinstance(chosen, RecordedRun):
        return RecordedRuns((chosen.row,), chosen._table)
    return chosen


def _pairs(chosen: RecordedRuns, x: str, y: str, by: str) -> tuple[Any, Any]:
    if by not in ("run", "step"):
        raise ConfigError("points are made by run or by step", where="by", got=by)
    if by == "run":
        columns = [chosen.column(key) for key in (x, y)]
        for key, column in zip((x, y), columns, strict=True):
            if column.dtype == object:
                raise ConfigError(f"'{key}' is no number", got=str(column[:3]))
        return columns[0].astype(np.float64), columns[1].astype(np.float64)
    across, up = chosen.series(x), chosen.series(y)
    left, right = [np.empty(0)], [np.empty(0)]
    for run in [run for run in across if run in up]:
        _, mine, its = np.intersect1d(across[run].steps, up[run].steps, return_indices=True)
        left.append(across[run].values[mine])
        right.append(up[run].values[its])
    return np.concatenate(left), np.concatenate(right)
