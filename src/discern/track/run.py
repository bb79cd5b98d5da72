"""Making a run and going on with one; the door to everything about runs.

The writer is in `run_writer`, the readers are in `run_folder`; both are re-exported here.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError, RunError
from discern.base.files import sweep_temporaries, write_json, write_text
from discern.track.environment import environment_record
from discern.track.git_state import git_state
from discern.track.run_folder import (
    CHECKPOINTS,
    CONFIG_FILE,
    EXIT_FILE,
    RUN_FILE,
    RUN_VERSION,
    RUNNING,
    Run,
    check_name,
    clean_name,
    find_unfinished,
    list_runs,
    open_run,
    read_run,
    runs_root,
)
from discern.track.run_lock import Holder, RunLock
from discern.track.run_writer import RunWriter, plain_fields, saving, utc_now

__all__ = [
    "Run",
    "RunWriter",
    "create_run",
    "find_unfinished",
    "list_runs",
    "open_run",
    "read_run",
    "resume_run",
    "runs_root",
]


def create_run(
    root: Path,
    project: str,
    *,
    name_stem: str | None = None,
    name: str | None = None,
    exist_ok: bool = False,
    request_hash: str | None = None,
    config_text: str = "",
    record: Mapping[str, Any] | None = None,
) -> RunWriter:
    """A new run `<root>/<project>/<name>/`, locked by this process.

    Without `name` it is called `<name_stem>-<n>`, with the first free n after those that exist.
    `project` and stem are cleaned into file names. `environment` and `git` (of the working folder)
    are recorded. With `exist_ok` an earlier run of that `name` is
    kept under `<name>~<n>`. `record` holds further fields of `run.json`. Raises ConfigError if the
    name is taken or no file name, RunError if the earlier run is being written.
    """
    folder = root / clean_name(project)
    folder.mkdir(parents=True, exist_ok=True)
    if name is None:
        path = _make_numbered(folder, clean_name(name_stem or "run"), "-")
    else:
        path = folder / check_name(name, "--name")
        _make_named(path, exist_ok=exist_ok)
    try:
        lock = RunLock(path)
        try:
            return _start(path, lock, request_hash, config_text, record or {})
        except BaseException:
            lock.close()
            raise
    except BaseException:
        # Nothing was promised yet: leave no half-made run behind.
        shutil.rmtree(path, ignore_errors=True)
        raise


def resume_run(path: Path) -> RunWriter:
    """Go on with the run in `path`: takes its lock and begins the next attempt.

    Half-written files of the attempt before are removed, torn ends of metrics and log are mended.
    `environment` and `git` of `run.json` become those of now; changed versions are logged, since
    equal results are promised for equal versions only. The caller rewinds metrics and events to
    the step that it goes on from. Raises RunError, naming process and host, if the run is being
    written.
    """
    open_run(str(path), path.parent)
    lock = RunLock(path)
    try:
        # Read again: whoever held the lock until now may have changed it.
        run = open_run(str(path), path.parent)
        sweep_temporaries(path)
        if (path / CHECKPOINTS).is_dir():
            sweep_temporaries(path / CHECKPOINTS)
        attempts = [dict(attempt) for attempt in run.record["attempts"]]
        if attempts and run.record.get("problems"):
            attempts[-1]["problems"] = run.record["problems"]
        if attempts and attempts[-1].get("end") is None:
            attempts[-1]["status"] = run_end = _end_of(run)
            attempts[-1]["reason"] = f"found {run_end} by the next attempt"
        holder = lock.sign(run.attempt + 1)
        surroundings = _surroundings(path)
        record = {
            **run.record,
            **surroundings,
            "status": RUNNING,
            "problems": [],
            "attempt": holder.fence,
            "attempts": [*attempts, _attempt(holder)],
        }
        with saving(path / RUN_FILE):
            write_json(path / RUN_FILE, record)
        # A supervisor takes exit.json as the end of the run as it is now.
        (path / EXIT_FILE).unlink(missing_ok=True)
        writer = RunWriter(path, lock, record)
        writer.log(f"attempt {holder.fence} by process {holder.pid} on {holder.host}")
        for change in _changes(run.record, surroundings):
            writer.log(f"warning: since the attempt before: {change}")
    except BaseException:
        lock.close()
        raise
    return writer


def _start(
    path: Path,
    lock: RunLock,
    request_hash: str | None,
    config_text: str,
    fields: Mapping[str, Any],
) -> RunWriter:
    holder = lock.sign(1)
    record = {
        "format": "discern.run",
        "version": RUN_VERSION,
        "status": RUNNING,
        "created": utc_now(),
        "attempt": 1,
        "attempts": [_attempt(holder)],
        "request_hash": request_hash,
        "metrics": {},
        **_surroundings(path),
        **plain_fields(fields),
    }
    with saving(path / RUN_FILE):
        write_text(path / CONFIG_FILE, config_text)
        write_json(path / RUN_FILE, record)
    writer = RunWriter(path, lock, record)
    writer.log(f"attempt 1 by process {holder.pid} on {holder.host}")
    return writer


def _surroundings(path: Path) -> dict[str, Any]:
    """What the run's results may hang on besides config and data."""
    return {"environment": environment_record(path), "git": git_state(Path.cwd())}


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The versions, processor and commit that differ between two attempts."""

    def facts(record: Mapping[str, Any]) -> dict[str, Any]:
        environment = record.get("environment") or {}
        return {
            **(environment.get("versions") or {}),
            "processor": (environment.get("cpu") or {}).get("model"),
            "commit": (record.get("git") or {}).get("commit"),
        }

    old, new = facts(before), facts(now)
    return [f"{name} {old.get(name)} -> {new[name]}" for name in new if old.get(name) != new[name]]


def _make_numbered(folder: Path, stem: str, mark: str) -> Path:
    """A new empty folder `<stem><mark><n>`; two processes at once get two numbers."""
    taken = [path.name.removeprefix(stem + mark) for path in folder.glob(f"{stem}{mark}*")]
    first = 1 + max((int(text) for text in taken if text.isdecimal()), default=0)
    for number in itertools.count(first):
        path = folder / f"{stem}{mark}{number}"
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path
    raise RunError("no free number for a run", where=folder)


def _make_named(path: Path, *, exist_ok: bool) -> None:
    try:
        path.mkdir()
    except FileExistsError:
        if not exist_ok:
            raise ConfigError(
                f"there is already a run '{path.name}'",
                where=path,
                hint="choose another --name, or --exist-ok to keep the earlier under a number",
            ) from None
        lock = RunLock(path)
        try:
            # Renaming onto an empty folder replaces it: the number stays reserved throughout.
            path.rename(_make_numbered(path.parent, path.name, "~"))
        finally:
            lock.close()
        _make_named(path, exist_ok=False)


def _end_of(run: Run) -> str:
    """How an attempt ended whose end `run.json` does not tell, asked by the holder of the lock."""
    end = run.exit_record()
    if end is not None and end.get("attempt") == run.attempt:
        return str(end.get("status"))
    return "lost"


def _attempt(holder: Holder) -> dict[str, Any]:
    return {
        "number": holder.fence,
        "start": utc_now(),
        "end": None,
        "status": RUNNING,
        "host": holder.host,
        "pid": holder.pid,
        "boot_id": holder.boot_id,
    }
