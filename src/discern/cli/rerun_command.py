"""`discern runs rerun`: a run's stored config trained again, and the weights compared."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.errors import CHECK_FAILED, OK, ConfigError, RunError
from discern.config.request import Request
from discern.launch.worker_process import ChildExecutor
from discern.track.run import list_runs, open_run
from discern.track.run_folder import TRAINING


def rerun_command(name: str, root: Path, console: Console) -> int:
    """Train a finished run again; exit code 3 and the differing inputs if the weights differ."""
    run = open_run(name, root)
    if run.kind != TRAINING:
        command = run.record.get("command")
        raise ConfigError(
            "only a training of `discern train` can be done again from its record",
            where=run.id,
            got=run.kind,
            hint=f"discern capture -- {shlex.join(command)}" if command else None,
        )
    if run.status != "finished":
        raise RunError(
            "only a finished run can be compared with its repetition",
            where=run.id,
            got=run.status,
            hint="the same train command, or train --resume, finishes it",
        )
    request = Request(
        verb="train",
        arguments={"runs": str(root), "resume": None, "fresh": True, "exist_ok": False},
        files=[str(run.path / "config.yaml")],
        pairs=[
            ("--project", "tracking.project", run.project),
            ("--name", "tracking.name", _free_name(root, run.project, f"{run.name}-rerun")),
        ],
        json=False,
        quiet=console.json,
    )
    code = ChildExecutor(aside=console.json).submit(request).wait()
    if code != OK:
        raise RunError("the repetition did not finish", where=run.id, got=f"exit code {code}")
    again = open_run(f"{run.project}/{request.pairs[1][2]}", root)
    same = run.record["weights_hash"] == again.record["weights_hash"]
    differing = [] if same else differing_inputs(run.record, again.record)
    if same:
        console.result(
            f"{run.id} and {again.id}: the same weights, {run.record['weights_hash'][:16]}"
        )
    else:
        console.result(f"{run.id} and {again.id}: other weights")
        for line in differing or ["no input that is recorded differs"]:
            console.result(f"  {line}")
    console.emit(
        {
            "run": run.id,
            "rerun": again.id,
            "same_weights": same,
            "differing": differing,
            "metrics": again.record["metrics"],
        }
    )
    return OK if same else CHECK_FAILED


def _free_name(root: Path, project: str, stem: str) -> str:
    taken = {run.name for run in list_runs(root, project)}
    number = 1
    while f"{stem}-{number}" in taken:
        number += 1
    return f"{stem}-{number}"


def differing_inputs(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """What two runs' records say differently about images, config, device, versions and code."""
    found: list[str] = []
    _compare("images", one.get("images_hash"), other.get("images_hash"), found)
    _compare("config", _without_names(one), _without_names(other), found)
    for key in ("device", "git"):
        _compare(key, one.get(key), other.get(key), found)
    was, now = one.get("environment") or {}, other.get("environment") or {}
    for key in ("versions", "packages", "cpu", "gpus", "python"):
        _compare(f"environment.{key}", was.get(key), now.get(key), found)
    return found


def _without_names(record: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (record.get("config") or {}).items() if key != "tracking"}


def _compare(name: str, one: Any, other: Any, found: list[str]) -> None:
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            _compare(f"{name}.{key}", one.get(key), other.get(key), found)
    elif one != other:
        found.append(f"{name}: {one!r} then, {other!r} now")
