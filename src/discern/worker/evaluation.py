"""The verb `eval`: score a model on every image of some data."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, ModelError
from discern.base.names import did_you_mean
from discern.base.progress_bar import counting_bar
from discern.compute.device import usable_cores
from discern.config.request import Request
from discern.data.fold_split import hold_out_fold
from discern.data.manifest import MISSING, SPLITS
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import open_source
from discern.data.split import SplitRule, complete_split
from discern.training.evaluate import evaluate
from discern.training.material import FeedSettings, Material
from discern.training.metric_table import metric_record, open_metric
from discern.training.scores import EvalTable, most_confused_pairs, score_record
from discern.worker.open_model import OpenedModel, open_model
from discern.worker.plan import tell_problems
from discern.worker.report_content import evaluation_content
from discern.worker.request_values import (
    named_pairs,
    open_request,
    pair_value,
    scoring_precision,
    set_threads,
)
from discern.worker.terminal import further_figures
from discern.workflows.report import write_report

TRAINED_ON_THESE = (
    "The model was trained on some of these images, so this score is too good; "
    "--split test scores those that were held out."
)
DEFAULT_BATCH = 64  # the flag's own default


def evaluation_verb(request: Request, console: Console) -> int:
    """Do one `eval` request."""
    console.emit(evaluate_request(request, console))
    return 0


def evaluate_request(request: Request, console: Console) -> dict[str, Any]:
    """Score the model; gives the object of `--json`. Raises DiscernError."""
    started = time.monotonic()
    set_threads(request)
    amp_dtype = scoring_precision(request)
    wanted = [open_metric(name) for name in pair_value(request, "tracking.metrics", [])]
    opened = open_model(open_request(request))
    console.say(f"model    {opened.name}, {len(opened.classes)} classes, on {opened.device}")
    scanned = _scan(request, opened, console)
    workers = pair_value(request, "data.workers")
    settings = FeedSettings(
        device=opened.device.torch_device,
        workers=usable_cores() if workers is None else workers,
        seed=0,
        flip=False,
    )
    manifest = scanned.manifest
    source = open_source(manifest)
    material = Material(manifest, source, opened.preprocess, settings)
    split = _split(request.arguments.get("split"), manifest.split)
    with material.evaluation_feed(split, _batch_size(request, opened)) as feed:
        table = evaluate(
            opened.model,
            feed,
            classes=opened.classes,
            device=settings.device,
            amp_dtype=amp_dtype,
        )
    if not np.isfinite(table.losses[table.labeled]).all():
        raise ModelError("the model gives values that are not finite", where=opened.name)
    metrics = {"split": split, **score_record(table), **metric_record(table, wanted)}
    seconds = time.monotonic() - started
    out = request.arguments.get("out")
    warnings = _warnings(request, opened, split)
    for text in warnings:
        console.warn(text)
    if out is not None:
        content = evaluation_content(
            opened, material, table, metrics, left_out=len(scanned.problems), warnings=warnings
        )
        write_report(Path(out), content)
    _tell(table, metrics, seconds, out, console)
    return {
        "run": None,
        "status": "finished",
        "metrics": metrics,
        "val_metrics": None,
        "model": opened.name,
        "report": out,
        "seconds": round(seconds, 3),
    }


def _warnings(request: Request, opened: OpenedModel, split: str) -> tuple[str, ...]:
    """What makes the score mean less than it seems to."""
    data, source = request.arguments["data"], opened.scored.source
    if Path(data).exists():
        data = str(Path(data).resolve())
    if split in ("all", "train") and data == source:
        return (TRAINED_ON_THESE,)
    return ()


def _batch_size(request: Request, opened: OpenedModel) -> int:
    """Images per pass: as asked, else as a run scored them, for sums depend on it in the last bit.

    The flag's default is not told from the same number given.
    """
    asked = int(request.arguments.get("batch_size") or DEFAULT_BATCH)
    return opened.scored.batch_size if asked == DEFAULT_BATCH else asked


def _scan(request: Request, opened: OpenedModel, console: Console) -> ScannedData:
    data = DataRequest(
        train=request.arguments["data"],
        root=pair_value(request, "data.root"),
        label=pair_value(request, "data.labels"),
        on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        split=None,
        source_args=named_pairs(request, "data.source_args"),
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(data, progress)
    for note in scanned.notes:
        console.say(f"note: {note}")
    tell_problems(scanned, console)
    wanted = request.arguments.get("split")
    if wanted in SPLITS and opened.scored.folds is not None:
        held = hold_out_fold(scanned.manifest, opened.scored.folds).manifest
        scanned = replace(scanned, manifest=held)
        console.say(f"split    test is fold {opened.scored.folds.held}, held out in training")
    elif wanted in SPLITS and _drawable(wanted, scanned.manifest.split):
        scanned = _with_drawn_split(scanned, opened.scored.split)
        console.say(f"split    drawn as for training, seed {opened.scored.split.seed}")
    return _with_model_classes(scanned, opened, console)


def _drawable(wanted: str, codes: NDArray[np.int8]) -> bool:
    """Whether training would draw the split `wanted` from the images: it is not given."""
    there = {name for code, name in enumerate(SPLITS) if (codes == code).any()}
    return not there or (wanted == "val" and there == {"train", "test"})


def _with_drawn_split(scanned: ScannedData, rule: SplitRule) -> ScannedData:
    """The same images with the splits that training draws by `rule`."""
    manifest = scanned.manifest
    outcome = complete_split(manifest.ids, manifest.targets, manifest.classes, manifest.split, rule)
    return replace(
        scanned,
        manifest=manifest.with_split(outcome.codes),
        reported=outcome.reported,
        random_split=outcome.random,
    )


def _with_model_classes(scanned: ScannedData, opened: OpenedModel, console: Console) -> ScannedData:
    """The same images with the model's class numbers, mapped by name.

    Labels may be class names, other spellings the model knows (ImageNet's ids), or bare numbers.
    Raises DataError naming a class that the model does not know, or that stands for several.
    """
    manifest = scanned.manifest
    known = opened.aliases | {name: number for number, name in enumerate(opened.classes)}
    numeric = all(name.isascii() and name.isdigit() for name in manifest.classes)
    if numeric and not any(name in known for name in manifest.classes):
        known = {str(number): number for number in range(len(opened.classes))}
        console.say("note: the labels are numbers and are taken as the model's class numbers")
    shared = [name for name in manifest.classes if name in opened.ambiguous]
    if shared:
        raise DataError(
            "a label is the name of several classes",
            where=request_name(scanned),
            got=", ".join(shared),
            hint="label these images by number or by wnid",
        )
    unknown = [name for name in manifest.classes if name not in known]
    if unknown:
        raise DataError(
            "the data has a class that the model does not know",
            where=request_name(scanned),
            got=", ".join(unknown[:10]),
            expected=f"{len(opened.classes)} classes: {', '.join(opened.classes[:20])}",
            hint=did_you_mean(unknown[0], known),
        )
    if len(manifest.classes) == 1 and len(opened.classes) > 1:
        console.warn(f"all images are of one class, {manifest.classes[0]}")
    numbers = np.array([known[name] for name in manifest.classes], dtype=np.int64)
    old = manifest.targets
    targets = np.where(old >= 0, numbers[np.maximum(old, 0)], MISSING) if len(numbers) else old
    head = replace(manifest.head, classes=opened.classes, targets=targets)
    return replace(scanned, manifest=replace(manifest, heads=(head,)))


def request_name(scanned: ScannedData) -> str:
    """What to call the data in messages."""
    return f"{scanned.name} ({scanned.manifest.layout})"


def _split(wanted: str | None, codes: NDArray[np.int8]) -> str:
    there = [name for code, name in enumerate(SPLITS) if (codes == code).any()]
    if wanted is None:
        return "test" if "test" in there else "val" if "val" in there else "all"
    if wanted != "all" and wanted not in there:
        raise ConfigError(
            "the data has no such split", where="--split", got=wanted,
            expected=", ".join([*there, "all"]),
        )  # fmt: skip
    return wanted


def _tell(
    table: EvalTable, metrics: dict[str, Any], seconds: float, out: str | None, console: Console
) -> None:
    score = (
        f"accuracy {metrics['accuracy']:.4f} on {metrics['count']} images of {metrics['split']} "
        f"(95 %: {metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
    )
    console.result(console.paint(score, "bold"))
    rate = len(table.positions) / seconds
    console.say(f"  top-5 {metrics['top5']:.4f}, loss {metrics['loss']}, {rate:.0f} img/s")
    further = further_figures(metrics)
    if further is not None:
        console.say(f"  {further}")
    for pair in most_confused_pairs(table, 5):
        console.say(f"  {pair.true} taken for {pair.predicted}: {pair.count}")
    if out is not None:
        console.say(f"report   {out}/index.html")
