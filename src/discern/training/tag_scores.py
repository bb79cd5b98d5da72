"""What an evaluation measured of several labels an image, and the scores that are always reported.

NumPy only, like `scores`, whose counterpart for one label an image this is. The further figures by
name are in `label_metrics`.

Axes: N images, K labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.training.label_metrics import (
    THRESHOLD,
    LabelTable,
    exact_match,
    label_average_precision_per_class,
    label_f1,
    label_mean_average_precision,
)
from discern.training.scores import wilson_interval


@dataclass(frozen=True, slots=True)
class TagTable:
    """One row per evaluated image: which labels it has, and how sure the network is of each.

    positions: int64 [N], places in the manifest. targets: float32 [N, K], 1 yes, 0 no, NaN unknown.
    probabilities: float32 [N, K], sigmoids. losses: float32 [N], mean binary cross entropy of an
    image's known labels in nats; NaN where none is known. classes: the K label names. thresholds:
    [K], from which probability on each counts as there; None: 0.5.
    Raises ValueError when shapes do not fit together.
    """

    positions: NDArray[np.int64]
    targets: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    losses: NDArray[np.float32]
    classes: tuple[str, ...]
    thresholds: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.positions), len(self.classes))
        for name in ("targets", "probabilities"):
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"{name} has shape {got}, expected {shape}")
        if self.losses.shape != shape[:1]:
            raise ValueError(f"losses has shape {self.losses.shape}, expected {shape[:1]}")

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """Which images have any known label: bool [N]."""
        return np.asarray(~np.isnan(self.targets).all(axis=1))

    @property
    def named(self) -> NDArray[np.bool_]:
        """Which labels the network says are there: bool [N, K]."""
        least = THRESHOLD if self.thresholds is None else np.array(self.thresholds)
        return np.asarray(self.probabilities >= least)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images have all their known labels told right: bool [N]; False for unlabeled."""
        known = ~np.isnan(self.targets)
        wrong = known & (self.named != (self.targets >= THRESHOLD))
        return np.asarray(self.labeled & ~wrong.any(axis=1))

    def labels(self) -> LabelTable:
        """The form that `label_metrics` takes; a probability that is no number counts as 0.

        Raises DataError when no label is known.
        """
        stated = np.nan_to_num(self.probabilities.astype(np.float64), nan=0.0)
        targets = self.targets.astype(np.float64)
        return LabelTable(targets, stated, self.classes, self.thresholds)


def tag_record(table: TagTable) -> dict[str, Any]:
    """The scores of several labels an image as stored and printed: fractions, not percent.

    accuracy: of the images with a known label, the share whose known labels are all told right at
    the table's thresholds, 0.5 without any (subset accuracy, scikit-learn's `accuracy_score`);
    accuracy_low and _high: its Wilson interval, 95 %; count: those images. macro_f1, micro_f1, map
    (mean average precision) and loss, the mean over images of `losses`. A table with thresholds has
    accuracy and F1 at 0.5 as well, as `NAME_at_half`. None for what is not defined or not finite.
    There is no top-5.
    Raises DataError when no label is known.
    """
    labels = table.labels()
    count = int(table.labeled.sum())
    low, high = wilson_interval(int(table.correct.sum()), count)
    figures = {
        "loss": float(table.losses[table.labeled].sum(dtype=np.float64)) / count,
        "macro_f1": label_f1(labels, "macro"),
        "micro_f1": label_f1(labels, "micro"),
        "map": label_mean_average_precision(labels),
    }
    if table.thresholds is not None:
        figures |= {
            "accuracy_at_half": exact_match(labels, THRESHOLD),
            "macro_f1_at_half": label_f1(labels, "macro", THRESHOLD),
            "micro_f1_at_half": label_f1(labels, "micro", THRESHOLD),
        }
    return {
        "count": count,
        "accuracy": exact_match(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "top5": None,
        **{name: value if np.isfinite(value) else None for name, value in figures.items()},
    }


def tag_rows(table: TagTable) -> list[dict[str, Any]]:
    """Support, precision, recall, F1 and average precision of each label; None if not defined."""
    labels = table.labels()
    right, actual, named = labels.counts()
    found = label_average_precision_per_class(labels)

    def share(part: float, whole: float) -> float | None:
        return part / whole if whole else None

    return [
        {
            "class": name,
            "support": int(actual[k]),
            "precision": share(float(right[k]), float(named[k])),
            "recall": share(float(right[k]), float(actual[k])),
            "f1": share(float(2 * right[k]), float(actual[k] + named[k])),
            "average_precision": None if np.isnan(found[k]) else float(found[k]),
        }
        for k, name in enumerate(table.classes)
    ]


def tag_confusion(table: TagTable) -> NDArray[np.int64]:
    """Of each label [K, 2, 2]: known images by answer, row = true (no, yes), column = told.

    scikit-learn's `multilabel_confusion_matrix`.
    """
    known = ~np.isnan(table.targets)
    if not known.any():
        raise DataError("no known label to count", got=f"{len(table)} images")
    true, told = table.targets >= THRESHOLD, table.named
    cells = [
        [(known & (true == actual) & (told == answer)).sum(axis=0) for answer in (False, True)]
        for actual in (False, True)
    ]
    return np.array(cells).transpose(2, 0, 1).astype(np.int64)
