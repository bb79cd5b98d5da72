"""`discern explain`: where on the images a model saw what it names."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, RunsFlag, make_request


def explain(
    model: Annotated[
        str, typer.Argument(help="run, RUN@last, bundle, checkpoint, or network with --weights")
    ],
    images: Annotated[list[str], typer.Argument(help="files or folders")],
    class_name: Annotated[
        str | None, typer.Option("--class", help="class asked about; default: the likeliest")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="of several heads this one; default: the first")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="layer whose map is shown; default: the last map")
    ] = None,
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for overlays, index.html and the record")
    ] = "explanations",
    classes: Annotated[
        str | None, typer.Option("--classes", help="CSV that names a bare network's classes")
    ] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Show where a class was seen."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model, "images": images, "class_name": class_name, "head": head, "layer": layer,
        "out": out, "classes": classes, "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request(
            "explain", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )
