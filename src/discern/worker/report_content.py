"""Gathers what a report shows from a run or an evaluation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from discern.data.head_spec import HeadSpec
from discern.data.images import Pixels, Preprocess, decode_image, viewable
from discern.data.pixel_arrays import viewable_note
from discern.data.sources import Source
from discern.track.metrics_read import Series
from discern.track.run import RunWriter
from discern.training.evaluate import Table
from discern.training.joint_scores import MATRIX_CLASSES
from discern.training.material import Material
from discern.training.scores import EvalTable
from discern.worker.data_scan import left_out_words
from discern.worker.open_model import OpenedModel
from discern.worker.plan import TrainingPlan
from discern.worker.untrained_heads import CHOICE, untrained_lines
from discern.workflows.heads_report import (
    HeadsReportContent,
    confusion_file,
    table_picture,
    write_heads_report,
)
from discern.workflows.report import Points, ReportContent, write_report

AnyReport: TypeAlias = ReportContent | HeadsReportContent

CHOSEN_ON_TEST = "Chosen on the test images: this score is too good."
FEW_IMAGES = 100  # below this the 95 % interval spans some twenty points
_CURVES = ("train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy")


def _shown(series: str) -> bool:
    """The curves of a report: loss, accuracy and rate, and each head's."""
    return series in _CURVES or series.endswith(("/accuracy", "/loss"))


def run_curves(series: Mapping[str, Series]) -> dict[str, Points]:
    """The curves of a report out of a run's series."""
    return {name: (found.steps, found.values) for name, found in series.items() if _shown(name)}


_RESIZED = {
    "mixed": "antialiased; in training linear where photos hardly shrink",
    "fast": "antialiased; in training linear everywhere (--resample fast)",
}


def report_content(
    plan: TrainingPlan,
    material: Material,
    tables: Mapping[str, Table],
    writer: RunWriter,
    metrics: dict[str, Any],
    val_metrics: dict[str, Any] | None,
) -> AnyReport:
    """What the report of a finished training shows."""
    series = writer.run.read_all()
    run = writer.run.id
    names, ids = _images(material, tables)
    return _content(
        title=f"{run}: {plan.config.model.name} on {plan.scanned.name}",
        tables=tables,
        heads=material.heads,
        names=names,
        ids=ids,
        metrics=metrics,
        val_metrics=val_metrics,
        curves=run_curves(series),
        facts=_facts(plan, material),
        environment=run_environment(writer.run.record),
        warnings=_warnings(plan, metrics),
        config_text=writer.run.config_text(),
        commands=run_commands(run),
        thumbnail=thumbnails(material.source, material.preprocess),
    )


def _content(*, tables: Mapping[str, Table], heads: Sequence[HeadSpec], **common: Any) -> AnyReport:
    """The content of a report: of one head of one label an image, or of heads."""
    table = tables[heads[0].name]
    if len(heads) == 1 and isinstance(table, EvalTable):
        return ReportContent(table=table, **common)
    parts = common.pop("parts", {})
    by_head = parts.get("head_parts", {heads[0].name: parts} if parts else {})
    return HeadsReportContent(
        tables=tables, heads=heads, parts=by_head, leak_free=parts.get("leak_free"), **common
    )


def write_any_report(folder: Path, content: AnyReport) -> None:
    """Write the report to `folder`, replacing an older report there."""
    if isinstance(content, ReportContent):
        write_report(folder, content)
    else:
        write_heads_report(folder, content)


def _images(material: Material, tables: Mapping[str, Table]) -> tuple[list[str], list[str]]:
    """Name and id of each scored image: those of the first head, and so of every head."""
    positions = next(iter(tables.values())).positions
    names = [material.source.name(int(position)) for position in positions]
    return names, material.manifest.ids[positions].tolist()


def add_confusion_images(
    writer: RunWriter, tables: Mapping[str, Table], heads: Sequence[HeadSpec], step: int
) -> None:
    """Each head's confusion matrix into the event files: the pictures of the report, once drawn."""
    if writer.events is None:
        return
    for head in heads:
        table = tables.get(head.name)
        if table is None or not table.labeled.any() or head.width > MATRIX_CLASSES:
            continue
        tag = "confusion" if len(heads) == 1 else f"confusion/{head.name}"
        drawn = confusion_file(writer.path / "report", head.name)
        picture = table_picture(table) if drawn is None else drawn.read_bytes()
        writer.events.add_image(tag, picture, step)


def _facts(plan: TrainingPlan, material: Material) -> dict[str, str]:
    scanned, preprocess = plan.scanned, material.preprocess
    precision = plan.choices["precision"]
    counts = scanned.manifest.sizes()
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
        "left out": left_out_words(scanned.problems) or "none",
    }


def run_commands(run: str) -> tuple[str, ...]:
    """What to do next with a run, for its report."""
    return (
        f"discern predict {run} IMAGE.jpg",
        f"discern eval {run} DATA",
        f"discern runs show {run}",
        f"discern runs rerun {run}",
    )


def run_environment(record: Mapping[str, Any]) -> dict[str, str]:
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
        found.append(CHOSEN_ON_TEST)
    filled = untrained_lines(plan.choices.get(CHOICE, {}))
    found += [f"{line[0].upper()}{line[1:]}." for line in filled]
    found += plan.scanned.warnings
    return (*found, *_data_warnings(left_out_words(plan.scanned.problems), metrics))


def _data_warnings(left_out: str | None, metrics: dict[str, Any]) -> list[str]:
    found = []
    if left_out is not None:
        found.append(f"Left out: {left_out}.")
    if metrics["count"] < FEW_IMAGES:
        found.append(f"Only {metrics['count']} images were scored: see the interval.")
    return found


def evaluation_content(
    opened: OpenedModel,
    material: Material,
    tables: Mapping[str, Table],
    metrics: dict[str, Any],
    *,
    left_out: str | None = None,
    warnings: tuple[str, ...] = (),
    parts: Mapping[str, Any] | None = None,
) -> AnyReport:
    """What the report of `discern eval` shows. `left_out`: images, in words."""
    preprocess = material.preprocess
    names, ids = _images(material, tables)
    return _content(
        title=f"{opened.name} on {material.manifest.layout}",
        tables=tables,
        heads=tuple(head for head in opened.heads if head.name in tables),
        names=names,
        ids=ids,
        metrics=metrics,
        facts={
            "data": material.manifest.layout,
            "model": opened.name,
            **input_facts(preprocess),
            "resampling": f"{preprocess.interpolation}, crop share {preprocess.crop_pct:g}",
            "device": str(opened.device),
        },
        warnings=(*warnings, *_data_warnings(left_out, metrics)),
        parts=parts or {},
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
