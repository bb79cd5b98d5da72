"""`discern runs ...`: reading the run folders, and doing one again."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.console import Console
from discern.cli.options import JsonFlag, RunsFlag

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
RunArgument = Annotated[str, typer.Argument(help="PROJECT/NAME, a name, or a folder")]


@runs_app.command("list", help="All runs, newest first.")
def list_runs(
    project: Annotated[str | None, typer.Option("--project", help="only of this project")] = None,
    status: Annotated[str | None, typer.Option("--status", help="only of this status")] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """List runs."""
    from discern.cli.runs_commands import list_command
    from discern.track.run import runs_root

    return list_command(runs_root(runs), Console(json=json), project=project, status=status)


@runs_app.command("show", help="One run: status, scores, attempts, choices, files.")
def show(run: RunArgument, runs: RunsFlag = None, json: JsonFlag = False) -> int:
    """Show a run."""
    from discern.cli.runs_commands import show_command
    from discern.track.run import runs_root

    return show_command(run, runs_root(runs), Console(json=json))


@runs_app.command("export", help="A run's metrics as CSV, JSON or a Markdown table.")
def export(
    run: RunArgument,
    form: Annotated[str, typer.Option("--format", "-f", help="csv, json or md")] = "csv",
    metric: Annotated[
        list[str] | None,
        typer.Option("--metric", help="only this series; may be given again"),
    ] = None,
    out: Annotated[str | None, typer.Option("--out", "-o", help="file; default: stdout")] = None,
    runs: RunsFlag = None,
) -> int:
    """Export metrics."""
    from discern.cli.runs_commands import export_command
    from discern.track.run import runs_root

    return export_command(run, runs_root(runs), Console(), form=form, out=out, names=metric or ())


@runs_app.command("rerun", help="Do a run again and compare the weights, bit for bit.")
def rerun(run: RunArgument, runs: RunsFlag = None, json: JsonFlag = False) -> int:
    """Do a run again."""
    from discern.cli.rerun_command import rerun_command
    from discern.track.run import runs_root

    return rerun_command(run, runs_root(runs), Console(json=json))
