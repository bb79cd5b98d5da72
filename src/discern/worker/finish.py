"""After the last stage: the kept weights, the final scores, report and bundle."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from discern.base.console import Console
from discern.base.errors import RunError
from discern.config.schema import StageConfig
from discern.data.head_spec import HeadSpec, main_heads
from discern.data.images import Pixels
from discern.data.manifest import YES
from discern.exporting.bundle import save_bundle
from discern.exporting.content import BundleContent, GoldenImage
from discern.models.catalogue import BuiltModel
from discern.track.run import RunWriter
from discern.training.evaluate import Table
from discern.training.joint_scores import joint_figures, joint_record
from discern.training.ledger import Entry
from discern.training.material import Material
from discern.training.scores import EvalTable, most_confused_pairs
from discern.training.stage_parts import stage_metrics
from discern.training.stages import Training
from discern.training.starting_point import load_best
from discern.training.trainer import Session
from discern.training.validation import HeadFeeds, score_heads
from discern.worker.event_content import add_end_events
from discern.worker.plan import TrainingPlan, plan_metrics
from discern.worker.report_content import report_content, write_any_report
from discern.worker.soup import follow_soup, keep_soup, soup_line
from discern.worker.terminal import accuracy_name, further_figures, head_lines, top5_words
from discern.worker.untrained_heads import CHOICE, answer_untrained, untrained_lines

GOLDEN_IMAGES = 16


def _scores(
    plan: TrainingPlan, heads: Sequence[HeadSpec], split: str, tables: Mapping[str, Table]
) -> dict[str, Any]:
    """The scores that are always there, and the figures that the config asks for."""
    metrics, tag_metrics = plan_metrics(plan)
    record = joint_record(
        tables,
        heads,
        metrics=metrics,
        tag_metrics=tag_metrics,
        with_confusion=True,
    )
    few = plan.config.data.overfit_batches is not None
    return {"split": "train" if few else split, **record}


def finish_run(
    plan: TrainingPlan,
    built: BuiltModel,
    training: Training,
    session: Session,
    writer: RunWriter,
    console: Console,
    started: float,
) -> dict[str, Any]:
    """Score the kept model once on the reported split; write `report/` and `model/`.

    Gives the object that `--json` prints.
    """
    heads = training.material.heads
    name, stage = last_training(plan)
    monitor = session.ledger.monitors[name]
    best, stage_bests = load_best(training.model, session, monitor), session.ledger.stage_bests()
    _tell_kept(best, stage_bests, console)
    if stage.soup is not None:
        plan.choices["soup"] = keep_soup(
            training, session, best, stage.soup, monitor, _chosen_by(training, stage)
        )
        console.say(soup_line(plan.choices["soup"]))
    tables = final_tables(plan, training)
    for line in untrained_lines(plan.choices.get(CHOICE, {})):
        console.say(f"head     {line}")
    reported, val = tables["test"], tables.get(training.material.settings.val_split)
    _check_finite(reported, best)
    metrics = _scores(plan, heads, plan.scanned.reported, reported)
    val_metrics = None if val is None else _scores(plan, heads, "val", val)
    seconds = time.monotonic() - started
    writer.update(
        metrics=metrics,
        val_metrics=val_metrics,
        best={"step": best.step, "stage": best.stage, "epoch": best.epoch,
              "accuracy": best.accuracy, "loss": best.loss},
        stage_bests=[entry.record() for entry in stage_bests],
        weights_hash=weights_hash(training.model.state_dict()),
        choices=plan.choices,
        seconds={"whole": seconds, "training": session.train_seconds},
    )  # fmt: skip
    writer.flush(sync=True)
    content = report_content(plan, training.material, reported, writer, metrics, val_metrics)
    write_any_report(writer.path / "report", content)
    add_end_events(plan, training.material, reported, writer, metrics, best.step)
    _bundle(plan, built, training, writer, metrics)
    outcome = {
        "run": writer.run.id,
        "path": str(writer.path),
        "status": "finished",
        "metrics": metrics,
        "val_metrics": val_metrics,
        "model": str(writer.path / "model"),
        "report": str(writer.path / "report"),
        "seconds": round(seconds, 3),
        "training_seconds": round(session.train_seconds, 3),
    }
    _tell(plan, reported, heads, outcome, console)
    return outcome


def last_training(plan: TrainingPlan) -> tuple[str, StageConfig]:
    """The last stage that trains, with its name: the model and its figures are of it."""
    return list(plan.config.training_stages.items())[-1]


def final_tables(plan: TrainingPlan, training: Training) -> dict[str, dict[str, Table]]:
    """Rank 0's weights scored by all ranks, on every image of the splits that were held out."""
    _, stage = last_training(plan)
    if stage.soup is not None and not training.world.leads:
        follow_soup(training, _chosen_by(training, stage))
    training.world.spread_(list(training.model.state_dict().values()))
    filled = answer_untrained(training, stage.batch)
    if filled:
        plan.choices[CHOICE] = filled
    return {
        split: _evaluate(training, split, stage.batch)
        for split in ("val", "test")
        if len(training.material.positions(split))
    }


def _chosen_by(training: Training, stage: StageConfig) -> Callable[[], Mapping[str, float]]:
    """Scores the weights of the moment on the images that the model is chosen by."""
    split, heads = training.material.settings.val_split, training.material.heads
    metrics, tag_metrics = stage_metrics(training.config, heads)

    def figures() -> Mapping[str, float]:
        tables = _evaluate(training, split, stage.batch)
        record = joint_record(tables, heads, metrics=metrics, tag_metrics=tag_metrics)
        return joint_figures(record, heads)

    return figures


def weights_hash(tensors: dict[str, Tensor]) -> str:
    """SHA-256 over the names, shapes and bytes of the kept weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _evaluate(training: Training, split: str, batch_size: int) -> dict[str, Table]:
    """Full precision, whatever the training's: the scores are those of the bundle's own logits."""
    material, size = training.material, training.material.evaluation_batch(batch_size)
    feed, side_feed = material.evaluation_feed(split, size), material.side_feed(split, size)
    metrics, _ = stage_metrics(training.config, material.heads)
    with HeadFeeds(feed=feed, side_feed=side_feed) as feeds:
        return score_heads(
            training.model,
            feeds,
            material.heads,
            training.device,
            world=training.world,
            keep_features=any(metric.of_features for metric in metrics)
            or training.config.tracking.projector > 0,
        )


def _bundle(
    plan: TrainingPlan,
    built: BuiltModel,
    training: Training,
    writer: RunWriter,
    metrics: dict[str, Any],
) -> None:
    manifest = plan.scanned.manifest
    content = BundleContent(
        model=training.model,
        architecture=built.architecture,
        arguments=built.arguments,
        changes=built.changes.record(),
        heads=training.material.heads,
        preprocess=training.material.preprocess,
        golden_images=golden_images(training.material),
        weights_license=built.license,
        run=writer.run.id,
        scores=metrics,
        trained_on={
            "data": plan.scanned.name,
            "layout": manifest.layout,
            "images": manifest.sizes(),
            "images_hash": manifest.hash,
            "reported": plan.scanned.reported,
            "random_split": plan.scanned.random_split,
            "chosen_on_reported": plan.chosen_on_reported,
        },
    )
    save_bundle(writer.path / "model", content)


def golden_images(material: Material) -> tuple[GoldenImage, ...]:
    """Images of the reported split, one per class (of the first head) in turn, for a bundle."""
    positions, head = material.positions("test"), material.manifest.heads[0]
    targets = head.targets[positions]
    chosen: list[int] = []
    for place in range(GOLDEN_IMAGES):
        for label in range(len(head.classes)):
            has = targets == label if head.kind == "single" else targets[:, label] >= YES
            rows = positions[has]
            if place < len(rows) and int(rows[place]) not in chosen:
                chosen.append(int(rows[place]))
        if len(chosen) >= GOLDEN_IMAGES:
            break
    chosen = chosen or positions[:GOLDEN_IMAGES].tolist()
    images = []
    for position in chosen[:GOLDEN_IMAGES]:
        image: bytes | Pixels = material.source.read(position)
        images.append(GoldenImage(Path(material.source.name(position)).name, image))
    return tuple(images)


def _check_finite(tables: Mapping[str, Table], best: Entry) -> None:
    """Raise RunError unless every labeled image of the reported split has a finite loss."""
    if not all(np.isfinite(t.losses[t.labeled]).all() for t in tables.values()):
        raise RunError(
            "the kept model gives values that are not finite",
            where=f"step {best.step}",
            hint="lower --lr, set --clip-grad 1, or use --precision fp32, with --fresh",
        )


def _tell_kept(best: Entry, stage_bests: list[Entry], console: Console) -> None:
    """Of several stages, which one's weights are kept, and what the others reached."""
    if len(stage_bests) < 2:
        return
    for entry in stage_bests:
        kept = "  kept: the best on the validation images" if entry.stage == best.stage else ""
        console.say(
            f"best of  {entry.stage}: epoch {entry.epoch}, val acc {entry.accuracy:.4f}, "
            f"val loss {entry.loss:.4f}{kept}"
        )


def _tell(
    plan: TrainingPlan,
    tables: Mapping[str, Table],
    heads: Sequence[HeadSpec],
    outcome: dict[str, Any],
    console: Console,
) -> None:
    metrics = outcome["metrics"]
    what = accuracy_name(heads)
    score = (
        f"{what} {metrics['accuracy']:.4f} on {metrics['count']} {metrics['split']} images "
        f"(95 %: {metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
    )
    console.result(console.paint(score, "bold"))
    if plan.config.data.overfit_batches is not None:
        console.warn("scored on the few images that it was trained on: this says it can learn them")
    if plan.check:
        console.warn("a check of 2 epochs of 3 batches: every stage runs, the scores say nothing")
    if plan.chosen_on_reported:
        console.warn("chosen on the test images: this score is too good")
    drawn = "drawn at random from all images" if plan.scanned.random_split else "as given"
    console.say(f"  {top5_words(metrics, heads)}loss {metrics['loss']:.4f}; the split is {drawn}")
    further = further_figures(metrics)
    if further is not None:
        console.say(f"  {further}")
    for line in head_lines(metrics):
        console.say(f"  {line}")
    for head in main_heads(heads):
        table = tables[head.name]
        pairs = most_confused_pairs(table, 5) if isinstance(table, EvalTable) else ()
        if pairs:
            console.say("most confused" + (f", {head.name}" if len(heads) > 1 else ""))
        for pair in pairs:
            console.say(f"  {pair.true} taken for {pair.predicted}: {pair.count}")
    run = outcome["run"]
    console.say(f"next     open {outcome['report']}/index.html")
    console.say(f"         discern predict {run} IMAGE.jpg")
    console.say(f"         discern runs show {run}")
    console.say(
        f"took     {outcome['seconds']:.1f} s, {outcome['training_seconds']:.1f} s of it training"
    )
