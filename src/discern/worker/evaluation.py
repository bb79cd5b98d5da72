"""The verb `eval`: score a model on every image of some data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, ModelError
from discern.base.names import counted
from discern.base.progress_bar import counting_bar
from discern.compute.device import usable_cores
from discern.config.request import Request
from discern.data.fold_split import hold_out_fold
from discern.data.head_spec import HeadSpec, is_plain, main_heads
from discern.data.label_columns import split_strata
from discern.data.manifest import NO_SPLIT, SPLITS
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import open_source
from discern.data.split import SplitRule, complete_split
from discern.training.evaluate import Table, evaluate_heads
from discern.training.joint_scores import joint_record
from discern.training.material import FeedSettings, Material
from discern.training.metric_table import open_metrics
from discern.training.scores import EvalTable, most_confused_pairs
from discern.training.tag_scores import TagTable
from discern.worker.data_scan import left_out_words, tell_problems
from discern.worker.matched_labels import matched_head
from discern.worker.open_model import OpenedModel, open_model
from discern.worker.out_of_memory import scoring_memory_told
from discern.worker.report_content import evaluation_content, write_any_report
from discern.worker.request_values import (
    named_pairs,
    open_request,
    pair_value,
    scoring_precision,
    set_threads,
)
from discern.worker.terminal import accuracy_name, further_figures, head_lines, heads_text

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
    opened = open_model(open_request(request))
    names = pair_value(request, "tracking.metrics", [])
    wanted, of_tags = open_metrics([(name, {}) for name in names], opened.heads)
    console.say(f"model    {opened.name}, {heads_text(opened.heads)}, on {opened.device}")
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
    images = _batch_size(request, opened)
    told = scoring_memory_told(opened.name, opened.device, images)
    with told, material.evaluation_feed(split, images) as feed:
        tables = evaluate_heads(
            opened.model,
            feed,
            heads=[head.spec for head in manifest.heads],
            device=settings.device,
            amp_dtype=amp_dtype,
            keep_features=any(metric.of_features for metric in wanted),
        )
    if not all(np.isfinite(table.losses[table.labeled]).all() for table in tables.values()):
        raise ModelError("the model gives values that are not finite", where=opened.name)
    heads = [head.spec for head in manifest.heads]
    record = joint_record(tables, heads, metrics=wanted, tag_metrics=of_tags, with_confusion=True)
    metrics = {"split": split, **record}
    seconds = time.monotonic() - started
    out = request.arguments.get("out")
    warnings = _warnings(request, opened, split)
    for text in warnings:
        console.warn(text)
    if out is not None:
        left_out = left_out_words(scanned.problems)
        content = evaluation_content(
            opened, material, tables, metrics, left_out=left_out, warnings=warnings
        )
        write_any_report(Path(out), content)
    _tell(tables, metrics, seconds, out, console)
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
        label=_label_columns(request, opened),
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
    given = manifest.split != NO_SPLIT
    drawn = manifest.split == SPLITS.index("train") if given.any() else ~given
    strata, names = split_strata(manifest.heads, drawn)
    outcome = complete_split(manifest.ids, strata, names, manifest.split, rule)
    return replace(
        scanned,
        manifest=manifest.with_split(outcome.codes),
        reported=outcome.reported,
        random_split=outcome.random,
    )


def _label_columns(request: Request, opened: OpenedModel) -> Any:
    """The label columns: as asked for, else of several heads (or labels) those of the training."""
    asked = pair_value(request, "data.labels")
    if asked is not None or is_plain(main_heads(opened.heads)):
        return asked
    return opened.scored.labels


def _with_model_classes(scanned: ScannedData, opened: OpenedModel, console: Console) -> ScannedData:
    """The same images with the model's class numbers, mapped by name, head by head.

    Raises DataError if no label column is one of the model's heads, and as `matched_head` does.
    """
    main, manifest = main_heads(opened.heads), scanned.manifest
    where = request_name(scanned)
    if len(main) == 1 and len(manifest.heads) == 1:
        pairs = [(main[0], manifest.heads[0])]
    else:
        known = {head.name: head for head in manifest.heads}
        pairs = [(spec, known[spec.name]) for spec in main if spec.name in known]
        left = [spec.name for spec in main if spec.name not in known]
        if not pairs:
            raise DataError(
                "no label column of the data is a head of the model",
                where=where,
                got=", ".join(known),
                expected=", ".join(left),
                hint="--set 'data.labels=[NAME, ...]' names the columns",
            )
        if left:
            console.say(f"note: not scored, for there is no such label column: {', '.join(left)}")
    heads = tuple(matched_head(spec, head, opened, where, console) for spec, head in pairs)
    return replace(scanned, manifest=replace(manifest, heads=heads))


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
    tables: Mapping[str, Table],
    metrics: dict[str, Any],
    seconds: float,
    out: str | None,
    console: Console,
) -> None:
    first = next(iter(tables.values()))
    kinds = [HeadSpec(n, "multi" if isinstance(t, TagTable) else "single", t.classes)
             for n, t in tables.items()]  # fmt: skip
    score = (
        f"{accuracy_name(kinds)} {metrics['accuracy']:.4f} on "
        f"{counted(metrics['count'], 'image')} of {metrics['split']} (95 %: "
        f"{metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
    )
    console.result(console.paint(score, "bold"))
    rate = len(first) / seconds
    top5 = "" if metrics["top5"] is None else f"top-5 {metrics['top5']:.4f}, "
    loss = "none" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
    console.say(f"  {top5}loss {loss}, {rate:.0f} img/s")
    further = further_figures(metrics)
    if further is not None:
        console.say(f"  {further}")
    for line in head_lines(metrics):
        console.say(f"  {line}")
    for table in tables.values():
        for pair in most_confused_pairs(table, 5) if isinstance(table, EvalTable) else ():
            console.say(f"  {pair.true} taken for {pair.predicted}: {pair.count}")
    if out is not None:
        console.say(f"report   {out}/index.html")
