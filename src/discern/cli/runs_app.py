"""`discern runs ...`: reading the run folders, and doing one again."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.base.console import Console
from discern.cli.options import JsonFlag, RunsFlag

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
RunArgument = Annotated[
    str, typer.Argument(help="PROJECT/NAME, a name, a folder, or a UUID's beginning")
]
RunsArgument = Annotated[
    list[str], typer.Argument(help="PROJECT/NAME, names, folders, or patterns such as 'digits/*'")
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="remove without asking")]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="only tell what would go")]


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


@runs_app.command("compare", help="Runs side by side: what differs, scores, curves.")
def compare(
    run: RunsArgument,
    series: Annotated[
        list[str] | None, typer.Option("--series", help="name or pattern to draw; repeatable")
    ] = None,
    png: Annotated[str | None, typer.Option("--png", help="draw the curves into this file")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="parameters that do not differ, too")
    ] = False,
    images: Annotated[
        bool, typer.Option("--images", help="two runs image by image: fixed, broken, still wrong")
    ] = False,
    out: Annotated[
        str, typer.Option("--out", "-o", help="folder for the page and files of --images")
    ] = "comparison",
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Compare runs."""
    if images:
        from discern.cli.runs_images_command import compare_images
        from discern.track.run_folder import runs_root

        return compare_images(run, runs_root(runs), Console(json=json), out=out)
    from discern.cli.runs_compare_command import compare_command
    from discern.track.run_folder import runs_root

    return compare_command(
        run, runs_root(runs), Console(json=json), series=series or (), png=png,
        everything=everything,
    )  # fmt: skip


@runs_app.command("note", help="Write a note or a title for runs, or show them.")
def note(
    run: RunsArgument,
    text: Annotated[str | None, typer.Option("--text", help="the note; '' removes it")] = None,
    append: Annotated[str | None, typer.Option("--append", help="a further line")] = None,
    title: Annotated[str | None, typer.Option("--title", help="a name for people")] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Notes."""
    from discern.cli.runs_change_commands import note_command
    from discern.track.run_folder import runs_root

    root, console = runs_root(runs), Console(json=json)
    return note_command(run, root, console, text=text, append=append, title=title)


@runs_app.command("tag", help="Add tags to runs, take some away, or show them.")
def tag(
    run: RunsArgument,
    add: Annotated[list[str] | None, typer.Option("--add", help="tag; repeatable")] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="tag; repeatable")] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Tags."""
    from discern.cli.runs_change_commands import tag_command
    from discern.track.run_folder import runs_root

    root, console = runs_root(runs), Console(json=json)
    return tag_command(run, root, console, add=add or (), remove=remove or ())


@runs_app.command("delete", help="Delete runs with all their files.")
def delete(
    run: RunsArgument,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Delete runs."""
    from discern.cli.runs_change_commands import delete_command
    from discern.track.run_folder import runs_root

    return delete_command(run, runs_root(runs), Console(json=json), yes=yes, dry_run=dry_run)


@runs_app.command("clean", help="Free disk space: remove checkpoints or other parts of runs.")
def clean(
    run: RunsArgument,
    part: Annotated[
        list[str] | None,
        typer.Option(
            "--part", help="checkpoints (default), events, report or artifacts; repeatable"
        ),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="checkpoints that a run needs to go on, too")
    ] = False,
    yes: YesFlag = False,
    dry_run: DryRunFlag = False,
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Clean runs."""
    from discern.cli.runs_change_commands import clean_command
    from discern.track.run_folder import runs_root

    return clean_command(
        run, runs_root(runs), Console(json=json), parts=part or (), everything=everything, yes=yes,
        dry_run=dry_run,
    )  # fmt: skip


@runs_app.command("tensorboard", help="Start TensorBoard on runs; on all without names.")
def tensorboard(
    run: Annotated[
        list[str] | None, typer.Argument(help="PROJECT/NAME, names, folders, or patterns")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="port to listen on", min=1, max=65535)] = 6006,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    runs: RunsFlag = None,
    json: JsonFlag = False,
) -> int:
    """Start TensorBoard."""
    from discern.cli.runs_tensorboard_command import tensorboard_command
    from discern.track.run_folder import runs_root

    return tensorboard_command(run or (), runs_root(runs), Console(json=json), port=port, host=host)
