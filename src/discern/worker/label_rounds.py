"""The rounds of automatic labeling: learn, calibrate, label what is sure, until a stop rule holds.

Everything that a round decides goes to the ledger in one entry; then the folder is made so. A kill
at any moment loses at most the round in progress, whose runs are gone on with.

Axes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from discern.base.console import Console
from discern.base.names import counted
from discern.data.label_audit import draw_sample
from discern.data.label_folders import SEED, LabelFolders, deal_folds, trial_manifest
from discern.data.label_home import LabelHome, standing
from discern.data.label_ledger import (
    NAMED_OTHERWISE,
    ROUND,
    GivenLabel,
    LabelLedger,
    label_records,
)
from discern.data.label_placing import carry_out, choose_paths
from discern.data.manifest_files import write_manifest
from discern.track.run_group import GroupWriter
from discern.training.label_choice import LabelRule, Precision, fit_rule, mean_probabilities, take
from discern.worker.label_trial import Trial, TrialOutcome

NOTHING_LEFT = "nothing is left to label"
NOTHING_PASSES = "nothing passes the thresholds"
TOO_OFTEN_WRONG = "the precision of the labels is under the target"
UNKNOWN = "no held-out image passes: the precision is unknown"
TRIALS_DONE = "all trials are done"
# What the ledger keeps of a round and `--json` does not print.
_UNTOLD = ("labels", "withdrawn", "group", "held_passed")
# So many digits of a probability survive another batch size; the ledger keeps no more.
_DIGITS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelRules:
    """`threshold`: least calibrated probability. `precision`: target. `audit`: images a round."""

    n_trials: int
    threshold: float
    precision: float
    audit: int


class LabelRounds:
    """One labeling at work: `group` is its folder beside the runs."""

    def __init__(
        self,
        place: LabelHome,
        rules: LabelRules,
        trial: Trial,
        group: GroupWriter,
        console: Console,
    ) -> None:
        self._place = place
        self._rules = rules
        self._trial = trial
        self._group = group
        self._console = console
        self._ledger = LabelLedger(place.ledger_folder)

    def run(self) -> dict[str, Any]:
        """Rounds until a stop rule holds; gives the object of `--json`. Raises DiscernError."""
        while True:
            folders = self._place.settle(self._ledger, self._console.warn)
            self._write(folders)
            reason = self._reason_to_stop(folders)
            if reason is not None:
                return self._outcome(folders, reason)
            self._round(folders)

    def _own_rounds(self) -> list[dict[str, Any]]:
        own = self._group.path.name
        return [c for c in self._ledger.state.rounds if c["group"] == own]

    def _remaining(self, folders: LabelFolders) -> int:
        state = self._ledger.state
        ids = folders.raw.ids.tolist()
        return sum(name not in state.labels and name not in state.barred for name in ids)

    def audited(self) -> Precision:
        """What people said of the audit sample so far, of rounds that are not undone."""
        said = [right for _, right in self._ledger.state.verdicts.values()]
        return Precision(sum(said), len(said))

    def _reason_to_stop(self, folders: LabelFolders) -> str | None:
        done, audited = self._own_rounds(), self.audited()
        if audited.value is not None and audited.value < self._rules.precision:
            return TOO_OFTEN_WRONG
        if not self._remaining(folders):
            return NOTHING_LEFT
        if done and done[-1]["stop"] is not None:
            return str(done[-1]["stop"])
        return TRIALS_DONE if len(done) >= self._rules.n_trials else None

    def _round(self, folders: LabelFolders) -> None:
        state = self._ledger.state
        number = len(state.rounds)
        before = standing(self._ledger)
        outcome = self._trial(number, folders, before)
        rule = fit_rule(
            outcome.held_logits,
            outcome.held_targets,
            threshold=self._rules.threshold,
            target=self._rules.precision,
            fresh=~np.isin(outcome.held_ids, self._labeled_before()),
        )
        content = self._decide(number, folders, outcome, rule)
        self._tell(content, rule)
        self._ledger.append(ROUND, content)
        place = self._place
        carry_out(self._ledger, place.clean, place.raw, place.mode, self._console.warn)

    def _labeled_before(self) -> list[str]:
        """People's images that a round which stands would have labeled, had they been raw."""
        state = self._ledger.state
        stands = [c for c in state.rounds if c["round"] not in state.undone and c["labels"]]
        return [name for content in stands for name in content["held_passed"]]

    def _decide(
        self, number: int, folders: LabelFolders, outcome: TrialOutcome, rule: LabelRule
    ) -> dict[str, Any]:
        """The round's entry: labels, what it takes back, and why it is the last, if it is."""
        state, raw, classes = self._ledger.state, folders.raw, folders.human.classes
        stated = mean_probabilities(outcome.raw_logits, rule.temperature).round(_DIGITS)
        named = stated.argmax(1)
        content_row = {name: row for row, name in enumerate(raw.ids.tolist())}
        doubted = [
            label for label in standing(self._ledger)
            if label.id in content_row and classes[named[content_row[label.id]]] != label.tag
        ]  # fmt: skip
        expected = rule.expected.value
        good = expected is not None and expected >= self._rules.precision
        passed = take(stated, rule.thresholds) if good else np.zeros(len(raw), dtype=bool)
        rows = [
            row for row, name in enumerate(raw.ids.tolist())
            if passed[row] and name not in state.labels and name not in state.barred
        ]  # fmt: skip
        labels = self._labels(number, folders, rows, [classes[n] for n in named[rows]],
                              stated.max(1)[rows].tolist())  # fmt: skip
        remaining = self._remaining(folders)
        stop = None if good else TOO_OFTEN_WRONG if expected is not None else UNKNOWN
        if good and not rows:
            stop = NOTHING_PASSES
        return {
            "round": number,
            "group": self._group.path.name,
            "run": outcome.run,
            "accuracy": outcome.metrics.get("accuracy"),
            "threshold": self._rules.threshold,
            "temperature": round(rule.temperature, _DIGITS),
            "thresholds": {
                name: round(float(value), _DIGITS)
                for name, value in zip(classes, rule.thresholds, strict=True)
            },
            "precision": rule.expected.record(),
            "precision_of_all": rule.precision.record(),
            "before": remaining,
            "labeled": len(labels),
            "percent": round(100.0 * len(labels) / max(1, remaining), 2),
            "remaining": remaining - len(labels) + len(doubted),
            "labels": label_records(labels),
            "withdrawn": [{**r, "reason": NAMED_OTHERWISE} for r in label_records(doubted)],
            "held_passed": sorted(outcome.held_ids[rule.passed].tolist()),
            "audit": draw_sample(labels, self._rules.audit, SEED),
            "stop": stop,
        }

    def _labels(
        self,
        number: int,
        folders: LabelFolders,
        rows: Sequence[int],
        tags: Sequence[str],
        sure: Sequence[float],
    ) -> list[GivenLabel]:
        raw = folders.raw
        ids = [str(raw.ids[row]) for row in rows]
        sources = [str(raw.locations.paths[row]) for row in rows]
        places: Sequence[str | None] = [None] * len(rows)
        if self._place.mode != "manifest":
            taken = [*folders.human.locations.paths.tolist(), *folders.placed]
            places = choose_paths(list(zip(ids, sources, tags, strict=True)), taken)
        return [
            GivenLabel(id=i, source=s, path=p, tag=t, confidence=round(c, _DIGITS), round=number)
            for i, s, p, t, c in zip(ids, sources, places, tags, sure, strict=True)
        ]

    def _tell(self, content: dict[str, Any], rule: LabelRule) -> None:
        say = self._console.say
        say(f"round    {content['round']}: temperature {rule.temperature:.3f}, thresholds "
            f"{rule.thresholds.min():.3f} to {rule.thresholds.max():.3f}")  # fmt: skip
        say(f"  precision of new labels, on held-out images: {rule.expected}")
        if content["withdrawn"]:
            say(f"  {counted(len(content['withdrawn']), 'label')} taken back: "
                f"{NAMED_OTHERWISE}")  # fmt: skip
        self._console.result(
            f"round {content['round']}: labeled {content['labeled']} of {content['before']} "
            f"({content['percent']:.2f} %), {content['remaining']} remain"
        )

    def _write(self, folders: LabelFolders) -> dict[str, Any]:
        files = self._place.write_tables(self._ledger, folders)
        dealt = deal_folds(folders.human, self._place.folds)
        manifest = trial_manifest(
            dealt, self._place.folds - 1, standing(self._ledger), self._place.raw, val_share=0.1
        )
        files["manifest"] = self._group.path / "manifest.parquet"
        write_manifest(manifest, files["manifest"])
        return {name: str(path) for name, path in files.items()}

    def _outcome(self, folders: LabelFolders, reason: str) -> dict[str, Any]:
        files = self._write(folders)
        labels, remaining = len(self._ledger.state.labels), self._remaining(folders)
        own = self._own_rounds()
        self._console.result(
            f"stopped: {reason}; {labels} labels of models, {remaining} raw images remain"
        )
        self._console.result(f"to train on: {files['manifest']}")
        return {
            "group": self._group.id,
            "path": str(self._group.path),
            "status": "finished",
            "stop": reason,
            "rounds": [
                {k: v for k, v in content.items() if k not in _UNTOLD}
                | {"withdrawn": len(content["withdrawn"])}
                for content in own
            ],
            "labels": labels,
            "remaining": remaining,
            "percent": round(100.0 * labels / max(1, labels + remaining), 2),
            "audited": self.audited().record(),
            "in_clean": folders.in_clean,
            "repeats": folders.repeats,
            "left_out": [problem.record() for problem in folders.problems],
            **files,
        }
