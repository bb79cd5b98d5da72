"""`discern project`: features as points to look at. This process becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, QuietFlag, make_request


def project(
    features: Annotated[str, typer.Argument(metavar="F", help="a feature file of `discern embed`")],
    out: Annotated[str, typer.Option("--out", "-o", help="folder for the files")],
    methods: Annotated[
        str, typer.Option("--method", help="pca, tsne, umap (discern[umap]), comma separated")
    ] = "pca,tsne",
    num_rows: Annotated[
        int | None, typer.Option("--num-rows", min=1, help="at most so many images, evenly spread")
    ] = None,
    img_size: Annotated[
        int, typer.Option("--img-size", min=0, help="pictures on the sheet, in pixels; 0: no sheet")
    ] = 16,
    data: Annotated[
        str | None, typer.Option("--data", help="where the images are, if not as files")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Project features."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "features": features, "out": out, "methods": [m for m in methods.split(",") if m],
        "num_rows": num_rows, "img_size": img_size, "data": data,
    }  # fmt: skip
    become_worker(
        make_request("project", arguments=arguments, flags=[], json=json, quiet=quiet, debug=debug)
    )
