"""The images that a config's data section names, read and told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.config.schema import DataConfig
from discern.data.fold_choice import choose_folds
from discern.data.fold_split import FoldRule
from discern.data.manifest import SPLITS
from discern.data.scan import DataRequest, Problem, ScannedData, SplitRule, scan_data

_SHOWN_PROBLEMS = 10
CHOOSE_ON_TEST = "test"  # `--val test`: the model is chosen on the images that it is reported on


def scan(data: DataConfig, console: Console, *, folds: bool = False) -> ScannedData:
    """Read the images that the data section names, with a bar, and say what was found.

    With `folds` they are dealt to folds, and not split.
    """
    from discern.base.progress_bar import counting_bar

    rule = SplitRule(
        val=data.val_share,
        test=data.test_share,
        inner_val=data.inner_val_share,
        seed=data.split_seed,
    )
    request = DataRequest(
        train=data.source,
        val=None if data.val == CHOOSE_ON_TEST else data.val,
        test=data.test,
        root=data.root,
        classes=tuple(data.classes) if isinstance(data.classes, list) else data.classes,
        label=data.labels,
        on_bad_image=data.on_bad_image,
        on_missing_label=data.on_missing_label,
        split=rule,
        folds=choose_folds(
            data.train_folds, data.val_folds, data.test_folds, data.n_folds, data.folds_seed
        ),
        held_out=_fold_rule(data) if folds or data.held_fold is not None else None,
        source_args=data.source_args,
        overlay=data.overlay,
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(request, progress)
    for note in scanned.notes:
        console.say(f"note: {note}")
    for warning in scanned.warnings:
        console.warn(warning)
    tell_problems(scanned, console)
    return scanned


def _fold_rule(data: DataConfig) -> FoldRule:
    if data.val is not None or data.test is not None:
        raise ConfigError(
            "with folds there are no separate validation and test images",
            where="data.val, data.test",
            hint="the held-out fold is what is reported; leave --val and --test out",
        )
    if any((data.train_folds, data.val_folds, data.test_folds, data.n_folds)):
        raise ConfigError(
            "a fold is held out, and folds are made into splits: one of the two",
            where="data.held_fold, data.*_folds",
        )
    return FoldRule(
        folds=data.folds,
        held=data.held_fold,
        inner_val=data.inner_val_share,
        seed=data.split_seed,
    )


def tell_problems(scanned: ScannedData, console: Console) -> None:
    """Name the first images that were left out, and how many they are."""
    for problem in scanned.problems[:_SHOWN_PROBLEMS]:
        console.warn(f"left out: {problem.path}: {problem.text}")
    told = left_out_words(scanned.problems)
    if told is not None:
        console.warn(f"left out in all: {told}")


def left_out_words(problems: Sequence[Problem]) -> str | None:
    """How many images were left out for what reason; None if none was."""
    unlabeled = sum(problem.kind == "unlabeled" for problem in problems)
    counts = {"unreadable": len(problems) - unlabeled, "unlabeled": unlabeled}
    told = [counted(count, f"{kind} image") for kind, count in counts.items() if count]
    return " and ".join(told) or None


def reported_apart(val: str | None, test: str | None) -> str | None:
    """The data apart that is reported on, by `data.val` and `data.test`; or None."""
    return test or (None if val == CHOOSE_ON_TEST else val)


def scan_as_trained(data: DataConfig, console: Console) -> ScannedData:
    """The images of a run's config, of all its sources, with the splits that it trained with."""
    scanned = scan(data, console)
    return choose_on_test(scanned) if data.val == CHOOSE_ON_TEST else scanned


def choose_on_test(scanned: ScannedData) -> ScannedData:
    """The same data with the held-out validation images back in train; test does its work."""
    codes = scanned.manifest.split.copy()
    codes[codes == SPLITS.index("val")] = SPLITS.index("train")
    return replace(scanned, manifest=scanned.manifest.with_split(codes))
