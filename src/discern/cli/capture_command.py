"""`discern capture CMD...`: any program as a run."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from discern.base.console import Console
from discern.cli.options import JsonFlag, QuietFlag, RunsFlag

# What stands behind the program's name is the program's.
PASSED_ON = {"allow_interspersed_args": False, "ignore_unknown_options": False}


def capture(
    command: Annotated[list[str], typer.Argument(help="the program and its arguments")],
    project: Annotated[
        str | None, typer.Option("--project", help="default: the working folder's name")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="default: PROGRAM-N")] = None,
    comment: Annotated[str, typer.Option("--comment", help="what this run is about")] = "",
    meter: Annotated[
        bool, typer.Option("--system-meter/--no-system-meter", help="CPU, memory, disk, GPUs")
    ] = True,
    runs: RunsFlag = None,
    quiet: QuietFlag = False,
    json: JsonFlag = False,
) -> int:
    """Run a program; its output is shown and kept, printed figures become series."""
    from discern.config.yaml_text import dump_text
    from discern.launch import capture as capturing
    from discern.launch.captured_program import program_name, program_settings
    from discern.track.run import create_run, runs_root

    console = Console(json=json, quiet=quiet)
    aside = Console(json=True, quiet=quiet)  # stdout is the program's
    capturing.check_program(command[0])
    writer = create_run(
        runs_root(runs),
        project or Path.cwd().name or "captured",
        name_stem=program_name(command),
        name=name,
        config_text=dump_text({"command": list(command), "folder": str(Path.cwd())}),
        record={
            "kind": "captured",
            "command": list(command),
            "folder": str(Path.cwd()),
            "hparams": program_settings(command),
            "experiment": {"comment": comment},
        },
    )
    with writer:
        aside.say(f"run      {writer.path}")
        writer.log(f"command: {shlex.join(command)}")
        stdout = None if quiet else (sys.stderr if json else sys.stdout).fileno()
        shown = {"stdout": stdout, "stderr": None if quiet else sys.stderr.fileno()}
        code = capturing.capture(writer, command, shown=shown, metered=meter)
    run = writer.run
    for problem in run.record["problems"]:
        aside.warn(problem)
    console.emit(
        {
            "run": run.id,
            "status": run.status,
            "metrics": run.metrics,
            "series": run.list_series(),
            "exit_code": code,
        }
    )
    count = len(run.list_series())
    aside.say(f"run      {run.id}: {run.status}, {count} series")
    # Past the command line's own exit codes: this one is the program's.
    raise SystemExit(code)
