"""`discern config`: what a key is, what it is set to, and by whom; configs of other suites."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discern.base.console import Console
from discern.cli.config_import_command import IMPORT_SETTINGS, import_config
from discern.cli.flags import flags_of
from discern.cli.options import (
    ConfigFlag,
    JsonFlag,
    Pairs,
    RunsFlag,
    SetFlag,
    build_command,
    make_request,
)

config_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@config_app.command("schema", help="Every key with its type, default and meaning.")
def schema(json: JsonFlag = False) -> None:
    """Print the schema; with --json as JSON Schema."""
    from discern.config.reference import reference_rows
    from discern.config.schema import RunConfig

    console = Console(json=json)
    if json:
        console.emit(RunConfig.model_json_schema())
        return
    console.table(
        ("key", "type", "default", "meaning"),
        [(row.key, row.type, row.default, row.help) for row in reference_rows()],
    )


def explain(
    key: Annotated[
        str, typer.Argument(help="a key such as stages.train.lr, data.val_share or lr; a section")
    ],
    config: ConfigFlag = None,
    sets: SetFlag = None,
    run: Annotated[str | None, typer.Option("--run", help="a run whose config to read")] = None,
    runs: RunsFlag = None,
    json: JsonFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Explain a key."""
    from discern.config.assemble import names_source, request_layers, resolve_request
    from discern.config.explain import explain_key

    files, stored = list(config or []), None
    if run is not None:
        from discern.track.run import open_run, runs_root

        opened = open_run(run, runs_root(runs))
        files.insert(0, str(opened.path / "config.yaml"))
        if not (config or sets or flags):
            stored = opened.record.get("origins")
    request = make_request("explain", arguments={}, flags=flags, config=files, sets=sets)
    if not names_source(request_layers(request)):
        example: Pairs = [("(example)", "data.source", "digits")]
        request = make_request(
            "explain", arguments={}, flags=[*example, *flags], config=files, sets=sets
        )
    found = explain_key(key, resolve_request(request), stored_origins=stored)
    console = Console(json=json)
    for one in found:
        for line in one.lines():
            console.say(line)
    if run is None and found[0].reference.key.startswith("stages."):
        console.say("  a recipe may set it when training: by network, image size and count")
    record: dict[str, Any] = found[0].record()
    console.emit(record if len(found) == 1 else {"keys": [one.record() for one in found]})


config_app.command(
    "explain", help="One key: its meaning, its value, where that came from, what depends on it."
)(build_command(explain, flags_of("train")))
config_app.command(
    "import",
    help="Make a config of Catalyst, MLSteam or Lambda's tuner into one of Discern's.",
    context_settings=IMPORT_SETTINGS,
)(import_config)
