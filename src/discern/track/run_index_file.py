"""The SQLite file of the index of runs. Owns `.runs.sqlite` and `.runs.lock` under a root.

One process at a time writes it, under the lock; SQLite's rollback journal undoes an update that
was killed. Whoever finds it locked goes without writing. Names are bytes, as a folder's name need
not be text.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from discern.track.run_rows import Plain, RunRow

INDEX_FILE: Final = ".runs.sqlite"
LOCK_FILE: Final = ".runs.lock"
INDEX_VERSION: Final = 1
# Marks the file as ours: "dris".
_APPLICATION: Final = 0x64726973
_PATIENCE_S: Final = 2.0
_DAMAGES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR)
# Runs written at once; a killed rebuild keeps what was done.
_BATCH: Final = 500
_TABLES: Final = {
    "runs": "project BLOB, name BLOB, state TEXT, brief TEXT, PRIMARY KEY (project, name)",
    "facts": "project BLOB, name BLOB, facts TEXT, PRIMARY KEY (project, name)",
    "series": "project BLOB, name BLOB, state TEXT, summary TEXT, PRIMARY KEY (project, name)",
}
Place = tuple[str, str]


class NewerIndexError(Exception):
    """The index is of a newer version, or not ours: it is left alone."""


def is_damage(error: sqlite3.Error) -> bool:
    """Whether `error` tells of a broken file, not of one that cannot be reached just now."""
    return error.sqlite_errorcode & 0xFF in _DAMAGES


class IndexFile:
    """The file under `root`. `closed`: it is not to be touched; `damaged`: to be replaced."""

    def __init__(self, root: Path) -> None:
        self.path = root / INDEX_FILE
        self.closed = False
        self.damaged = False

    def read_rows(self) -> dict[Place, tuple[str, str]]:
        """(state, brief) of each run."""
        return {
            (os.fsdecode(project), os.fsdecode(name)): (state, brief)
            for project, name, state, brief in self._read("project, name, state, brief", "runs")
        }

    def read_facts(self) -> dict[Place, dict[str, Plain]]:
        """The facts of each run."""
        return {
            (os.fsdecode(project), os.fsdecode(name)): json.loads(facts)
            for project, name, facts in self._read("project, name, facts", "facts")
        }

    def read_series(self, only: Place | None = None) -> dict[Place, tuple[str, str]]:
        """(state of the metrics, summaries as JSON) of each run that was summed up, or of one."""
        return {
            (os.fsdecode(project), os.fsdecode(name)): (state, summary)
            for project, name, state, summary in self._read(
                "project, name, state, summary", "series", only
            )
        }

    def write_rows(
        self,
        changed: Sequence[tuple[Place, str, RunRow]],
        gone: Sequence[Place],
        facts: Mapping[Place, Mapping[str, Plain]],
    ) -> None:
        """Take over rows and facts, drop the gone. Raises sqlite3.Error, OSError."""
        if not changed and not gone:
            return
        with self._writing() as connection:
            if connection is None:
                return
            for start in range(0, max(len(changed), 1), _BATCH):
                batch = changed[start : start + _BATCH]
                with _transaction(connection):
                    connection.executemany(
                        "INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)",
                        [(*_key(place), state, row.brief()) for place, state, row in batch],
                    )
                    connection.executemany(
                        "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)",
                        [(*_key(p), json.dumps(facts[p])) for p, _, _ in batch],
                    )
            with _transaction(connection):
                for table in _TABLES:
                    connection.executemany(
                        f"DELETE FROM {table} WHERE project = ? AND name = ?",  # noqa: S608
                        [_key(place) for place in gone],
                    )

    def write_series(self, fresh: Sequence[tuple[Place, str, str]]) -> None:
        """Take over summaries. Raises sqlite3.Error, OSError."""
        if not fresh:
            return
        with self._writing() as connection:
            if connection is None:
                return
            with _transaction(connection):
                connection.executemany(
                    "INSERT OR REPLACE INTO series VALUES (?, ?, ?, ?)",
                    [(*_key(place), state, text) for place, state, text in fresh],
                )

    def _read(
        self, columns: str, table: str, only: Place | None = None
    ) -> Sequence[tuple[Any, ...]]:
        if self.closed or self.damaged or not self.path.exists():
            return []
        with contextlib.closing(self._connect("rw")) as connection:
            if self._check(connection) < INDEX_VERSION:
                return []
            words = f"SELECT {columns} FROM {table}"  # noqa: S608
            if only is None:
                return connection.execute(words).fetchall()
            return connection.execute(
                f"{words} WHERE project = ? AND name = ?", _key(only)
            ).fetchall()

    def _connect(self, mode: str) -> sqlite3.Connection:
        address = f"file:{quote(os.fsencode(self.path))}?mode={mode}"
        return sqlite3.connect(address, uri=True, timeout=_PATIENCE_S, isolation_level=None)

    def _check(self, connection: sqlite3.Connection) -> int:
        """The version of an index of ours, 0 for an empty file. Raises NewerIndexError."""
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        mark = int(connection.execute("PRAGMA application_id").fetchone()[0])
        pages = int(connection.execute("PRAGMA page_count").fetchone()[0])
        if mark == _APPLICATION and version > INDEX_VERSION:
            raise NewerIndexError(
                f"{self.path} is of version {version}, newer than {INDEX_VERSION}"
            )
        if mark != _APPLICATION and pages > 0:
            raise NewerIndexError(f"{self.path} is a database of something else")
        return version

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection | None]:
        """A connection that may write, the tables in place; None while another process writes."""
        if self.closed:
            yield None
            return
        with _write_lock(self.path.with_name(LOCK_FILE)) as held:
            if not held:
                yield None
                return
            if self.damaged and not self._is_sound():
                for file in (self.path, self.path.with_name(f"{INDEX_FILE}-journal")):
                    file.unlink(missing_ok=True)
            self.damaged = False
            with contextlib.closing(self._connect("rwc")) as connection:
                connection.execute("PRAGMA synchronous = NORMAL")
                try:
                    self._make_tables(connection)
                except NewerIndexError:  # another program has replaced it since it was read
                    self.closed = True
                    yield None
                    return
                yield connection

    def _is_sound(self) -> bool:
        """Whether another process has replaced the damaged file meanwhile."""
        try:
            with contextlib.closing(self._connect("rw")) as connection:
                if self._check(connection) == INDEX_VERSION:
                    for table in _TABLES:
                        connection.execute(f"SELECT * FROM {table} LIMIT 1")  # noqa: S608
                return bool(connection.execute("PRAGMA quick_check(1)").fetchone()[0] == "ok")
        except NewerIndexError:
            return True
        except sqlite3.Error:
            return False

    def _make_tables(self, connection: sqlite3.Connection) -> None:
        if self._check(connection) == INDEX_VERSION:
            return
        with _transaction(connection):
            for table, columns in _TABLES.items():
                connection.execute(f"DROP TABLE IF EXISTS {table}")
                connection.execute(f"CREATE TABLE {table} ({columns})")
            connection.execute(f"PRAGMA application_id = {_APPLICATION}")
            connection.execute(f"PRAGMA user_version = {INDEX_VERSION}")


def _key(place: Place) -> tuple[bytes, bytes]:
    """Names as bytes: a folder's name need not be text."""
    return os.fsencode(place[0]), os.fsencode(place[1])


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@contextlib.contextmanager
def _write_lock(path: Path) -> Iterator[bool]:
    """Whether this process alone may write the index; it waits a little for another one."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                flock(handle, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    yield False
                    return
                time.sleep(0.01)
            else:
                break
        yield True
    finally:
        os.close(handle)
