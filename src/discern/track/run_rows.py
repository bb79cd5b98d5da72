"""A run as a row of a table: few fields always, all other facts of its record when asked for.

A record is somebody's file: whatever it holds, a row comes of it, with a `problem` where it must.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from discern.track.run_folder import RUNNING, UNREADABLE, Run, read_run
from discern.track.run_notes import read_notes

Plain = str | int | float | bool | None
# What a record holds in bulk and nobody filters by: texts of pages, a number for each class.
_BULKY: Final = ("git.diff", "split.counts", "classes", "heads", "origins", "attempts", "problems")
_MOST_FACTS: Final = 2000
_LONGEST_TEXT: Final = 500
_LONGEST_LIST: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """What a list shows of a run. `seconds`: how long its attempts took, None while unknown.

    `recorded`: the status that the record tells; `status` is that of now. Times are ISO 8601, UTC.
    """

    path: Path
    recorded: str
    attempt: int = 0
    created: str = ""
    ended: str = ""
    seconds: float | None = None
    kind: str = "train"
    title: str = ""
    note: str = ""
    tags: tuple[str, ...] = ()
    problem: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    @property
    def project(self) -> str:
        """The name of the folder above."""
        return self.path.parent.name

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def id(self) -> str:
        """PROJECT/NAME."""
        return f"{self.project}/{self.name}"

    @property
    def status(self) -> str:
        """As `Run.status`: of a run that is recorded as running, its lock is asked."""
        if self.recorded != RUNNING:
            return self.recorded
        return Run(self.path, {"status": RUNNING, "attempt": self.attempt}).status

    def brief(self) -> str:
        """The row as JSON in ASCII, without its path, which whoever stores it knows."""
        values = [getattr(self, name) for name in _BRIEF]
        return json.dumps(values, ensure_ascii=True, default=list)


_BRIEF: Final = tuple(name for name in RunRow.__dataclass_fields__ if name != "path")


def row_of_brief(path: Path, text: str) -> RunRow:
    """The row that `brief` wrote. Raises ValueError for another text."""
    values = dict(zip(_BRIEF, json.loads(text), strict=True))
    values["tags"] = tuple(values["tags"])
    return RunRow(path=path, **values)


def read_row(path: Path, problem: str | None = None) -> tuple[RunRow, dict[str, Plain]]:
    """(the row, the facts) of the run in the folder `path`; one with a `problem` is not read.

    Facts are the record's numbers and texts by path, as `config.stages.train.lr`. Raises
    FileNotFoundError for a folder that is gone.
    """
    if problem is not None:
        return RunRow(path=path, recorded=UNREADABLE, problem=problem), {}
    run = read_run(path)
    record = run.record
    notes = read_notes(path, record)
    metrics = record.get("metrics")
    begun, ended, seconds = _times(record)
    row = RunRow(
        path=path,
        recorded=UNREADABLE if run.problem is not None else str(record.get("status")),
        attempt=_whole(record.get("attempt")),
        created=str(record.get("created") or begun),
        ended=ended,
        seconds=seconds,
        kind=str(record.get("kind") or "train"),
        title=notes.title,
        note=notes.note,
        tags=notes.tags,
        problem=run.problem or notes.problem,
        metrics=metrics if isinstance(metrics, dict) else {},
    )
    return row, {} if run.problem is not None else flat_facts(record)


def flat_facts(record: Mapping[str, Any]) -> dict[str, Plain]:
    """The numbers, texts and truth values in `record` by their paths, bulky parts left out."""
    facts: dict[str, Plain] = {}
    for path, value in _walk("", record):
        facts[path] = value
        if len(facts) >= _MOST_FACTS:
            break
    return facts


def _walk(prefix: str, value: Any) -> Iterator[tuple[str, Plain]]:
    if prefix in _BULKY:
        return
    if isinstance(value, Mapping):
        for name, entry in value.items():
            yield from _walk(f"{prefix}.{name}" if prefix else str(name), entry)
    elif isinstance(value, list):
        if len(value) <= _LONGEST_LIST and all(not isinstance(e, (list, Mapping)) for e in value):
            yield prefix, json.dumps(value, ensure_ascii=False)[:_LONGEST_TEXT]
    elif isinstance(value, str):
        yield prefix, value[:_LONGEST_TEXT]
    else:
        yield prefix, value


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _times(record: Mapping[str, Any]) -> tuple[str, str, float | None]:
    """(when the first attempt began, when the last ended or "", seconds of all ended ones)."""
    attempts = record.get("attempts")
    listed = [a for a in attempts if isinstance(a, dict)] if isinstance(attempts, list) else []
    spans = [(_moment(a.get("start")), _moment(a.get("end"))) for a in listed]
    lengths = [(end - start).total_seconds() for start, end in spans if start and end]
    seconds = math.fsum(lengths) if lengths else None
    end = str(listed[-1].get("end") or "") if listed else ""
    return (str(listed[0].get("start") or "") if listed else ""), end, seconds


def _moment(text: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo is not None else None
