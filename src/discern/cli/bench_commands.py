"""`discern bench ...`: what this machine does; a worker measures."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.errors import ConfigError
from discern.cli.data_options import whole_numbers
from discern.cli.flags import flags_of
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
        "batch_sizes": _sizes(batch_size),
        "precisions": [part.strip() for part in precision.split(",")],
    }
    become_worker(
        make_request(
            "bench-infer", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


def measure_feed(
    data: Annotated[list[str], typer.Argument(help="one or more data sets of photos")],
    workers: Annotated[
        str, typer.Option("--workers", "-j", help="reading threads, comma separated; 0: none")
    ] = "0,2",
    decoders: Annotated[
        str | None, typer.Option("--decoders", help="mixed, fast, pillow, decode; default: all")
    ] = None,
    peers: Annotated[
        str | None, typer.Option("--peers", help="torchvision, timm: measured beside ours")
    ] = None,
    images: Annotated[
        int, typer.Option("--images", min=1, help="images of each data set, spread over it")
    ] = 512,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="interleaved rounds")] = 5,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="images of a batch")
    ] = 64,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Measure the feed of photos."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "data": data,
        "workers": [int(part) for part in whole_numbers(workers, "--workers")],
        "decoders": _names(decoders),
        "peers": _names(peers),
        "images": images,
        "rounds": rounds,
        "batch_size": batch_size,
    }
    become_worker(
        make_request(
            "bench-io", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


def measure_training(
    model: Annotated[str, typer.Argument(help="a network's name")],
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="random images in memory; the only kind so far")
    ] = True,
    forms: Annotated[
        str,
        typer.Option(
            "--forms",
            help="comma separated: plain, or channels_last, bf16, fp16, compile, recompute "
            "joined by +",
        ),
    ] = "plain,channels_last,channels_last+bf16",
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="images a step")
    ] = 32,
    classes: Annotated[int, typer.Option("--num-classes", min=1, help="of the network")] = 1000,
    steps: Annotated[int, typer.Option("--steps", min=1, help="steps a round")] = 10,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="rounds; the median counts")] = 3,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Measure training steps."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model,
        "synthetic": synthetic,
        "forms": _names(forms),
        "batch_size": batch_size,
        "classes": classes,
        "steps": steps,
        "rounds": rounds,
    }
    become_worker(
        make_request(
            "bench-train", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


def _names(text: str | None) -> list[str]:
    return [] if text is None else [part.strip() for part in text.split(",")]


bench_app.command("io", help="Photos a second, as training reads them, and what binds.")(
    build_command(measure_feed, flags_of("bench infer"))
)
bench_app.command("train", help="A network's images a second of training, on synthetic images.")(
    build_command(measure_training, flags_of("bench infer"))
)
bench_app.command("infer", help="A network's images a second and memory, by batch and precision.")(
    build_command(measure_inference, flags_of("bench infer"))
)


def _sizes(text: str) -> list[int]:
    sizes = whole_numbers(text, "--batch-size")
    if not sizes or min(sizes) < 1:
        raise ConfigError(
            "a batch has images", where="--batch-size", got=text, expected="such as 1,32,64"
        )
    return list(sizes)
