"""The index of runs: the rows of all run folders under a root, kept up to date in SQLite.

The folders are the truth. Each look compares their state with that of the index, reads anew what
has changed, and answers from both; that the index is written is worth time only. So it may be
deleted, damaged, of another version, or not writable: the answer is the same.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from discern.base.errors import RunError
from discern.track.run_index_file import IndexFile, NewerIndexError, Place, is_damage
from discern.track.run_rows import Plain, RunRow, read_row, row_of_brief
from discern.track.run_scan import METRICS_FILE, FoundFolder, file_state, scan_folders
from discern.track.series_summary import SeriesSummary, summarize_run

# A file changed again within one tick of the file system's clock may look the same: what changed
# this shortly before it was read is read again next time. Ticks are 1 to 10 ms, 2 s on FAT.
_TICK_NS: Final = 2_000_000_000


@dataclass(slots=True)
class RunTable:
    """All runs under `root`, newest first, as their folders were when it was read.

    `notices`: what the person should know: what is gone, what could not be read or written.
    """

    root: Path
    rows: list[RunRow]
    notices: list[str]
    _index: IndexFile
    _facts: dict[Place, dict[str, Plain]] = field(default_factory=dict)
    _series: dict[Place, dict[str, SeriesSummary]] = field(default_factory=dict)

    def facts(self) -> Callable[[RunRow], Mapping[str, Plain]]:
        """A function that gives a run's facts: its record's numbers and texts by path."""
        missing = {_place(row) for row in self.rows} - self._facts.keys()
        if missing:
            with contextlib.suppress(sqlite3.Error, NewerIndexError):
                self._facts = self._index.read_facts() | self._facts
        for row in self.rows:
            if _place(row) not in self._facts:
                self._facts[_place(row)] = _read_again(row)
        return lambda row: self._facts[_place(row)]

    def series(
        self, rows: Sequence[RunRow] | None = None
    ) -> Callable[[RunRow], Mapping[str, SeriesSummary]]:
        """A function that gives the summaries of a run's series, of `rows` (default: all).

        The metrics of runs that have logged since they were last summed up are read through.
        """
        missing = [
            r for r in (self.rows if rows is None else rows) if _place(r) not in self._series
        ]
        stored: dict[Place, tuple[str, str]] = {}
        if missing:
            with contextlib.suppress(sqlite3.Error, NewerIndexError):
                stored = self._index.read_series(_place(missing[0]) if len(missing) == 1 else None)
        fresh: list[tuple[Place, str, str]] = []
        for row in missing:
            place = _place(row)
            state, newest = _metrics_state(row)
            if place in stored and stored[place][0] == state:
                records = json.loads(stored[place][1])
                self._series[place] = {n: SeriesSummary(**r) for n, r in records.items()}
                continue
            self._series[place] = _summaries(row, self.notices)
            records = {name: one.record() for name, one in self._series[place].items()}
            text = json.dumps(records)
            fresh.append((place, _settled(state, newest, time.time_ns()), text))
        with _told(self.notices):
            self._index.write_series(fresh)
        return lambda row: self._series[_place(row)]


def read_index(root: Path, *, rebuild: bool = False) -> RunTable:
    """The table of all runs under `root`, of the index where it is up to date; the index follows.

    `rebuild`: nothing of the index is believed. Raises ConfigError if `root` is no folder.
    """
    now = time.time_ns()
    found, problems = scan_folders(root)
    index = IndexFile(root)
    notices = list(problems)
    stored: dict[Place, tuple[str, str]] = {}
    try:
        stored = {} if rebuild else index.read_rows()
    except NewerIndexError as error:
        notices.append(f"{error}: it is left alone, and the folders are read without it")
        index.closed = True
    except sqlite3.DatabaseError as error:
        notices.append(f"the index cannot be read, so all folders are: {error}")
        index.damaged = is_damage(error)
    table = RunTable(root, [], notices, index)
    changed: list[tuple[Place, str, RunRow]] = []
    for folder in found:
        place = (folder.project, folder.name)
        state, brief = stored.pop(place, ("", ""))
        if state == folder.state and not rebuild:
            with contextlib.suppress(ValueError, TypeError):
                table.rows.append(row_of_brief(root / folder.project / folder.name, brief))
                continue
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            row, table._facts[place] = read_row(_path(root, folder), folder.problem)
            table.rows.append(row)
            changed.append((place, _settled(folder.state, folder.newest_ns, now), row))
    table.rows.sort(key=lambda row: (row.created, row.name), reverse=True)
    notices += _tell_gone(root, list(stored))
    with _told(notices):
        index.write_rows(changed, list(stored), table._facts)
    return table


def _path(root: Path, folder: FoundFolder) -> Path:
    return root / folder.project / folder.name


def _place(row: RunRow) -> Place:
    return row.project, row.name


def _settled(state: str, newest_ns: int, now_ns: int) -> str:
    """The state to store: none for what changed so shortly ago that it could change unseen."""
    return "" if abs(now_ns - newest_ns) < _TICK_NS else state


def _metrics_state(row: RunRow) -> tuple[str, int]:
    try:
        return file_state(str(row.path / METRICS_FILE))
    except OSError:
        return "!", 0


def _read_again(row: RunRow) -> dict[str, Plain]:
    with contextlib.suppress(FileNotFoundError):
        return read_row(row.path, row.problem)[1]
    return {}


def _summaries(row: RunRow, notices: list[str]) -> dict[str, SeriesSummary]:
    try:
        return summarize_run(row.path)
    except (OSError, RunError) as error:
        told = error.what if isinstance(error, RunError) else error.strerror
        notices.append(f"{row.id}: the metrics cannot be read: {told}")
        return {}


def _tell_gone(root: Path, gone: list[Place]) -> list[str]:
    """What was here at the last look: moved away, renamed or deleted by hand."""
    names = [f"{project}/{name}" for project, name in gone]
    if not names:
        return []
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return [f"gone since the last look at {root}: {', '.join(names[:5])}{more}"]


@contextlib.contextmanager
def _told(notices: list[str]) -> Iterator[None]:
    """Tell that the index could not be written; nothing else depends on it."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        notices.append(f"the index was not written, the list is right all the same: {error}")
