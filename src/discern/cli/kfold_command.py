"""`discern kfold`: checks what can be checked without torch, then becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.errors import ConfigError
from discern.cli.options import (
    ConfigFlag,
    DebugFlag,
    JsonFlag,
    Pairs,
    QuietFlag,
    RunsFlag,
    SetFlag,
    make_request,
)


def kfold(
    data: Annotated[str, typer.Argument(help="as for train; a fold column is used as it is")],
    folds: Annotated[
        int | None,
        typer.Option(
            "--folds",
            "--n-folds",
            "--num-folds",
            min=2,
            help="how many; default 5, or those of the data's fold column",
        ),
    ] = None,
    ensemble: Annotated[
        bool, typer.Option("--ensemble", help="bundle all models: their probabilities averaged")
    ] = False,
    soup: Annotated[
        bool, typer.Option("--soup", help="bundle one model: the weights of all averaged")
    ] = False,
    config: ConfigFlag = None,
    sets: SetFlag = None,
    runs: RunsFlag = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="never go on with an earlier one")] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Train a model for each fold."""
    from discern.config.assemble import resolve_request
    from discern.launch.worker_process import become_worker

    if ensemble and soup:
        raise ConfigError("--ensemble and --soup exclude each other", where="discern kfold")
    bundle = "ensemble" if ensemble else "soup" if soup else None
    pairs: Pairs = [("DATA", "data.source", data), *flags]
    if folds is not None:
        pairs.append(("--folds", "data.folds", folds))
    request = make_request(
        "kfold",
        arguments={"runs": runs, "fresh": fresh, "bundle": bundle},
        flags=pairs,
        config=config,
        sets=sets,
        json=json,
        quiet=quiet,
        debug=debug,
    )
    resolve_request(request)
    become_worker(request)
