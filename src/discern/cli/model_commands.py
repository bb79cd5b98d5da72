"""`discern models list` and `show`: a worker does them, for they need the networks."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, make_request

models_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@models_app.command("list", help="Networks by name: own ones first, then timm's.")
def list_models(
    pattern: Annotated[
        str | None, typer.Argument(help="part of a name, or a pattern with *")
    ] = None,
    max_params: Annotated[
        float | None, typer.Option("--max-params", help="largest size in million parameters")
    ] = None,
    license_name: Annotated[
        str | None, typer.Option("--license", help="part of the weights' license, such as apache")
    ] = None,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="only with known weights")
    ] = False,
    count: Annotated[
        bool,
        typer.Option("--count", help="count parameters and GMACs of all: minutes, once, then kept"),
    ] = False,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """List networks."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "pattern": pattern,
        "max_params": max_params,
        "license": license_name,
        "pretrained": pretrained,
        "count": count,
    }
    become_worker(
        make_request("models-list", arguments=arguments, flags=[], json=json, debug=debug)
    )


@models_app.command("show", help="One network: size, cost, input, weights, license, known scores.")
def show_model(
    name: Annotated[str, typer.Argument(help="a network's name")],
    layers: Annotated[
        bool, typer.Option("--layers", help="each layer: output, parameters, multiply-adds")
    ] = False,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Show one network."""
    from discern.launch.worker_process import become_worker

    arguments = {"name": name, "layers": layers}
    become_worker(
        make_request("models-show", arguments=arguments, flags=[], json=json, debug=debug)
    )
