"""The verb `eval`: score a model on every image of some data."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.names import counted
from discern.config.request import Request
from discern.data.head_spec import HeadSpec
from discern.data.label_origin import by_models_words, labeled_by_models
from discern.data.scan import ScannedData
from discern.training.evaluate import Table
from discern.training.joint_scores import joint_record
from discern.training.metric_table import open_metrics
from discern.training.scores import EvalTable, most_confused_pairs
from discern.training.tag_scores import TagTable
from discern.worker.data_scan import left_out_words
from discern.worker.evaluated import Evaluated
from discern.worker.evaluation_parts import check_parts, evaluation_parts
from discern.worker.evaluation_words import part_lines
from discern.worker.open_model import OpenedModel, open_model
from discern.worker.report_content import evaluation_content, write_any_report
from discern.worker.request_values import open_request, pair_value, set_threads
from discern.worker.scored_data import data_source, scan_scored
from discern.worker.scoring import Scoring
from discern.worker.terminal import (
    accuracy_name,
    further_figures,
    head_lines,
    heads_text,
    top5_words,
)

TRAINED_ON_THESE = (
    "The model was trained on some of these images, so this score is too good; "
    "--split test scores those that were held out."
)


def evaluation_verb(request: Request, console: Console) -> int:
    """Do one `eval` request."""
    console.emit(evaluate_request(request, console))
    return 0


def evaluate_request(request: Request, console: Console) -> dict[str, Any]:
    """Score the model; gives the object of `--json`. Raises DiscernError."""
    started = time.monotonic()
    done, metrics = evaluated(request, console)
    opened, scanned = done.scoring.opened, done.scanned
    seconds = time.monotonic() - started
    parts = evaluation_parts(done, console)
    out = request.arguments.get("out")
    warnings = evaluation_warnings(request, done)
    for text in warnings:
        console.warn(text)
    if out is not None:
        content = evaluation_content(
            opened,
            done.material,
            done.tables,
            metrics,
            left_out=left_out_words(scanned.problems),
            warnings=warnings,
            parts=parts,
        )
        write_any_report(Path(out), content)
    tell_evaluation(done.tables, metrics, parts, seconds, console)
    if out is not None:
        console.say(f"report   {out}/index.html")
    return {
        "run": None,
        "status": "finished",
        "metrics": metrics,
        **parts,
        "val_metrics": None,
        "model": opened.name,
        "report": out,
        "seconds": round(seconds, 3),
    }


def evaluated(
    request: Request,
    console: Console,
    scan_images: Callable[[Request, OpenedModel, Console], tuple[ScannedData, str]] = scan_scored,
) -> tuple[Evaluated, dict[str, Any]]:
    """Open the model, read the images and score them; gives what was scored, and `metrics`.

    `scan_images` gives the images, under the model's class numbers, and the split to score.
    """
    set_threads(request)
    opened = open_model(open_request(request))
    check_parts(request, opened.heads)
    scoring = Scoring.of(request, opened)
    names = pair_value(request, "tracking.metrics", [])
    wanted, of_tags = open_metrics([(name, {}) for name in names], opened.heads)
    console.say(f"model    {opened.name}, {heads_text(opened.heads)}, on {opened.device}")
    scanned, split = scan_images(request, opened, console)
    material = scoring.material(scanned.manifest)
    unknown = [rules.unknown for rules in opened.rules.heads.values()]
    by_distance = any(rule is not None and rule.method == "distance" for rule in unknown)
    keep = by_distance or any(metric.of_features for metric in wanted)
    tables = scoring.tables(material, split, keep_features=keep)
    heads = [head.spec for head in scanned.manifest.heads]
    record = joint_record(tables, heads, metrics=wanted, tag_metrics=of_tags, with_confusion=True)
    done = Evaluated(
        request=request,
        scoring=scoring,
        scanned=scanned,
        material=material,
        split=split,
        tables=tables,
    )
    return done, {"split": split, **record}


def evaluation_warnings(request: Request, done: Evaluated) -> tuple[str, ...]:
    """What makes the score mean less than it seems to."""
    warnings, manifest = [], done.scanned.manifest
    source = done.scoring.opened.scored.source
    if done.split in ("all", "train") and data_source(request) == source:
        warnings.append(TRAINED_ON_THESE)
    learned = labeled_by_models(manifest.origin, len(manifest))
    if done.split != "all":
        learned = learned[manifest.positions(done.split)]
    if learned.any():
        warnings.append(by_models_words(int(learned.sum()), len(learned)))
    return tuple(warnings)


def tell_evaluation(
    tables: Mapping[str, Table],
    metrics: dict[str, Any],
    parts: Mapping[str, Any],
    seconds: float,
    console: Console,
) -> None:
    """Print the scores of an evaluation, and what its parts found."""
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
    loss = "none" if metrics["loss"] is None else f"{metrics['loss']:.4f}"
    console.say(f"  {top5_words(metrics, kinds)}loss {loss}, {rate:.0f} img/s")
    further = further_figures(metrics)
    if further is not None:
        console.say(f"  {further}")
    for line in head_lines(metrics):
        console.say(f"  {line}")
    if any(isinstance(t, TagTable) and t.thresholds is not None for t in tables.values()):
        console.say("  labels count from the bundle's thresholds on; those at_half from 0.5 on")
    for table in tables.values():
        for pair in most_confused_pairs(table, 5) if isinstance(table, EvalTable) else ():
            console.say(f"  {pair.true} taken for {pair.predicted}: {pair.count}")
    for line in part_lines(parts):
        console.say(f"  {line}")
