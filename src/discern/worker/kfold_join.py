"""What the runs of a cross-validation give together: scores, spread, out-of-fold predictions.

Axes: N images of the data set, in manifest order; K classes; F folds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import RunError
from discern.base.progress_bar import counting_bar
from discern.compute.device import usable_cores
from discern.config.schema import RunConfig
from discern.data.label_origin import kept_note, labeled_by_models
from discern.data.manifest import SPLITS
from discern.data.scan import ScannedData
from discern.data.sources import open_source
from discern.track.run import Run
from discern.track.run_group import GroupWriter
from discern.training.evaluate import Table, evaluate_heads
from discern.training.joint_scores import joint_record
from discern.training.material import FeedSettings, Material
from discern.training.metric_table import open_metrics
from discern.worker.open_model import OpenedModel, OpenRequest, open_model
from discern.workflows.fold_tables import (
    FoldPredictions,
    fold_figures,
    write_fold_report,
    write_predictions,
)

# Counts and the ends of an interval are no figures to average.
_NOT_AVERAGED = ("count", "accuracy_low", "accuracy_high")


@dataclass(frozen=True, slots=True)
class FoldScores:
    """One fold's run: what `--json` lists in `folds`."""

    fold: int
    run: str
    metrics: dict[str, Any]
    val_metrics: dict[str, Any] | None
    seconds: float | None

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "fold": self.fold,
            "run": self.run,
            "metrics": self.metrics,
            "val_metrics": self.val_metrics,
            "seconds": self.seconds,
        }


def join_folds(
    config: RunConfig,
    scanned: ScannedData,
    runs: Mapping[int, Run],
    writer: GroupWriter,
    console: Console,
) -> dict[str, Any]:
    """Score every image by the model that never saw it; write tables and report.

    Gives the object of `--json`, without its seconds. Raises RunError when the images are not
    those of the runs.
    """
    scores = [_fold_scores(number, run) for number, run in runs.items()]
    mean, spread, undefined = summarize_folds([score.metrics for score in scores])
    opened = {number: _open(run, config) for number, run in runs.items()}
    with counting_bar(console, "joining folds") as progress:
        tables = {}
        for place, (number, model) in enumerate(opened.items()):
            tables[number] = _score_fold(config, scanned, number, model)
            _check_same(tables[number], scanned, runs[number], console)
            if progress is not None:
                progress(place + 1, len(opened))
    heads = [head.spec for head in scanned.manifest.heads]
    people = np.flatnonzero(~_learned(scanned))
    if len(people) < len(scanned.manifest):
        console.say(kept_note(len(scanned.manifest) - len(people)))
    whole, folds = {}, np.empty(0, dtype=np.int32)
    for head in heads:
        own = {number: found[head.name] for number, found in tables.items()}
        whole[head.name], folds = join_tables(own, people)
    metrics, tag_metrics = open_metrics(
        [(spec.name, spec.args) for spec in config.tracking.metrics], heads
    )
    record = joint_record(
        whole, heads, metrics=metrics, tag_metrics=tag_metrics, with_confusion=True
    )
    joined = {"split": "out of fold", **record}
    predictions = FoldPredictions(
        tables=whole,
        folds=folds,
        ids=scanned.manifest.ids[people],
        paths=scanned.manifest.locations.paths[people],
    )
    files = write_predictions(writer.path, predictions)
    outcome: dict[str, Any] = {
        "group": writer.id,
        "path": str(writer.path),
        "status": "finished",
        "mean": mean,
        "std": spread,
        "undefined": undefined,
        "folds": [score.record() for score in scores],
        "out_of_fold": joined,
        **{name: str(path) for name, path in files.items()},
        "model": None,
    }
    outcome["report"] = str(write_fold_report(writer.path, outcome))
    _tell(outcome, console)
    return outcome


def _fold_scores(number: int, run: Run) -> FoldScores:
    record = run.record
    seconds = (record.get("seconds") or {}).get("whole")
    return FoldScores(number, run.id, run.metrics, record.get("val_metrics"), seconds)


def summarize_folds(
    metrics: list[dict[str, Any]],
) -> tuple[dict[str, float], dict[str, float], list[str]]:
    """(means, spreads, names of figures that some fold does not define) over the folds.

    Those of each of several heads are called `HEAD/NAME`.
    The spread is the standard deviation of the folds' figures with F - 1 below the fraction bar.
    """
    metrics = [fold_figures(record) for record in metrics]
    names = [
        name
        for name in metrics[0]
        if name.rpartition("/")[2] not in _NOT_AVERAGED
        and any(isinstance(record.get(name), (int, float)) for record in metrics)
    ]
    columns = {name: [record.get(name) for record in metrics] for name in names}
    whole = {
        name: [float(value) for value in values if value is not None and _is_number(value)]
        for name, values in columns.items()
    }
    undefined = [name for name in names if len(whole[name]) < len(metrics)]
    defined = {name: values for name, values in whole.items() if name not in undefined}
    mean = {name: fmean(values) for name, values in defined.items()}
    return mean, {name: stdev(values) for name, values in defined.items()}, undefined


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _open(run: Run, config: RunConfig) -> OpenedModel:
    return open_model(OpenRequest(model=str(run.path), device=config.compute.device))


def _score_fold(
    config: RunConfig, scanned: ScannedData, number: int, opened: OpenedModel
) -> dict[str, Table]:
    """The images of one fold scored by its model, in full precision, as its run did, by head."""
    manifest = scanned.manifest
    held_out = (manifest.fold == number) & ~_learned(scanned)
    codes = np.where(held_out, SPLITS.index("test"), SPLITS.index("train"))
    held = manifest.with_split(codes.astype(np.int8))
    workers = config.data.workers
    settings = FeedSettings(
        device=opened.device.torch_device,
        workers=usable_cores() if workers is None else workers,
        seed=0,
        flip=False,
    )
    material = Material(held, open_source(held), opened.preprocess, settings)
    with material.evaluation_feed("test", opened.scored.batch_size) as feed:
        heads = [head.spec for head in held.heads]
        return evaluate_heads(opened.model, feed, heads=heads, device=settings.device)


def _learned(scanned: ScannedData) -> NDArray[np.bool_]:
    """The images in train of every fold, for a model labeled them: bool [N]."""
    return labeled_by_models(scanned.manifest.origin, len(scanned.manifest))


def _check_same(
    tables: Mapping[str, Table], scanned: ScannedData, run: Run, console: Console
) -> None:
    """The joined predictions must be those that the run was scored by.

    Raises RunError for other images; a score that differs in rounding only is told.
    """
    heads = [head.spec for head in scanned.manifest.heads]
    scores, told = joint_record(tables, heads), run.metrics
    if scores["count"] != told["count"]:
        raise RunError(
            "the fold's images are not those that its run was scored on",
            where=run.id, got=scores["count"], expected=told["count"],
            hint="put the data back as it was, or start anew with --fresh",
        )  # fmt: skip
    if scores["accuracy"] != told["accuracy"]:
        console.warn(
            f"{run.id}: scored again the accuracy is {scores['accuracy']:.4f}, it was "
            f"{told['accuracy']:.4f}: this device does not repeat itself to the last bit"
        )


def join_tables(
    tables: Mapping[int, Table], rows: NDArray[np.int64]
) -> tuple[Table, NDArray[np.int32]]:
    """(one table of the images `rows` in manifest order, the fold of each: int32 [N]), of one head.

    Raises RunError unless every one of them is in exactly one of the tables.
    """
    parts = list(tables.values())
    positions = np.concatenate([part.positions for part in parts])
    order = np.argsort(positions, kind="stable")
    if not np.array_equal(positions[order], rows):
        raise RunError(
            "the folds do not hold every image once",
            got=f"{len(positions)} rows, {len(np.unique(positions))} images",
            expected=f"{len(rows)} images",
        )
    numbers = np.concatenate([np.full(len(t), number) for number, t in tables.items()])
    columns: dict[str, Any] = {}
    for name in (field.name for field in fields(parts[0]) if field.name != "classes"):
        found = [getattr(part, name) for part in parts]
        whole = all(column is not None for column in found)
        columns[name] = np.concatenate(found)[order] if whole else None
    return replace(parts[0], **columns), numbers[order].astype(np.int32)


def _tell(outcome: Mapping[str, Any], console: Console) -> None:
    mean, spread, joined = outcome["mean"], outcome["std"], outcome["out_of_fold"]
    shown = [name for name in mean if "/" not in name]
    rows = [
        (entry["fold"], entry["metrics"]["count"], *(entry["metrics"][name] for name in shown))
        for entry in outcome["folds"]
    ]
    console.table(("fold", "images", *shown), rows)
    console.result(
        console.paint(
            f"accuracy {mean['accuracy']:.4f} +- {spread['accuracy']:.4f} over {len(rows)} folds; "
            f"out of fold {joined['accuracy']:.4f} on {joined['count']} images (95 %: "
            f"{joined['accuracy_low']:.4f} to {joined['accuracy_high']:.4f})",
            "bold",
        )
    )
    for name in mean:
        if name != "accuracy":
            console.say(f"  {name} {mean[name]:.4f} +- {spread[name]:.4f}")
    for name in outcome["undefined"]:
        console.warn(f"{name} is not defined in every fold, so it has no mean")
    console.say(f"report   {outcome['report']}")
    console.say(f"joined   {outcome['predictions']}")
