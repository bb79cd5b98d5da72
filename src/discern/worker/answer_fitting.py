"""The verbs `calibrate` and `thresholds`: rules of answers fitted on held-out images.

Each writes a new version of the bundle: same weights, same golden logits, other rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, ModelError
from discern.config.request import Request
from discern.data.head_spec import HeadSpec
from discern.exporting.answer_rules import (
    METHODS,
    AnswerRules,
    HeadRules,
    UnknownRule,
    known_scores,
)
from discern.exporting.bundle_versions import write_version
from discern.exporting.content import single_head
from discern.training.answer_thresholds import AnswerThresholds, find_answer_thresholds
from discern.training.calibration import (
    at_temperature,
    calibration_figures,
    cross_validated_temperature,
    fit_label_temperature,
    held_out_figures,
)
from discern.training.evaluate import Table
from discern.training.metrics import probabilities
from discern.training.scores import EvalTable
from discern.training.tag_scores import TagTable
from discern.training.thresholds import ClassThresholds, find_thresholds
from discern.worker.open_model import OpenedModel, open_model
from discern.worker.request_values import open_request, set_threads
from discern.worker.scored_data import scan_fitted
from discern.worker.scoring import Scoring
from discern.worker.terminal import heads_text

# The nearest of 5,000 references is found in the time of a small layer; of more images of a class
# the further ones hardly ever are the nearest.
MOST_REFERENCES: Final = 5000
_SHOWN_CLASSES: Final = 20


def calibrate_verb(request: Request, console: Console) -> int:
    """Do one `calibrate` request."""
    console.emit(calibrate_request(request, console))
    return 0


def thresholds_verb(request: Request, console: Console) -> int:
    """Do one `thresholds` request."""
    console.emit(thresholds_request(request, console))
    return 0


def calibrate_request(request: Request, console: Console) -> dict[str, Any]:
    """Fit each head's temperature; gives the object of `--json`. Raises DiscernError."""
    fitting = _Fitting(request, console)
    tables = fitting.tables(raw=True)
    found: dict[str, HeadRules] = dict(fitting.opened.rules.heads)
    told: dict[str, Any] = {}
    for name, table in tables.items():
        old = fitting.opened.rules.of(name)
        told[name] = _temperature_record(table)
        found[name] = replace(old, temperature=told[name]["temperature"])
        _tell_temperature(name if len(tables) > 1 else "", told[name], console)
        if old.thresholds is not None or old.unknown is not None:
            console.warn(
                "the thresholds were fitted at another temperature: fit them anew with "
                "`discern thresholds`"
            )
    written = fitting.write(found, "temperature")
    only = next(iter(told.values())) if len(told) == 1 else {"heads": told}
    return {**written, **only}


def thresholds_request(request: Request, console: Console) -> dict[str, Any]:
    """Fit thresholds by class, or with `unknown` when an image is unknown; the `--json` object."""
    given = request.arguments
    method, coverage = given.get("unknown"), float(given.get("coverage") or 0.95)
    if method is not None and method not in METHODS:
        raise ConfigError(
            "no such way to tell the unknown", where="--unknown", got=method,
            expected=", ".join(METHODS),
        )  # fmt: skip
    if not 0.0 < coverage <= 1.0:
        raise ConfigError("a coverage is a share of the images", where="--coverage", got=coverage,
                          expected="above 0, at most 1")  # fmt: skip
    fitting = _Fitting(request, console)
    if method is not None:
        return fitting.write_unknown(method, coverage)
    tables = fitting.tables()
    found: dict[str, HeadRules] = dict(fitting.opened.rules.heads)
    told: dict[str, Any] = {}
    for name, table in tables.items():
        several = isinstance(table, TagTable)
        chosen = (find_thresholds if several else find_answer_thresholds)(
            *_stated(table),
            folds=int(given.get("folds") or 5), repeats=int(given.get("repeats") or 5),
        )  # fmt: skip
        found[name] = replace(
            fitting.opened.rules.of(name), thresholds=tuple(float(v) for v in chosen.values)
        )
        told[name] = _threshold_record(chosen, table.classes)
        _tell_thresholds(name if len(tables) > 1 else "", told[name], console)
    written = fitting.write(found, "thresholds")
    only = next(iter(told.values())) if len(told) == 1 else {"heads": told}
    return {**written, **only}


class _Fitting:
    """A bundle, the held-out images that its rules are fitted on, and where it is written."""

    def __init__(self, request: Request, console: Console) -> None:
        set_threads(request)
        self.console = console
        self.request = request
        self.opened: OpenedModel = open_model(open_request(request))
        if self.opened.bundle is None:
            raise ModelError(
                "rules of answers are kept in a bundle, and this is none",
                where=self.opened.name,
                expected="a finished run or a bundle",
            )
        self.bundle = self.opened.bundle
        console.say(f"model    {self.opened.name}, {heads_text(self.opened.heads)}")
        self.scanned, self.split = scan_fitted(request, self.opened, console)
        self.scoring = Scoring.of(request, self.opened)
        self.material = self.scoring.material(self.scanned.manifest)

    def tables(self, *, raw: bool = False, keep_features: bool = False) -> dict[str, Table]:
        return self.scoring.tables(self.material, self.split, raw=raw, keep_features=keep_features)

    def write(self, heads: Mapping[str, HeadRules], what: str) -> dict[str, Any]:
        """Write the new version; gives what `--json` says of it."""
        opened, out = self.opened, self.request.arguments.get("out")
        fitted = {
            **opened.rules.fitted,
            what: {
                "data": self.scanned.name,
                "split": self.split,
                "images_hash": self.scanned.manifest.hash,
            },
        }
        rules = AnswerRules(heads, fitted)
        path, revision = write_version(
            self.bundle, rules, opened.heads, None if out is None else Path(out)
        )
        self.console.say(f"bundle   {path}, version {revision}")
        return {
            "model": opened.name,
            "bundle": str(path),
            "revision": revision,
            "split": self.split,
            "count": len(self.material.positions(self.split)),
        }

    def write_unknown(self, method: str, coverage: float) -> dict[str, Any]:
        """Fit when an image is unknown, on the only head of one label an image; write it."""
        head = single_head(self.opened.heads, self.opened.name)
        old = self.opened.rules.of(head.name)
        raw = self._single(self.tables(raw=True, keep_features=True))
        table = raw if old.temperature is None else at_temperature(raw, old.temperature)
        references = self._references(head) if method == "distance" else None
        rule = UnknownRule(method, 0.0, coverage, references)
        if raw.logits is None or table.logits is None or raw.features is None:
            raise DataError("too many images for their logits to be kept", got=len(raw))
        stated = probabilities(replace(table, targets=np.zeros_like(table.targets)))
        scores = known_scores(rule, raw.logits, stated.astype(np.float32), raw.features)
        threshold = float(np.quantile(scores, 1.0 - coverage, method="lower"))
        rule = replace(rule, threshold=threshold)
        known = scores >= threshold
        right = table.correct & table.labeled
        record = {
            "method": method,
            "threshold": threshold,
            "coverage": coverage,
            "known": float(known.mean()),
            "accuracy": float(right[table.labeled].mean()),
            "accuracy_of_known": float(right[known & table.labeled].mean()),
        }
        written = self.write(
            {**self.opened.rules.heads, head.name: replace(old, unknown=rule)}, "unknown"
        )
        self.console.result(
            f"unknown below {threshold:.4f} by {method}: {record['known']:.1%} of the images are "
            f"known, and of these {record['accuracy_of_known']:.4f} named right (of all "
            f"{record['accuracy']:.4f})"
        )
        return {**written, "unknown": record}

    def _single(self, tables: Mapping[str, Table]) -> EvalTable:
        return cast("EvalTable", next(iter(tables.values())))  # a plain head has such a table

    def _references(self, head: HeadSpec) -> NDArray[np.float32]:
        """Features of training images, evenly of each class: float32 [M, D]."""
        train = self.scanned.manifest.positions("train")
        if not len(train):
            raise DataError(
                "distance is measured to training images, and the data has none",
                where=self.scanned.name,
                expected="a train split",
                hint="--unknown energy or confidence needs none",
            )
        table = self._single(self.scoring.tables(self.material, "train", keep_features=True))
        features = cast("NDArray[np.float32]", table.features)  # asked for
        rows = [np.flatnonzero(table.targets == label) for label in range(head.width)]
        most = max(1, MOST_REFERENCES // max(1, sum(len(own) > 0 for own in rows)))
        kept = [own[np.linspace(0, len(own) - 1, min(most, len(own))).astype(int)] for own in rows]
        return np.asarray(features[np.sort(np.concatenate(kept))])


def _temperature_record(table: Table) -> dict[str, Any]:
    """The temperature of one head, with ECE, Brier score and loss before and after it."""
    if isinstance(table, TagTable):
        stated = np.clip(table.probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
        return {"temperature": fit_label_temperature(np.log(stated / (1 - stated)), table.targets)}
    logits = cast("NDArray[np.float32]", at_temperature(table, 1.0).logits)
    found = cross_validated_temperature(logits, table.targets)
    return {
        "temperature": found.temperature,
        "fold_temperatures": found.fold_temperatures.tolist(),
        "before": calibration_figures(table),
        "after": held_out_figures(table, found),
    }


def _stated(table: Table) -> tuple[NDArray[Any], NDArray[Any]]:
    """Probabilities [N, K] and labels of the labeled images."""
    if isinstance(table, TagTable):
        return table.probabilities, table.targets
    # As predict states them: softmax in float32.
    return probabilities(table).astype(np.float32), table.targets[table.labeled]


def _threshold_record(chosen: ClassThresholds, classes: tuple[str, ...]) -> dict[str, Any]:
    """Each class's threshold and F1 (None where a class has no image), and the means of F1."""

    def plain(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    there = chosen.support > 0
    accuracy = {}
    if isinstance(chosen, AnswerThresholds):
        accuracy = {
            "accuracy": chosen.accuracy,
            "accuracy_at_half": chosen.accuracy_usual,
            "held_out_accuracy": chosen.held_accuracy,
            "held_out_accuracy_at_half": chosen.held_accuracy_usual,
        }
    return {
        "thresholds": dict(zip(classes, chosen.values.tolist(), strict=True)),
        "f1": float(chosen.f1[there].mean()) if there.any() else None,
        "f1_at_half": float(chosen.f1_usual[there].mean()) if there.any() else None,
        "held_out_f1": float(chosen.held_f1[there].mean()) if there.any() else None,
        "held_out_f1_at_half": float(chosen.held_f1_usual[there].mean()) if there.any() else None,
        **accuracy,
        "classes": [
            {
                "class": name,
                "threshold": float(chosen.values[k]),
                "support": int(chosen.support[k]),
                "f1": plain(chosen.f1[k]),
                "f1_at_half": plain(chosen.f1_usual[k]),
                "held_out_f1": plain(chosen.held_f1[k]),
                "held_out_f1_at_half": plain(chosen.held_f1_usual[k]),
            }
            for k, name in enumerate(classes)
        ],
    }


def _tell_temperature(head: str, record: Mapping[str, Any], console: Console) -> None:
    name = f"{head}: " if head else ""
    console.result(f"{name}temperature {record['temperature']:.4f}")
    if "before" not in record:
        return
    rows = [
        (figure, f"{record['before'][figure]:.4f}", f"{record['after'][figure]:.4f}")
        for figure in ("loss", "ece", "brier", "bias")
    ]
    console.table(("", "before", "after, on folds left out"), rows)


def _tell_thresholds(head: str, record: Mapping[str, Any], console: Console) -> None:
    name = f"{head}: " if head else ""
    if record["f1"] is None:
        console.result(f"{name}no class has images: all thresholds are 0.5")
        return
    usual = "of the likeliest class" if "accuracy" in record else "at 0.5"
    for figure, key in (("mean F1", "f1"), ("accuracy", "accuracy")):
        if key in record:
            console.result(
                f"{name}{figure} {record[key]:.4f}, {usual} {record[key + '_at_half']:.4f}; on "
                f"images left out {record['held_out_' + key]:.4f}, {usual} "
                f"{record['held_out_' + key + '_at_half']:.4f}"
            )
    moved = [row for row in record["classes"] if row["threshold"] != 0.5]
    rows = [
        (row["class"], f"{row['threshold']:.2f}", f"{row['f1']:.4f}", f"{row['f1_at_half']:.4f}")
        for row in moved[:_SHOWN_CLASSES]
    ]
    if rows:
        console.table(("class", "threshold", "F1", usual), rows)
    console.say(f"  {len(moved)} of {len(record['classes'])} classes moved from 0.5")
