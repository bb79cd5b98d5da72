"""The commands that fit how a model answers: calibrate, thresholds. Each becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, RunsFlag, make_request

_Model = Annotated[str, typer.Argument(help="run or bundle")]
_Data = Annotated[str, typer.Argument(help="as for train: its validation images are taken")]
_Split = Annotated[
    str | None,
    typer.Option(help="train, val, test or all; default: images that are never reported"),
]
_Out = Annotated[
    str | None,
    typer.Option("--out", "-o", help="folder of the new version; default: MODEL, the old beside"),
]
_Batch = Annotated[int, typer.Option("--batch-size", "-b", min=1, help="images per pass")]


def calibrate(
    model: _Model,
    data: _Data,
    split: _Split = None,
    out: _Out = None,
    batch_size: _Batch = 64,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Fit a temperature."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model, "data": data, "split": split, "out": out, "batch_size": batch_size,
        "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request(
            "calibrate", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


def thresholds(
    model: _Model,
    data: _Data,
    unknown: Annotated[
        str | None,
        typer.Option(help="when an image is unknown, by confidence, energy or distance"),
    ] = None,
    coverage: Annotated[
        float, typer.Option(help="share of known images that --unknown is to answer")
    ] = 0.95,
    folds: Annotated[int, typer.Option(min=2, help="of the cross-validation")] = 5,
    repeats: Annotated[int, typer.Option(min=1, help="of the cross-validation")] = 5,
    split: _Split = None,
    out: _Out = None,
    batch_size: _Batch = 64,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Choose thresholds."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model, "data": data, "unknown": unknown, "coverage": coverage, "folds": folds,
        "repeats": repeats, "split": split, "out": out, "batch_size": batch_size, "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request(
            "thresholds", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )
