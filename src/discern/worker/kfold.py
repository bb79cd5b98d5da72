"""The verb `kfold`: as many runs as folds, each reported on the fold that it never saw.

The runs are children of this process, one after the other: one that fails takes nothing along, and
the same command again goes on with it. What they give is joined in `kfold_join`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from discern.base.console import Console
from discern.base.errors import INTERRUPTED, ConfigError, RunError
from discern.base.files import hash_json
from discern.config.assemble import resolve_request
from discern.config.request import Request
from discern.config.schema import RunConfig
from discern.data.head_spec import is_plain
from discern.data.scan import ScannedData
from discern.track.run import Run, read_run, runs_root
from discern.track.run_folder import FINISHED, RUN_FILE, check_name
from discern.track.run_group import GroupWriter, open_group
from discern.training.accord import StopRequest
from discern.worker.child_runs import (
    failed_run,
    forget_features,
    shared_arguments,
    start_child,
    stop_while_waiting,
    stopped_group,
)
from discern.worker.data_scan import scan
from discern.worker.kfold_bundle import bundle_folds
from discern.worker.kfold_join import join_folds

KIND = "kfold"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldedRequest:
    """A cross-validation ready to begin. `numbers`: the folds; the manifest has their column."""

    request: Request
    config: RunConfig
    scanned: ScannedData
    numbers: tuple[int, ...]
    root: Path
    project: str
    identity: str


def kfold_verb(request: Request, console: Console) -> int:
    """Do one `kfold` request."""
    console.emit(kfold(request, console))
    return 0


def kfold(request: Request, console: Console) -> dict[str, Any]:
    """Train on all folds but one, each in its turn; gives the object of `--json`.

    Raises Interrupted when stopped, and RunError or ConfigError when a fold's run fails: the same
    request again goes on with it.
    """
    started = time.monotonic()
    plan = plan_folds(request, console)
    stem = f"kfold-{_model_stem(plan.config)}"
    writer, resumed = open_group(
        plan.root / plan.project,
        kind=KIND,
        identity=plan.identity,
        stem=stem,
        name=plan.config.tracking.name,
        fresh=bool(request.arguments.get("fresh")),
        fields={"folds": list(plan.numbers), "images_hash": plan.scanned.manifest.hash},
    )
    with writer, stop_while_waiting() as stop:
        try:
            _announce(plan, writer, console, resumed=resumed)
            runs = {
                number: _run_fold(plan, writer, number, stop, console) for number in plan.numbers
            }
            outcome = join_folds(plan.config, plan.scanned, runs, writer, console)
            kind = request.arguments.get("bundle")
            if kind is not None:
                outcome["model"] = bundle_folds(
                    kind, plan.config, plan.scanned, runs, writer, console
                )
        except KeyboardInterrupt:
            raise stopped_group(writer.id, "fold") from None
        forget_features(writer.path)
        outcome["seconds"] = round(time.monotonic() - started, 3)
        writer.update(
            status=FINISHED, **{name: outcome[name] for name in ("mean", "std", "seconds")}
        )
    return outcome


def plan_folds(request: Request, console: Console) -> FoldedRequest:
    """Look at the images and deal them to folds. Raises before anything is made."""
    config = resolve_request(request).config
    data = config.data
    if data.held_fold is not None:
        raise ConfigError(
            "a cross-validation holds out every fold in turn", where="data.held_fold",
            got=data.held_fold, hint="`discern train` with data.held_fold runs one of them",
        )  # fmt: skip
    for stage in config.stages.values():
        _ = stage.batch  # one number for all folds
    scanned = scan(data, console, folds=True)
    numbers = np.unique(np.asarray(scanned.manifest.fold))
    record = config.identity()
    _check_bundle(scanned, data.side_heads, request.arguments.get("bundle"))
    for key in ("source", "root", "workers"):
        record["data"].pop(key)
    project = config.tracking.project
    return FoldedRequest(
        request=request,
        config=config,
        scanned=scanned,
        numbers=tuple(numbers.tolist()),
        root=runs_root(request.arguments.get("runs")),
        project=scanned.name if project is None else check_name(project, "--project"),
        identity=hash_json({"config": record, "images": scanned.manifest.hash}),
    )


def _check_bundle(scanned: ScannedData, side_heads: Sequence[str], bundle: str | None) -> None:
    """Raises ConfigError, before anything is trained, for models that cannot be made into one."""
    heads = scanned.manifest.heads
    if bundle is None or (is_plain([head.spec for head in heads]) and not side_heads):
        return
    raise ConfigError(
        "the folds' models become one for one label column with one label an image",
        where=f"--{bundle}",
        got=", ".join([*(f"{head.name} ({head.kind})" for head in heads), *side_heads]),
        hint=f"leave --{bundle} out: every head is scored out of fold, and each fold's own model "
        "is kept in its run",
    )


def _model_stem(config: RunConfig) -> str:
    return (config.model.name or "auto").rpartition(":")[2].rpartition("/")[2]


def _announce(plan: FoldedRequest, writer: GroupWriter, console: Console, *, resumed: bool) -> None:
    manifest = plan.scanned.manifest
    fold = np.asarray(manifest.fold)
    sizes = ", ".join(str(int((fold == number).sum())) for number in plan.numbers)
    drawn = "drawn, stratified" if plan.scanned.random_split else "of the data's fold column"
    together = ", groups together" if manifest.group is not None else ""
    console.say(f"folds    {len(plan.numbers)} {drawn}{together}: {sizes} images")
    if resumed:
        console.say(f"resume   {writer.id}: this request is unfinished there")
    console.say(f"group    {writer.path}")


def _run_fold(
    plan: FoldedRequest, writer: GroupWriter, number: int, stop: StopRequest, console: Console
) -> Run:
    """The finished run of one fold: an earlier one, or trained now."""
    path = _fold_path(writer, number)
    place = f"{plan.numbers.index(number) + 1} of {len(plan.numbers)}"
    earlier = _finished_run(path, number)
    if earlier is not None:
        console.say(f"fold {number} ({place}): done before, {earlier.id}")
        return earlier
    console.say(f"fold {number} ({place}): {path.name}")
    started = time.monotonic()
    code = start_child(_fold_request(plan, writer, number), console).wait()
    if stop.requested or code == INTERRUPTED:
        raise stopped_group(writer.id, "fold")
    run = _finished_run(path, number)
    if code != 0 or run is None:
        raise failed_run(path, f"fold {number}", code)
    console.say(f"fold {number} took {time.monotonic() - started:.1f} s")
    return run


def _fold_path(writer: GroupWriter, number: int) -> Path:
    return writer.path.parent / f"{writer.path.name}-fold-{number}"


def _fold_request(plan: FoldedRequest, writer: GroupWriter, number: int) -> Request:
    """The training of one fold. What makes it one is set last, so that nothing overrides it."""
    first = plan.numbers[0]
    fields: dict[str, Any] = {
        "data.held_fold": number,
        "data.folds": len(plan.numbers),
        "tracking.project": plan.project,
        "tracking.name": _fold_path(writer, number).name,
    }
    return replace(
        plan.request,
        verb="train",
        arguments={
            "runs": str(plan.root),
            "resume": None,
            "fresh": False,
            "exist_ok": False,
            **shared_arguments(writer.path, _finished_run(_fold_path(writer, first), first)),
        },
        sets=[*plan.request.sets, *(f"{key}={json.dumps(value)}" for key, value in fields.items())],
        json=False,
    )


def _finished_run(path: Path, number: int) -> Run | None:
    """The run in `path` if it is finished. Raises RunError for one of another fold."""
    if not (path / RUN_FILE).is_file():
        return None
    run = read_run(path)
    if run.status != FINISHED:
        return None
    held = run.record.get("config", {}).get("data", {}).get("held_fold")
    if held != number:
        raise RunError("the run is not that of its fold", where=run.id, got=held, expected=number)
    return run
