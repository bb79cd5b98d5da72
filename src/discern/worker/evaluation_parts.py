"""What an evaluation tells beyond its scores: leaks, calibration, coverage, slices, stress, views.

Each part is a plain JSON object, or None where it was not asked for or cannot be had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.progress_bar import counting_bar
from discern.config.request import Request
from discern.data.check import Gathered, gather_rows
from discern.data.head_spec import HeadSpec, is_plain, main_heads
from discern.data.leaks import MOST_COMPARED, ImageSet, Leaks, find_leaks
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import open_source
from discern.data.table_files import read_table
from discern.exporting.answer_rules import HeadRules, answered_classes
from discern.training.calibration import (
    calibration_figures,
    cross_validated_temperature,
)
from discern.training.class_groups import group_names, group_table
from discern.training.coverage import coverage_curve
from discern.training.evaluate import Table
from discern.training.material import Material
from discern.training.metrics import probabilities
from discern.training.scores import (
    EvalTable,
    confusion_matrix,
    most_confused_pairs,
    score_record,
    table_from_logits,
    wilson_interval,
)
from discern.training.slices import find_slices
from discern.worker.augmented_views import AugmentedViews
from discern.worker.request_values import pair_value
from discern.worker.scored_facts import column_facts, image_facts, manifest_facts
from discern.worker.scoring import Scoring
from discern.worker.stress import stress_test
from discern.worker.tempered_model import tempered

# Images, scored and training ones, that are compared unasked: some seconds of one core.
MOST_UNASKED: Final = 5000
# Logits that a temperature is cross-validated on: a second or two.
_MOST_FITTED: Final = 5_000_000
_SHOWN_SLICES: Final = 200


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What was scored: the images, their split and the tables."""

    request: Request
    scoring: Scoring
    scanned: ScannedData
    material: Material
    split: str
    tables: dict[str, Table]

    @property
    def table(self) -> EvalTable | None:
        """The table of the only head of one label an image; None for others."""
        table = next(iter(self.tables.values()))
        return table if len(self.tables) == 1 and isinstance(table, EvalTable) else None

    def asked(self, name: str) -> Any:
        """The command's own option `name`."""
        return self.request.arguments.get(name)


def evaluation_parts(done: Evaluated, console: Console) -> dict[str, Any]:
    """All parts by name: leak_free, answers, calibration, coverage, slices, groups, stress, tta."""
    table, rows = done.table, done.material.positions(done.split)
    wanted = done.asked("out") is not None or bool(done.asked("slice_by"))
    seen: Gathered | None = None
    if wanted and table is not None:
        with counting_bar(console, "looking at the images") as progress:
            seen = gather_rows(done.material.source, rows, done.scoring.workers, progress)
    leaks = _leaks(done, rows, seen, console)
    parts: dict[str, Any] = {"leak_free": None if leaks is None else _leak_free(done, leaks)}
    if table is None:
        return parts
    return parts | {
        "answers": _answers(done, table),
        "calibration": _calibration(table),
        "coverage": coverage_curve(table).record(),
        "slices": None if seen is None else _slices(done, table, seen),
        "groups": _groups(done, table),
        "stress": _stress(done, console),
        "tta": _views(done, table, console),
    }


def check_parts(request: Request, heads: Sequence[HeadSpec]) -> None:
    """Raises ConfigError for parts that a model of these heads cannot have, or an unread file."""
    if is_plain(main_heads(heads)):
        if request.arguments.get("groups") is not None:
            group_names(heads[0].classes, read_groups(Path(request.arguments["groups"])))
        return
    for name in ("stress", "tta", "groups", "slice_by"):
        if request.arguments.get(name):
            raise ConfigError(
                "this is for a model of one head of one label an image",
                where=f"--{name.replace('_', '-')}",
                got=", ".join(head.name for head in heads),
            )


def _leaks(
    done: Evaluated, rows: NDArray[np.int64], seen: Gathered | None, console: Console
) -> Leaks | None:
    """The comparison with training images; None without any, or where it is not wanted."""
    asked = done.asked("leaks")
    if asked is False or (done.split in ("train", "all") and asked is not True):
        return None
    training = _training_images(done, forced=asked is True, console=console)
    if training is None:
        return None
    most = 1 << 62 if asked else MOST_COMPARED if done.asked("out") else MOST_UNASKED
    scored = ImageSet(done.scanned.manifest, done.material.source, rows)
    with counting_bar(console, "comparing with training images") as progress:
        return find_leaks(
            scored, training, threads=done.scoring.workers, most=most, seen=seen, progress=progress
        )


def _training_images(done: Evaluated, *, forced: bool, console: Console) -> ImageSet | None:
    """The train split of the data, or if `forced` of the data that the model was trained on."""
    manifest = done.scanned.manifest
    rows = manifest.positions("train")
    if len(rows) and done.split != "all":
        return ImageSet(manifest, done.material.source, rows)
    source = done.scoring.opened.scored.source
    if not forced:
        return None
    if source is None:
        raise ConfigError(
            "the training images are not known", where="--leaks", got=done.scoring.opened.name,
            expected="data with a train split, or a run as MODEL",
        )  # fmt: skip
    console.say(f"training images of {source}")
    scanned = scan_data(
        DataRequest(
            train=source,
            root=pair_value(done.request, "data.root"),
            label=done.scoring.opened.scored.labels,
            on_bad_image="skip",
            split=done.scoring.opened.scored.split,
        )
    )
    return ImageSet(
        scanned.manifest, open_source(scanned.manifest), scanned.manifest.positions("train")
    )


def _leak_free(done: Evaluated, leaks: Leaks) -> dict[str, Any]:
    """The accuracy without the images that are like a training image, and who they are."""
    table = next(iter(done.tables.values()))
    left = table.labeled & ~leaks.any
    count, right = int(left.sum()), int((table.correct & left).sum())
    low, high = wilson_interval(right, count) if count else (None, None)
    removed = np.flatnonzero(table.labeled & leaks.any)
    names = [done.material.source.name(int(table.positions[row])) for row in removed[:1000]]
    return {
        "count": count,
        "removed": len(removed),
        "exact": int(leaks.exact[removed].sum()),
        "near": int(leaks.near[removed].sum()),
        "accuracy": right / count if count else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "compared": "bytes and looks" if leaks.compared else "bytes",
        "note": leaks.words,
        "images": names,
    }


def _answers(done: Evaluated, table: EvalTable) -> dict[str, Any] | None:
    """What the bundle's rules answer: how many are known, and how right those are; None without."""
    opened = done.scoring.opened
    head = next(iter(done.tables))
    rules: HeadRules = opened.rules.of(head)
    if table.logits is None or (rules.thresholds is None and rules.unknown is None):
        return None
    every = replace(table, targets=np.zeros_like(table.targets))
    raw = table.logits * np.float32(rules.temperature or 1.0)
    features = table.features if table.features is not None else np.zeros((len(table), 1))
    answered = answered_classes(
        rules, raw, probabilities(every).astype(np.float32), features.astype(np.float32)
    )
    if answered is None:
        return None
    known = (answered >= 0) & table.labeled
    right = int((answered[known] == table.targets[known]).sum())
    count, total = int(known.sum()), int(table.labeled.sum())
    low, high = wilson_interval(right, count) if count else (None, None)
    return {
        "answered": count,
        "unknown": total - count,
        "coverage": count / total,
        "accuracy": right / count if count else None,
        "accuracy_low": low,
        "accuracy_high": high,
    }


def _calibration(table: EvalTable) -> dict[str, Any] | None:
    """ECE, Brier score, loss and bias; and what a temperature would make of them, out of fold."""
    if table.logits is None or not np.isfinite(table.logits).all():
        return None
    before = calibration_figures(table)
    labeled = table.labeled
    if int(labeled.sum()) < 10 or table.logits.size > _MOST_FITTED:
        return {**before, "temperature": None, "at_temperature": None}
    found = cross_validated_temperature(table.logits, table.targets)
    held = table_from_logits(
        np.log(np.maximum(found.probabilities[labeled], 1e-30)).astype(np.float32),
        table.targets[labeled],
        classes=table.classes,
    )
    return {
        **before,
        "temperature": found.temperature,
        "at_temperature": calibration_figures(held),
    }


def _slices(done: Evaluated, table: EvalTable, seen: Gathered) -> list[dict[str, Any]]:
    manifest, rows, labeled = done.scanned.manifest, table.positions, table.labeled
    heads = [head.spec for head in manifest.heads]
    facts = image_facts(seen) | manifest_facts(manifest, rows, heads)
    data = str(done.request.arguments["data"])
    facts |= column_facts(data, done.asked("slice_by") or (), manifest, rows)
    own = {name: values[labeled] for name, values in facts.items()}
    found = find_slices(table.correct[labeled], own)
    return [part.record() for part in found[:_SHOWN_SLICES]]


def _groups(done: Evaluated, table: EvalTable) -> dict[str, Any] | None:
    """The scores and confusions of groups of classes; None without `--groups`."""
    file = done.asked("groups")
    if file is None:
        return None
    joined = group_table(table, read_groups(Path(file)))
    return {
        **score_record(joined),
        "top5": None,
        "loss": None,
        "classes": list(joined.classes),
        "confusion": confusion_matrix(joined).tolist(),
        "most_confused": [pair.record() for pair in most_confused_pairs(joined, 10)],
    }


def read_groups(path: Path) -> dict[str, str]:
    """Class name to group, of a table with the columns `class` and `group`. Raises ConfigError."""
    if not path.is_file():
        raise ConfigError("no such file", where="--groups", got=path, expected="a CSV: class,group")
    columns = read_table(path).columns
    if not {"class", "group"} <= columns.keys():
        raise ConfigError(
            "the table lacks a column", where="--groups", got=", ".join(columns),
            expected="class, group",
        )  # fmt: skip
    pairs = zip(columns["class"], columns["group"], strict=True)
    return {str(name): str(group) for name, group in pairs}


def _stress(done: Evaluated, console: Console) -> dict[str, Any] | None:
    if not done.asked("stress"):
        return None
    console.say("stress   six kinds at three strengths")
    return stress_test(done.scoring, done.material, done.split, next(iter(done.tables)))


def _views(done: Evaluated, table: EvalTable, console: Console) -> dict[str, Any] | None:
    """The scores of the mean answer to several views, and what changed image by image."""
    if not done.asked("tta"):
        return None
    opened = done.scoring.opened
    model = tempered(opened.model, opened.heads, opened.rules.temperatures)
    asked = AugmentedViews(model, mirror=opened.scored.mirrored)
    console.say(f"views    {asked.views} of each image")
    views = done.scoring.tables(done.material, done.split, model=asked, raw=True)
    found = cast("EvalTable", next(iter(views.values())))  # of the same head as `table`
    return {
        "views": asked.views,
        **score_record(found),
        "mended": int((found.correct & ~table.correct).sum()),
        "spoiled": int((table.correct & ~found.correct & table.labeled).sum()),
    }
