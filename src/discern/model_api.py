"""The Python API of a trained model: the verbs that score it and fit how it answers.

As `discern.api`, which has the others. Every failure is a DiscernError.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discern.api import PathLike, TrainedRun, setting_pairs
from discern.base.console import Console
from discern.config.request import Request

_QUIET = Console(quiet=True)


def evaluate(
    model: PathLike | TrainedRun,
    data: PathLike,
    *,
    split: str | None = None,
    out: PathLike | None = None,
    leaks: bool | None = None,
    groups: PathLike | None = None,
    slice_by: Iterable[str] = (),
    stress: bool = False,
    tta: bool = False,
    batch_size: int | None = None,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Score a model on every image of `data`; gives the object of `discern eval --json`.

    `out`: folder of the report; `leaks`: compare with all training images, or with none; `groups`:
    CSV of class and group; `slice_by`: columns of a table; `stress` and `tta`: the stress test and
    several views of each image; `batch_size`: images per pass. `settings`: the command's flags by
    name (`device`, `weights`, ...). Raises DiscernError.
    """
    from discern.worker.evaluation import evaluate_request

    arguments = {
        "model": _named(model), "data": str(data), "split": split, "leaks": leaks,
        "out": None if out is None else str(out),
        "groups": None if groups is None else str(groups), "slice_by": list(slice_by),
        "stress": stress, "tta": tta, "batch_size": batch_size,
    }  # fmt: skip
    request = Request(verb="eval", arguments=arguments, pairs=setting_pairs(settings, "eval"))
    return evaluate_request(request, console)


def calibrate(
    model: PathLike | TrainedRun,
    data: PathLike,
    *,
    split: str | None = None,
    out: PathLike | None = None,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Fit the model's temperature on held-out images of `data`; write a new version of its bundle.

    `out`: its folder, by default the bundle's own, the old version beside it. Gives the object of
    `discern calibrate --json`. Raises DiscernError.
    """
    from discern.worker.answer_fitting import calibrate_request

    arguments = {
        "model": _named(model), "data": str(data), "split": split,
        "out": None if out is None else str(out),
    }  # fmt: skip
    request = Request(
        verb="calibrate", arguments=arguments, pairs=setting_pairs(settings, "calibrate")
    )
    return calibrate_request(request, console)


def thresholds(
    model: PathLike | TrainedRun,
    data: PathLike,
    *,
    unknown: str | None = None,
    coverage: float = 0.95,
    folds: int = 5,
    repeats: int = 5,
    split: str | None = None,
    out: PathLike | None = None,
    console: Console = _QUIET,
    **settings: Any,
) -> dict[str, Any]:
    """Choose each class's threshold on held-out images of `data`; write a new bundle version.

    With `unknown` (confidence, energy, distance) choose instead when an image is unknown, so that
    `coverage` of the images stay known. `out` as for `calibrate`. Gives the object of `discern
    thresholds --json`. Raises DiscernError.
    """
    from discern.worker.answer_fitting import thresholds_request

    arguments = {
        "model": _named(model), "data": str(data), "split": split, "unknown": unknown,
        "coverage": coverage, "folds": folds, "repeats": repeats,
        "out": None if out is None else str(out),
    }  # fmt: skip
    request = Request(
        verb="thresholds", arguments=arguments, pairs=setting_pairs(settings, "thresholds")
    )
    return thresholds_request(request, console)


def _named(model: PathLike | TrainedRun) -> str:
    return str(model.path if isinstance(model, TrainedRun) else model)
