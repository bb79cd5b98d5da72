"""`discern review`: checks what can be checked without torch, then becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, RunsFlag, make_request

ModelFlag = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        help="features of a run, bundle, or network with --weights; default: edges and colors of "
        "the pixels",
    ),
]
ClassesFlag = Annotated[
    str | None, typer.Option("--classes", help="CSV that names a bare network's classes")
]


def review(
    data: Annotated[str, typer.Argument(help="as for train")],
    model: ModelFlag = None,
    classes: ClassesFlag = None,
    features: Annotated[
        str | None, typer.Option("--features", help="a file that `discern embed` wrote")
    ] = None,
    kfold: Annotated[
        str | None, typer.Option("--kfold", help="probabilities of a finished `discern kfold`")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", help="folder for queue and page")] = "review",
    split: Annotated[
        str | None, typer.Option(help="only train, val or test; default: all images")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="label column, where there are several")
    ] = None,
    threshold: Annotated[
        float, typer.Option("--threshold", help="least score, 0 to 1, to be in the queue")
    ] = 0.0,
    suspects: Annotated[
        str, typer.Option("--suspects", help="confident learning by: own, cleanlab")
    ] = "own",
    curve: Annotated[
        bool, typer.Option("--curve", help="where more photos help: learning curves by class")
    ] = False,
    folds: Annotated[int, typer.Option("--folds", min=2, help="of the linear probe")] = 5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="of the folds")] = 0,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="images per pass")
    ] = 64,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Find labels that are probably wrong."""
    from discern.launch.reviewing import review_arguments
    from discern.launch.worker_process import become_worker

    arguments = review_arguments(
        data=data, model=model, classes=classes, features=features, kfold=kfold, out=out,
        split=split, head=head, threshold=threshold, suspects=suspects, curve=curve, folds=folds,
        seed=seed, batch_size=batch_size, runs=runs,
    )  # fmt: skip
    become_worker(
        make_request(
            "review", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )
