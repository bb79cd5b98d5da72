"""What an evaluation tells of one head beyond its scores: answers, calibration, slices, views.

Each part is a plain JSON object, or None where the head cannot have it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from discern.base.errors import ConfigError
from discern.data.check import Gathered
from discern.data.table_files import read_table
from discern.exporting.answer_rules import HeadRules, answered_classes
from discern.training.answer_thresholds import f1_by_class
from discern.training.calibration import (
    calibration_figures,
    cross_validated_temperature,
    held_out_figures,
)
from discern.training.class_groups import group_table
from discern.training.evaluate import Table
from discern.training.joint_scores import head_record
from discern.training.metrics import probabilities
from discern.training.scores import (
    EvalTable,
    confusion_matrix,
    most_confused_pairs,
    score_record,
    wilson_interval,
)
from discern.training.slices import find_slices
from discern.worker.evaluated import Evaluated
from discern.worker.request_values import pair_value
from discern.worker.scored_facts import column_facts, image_facts, manifest_facts

# Logits that a temperature is cross-validated on: a second or two.
_MOST_FITTED: Final = 5_000_000
_SHOWN_SLICES: Final = 200


def answers(done: Evaluated, head: str, table: EvalTable) -> dict[str, Any] | None:
    """What the bundle's rules answer: how many are known, and how right those are; None without.

    macro_f1: of the answers to all labeled images, an unknown one being of no class; None where
    there are no thresholds.
    """
    rules: HeadRules = done.scoring.opened.rules.of(head)
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
    by_class = None
    if rules.thresholds is not None:
        width, labeled = len(table.classes), table.labeled
        by_class = f1_by_class(answered[labeled], table.targets[labeled], width)
    return {
        "answered": count,
        "unknown": total - count,
        "coverage": count / total,
        "accuracy": right / count if count else None,
        "accuracy_low": low,
        "accuracy_high": high,
        "macro_f1": None if by_class is None else float(np.nanmean(by_class)),
        "thresholds": rules.thresholds is not None,
    }


def calibration(table: EvalTable) -> dict[str, Any] | None:
    """ECE, Brier score, loss and bias; and what a temperature would make of them, out of fold."""
    if table.logits is None or not np.isfinite(table.logits).all():
        return None
    before = calibration_figures(table)
    labeled = table.labeled
    if int(labeled.sum()) < 10 or table.logits.size > _MOST_FITTED:
        return {**before, "temperature": None, "at_temperature": None}
    found = cross_validated_temperature(table.logits, table.targets)
    return {
        **before,
        "temperature": found.temperature,
        "at_temperature": held_out_figures(table, found),
    }


def slices(done: Evaluated, table: Table, seen: Gathered) -> list[dict[str, Any]]:
    manifest, rows, labeled = done.scanned.manifest, table.positions, table.labeled
    heads = [head.spec for head in manifest.heads]
    facts = image_facts(seen) | manifest_facts(manifest, rows, heads)
    data = str(done.request.arguments["data"])
    root = pair_value(done.request, "data.root")
    facts |= column_facts(data, done.asked("slice_by") or (), manifest, rows, root)
    own = {name: values[labeled] for name, values in facts.items()}
    found = find_slices(table.correct[labeled], own)
    return [part.record() for part in found[:_SHOWN_SLICES]]


def groups(table: EvalTable, named: Mapping[str, str]) -> dict[str, Any]:
    """The scores and confusions of groups of classes; `named`: class name to group."""
    joined = group_table(table, named)
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


def views(found: Table, table: Table, count: int) -> dict[str, Any]:
    """The scores `found` by the mean answer to `count` views, and what they change of `table`'s."""
    return {
        "views": count,
        **head_record(found),
        "mended": int((found.correct & ~table.correct).sum()),
        "spoiled": int((table.correct & ~found.correct & table.labeled).sum()),
    }
