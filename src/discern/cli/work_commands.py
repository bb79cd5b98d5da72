"""The commands that a worker does: train, lr-find, eval, predict; and doctor.

They check what can be checked without torch, then this process becomes the worker.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from discern.base.console import Console
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


def train(
    data: Annotated[
        str | None, typer.Argument(help="folder, table, manifest, archive, or digits, mnist, ...")
    ] = None,
    config: ConfigFlag = None,
    sets: SetFlag = None,
    runs: RunsFlag = None,
    resume: Annotated[
        str | None,
        typer.Option(help="go on with RUN; alone: the latest unfinished run"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="print epochs, time, memory, disk; train nothing")
    ] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="never go on with an earlier run")] = False,
    exist_ok: Annotated[
        bool, typer.Option("--exist-ok", help="a finished run of that name gives way to a new one")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="smoke run: 2 epochs of 3 batches of every stage")
    ] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Train a classifier."""
    from discern.config.assemble import names_source, request_layers, resolve_request
    from discern.launch.ranks import ranks_of, start_ranks
    from discern.launch.worker_process import become_worker

    if data is not None:
        flags = [("DATA", "data.source", data), *flags]
    arguments = {
        "runs": runs, "resume": resume, "fresh": fresh or check, "exist_ok": exist_ok,
        "dry_run": dry_run, "check": check,
    }  # fmt: skip
    request = make_request(
        "train",
        arguments=arguments,
        flags=flags,
        config=config,
        sets=sets,
        json=json,
        quiet=quiet,
        debug=debug,
    )
    if resume is not None and (fresh or check):
        raise ConfigError(f"--resume and --{'fresh' if fresh else 'check'} exclude each other")
    layers = request_layers(request)
    if resume is None or any("data" in layer.value for layer in layers):
        _need_data(given=names_source(layers))
        resolve_request(request)
    ranks = ranks_of(request)
    if ranks > 1:
        start_ranks(request, ranks).result()
        return
    become_worker(request)


def _need_data(*, given: bool) -> None:
    if not given:
        raise ConfigError(
            "train needs DATA",
            where="discern train",
            expected="a folder, a table, an archive, or a built-in name",
            hint="discern train digits",
        )


def lr_find(
    data: Annotated[str, typer.Argument(help="as for train")],
    config: ConfigFlag = None,
    sets: SetFlag = None,
    first: Annotated[
        str | None, typer.Option("--from", help="first rate; `stage`: the stage's; default 1e-7")
    ] = None,
    last: Annotated[
        float | None,
        typer.Option("--to", help="last rate; default 10, linear: 10 times the stage's"),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=2, help="updates; default: an epoch's, within 100 to 400"),
    ] = None,
    scale: Annotated[str, typer.Option("--scale", help="log or linear")] = "log",
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for curve.png and lr.csv")
    ] = "lr-find",
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Find a learning rate."""
    from discern.config.assemble import resolve_request
    from discern.launch.worker_process import become_worker

    if scale not in ("log", "linear"):
        raise ConfigError("no such scale", where="--scale", got=scale, expected="log or linear")
    arguments = {
        "first": _rate_or_stage(first), "last": last, "steps": steps, "scale": scale, "out": out,
    }  # fmt: skip
    request = make_request(
        "lr-find",
        arguments=arguments,
        flags=[("DATA", "data.source", data), *flags],
        config=config,
        sets=sets,
        json=json,
        quiet=quiet,
        debug=debug,
    )
    resolve_request(request)
    become_worker(request)


def _rate_or_stage(text: str | None) -> float | str | None:
    if text is None or text == "stage":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(
            "not a rate", where="--from", got=text, expected="a number, or `stage` for its own"
        ) from None


def evaluate(
    model: Annotated[
        str, typer.Argument(help="run, RUN@last, bundle, checkpoint, or network with --weights")
    ],
    data: Annotated[str, typer.Argument(help="as for train")],
    split: Annotated[
        str | None, typer.Option(help="train, val or test; default: all images of an unsplit set")
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="folder for the report")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="CSV that names a bare network's classes")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="per channel on 0..1, comma separated")] = None,
    std: Annotated[str | None, typer.Option(help="per channel on 0..1, comma separated")] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", "-b", min=1, help="images per pass")
    ] = 64,
    leaks: Annotated[
        bool | None,
        typer.Option(
            "--leaks/--no-leaks", help="compare with all training images; default: where quick"
        ),
    ] = None,
    groups: Annotated[
        str | None, typer.Option("--groups", help="CSV of class,group: scores of the groups, too")
    ] = None,
    slice_by: Annotated[
        list[str] | None, typer.Option("--slice-by", help="a column of the table; may be repeated")
    ] = None,
    stress: Annotated[
        bool, typer.Option("--stress", help="blur, JPEG, noise, rotation, brightness, crop")
    ] = False,
    tta: Annotated[
        bool, typer.Option("--tta", help="also the mean answer to several views of each image")
    ] = False,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Score a model."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "model": model, "data": data, "split": split, "out": out, "classes": classes,
        "mean": _numbers(mean, "--mean"), "std": _numbers(std, "--std"),
        "batch_size": batch_size, "runs": runs, "leaks": leaks, "groups": groups,
        "slice_by": slice_by or [], "stress": stress, "tta": tta,
    }  # fmt: skip
    become_worker(
        make_request("eval", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug)
    )


def predict(
    model: Annotated[
        str, typer.Argument(help="run, RUN@last, bundle, checkpoint, or network with --weights")
    ],
    images: Annotated[list[str], typer.Argument(help="files, folders, or - for paths on stdin")],
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, help="classes named per image")] = 5,
    form: Annotated[
        str, typer.Option("--format", "-f", help="text or csv; --json for JSON")
    ] = "text",
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="write here, not to stdout")
    ] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="CSV that names a bare network's classes")
    ] = None,
    mean: Annotated[str | None, typer.Option(help="per channel on 0..1, comma separated")] = None,
    std: Annotated[str | None, typer.Option(help="per channel on 0..1, comma separated")] = None,
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
    """Name what is on images."""
    from discern.launch.worker_process import become_worker

    if form not in ("text", "csv"):
        raise ConfigError("no such format", where="--format", got=form, expected="text or csv")
    if "-" in images:
        listed = [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        images = [name for image in images for name in (listed if image == "-" else [image])]
    arguments = {
        "model": model, "images": images, "top_k": top_k, "format": form, "out": out,
        "classes": classes, "mean": _numbers(mean, "--mean"), "std": _numbers(std, "--std"),
        "batch_size": batch_size, "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request(
            "predict", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )


def _numbers(text: str | None, where: str) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError("not numbers", where=where, got=text, expected="0.5,0.5,0.5") from None


def doctor(json: JsonFlag = False) -> int:
    """What this machine has, and what to mend."""
    from discern.cli.doctor_command import doctor as examine

    return examine(Console(json=json))
