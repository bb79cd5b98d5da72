"""What an evaluation tells beyond its scores: leaks, calibration, coverage, slices, stress, views.

Each part is a plain JSON object, or None where it was not asked for or cannot be had.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.progress_bar import counting_bar
from discern.config.request import Request
from discern.config.schema import DataConfig
from discern.data.check import Gathered, gather_rows
from discern.data.head_spec import HeadSpec, main_heads
from discern.data.leaks import MOST_COMPARED, ImageSet, Leaks, find_leaks
from discern.data.sources import open_source
from discern.training.class_groups import group_names
from discern.training.coverage import coverage_curve
from discern.training.evaluate import Table
from discern.training.scores import EvalTable, wilson_interval
from discern.worker.augmented_views import AugmentedViews
from discern.worker.data_scan import scan_as_trained
from discern.worker.evaluated import Evaluated
from discern.worker.head_parts import (
    answers,
    calibration,
    groups,
    read_groups,
    slices,
    views,
)
from discern.worker.request_values import pair_value
from discern.worker.stress import stress_test
from discern.worker.tempered_model import tempered

# Images, scored and training ones, that are compared unasked: some seconds of one core.
MOST_UNASKED: Final = 5000


def evaluation_parts(done: Evaluated, console: Console) -> dict[str, Any]:
    """All parts by name: leak_free, answers, calibration, coverage, slices, groups, stress, tta.

    Of several heads `head_parts` has those of each by its name, and `leak_free` is as the joint
    scores are: the means over the heads.
    """
    rows = done.material.positions(done.split)
    seen: Gathered | None = None
    if done.asked("out") is not None or bool(done.asked("slice_by")):
        with counting_bar(console, "looking at the images") as progress:
            seen = gather_rows(done.material.source, rows, done.scoring.workers, progress)
    leaks = _leaks(done, rows, seen, console)
    stress, views = _stress(done, console), _views(done, console)
    parts = {}
    for name, table in done.labeled.items():
        one = isinstance(table, EvalTable)
        parts[name] = {
            "leak_free": None if leaks is None else _leak_free(done, table, leaks),
            "answers": answers(done, name, table) if isinstance(table, EvalTable) else None,
            "calibration": calibration(table) if isinstance(table, EvalTable) else None,
            "coverage": coverage_curve(table).record() if isinstance(table, EvalTable) else None,
            "slices": None if seen is None else slices(done, table, seen),
            "groups": _groups(done, table) if one else None,
            "stress": stress.get(name),
            "tta": views.get(name),
        }
    if len(done.tables) == 1:
        return next(iter(parts.values()))
    return {"leak_free": _joint_leak_free(parts), "head_parts": parts}


def check_parts(request: Request, heads: Sequence[HeadSpec]) -> None:
    """Raises ConfigError for groups that no head of these can have, or an unread file."""
    if request.arguments.get("groups") is None:
        return
    single = [head for head in main_heads(heads) if head.kind == "single"]
    if not single:
        raise ConfigError(
            "groups are of a head of one label an image", where="--groups",
            got=", ".join(head.name for head in heads),
        )  # fmt: skip
    named = read_groups(Path(request.arguments["groups"]))
    if not any(_grouped(head.classes, named) for head in single):
        group_names(single[0].classes, named)  # says which class lacks one


def _grouped(classes: Sequence[str], named: Mapping[str, str]) -> bool:
    """Whether each class has a group; of several heads the file may be of one of them."""
    return all(name in named for name in classes)


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
    data = DataConfig.model_validate(done.scoring.opened.scored.data)
    root = pair_value(done.request, "data.root", data.root)
    data = data.model_copy(update={"root": root, "on_bad_image": "skip"})
    scanned = scan_as_trained(data, Console(quiet=True))
    return ImageSet(
        scanned.manifest, open_source(scanned.manifest), scanned.manifest.positions("train")
    )


def _leak_free(done: Evaluated, table: Table, leaks: Leaks) -> dict[str, Any]:
    """The accuracy without the images that are like a training image, and who they are."""
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


def _joint_leak_free(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The means over the heads that have images left; counts are the most of any head."""
    found = [own["leak_free"] for own in parts.values() if own["leak_free"] is not None]
    left = [own for own in found if own["accuracy"] is not None]
    if not found:
        return None
    most = max(left or found, key=lambda own: int(own["count"]))
    means = {
        key: sum(own[key] for own in left) / len(left) if left else None
        for key in ("accuracy", "accuracy_low", "accuracy_high")
    }
    return {**most, **means}


def _groups(done: Evaluated, table: Table) -> dict[str, Any] | None:
    """The part `groups` of a head all of whose classes have one."""
    file = done.asked("groups")
    if file is None or not isinstance(table, EvalTable):
        return None
    named = read_groups(Path(file))
    return groups(table, named) if _grouped(table.classes, named) else None


def _stress(done: Evaluated, console: Console) -> dict[str, dict[str, Any]]:
    if not done.asked("stress"):
        return {}
    console.say("stress   six kinds at three strengths")
    return stress_test(done.scoring, done.material, done.split)


def _views(done: Evaluated, console: Console) -> dict[str, dict[str, Any]]:
    """By head, the scores of the mean answer to several views, and what changed image by image."""
    if not done.asked("tta"):
        return {}
    opened = done.scoring.opened
    model = tempered(opened.model, opened.heads, opened.rules.temperatures)
    asked = AugmentedViews(model, opened.heads, mirror=opened.scored.mirrored)
    console.say(f"views    {asked.views} of each image")
    found = done.scoring.tables(done.material, done.split, model=asked, raw=True)
    return {name: views(found[name], table, asked.views) for name, table in done.labeled.items()}
