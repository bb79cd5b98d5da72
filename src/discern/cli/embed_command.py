"""`discern embed`: features of images into a file. This process becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.errors import ConfigError
from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, RunsFlag, make_request


def embed(
    model: Annotated[
        str, typer.Argument(help="run, RUN@last, bundle, checkpoint, or network with --weights")
    ],
    data: Annotated[str, typer.Argument(help="as for train, or a folder without classes")],
    out: Annotated[
        str, typer.Option("--out", "-o", help="FILE.parquet, or FILE.npy and FILE.rows.parquet")
    ],
    layer: Annotated[
        str | None, typer.Option("--layer", help="whose output; default: what the head reads")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="train, val or test; default: all images")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="CSV that names a bare network's classes")
    ] = None,
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
    """Write features."""
    from discern.launch.worker_process import become_worker

    if split not in (None, "train", "val", "test", "all"):
        raise ConfigError(
            "no such split", where="--split", got=split, expected="train, val, test or all"
        )
    arguments = {
        "model": model, "data": data, "out": out, "layer": layer, "split": split,
        "classes": classes, "batch_size": batch_size, "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request("embed", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug)
    )
