"""The scores of all heads of a network, and the joint ones that a model is chosen by.

NumPy only. Owns what accuracy, interval, loss and count mean where there are several heads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from discern.base.errors import DataError
from discern.data.head_spec import HeadSpec, main_heads
from discern.training.metric_table import Metric, metric_record
from discern.training.scores import EvalTable, confusion_matrix, score_record
from discern.training.tag_scores import TagTable, tag_confusion, tag_record

# A matrix of more classes is in the report's confusion.csv alone.
MATRIX_CLASSES = 100
_MEANS = ("accuracy", "accuracy_low", "accuracy_high")


def head_record(table: EvalTable | TagTable) -> dict[str, Any]:
    """The scores of one head: see `scores.score_record` and `tag_scores.tag_record`."""
    return tag_record(table) if isinstance(table, TagTable) else score_record(table)


def joint_record(
    tables: Mapping[str, EvalTable | TagTable],
    heads: Sequence[HeadSpec],
    *,
    metrics: Sequence[Metric] = (),
    tag_metrics: Sequence[Metric] = (),
    with_confusion: bool = False,
) -> dict[str, Any]:
    """The scores of a network as stored and printed: fractions, not percent.

    Of the only head its own. Of several heads `heads` holds each one's, a side head marked `side`,
    and the joint figures are means over the main heads that have labels: accuracy; its bounds,
    which as means of the heads' bounds are as wide as if all heads erred together; loss; top5 over
    the heads that have one. count: the most images of any.
    `metrics` are further figures of each head, those of `tag_metrics` of heads with several labels;
    with `with_confusion` each head of at most 100 classes has its confusion matrix. Raises
    DataError when no main head has a label.
    """
    found: dict[str, dict[str, Any]] = {}
    for head in heads:
        table = tables.get(head.name)
        if table is None or not table.labeled.any():
            continue
        own = tag_metrics if isinstance(table, TagTable) else metrics
        found[head.name] = head_record(table) | metric_record(scored_form(table), own)
        if len(heads) > 1 and with_confusion and head.width <= MATRIX_CLASSES:
            found[head.name]["confusion"] = confusion_record(table)
        if head.side:
            found[head.name]["side"] = True
    main = [found[head.name] for head in main_heads(heads) if head.name in found]
    if not main:
        raise DataError(
            "No labeled image to score",
            got=f"none with a label for {', '.join(head.name for head in main_heads(heads))}",
            expected="at least one labeled image",
            hint="give data with class folders or a label column, or use `discern predict`",
        )
    if len(heads) == 1:
        return main[0]
    joint: dict[str, Any] = {"count": max(record["count"] for record in main)}
    joint |= {name: _mean([record[name] for record in main]) for name in _MEANS}
    joint["top5"] = _mean([record["top5"] for record in main if record["top5"] is not None])
    losses = [record["loss"] for record in main]
    joint["loss"] = None if None in losses else _mean(losses)
    return {**joint, "heads": found}


def scored_form(table: EvalTable | TagTable) -> Any:
    """The table as metrics by name take it."""
    return table.labels() if isinstance(table, TagTable) else table


def confusion_record(table: EvalTable | TagTable) -> dict[str, Any]:
    """Class names, counts and shares of the true class, row by row.

    Of several labels an image: of each label its own 2 x 2 (no, yes).
    """
    counts = tag_confusion(table) if isinstance(table, TagTable) else confusion_matrix(table)
    shares = counts / np.maximum(counts.sum(axis=-1, keepdims=True), 1)
    return {
        "classes": list(table.classes),
        "counts": counts.tolist(),
        "normalized": np.round(shares, 6).tolist(),
    }


def joint_figures(record: Mapping[str, Any], heads: Sequence[HeadSpec]) -> dict[str, float]:
    """Every number of `record` by name, those of several heads as `HEAD/NAME`; undefined: NaN.

    A figure that only heads have is, under its own name, the mean over the main heads that have it.
    """
    several = record.get("heads", {})
    figures = _numbers(record)
    for head in heads:
        own = _numbers(several.get(head.name, {}))
        figures |= {f"{head.name}/{name}": value for name, value in own.items()}
    names = {name for head in main_heads(heads) for name in _numbers(several.get(head.name, {}))}
    for name in sorted(names - set(figures)):
        found = [
            figures[f"{h.name}/{name}"] for h in main_heads(heads) if f"{h.name}/{name}" in figures
        ]
        figures[name] = sum(found) / len(found)
    return figures


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    plain = {n: v for n, v in record.items() if v is None or isinstance(v, int | float)}
    return {n: math.nan if v is None else float(v) for n, v in plain.items() if n != "side"}


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
