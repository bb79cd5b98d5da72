"""`discern bench ...`: what this machine does; a worker measures."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.errors import ConfigError
from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, build_command, make_request

bench_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def measure_inference(
    model: Annotated[str, typer.Argument(help="a network's name, a run, or a bundle")],
    batch_size: Annotated[
        str, typer.Option("--batch-size", "-b", help="images per pass, comma separated")
    ] = "1,32",
    precision: Annotated[
        str, typer.Option("--precision", "--amp-dtype", help="fp32, bf16, fp16, comma separated")
    ] = "fp32",
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Measure forward passes."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model,
        "batch_sizes": _whole_numbers(batch_size, "--batch-size"),
        "precisions": [part.strip() for part in precision.split(",")],
    }
    become_worker(
        make_request(
            "bench-infer", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


bench_app.command("infer", help="A network's images a second and memory, by batch and precision.")(
    build_command(measure_inference, "bench infer")
)


def _whole_numbers(text: str, where: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(
            "not whole numbers above 0", where=where, got=text, expected="such as 1,32,64"
        )
    return [int(part) for part in parts]
