"""Gathers what a report shows from a run or an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from discern.data.images import Pixels, Preprocess, decode_image, viewable
from discern.data.pixel_arrays import viewable_note
from discern.data.sources import Source
from discern.track.run import RunWriter
from discern.training.material import Material
from discern.training.scores import EvalTable
from discern.worker.open_model import OpenedModel
from discern.worker.plan import TrainingPlan
from discern.workflows.report import ReportContent

FEW_IMAGES = 100  # below this the 95 % interval spans some twenty points
_CURVES = ("train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy")

_RESIZED = {
    "mixed": "antialiased; in training linear where photos hardly shrink",
    "fast": "antialiased; in training linear everywhere (--resample fast)",
}


def report_content(
    plan: TrainingPlan,
    material: Material,
    table: EvalTable,
    writer: RunWriter,
    metrics: dict[str, Any],
    val_metrics: dict[str, Any] | None,
) -> ReportContent:
    """What the report of a finished training shows."""
    series = writer.run.read_all()
    run = writer.run.id
    return ReportContent(
        title=f"{run}: {plan.config.model.name} on {plan.scanned.name}",
        table=table,
        names=[material.source.name(int(position)) for position in table.positions],
        ids=material.manifest.ids[table.positions].tolist(),
        metrics=metrics,
        val_metrics=val_metrics,
        curves={
            name: (series[name].steps, series[name].values) for name in _CURVES if name in series
        },
        facts=_facts(plan, material),
        environment=_environment(writer.run.record),
        warnings=_warnings(plan, metrics),
        config_text=writer.run.config_text(),
        commands=(
            f"discern predict {run} IMAGE.jpg",
            f"discern eval {run} DATA",
            f"discern runs show {run}",
            f"discern runs rerun {run}",
        ),
        thumbnail=thumbnails(material.source, material.preprocess),
    )


def _facts(plan: TrainingPlan, material: Material) -> dict[str, str]:
    scanned, preprocess = plan.scanned, material.preprocess
    precision = plan.choices["precision"]
    counts = {split: sum(numbers.values()) for split, numbers in scanned.manifest.counts().items()}
    drawn = f"drawn at random, stratified, seed {plan.config.data.split_seed}"
    return {
        "data": scanned.manifest.layout,
        "images": ", ".join(f"{split} {count}" for split, count in counts.items()),
        "split": drawn if scanned.random_split else "as given",
        "network": f"{plan.config.model.name}, weights {plan.config.model.weights}",
        **input_facts(preprocess),
        **({} if material.resident else {"resized": _RESIZED[plan.config.data.resample]}),
        "recipe": plan.recipe,
        "device": str(plan.device),
        "precision": f"{precision['value']} ({precision['reason']})",
        "seed": str(plan.config.seed),
        "left out": f"{len(scanned.problems)} unreadable images",
    }


def _environment(record: Mapping[str, Any]) -> dict[str, str]:
    """What the run was made with, in words: versions, machine, and the state of the code."""
    stored = record.get("environment") or {}
    found = {name: str(version) for name, version in (stored.get("versions") or {}).items()}
    cpu, git = stored.get("cpu") or {}, record.get("git") or {}
    found["system"] = str(stored.get("os", "unknown"))
    found["processor"] = f"{cpu.get('model', 'unknown')}, {cpu.get('cores', '?')} cores"
    commit = str(git.get("commit", "unknown"))
    found["commit"] = f"{commit} with changes" if git.get("dirty") else commit
    return found


def _warnings(plan: TrainingPlan, metrics: dict[str, Any]) -> tuple[str, ...]:
    found = []
    if plan.chosen_on_reported:
        found.append("Chosen on the test images: this score is too good.")
    found += plan.scanned.warnings
    return (*found, *_data_warnings(len(plan.scanned.problems), metrics))


def _data_warnings(left_out: int, metrics: dict[str, Any]) -> list[str]:
    found = []
    if left_out:
        found.append(f"{left_out} unreadable images were left out.")
    if metrics["count"] < FEW_IMAGES:
        found.append(f"Only {metrics['count']} images were scored: see the interval.")
    return found


def evaluation_content(
    opened: OpenedModel,
    material: Material,
    table: EvalTable,
    metrics: dict[str, Any],
    *,
    left_out: int = 0,
    warnings: tuple[str, ...] = (),
) -> ReportContent:
    """What the report of `discern eval` shows. `left_out`: how many images could not be read."""
    preprocess = material.preprocess
    return ReportContent(
        title=f"{opened.name} on {material.manifest.layout}",
        table=table,
        names=[material.source.name(int(position)) for position in table.positions],
        ids=material.manifest.ids[table.positions].tolist(),
        metrics=metrics,
        facts={
            "data": material.manifest.layout,
            "model": opened.name,
            **input_facts(preprocess),
            "resampling": f"{preprocess.interpolation}, crop share {preprocess.crop_pct:g}",
            "device": str(opened.device),
        },
        warnings=(*warnings, *_data_warnings(left_out, metrics)),
        thumbnail=thumbnails(material.source, material.preprocess),
    )


def input_facts(preprocess: Preprocess) -> dict[str, str]:
    """What the network is given, and what of it the report's pictures do not show."""
    size = f"{preprocess.height} x {preprocess.width} x {preprocess.channels}"
    depth = "" if preprocess.depth == 8 else f", {preprocess.depth} bit"
    note = viewable_note(preprocess.channels, preprocess.depth)
    return {"input": size + depth} | ({} if note is None else {"pictures": note})


def thumbnails(source: Source, preprocess: Preprocess) -> Callable[[int], Pixels]:
    """A picture of an image by its position, uint8 RGB, of the size that it has in its file."""
    channels = 3 if preprocess.channels == 1 else preprocess.channels

    def pixels(position: int) -> Pixels:
        image = source.read(position)
        if isinstance(image, bytes):
            image = decode_image(image, channels=channels, name=source.name(position))
        return viewable(image)

    return pixels
