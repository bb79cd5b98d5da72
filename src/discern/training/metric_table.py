"""Metrics by name, and by import path: what a config or a flag may ask for.

Owns the names. A metric of one's own is a function (table, **arguments) -> float, named
`package.module:name` or `./my_file.py:name`; `table` is an `EvalTable`, or a `LabelTable` where
images have several labels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.data.head_spec import HeadSpec
from discern.training import label_metrics as labels
from discern.training import metrics, neighbors, scores
from discern.training.label_metrics import LabelTable
from discern.training.scores import EvalTable

Figure = Callable[..., Any]
# Of MXNet and Catalyst, and short: top_k_accuracy_5, accuracy05, top5; map05.
_NUMBERED = {
    "top_k": re.compile(r"(?:top_?|top_k_accuracy_|accuracy_?)(\d+)"),
    "map_at_k": re.compile(r"map_?(?:at_|@)?(\d+)"),
    "recall_at": re.compile(r"recall_?(?:at_|@)(\d+)"),
}

METRICS: dict[str, Figure] = {
    "accuracy": scores.accuracy,
    "top_k": metrics.top_k,
    "balanced_accuracy": metrics.balanced_accuracy,
    "precision": metrics.precision,
    "recall": metrics.recall,
    "f1": metrics.f1,
    "iou": metrics.jaccard,
    "mcc": metrics.matthews,
    "kappa": metrics.cohen_kappa,
    "auc": metrics.roc_auc,
    "map": metrics.mean_average_precision,
    "map_at_k": metrics.map_at_k,
    "cross_entropy": scores.mean_loss,
    "log_loss": metrics.log_loss,
    "perplexity": metrics.perplexity,
    "brier": metrics.brier,
    "ece": metrics.ece,
    "mae": metrics.mae,
    "mse": metrics.mse,
    "rmse": metrics.rmse,
    "pearson": metrics.pearson,
    "recall_at": neighbors.recall_at_k,
}
LABEL_METRICS: dict[str, Figure] = {
    "accuracy": labels.exact_match,
    "label_accuracy": labels.label_accuracy,
    "exact_match": labels.exact_match,
    "precision": labels.label_precision,
    "recall": labels.label_recall,
    "f1": labels.label_f1,
    "auc": labels.label_auc,
    "map": labels.label_mean_average_precision,
    "log_loss": labels.label_log_loss,
    "brier": labels.label_brier,
}
# Those of one label per image and of several; MXNet's and Catalyst's names, and common short ones.
ALIASES = {
    "acc": "accuracy",
    "ce": "cross_entropy",
    "nll": "log_loss",
    "nll_loss": "log_loss",
    "matthews": "mcc",
    "cohen_kappa": "kappa",
    "roc_auc": "auc",
    "mean_average_precision": "map",
    "dice": "f1",
    "jaccard": "iou",
    "pcc": "mcc",
    "pearsonr": "pearson",
    "calibration_error": "ece",
}
# Errors and distances; of all other figures of the tables more is better.
_LESS_IS_BETTER = frozenset(
    {"loss", "cross_entropy", "log_loss", "perplexity", "brier", "ece", "mae", "mse", "rmse"}
)
_AVERAGES = ("macro", "micro", "weighted")


@dataclass(frozen=True, slots=True)
class Metric:
    """One opened metric: its name as asked for, and what computes it from a table."""

    name: str
    figure: Figure = field(repr=False)
    of_features: bool = False  # its table must hold the embeddings

    def __call__(self, table: EvalTable | LabelTable) -> float:
        """The figure. Raises ConfigError when a metric of one's own gives no number."""
        value = self.figure(table)
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ConfigError(
                "a metric gives one number",
                where=f"metric '{self.name}'",
                got=type(value).__name__,
                expected="a float",
            )
        return float(value)


def open_metric(
    name: str, arguments: Mapping[str, Any] | None = None, *, several_labels: bool = False
) -> Metric:
    """The metric of this name, with its arguments bound and checked.

    `macro_f1`, `micro_recall` are `f1`, `recall` with that average; `top5`, MXNet's
    `top_k_accuracy_5` and Catalyst's `accuracy05` are `top_k` with k 5. `several_labels` chooses
    the multi-label ones. Raises ConfigError for an unknown name, naming the nearest, and for
    arguments that do not fit.
    """
    given = dict(arguments or {})
    if is_import_path(name):
        figure = open_import_path(name, where="metric")
        if not callable(figure):
            raise ConfigError("a metric is a function", where="metric", got=name)
    else:
        table = LABEL_METRICS if several_labels else METRICS
        figure = table[_own_name(name, given, table)]
    check_arguments(figure, given, where=f"metric '{name}'", given=_first_parameter(figure))
    _check_values(name, given)
    bound = partial(figure, **given) if given else figure
    return Metric(name, bound, of_features=figure is neighbors.recall_at_k)


def better_way(name: str) -> Literal["max", "min"] | None:
    """Which way a figure of this name is better; None for a metric of one's own.

    `HEAD/accuracy` is as `accuracy`. Raises ConfigError for an unknown name.
    """
    if is_import_path(name):
        return None
    plain = name.rpartition("/")[2]
    table = METRICS if plain == "loss" else {**LABEL_METRICS, **METRICS}
    own = plain if plain == "loss" else _own_name(plain, {}, table)
    return "min" if own in _LESS_IS_BETTER else "max"


def open_metrics(
    wanted: Sequence[tuple[str, Mapping[str, Any]]], heads: Sequence[HeadSpec]
) -> tuple[list[Metric], list[Metric]]:
    """The metrics for heads of one label an image, and those for heads of several labels.

    Each kind of head gets those of `wanted`, as (name, arguments), that it has. Raises ConfigError
    for one that no kind of `heads` has.
    """
    opened: dict[bool, list[Metric]] = {False: [], True: []}
    kinds = {head.kind == "multi" for head in heads if not head.side}
    for name, arguments in wanted:
        refused = []
        for several in sorted(kinds):
            try:
                opened[several].append(open_metric(name, arguments, several_labels=several))
            except ConfigError as error:
                refused.append(error)
        if len(refused) == len(kinds):
            raise refused[0]
    return opened[False], opened[True]


def metric_record(
    table: EvalTable | LabelTable, wanted: Sequence[Metric]
) -> dict[str, float | None]:
    """Each metric's figure by name; None where it is undefined, as JSON has no such number."""
    figures = {metric.name: metric(table) for metric in wanted}
    return {name: value if np.isfinite(value) else None for name, value in figures.items()}


def _own_name(name: str, given: dict[str, Any], table: Mapping[str, Figure]) -> str:
    """The table's name for `name`; what the name says beside it goes into `given`."""
    wanted = name.lower().replace("-", "_")
    for base, pattern in _NUMBERED.items():
        number = pattern.fullmatch(wanted)
        if number and base in table:
            given.setdefault("k", int(number[1]))
            return base
    average, _, rest = wanted.partition("_")
    if average in _AVERAGES and rest in ("f1", "precision", "recall"):
        given.setdefault("average", average)
        wanted = rest
    wanted = ALIASES.get(wanted, wanted)
    if wanted not in table:
        raise ConfigError(
            f"unknown metric '{name}'",
            where="metric",
            got=name,
            expected=f"{', '.join(table)} or package.module:name",
            hint=did_you_mean(wanted, [*table, *ALIASES]),
        )
    return wanted


def _first_parameter(figure: Figure) -> tuple[str, ...]:
    import inspect

    return tuple(inspect.signature(figure).parameters)[:1]


def _check_values(name: str, given: Mapping[str, Any]) -> None:
    k = given.get("k", 1)
    if not is_import_path(name) and (not isinstance(k, int) or k < 1):
        raise ConfigError("k is a count", where=f"metric '{name}'", got=k, expected=">= 1")
    average = given.get("average", "macro")
    if not is_import_path(name) and average not in _AVERAGES:
        raise ConfigError(
            "no such average",
            where=f"metric '{name}'",
            got=average,
            expected=", ".join(_AVERAGES),
            hint=did_you_mean(str(average), _AVERAGES),
        )
