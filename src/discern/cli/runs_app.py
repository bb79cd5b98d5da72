"""`discern runs ...`: reading the run folders, and doing one again."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.console import Console
from discern.cli.options import JsonFlag, RunsFlag

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
RunArgument = Annotated[str, typer.Argument(help="PROJECT/NAME, a name, or a folder")]


@runs_app.command("list", help="All runs, newest first; chosen, ordered and shown as you say.")
def list_runs(
    project: Annotated[str | None, typer.Option("--project", help="only of this project")] = None,
    status: Annotated[
        str | None, typer.Option("--status", help="only of this status; several with commas")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option("--tag", help="only with this tag; may be given again")
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="words that id, status, tags, title or note must hold"),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", help="such as 'accuracy>0.9' or 'stages.train.lr<0.01'"),
    ] = None,
    sort: Annotated[
        list[str] | None,
        typer.Option("--sort", help="key to order by, descending with a leading -"),
    ] = None,
    columns: Annotated[
        str | None, typer.Option("--columns", help="KEY[=TITLE][:WIDTH], with commas between them")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="at most so many")] = None,
    view: Annotated[
        str | None, typer.Option("--view", help="a saved view; what else is given wins")
    ] = None,
    save_view: Annotated[
        str | None, typer.Option("--save-view", help="keep what is given under this name")
    ] = None,
    ids: Annotated[bool, typer.Option("--ids", help="only PROJECT/NAME, one a line")] = False,
    keys: Annotated[
        bool, typer.Option("--keys", help="all keys to choose, order and show by")
    ] = False,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """List runs."""
    from discern.cli.runs_list_command import list_command
    from discern.track.run_folder import runs_root
    from discern.track.run_views import Column, View

    shown = [Column.parse(spec) for spec in (columns or "").split(",") if spec.strip()]
    given = View(
        columns=tuple(shown), project=project, status=status, tags=tuple(tag or ()),
        text=text or "", where=tuple(where or ()), sort=tuple(sort or ()), limit=limit,
    )  # fmt: skip
    return list_command(
        runs_root(runs), Console(json=json), given, view=view, save_view=save_view,
        only="keys" if keys else "ids" if ids else None,
    )  # fmt: skip


@runs_app.command("views", help="The saved views of the list of runs.")
def views(
    delete: Annotated[str | None, typer.Option("--delete", help="forget this view")] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Saved views."""
    from discern.cli.runs_list_command import views_command
    from discern.track.run_folder import runs_root

    return views_command(runs_root(runs), Console(json=json), delete=delete)


@runs_app.command("show", help="One run: status, scores, attempts, choices, files.")
def show(run: RunArgument, runs: RunsFlag = None, json: JsonFlag = False) -> int:
    """Show a run."""
    from discern.cli.runs_commands import show_command
    from discern.track.run_folder import runs_root

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
    from discern.track.run_folder import runs_root

    return export_command(run, runs_root(runs), Console(), form=form, out=out, names=metric or ())


@runs_app.command("rerun", help="Do a run again and compare the weights, bit for bit.")
def rerun(run: RunArgument, runs: RunsFlag = None, json: JsonFlag = False) -> int:
    """Do a run again."""
    from discern.cli.rerun_command import rerun_command
    from discern.track.run_folder import runs_root

    return rerun_command(run, runs_root(runs), Console(json=json))
