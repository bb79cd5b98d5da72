"""Putting a run of another program among ours, once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError
from discern.track.imported.foreign_run import ForeignRun
from discern.track.imported.forms import last_values
from discern.track.plain_values import to_plain
from discern.track.run import RunWriter, create_run, resume_run
from discern.track.run_folder import FINISHED, Run, clean_name, list_runs

NEW, RENEWED, KNOWN = "imported", "imported again", "already there"


@dataclass(frozen=True, slots=True)
class Imported:
    """Where a foreign run is among ours, and whether that is new."""

    run: str
    path: Path
    outcome: str


def store_run(foreign: ForeignRun, root: Path, project: str) -> Imported:
    """A run under `root` with the series, settings and facts of `foreign`.

    `run.json` says where it came from in `imported`: form, source, fingerprint, checkpoints,
    problems. A source that is there with the same contents is left; one whose contents changed is
    read anew into the run that it has, as its next attempt.
    """
    known = _known(foreign, root)
    fingerprint = foreign.fingerprint()
    if known is not None and known.record["imported"].get("fingerprint") == fingerprint:
        return Imported(known.id, known.path, KNOWN)
    writer = _create(foreign, root, project) if known is None else resume_run(known.path)
    with writer:
        if known is not None:
            writer.metrics.rewind(-1)
        _fill(writer, foreign, fingerprint)
        writer.finish(FINISHED, f"imported from {foreign.source}")
    return Imported(writer.run.id, writer.path, NEW if known is None else RENEWED)


def _known(foreign: ForeignRun, root: Path) -> Run | None:
    for run in list_runs(root) if root.is_dir() else []:
        told = run.record.get("imported")
        if isinstance(told, dict) and told.get("source") == str(foreign.source):
            return run
    return None


def _create(foreign: ForeignRun, root: Path, project: str) -> RunWriter:
    name = clean_name(foreign.source.name)
    try:
        return create_run(root, project, name=name, record=_record(foreign))
    except ConfigError:  # the name is another run's
        return create_run(root, project, name_stem=name, record=_record(foreign))


def _record(foreign: ForeignRun) -> dict[str, Any]:
    facts = foreign.facts
    experiment = {key: facts[key] for key in ("name", "uuid", "comment", "tags") if key in facts}
    return {
        "kind": "imported",
        # Those of this process are not the run's.
        "environment": {},
        "git": {"commit": facts["commit"], "dirty": facts.get("is_dirty")}
        if "commit" in facts
        else {},
        "config": _plain(foreign.settings),
        "hparams": _plain(foreign.settings),
        "experiment": _plain(experiment),
    }


def _fill(writer: RunWriter, foreign: ForeignRun, fingerprint: str) -> None:
    times = [point.time for points in foreign.series.values() for point in points]
    for name, points in foreign.series.items():
        series = writer.metrics.series(name)
        for point in points:
            series.add(point.step, point.value, point.time)
    for problem in foreign.problems:
        writer.log(f"warning: {problem}")
    writer.update(
        metrics=last_values(foreign),
        **_record(foreign),
        imported={
            "form": foreign.form,
            "source": str(foreign.source),
            "fingerprint": fingerprint,
            "began": min(times, default=None),
            "ended": max(times, default=None),
            "at": time.time(),
            "checkpoints": foreign.checkpoints,
            "facts": _plain(foreign.facts),
            "problems": foreign.problems,
        },
    )


def _plain(value: Any) -> Any:
    """`value` for `run.json`; what has no plain form, such as a date, as text."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    try:
        return to_plain(value)
    except TypeError:
        return str(value)
