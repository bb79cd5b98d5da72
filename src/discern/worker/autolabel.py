"""The verb `autolabel`: rounds of training on labeled images and labeling raw ones.

The rounds themselves are in `label_rounds`, a trial in `label_trial`, what they leave in the ledger
of `data.label_ledger`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.files import hash_json
from discern.base.names import counted
from discern.config.assemble import resolve_request
from discern.config.request import Request
from discern.config.schema import RunConfig
from discern.data.label_folders import LabelFolders
from discern.data.label_home import LabelHome
from discern.data.label_ledger import LabelLedger
from discern.launch.labeling import folders_told, label_place, label_project
from discern.track.run import runs_root
from discern.track.run_folder import FINISHED
from discern.track.run_group import GroupWriter, open_group
from discern.track.run_lock import RunLock
from discern.training.accord import StopRequest
from discern.training.kept_features import FeatureStore
from discern.worker.child_runs import (
    KEPT_FEATURES,
    forget_features,
    stop_while_waiting,
    stopped_group,
)
from discern.worker.label_rounds import LabelRounds, LabelRules
from discern.worker.label_scoring import ImageScorer
from discern.worker.label_trial import TrainedTrial

KIND = "autolabel"
# With fewer images of people, a fifth of them says too little of how sure a model may be: at 200
# held-out images and a precision of 0.95 the standard error is 1.5 points.
MANY_LABELED = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """A labeling ready to begin."""

    request: Request
    config: RunConfig
    place: LabelHome
    rules: LabelRules
    root: Path
    project: str
    cross_validated: bool | None


def autolabel_verb(request: Request, console: Console) -> int:
    """Do one `autolabel` request."""
    console.emit(autolabel(request, console))
    return 0


def autolabel(request: Request, console: Console) -> dict[str, Any]:
    """Label as asked; gives the object of `--json`. Raises DiscernError.

    The same request again goes on with what was not finished.
    """
    started = time.monotonic()
    plan = plan_labeling(request)
    place = plan.place
    place.ledger_folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(place.ledger_folder)
    try:
        lock.sign(1)
        folders = place.settle(LabelLedger(place.ledger_folder), console.warn)
        writer, resumed = open_group(
            plan.root / plan.project,
            kind=KIND,
            identity=_identity(plan, folders),
            stem=KIND,
            name=plan.config.tracking.name,
            fresh=bool(request.arguments.get("fresh")),
        )
        with writer, stop_while_waiting() as stop:
            _announce(plan, folders, writer, console, resumed=resumed)
            try:
                trial = _trial(plan, folders, writer, stop, console)
                outcome = LabelRounds(place, plan.rules, trial, writer, console).run()
            except KeyboardInterrupt:
                raise stopped_group(writer.id, "trial") from None
            forget_features(writer.path)
            outcome["seconds"] = round(time.monotonic() - started, 3)
            writer.update(status=FINISHED, outcome=outcome)
    finally:
        lock.close()
    return outcome


def plan_labeling(request: Request) -> LabelPlan:
    """What was asked for. Raises ConfigError and DataError."""
    given = request.arguments
    return LabelPlan(
        request=request,
        config=resolve_request(request).config,
        place=label_place(request),
        rules=LabelRules(
            n_trials=given["n_trials"],
            threshold=given["threshold"],
            precision=given["precision_target"],
            audit=given["audit"],
        ),
        root=runs_root(given["runs"]),
        project=label_project(request),
        cross_validated=given["cross_validate"],
    )


def _identity(plan: LabelPlan, folders: LabelFolders) -> str:
    """What makes two requests the same: config and rules, people's labels, and the raw images."""
    record = plan.config.identity()
    for key in ("source", "root", "workers"):
        record["data"].pop(key)
    rules = plan.rules
    return hash_json(
        {
            "config": record,
            "human": folders.human.hash,
            "raw": sorted(folders.raw.ids.tolist()),
            "rules": [rules.threshold, rules.precision, rules.audit, plan.place.mode],
            "folds": [plan.place.folds, plan.cross_validated],
        }
    )


def _crosses(plan: LabelPlan, folders: LabelFolders) -> bool:
    if plan.cross_validated is not None:
        return plan.cross_validated
    return len(folders.human) < MANY_LABELED


def _trial(
    plan: LabelPlan,
    folders: LabelFolders,
    writer: GroupWriter,
    stop: StopRequest,
    console: Console,
) -> TrainedTrial:
    return TrainedTrial(
        request=plan.request,
        config=plan.config,
        writer=writer,
        root=plan.root,
        raw=plan.place.raw,
        folds=plan.place.folds,
        cross_validated=_crosses(plan, folders),
        stop=stop,
        console=console,
        scorer=ImageScorer(
            plan.config.data.workers, FeatureStore(writer.path / KEPT_FEATURES, begins=False)
        ),
    )


def _announce(
    plan: LabelPlan,
    folders: LabelFolders,
    writer: GroupWriter,
    console: Console,
    *,
    resumed: bool,
) -> None:
    for line in folders_told(folders):
        console.say(line)
    for problem in folders.problems[:10]:
        console.warn(f"left out: {problem.path}: {problem.text}")
    if _crosses(plan, folders):
        console.say(f"trials   a run, and {counted(plan.place.folds - 1, 'run')} to calibrate it "
                    "on every labeled image")  # fmt: skip
    else:
        console.say("trials   a run, calibrated on the labeled images that it holds out")
    if resumed:
        console.say(f"resume   {writer.id}: this request is unfinished there")
    console.say(f"group    {writer.path}")
