"""Recorded runs as data: a run a row, its figures as arrays, both as NumPy and as Arrow."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import RunError
from discern.base.names import did_you_mean
from discern.track.artifact_files import list_artifacts
from discern.track.metrics_buckets import BUCKETS, SeriesBuckets, read_buckets
from discern.track.metrics_read import Series, list_series, read_series
from discern.track.run_index import RunTable
from discern.track.run_query import as_number, getter
from discern.track.run_rows import Plain, RunRow
from discern.track.series_summary import SeriesSummary


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """One run. Reading its series, also while it is being written, takes no lock."""

    row: RunRow
    _table: RunTable = field(repr=False)

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return self.row.id

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.row.path

    @property
    def status(self) -> str:
        """running, finished, failed, interrupted, lost or unreadable."""
        return self.row.status

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The final scores."""
        return self.row.metrics

    @property
    def facts(self) -> Mapping[str, Plain]:
        """All numbers and texts of the record by path, as `config.stages.train.lr`."""
        return self._table.facts()(self.row)

    @property
    def summaries(self) -> Mapping[str, SeriesSummary]:
        """Length, last, lowest and highest value of each series, in the order first written."""
        return self._table.series([self.row])(self.row)

    def series(self, name: str) -> Series:
        """Steps int64, times float64 (s since 1970 UTC), values float64. Raises RunError."""
        return read_series(self.path, name)

    def buckets(self, name: str, most: int = BUCKETS) -> SeriesBuckets:
        """Lowest and highest value of at most `most` stretches of the series. Raises RunError."""
        return read_buckets(self.path, name, most)

    def artifacts(self, name: str) -> list[tuple[int, Any]]:
        """(step, content) of what was logged as `name`, in order.

        Content: an array for a tensor, uint8 [H, W] or [H, W, C] for an image, else a text. Raises
        RunError, with the nearest name, if nothing was logged under it.
        """
        listed = list_artifacts(self.path)
        found = [entry for entry in listed if entry["name"] == name]
        if not found:
            known = [*dict.fromkeys(str(entry["name"]) for entry in listed)]
            raise RunError(
                f"no image, text or tensor '{name}'",
                where=self.path,
                got=name,
                expected=", ".join(known[:20]) or "the run has logged none",
                hint=did_you_mean(name, known),
            )
        return [(entry["step"], self._content(entry)) for entry in found]

    def _content(self, entry: Mapping[str, Any]) -> Any:
        path = self.path / str(entry["file"])
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise RunError("an artifact lies outside of its run", where=path)
        if entry["kind"] == "tensor":
            return np.load(path, allow_pickle=False)
        if entry["kind"] == "image":
            from PIL import Image

            with Image.open(path) as image:
                return np.asarray(image)
        return path.read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class RecordedRuns(Sequence[RecordedRun]):
    """Runs in their order. Keys are those of `discern runs list`: `accuracy`, `best(val/loss)`."""

    rows: tuple[RunRow, ...]
    _table: RunTable = field(repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[RecordedRun]:
        return (RecordedRun(row, self._table) for row in self.rows)

    @overload
    def __getitem__(self, place: int) -> RecordedRun: ...
    @overload
    def __getitem__(self, place: slice) -> RecordedRuns: ...
    def __getitem__(self, place: int | slice) -> RecordedRun | RecordedRuns:
        if isinstance(place, slice):
            return RecordedRuns(self.rows[place], self._table)
        return RecordedRun(self.rows[place], self._table)

    @property
    def ids(self) -> list[str]:
        """PROJECT/NAME of each."""
        return [row.id for row in self.rows]

    def values(self, key: str) -> list[Any]:
        """The value of `key` of each run as recorded, None where it has none.

        Raises ConfigError, with the nearest keys, if no run under the root has it.
        """
        get = getter(self._table, key)
        return [get(row) for row in self.rows]

    def column(self, key: str) -> NDArray[Any]:
        """The values of `key`, one a run, as an array.

        Whole numbers, none missing: int64. Numbers: float64, not-a-number where missing. Else
        objects, None where missing. Raises ConfigError as `values`.
        """
        values = self.values(key)
        whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
        if whole and values and max(map(abs, values)) < 1 << 63:
            return np.array(values, np.int64)
        numbers = _numbers(values)
        if numbers is not None:
            return np.array([np.nan if n is None else n for n in numbers], np.float64)
        column = np.empty(len(values), object)
        column[:] = values
        return column

    def to_arrow(self, *keys: str) -> Any:
        """A `pyarrow.Table`: a row a run, columns `run` and `keys`; null where a run has no value.

        Raises RunError without pyarrow, ConfigError for a key that no run has.
        """
        arrow = _pyarrow()
        columns: dict[str, Any] = {"run": arrow.array(self.ids, arrow.string())}
        for key in keys:
            values = self.values(key)
            numbers = _numbers(values)
            if numbers is not None and self.column(key).dtype != np.int64:
                columns[key] = arrow.array(numbers, arrow.float64())
            elif numbers is not None:
                columns[key] = arrow.array(values, arrow.int64())
            else:
                texts = [None if value is None else _text(value) for value in values]
                columns[key] = arrow.array(texts, arrow.string())
        return arrow.table(columns)

    def series(self, name: str) -> dict[str, Series]:
        """The series `name` of each run that has it, by run id. Raises RunError if none has."""
        found = {run.id: run.series(name) for run in self if name in list_series(run.path)}
        if not found:
            raise self._no_series(name)
        return found

    def select(self, *names: str) -> list[tuple[str, str, Series]]:
        """(run id, name, points) of all series called one of `names`, which may be patterns.

        All series without `names`. Raises RunError for a name or pattern that fits none.
        """
        unmet = set(names)
        found = []
        for run in self:
            for name in list_series(run.path):
                fitting = {n for n in names if n == name or fnmatch.fnmatchcase(name, n)}
                unmet -= fitting
                if fitting or not names:
                    found.append((run.id, name, run.series(name)))
        if unmet:
            raise self._no_series(sorted(unmet)[0])
        return found

    def points(self, *names: str) -> dict[str, NDArray[Any]]:
        """Every point of the chosen series, one after another, as arrays of one length.

        `run` and `series` (objects), `step` int64, `time` float64, `value` float64. As `select`.
        """
        found = self.select(*names)
        lengths = [len(series) for _, _, series in found]
        runs, labels = np.empty(len(found), object), np.empty(len(found), object)
        runs[:], labels[:] = [run for run, _, _ in found], [name for _, name, _ in found]
        none = np.empty(0)
        return {
            "run": np.repeat(runs, lengths),
            "series": np.repeat(labels, lengths),
            "step": np.concatenate([none.astype(np.int64), *(s.steps for _, _, s in found)]),
            "time": np.concatenate([none, *(s.times for _, _, s in found)]),
            "value": np.concatenate([none, *(s.values for _, _, s in found)]),
        }

    def points_to_arrow(self, *names: str) -> Any:
        """`points` as a `pyarrow.Table`, `run` and `series` as dictionaries. Raises RunError."""
        arrow = _pyarrow()
        points = self.points(*names)
        columns = {name: arrow.array(column) for name, column in points.items() if column.size}
        if not columns:
            kinds = (("step", arrow.int64()), ("time", arrow.float64()), ("value", arrow.float64()))
            texts = {name: arrow.array([], arrow.string()) for name in ("run", "series")}
            columns = texts | {name: arrow.array([], kind) for name, kind in kinds}
        for name in ("run", "series"):
            columns[name] = columns[name].dictionary_encode()
        return arrow.table(columns)

    def _no_series(self, name: str) -> RunError:
        known = [*dict.fromkeys(own for run in self for own in list_series(run.path))]
        return RunError(
            f"none of these runs has the series '{name}'",
            where=self._table.root,
            got=name,
            expected=", ".join(known[:20]) or "runs that have logged something",
            hint=did_you_mean(name, known),
        )


def _numbers(values: Sequence[Any]) -> list[float | None] | None:
    """The values as numbers, None where missing; None if one of them is no number."""
    numbers = [None if isinstance(v, bool) else as_number(v) for v in values]
    odd = any(n is None and v is not None for n, v in zip(numbers, values, strict=True))
    return None if odd else numbers


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _pyarrow() -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise RunError(
            "Arrow tables need pyarrow, which is not installed",
            hint="pip install pyarrow; `column` and `points` give NumPy arrays without it",
        ) from error
    return pa
