"""The command `report`: a run's report written anew, in full. Becomes the worker."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag, RunsFlag, make_request


def report(
    run: Annotated[str, typer.Argument(help="a finished run")],
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
    """Write a run's report anew."""
    from discern.launch.worker_process import become_worker

    arguments = {
        "run": run, "leaks": leaks, "groups": groups, "slice_by": slice_by or [],
        "stress": stress, "tta": tta, "runs": runs,
    }  # fmt: skip
    become_worker(
        make_request(
            "report", arguments=arguments, flags=flags, json=json, quiet=quiet, debug=debug
        )
    )
