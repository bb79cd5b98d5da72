"""One trial of automatic labeling: a run on the labels so far, and what it says of raw images.

People's images are dealt to folds. The trial's own run holds out the last one; with
cross-validation further runs hold out the others, so that every image that a person labeled is
judged by a model that never saw it, and raw images by the mean of all. Labels of models are in
train alone.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import INTERRUPTED, RunError
from discern.config.request import Request
from discern.config.schema import RunConfig
from discern.data.label_folders import LabelFolders, deal_folds, trial_manifest
from discern.data.label_ledger import GivenLabel
from discern.data.manifest import SPLITS, Manifest
from discern.data.manifest_files import write_manifest
from discern.track.run import Run, read_run
from discern.track.run_folder import FINISHED, RUN_FILE
from discern.track.run_group import GroupWriter
from discern.training.accord import StopRequest
from discern.worker.child_runs import failed_run, shared_arguments, start_child, stopped_group
from discern.worker.label_scoring import ImageScorer
from discern.worker.open_model import OpenedModel, OpenRequest, open_model


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """`held_logits` [N, K], `held_targets` and `held_ids` [N] of people's images that no scoring
    model saw; `raw_logits`: one [R, K] a model, of the raw images in order. `metrics`: the run's.
    """

    run: str
    held_logits: NDArray[Any]
    held_targets: NDArray[np.int64]
    held_ids: NDArray[np.str_]
    raw_logits: list[NDArray[Any]]
    metrics: dict[str, Any]


class Trial(Protocol):
    """Whatever learns from the labels so far and says what the raw images show."""

    def __call__(
        self, number: int, folders: LabelFolders, labels: Sequence[GivenLabel]
    ) -> TrialOutcome:
        """Do trial `number`; the same again after a kill goes on, and ends with equal numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedTrial:
    """A trial by `discern train` in child processes. `request`: what was typed, for each run."""

    request: Request
    config: RunConfig
    writer: GroupWriter
    root: Path  # of all runs
    raw: Path
    folds: int
    cross_validated: bool
    stop: StopRequest
    console: Console
    scorer: ImageScorer

    def __call__(
        self, number: int, folders: LabelFolders, labels: Sequence[GivenLabel]
    ) -> TrialOutcome:
        """Train, then score. Raises RunError or ConfigError for a run that fails."""
        dealt = deal_folds(folders.human, self.folds)
        last = self.folds - 1
        others = range(last) if self.cross_validated else range(0)
        share = self.config.data.inner_val_share
        runs = {}
        for fold in (last, *others):
            manifest = trial_manifest(dealt, fold, labels, self.raw, val_share=share)
            runs[fold] = self._run(number, fold, manifest), manifest
        raw, held, seen = [], [], []
        for run, manifest in runs.values():
            opened = self._open(run, folders)
            logits = self.scorer.logits(opened, folders.human)
            codes = manifest.split[: len(folders.human)]
            unseen = ["test"] if self.cross_validated else ["test", "val"]
            rows = np.flatnonzero(np.isin(codes, [SPLITS.index(name) for name in unseen]))
            held.append(logits[rows])
            seen.append(rows)
            raw.append(self.scorer.logits(opened, folders.raw))
        main = runs[last][0]
        return TrialOutcome(
            run=main.id,
            held_logits=np.concatenate(held),
            held_targets=folders.human.targets[np.concatenate(seen)],
            held_ids=folders.human.ids[np.concatenate(seen)],
            raw_logits=raw,
            metrics=main.metrics,
        )

    def _run(self, number: int, fold: int, manifest: Manifest) -> Run:
        """The finished run of one fold: an earlier one, or trained now."""
        if fold == self.folds - 1:
            path = self._trial_path(number)
            root, project, called = self.root, path.parent.name, f"trial {number}"
        else:
            root = self.writer.path / "calibration"
            project = f"trial-{number}"
            path = root / project / f"fold-{fold}"
            called = f"trial {number}, fold {fold} for calibration"
        file = self.writer.path / "manifests" / f"trial-{number}-fold-{fold}.parquet"
        earlier = _finished(path, manifest)
        if earlier is not None:
            self.console.say(f"{called}: done before")
            return earlier
        write_manifest(manifest, file)
        fields = {
            "data.source": str(file),
            "tracking.project": project,
            "tracking.name": path.name,
        }
        sets = [f"{key}={json.dumps(value)}" for key, value in fields.items()]
        request = replace(
            self.request,
            verb="train",
            arguments={
                "runs": str(root),
                "resume": None,
                "fresh": False,
                "exist_ok": False,
                **shared_arguments(self.writer.path, self._first_run()),
            },
            sets=[*self.request.sets, *sets],
            quiet=self.request.quiet or called.endswith("calibration"),
            json=False,
        )
        self.console.say(f"{called}: {path}")
        code = start_child(request, self.console).wait()
        if self.stop.requested or code == INTERRUPTED:
            raise stopped_group(self.writer.id, "trial")
        run = _finished(path, manifest)
        if code != 0 or run is None:
            raise failed_run(path, called, code)
        return run

    def _first_run(self) -> Run | None:
        """The finished trial of the lowest number."""
        begun = self._trial_path(0).parent.glob(f"{self.writer.path.name}-trial-*/{RUN_FILE}")
        runs = [run for run in (read_run(file.parent) for file in begun) if run.status == FINISHED]
        return min(runs, key=lambda run: int(run.name.rpartition("-")[2]), default=None)

    def _trial_path(self, number: int) -> Path:
        return self.writer.path.parent / f"{self.writer.path.name}-trial-{number}"

    def _open(self, run: Run, folders: LabelFolders) -> OpenedModel:
        opened = open_model(OpenRequest(model=str(run.path), device=self.config.compute.device))
        if opened.classes != folders.human.classes:
            raise RunError(
                "the run's classes are not those of the labeled images",
                where=run.id,
                got=", ".join(opened.classes),
                expected=", ".join(folders.human.classes),
            )
        return opened


def _finished(path: Path, manifest: Manifest) -> Run | None:
    """The run in `path` if it is finished. Raises RunError for one of other images."""
    if not (path / RUN_FILE).is_file():
        return None
    run = read_run(path)
    if run.status != FINISHED:
        return None
    if run.record.get("images_hash") != manifest.hash:
        raise RunError(
            "the trial's run was trained on other images",
            where=run.id,
            hint="put the folders back as they were, or begin anew with --fresh",
        )
    return run
