"""`discern config explain` and `schema`: what a key is, what it is set to, and by whom."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.cli.options import ConfigFlag, JsonFlag, SetFlag, make_request

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


@config_app.command("explain", help="One key: its meaning, its value, and where that came from.")
def explain(
    key: Annotated[
        str, typer.Argument(help="a key such as stages.train.lr, data.val_share, or lr")
    ],
    config: ConfigFlag = None,
    sets: SetFlag = None,
    run: Annotated[str | None, typer.Option("--run", help="a run whose config to read")] = None,
    runs: Annotated[str | None, typer.Option("--runs", help="folder of all runs")] = None,
    json: JsonFlag = False,
) -> None:
    """Explain a key."""
    from discern.config.assemble import resolve_request
    from discern.config.reference import reference_rows

    files = list(config or [])
    if run is not None:
        from discern.track.run import open_run, runs_root

        files.insert(0, str(open_run(run, runs_root(runs)).path / "config.yaml"))
    pairs: list[tuple[str, str, Any]] = [] if run else [("(example)", "data.source", "digits")]
    resolved = resolve_request(
        make_request("explain", arguments={}, flags=pairs, config=files, sets=sets)
    )
    rows = {row.key: row for row in reference_rows()}
    wanted = key if key in rows else _full_key(key, list(rows), list(resolved.config.stages))
    row = rows[_general(wanted)]
    values = _values(resolved.config.record(), wanted)
    console = Console(json=json)
    found = []
    for name, value in values:
        path = tuple(name.split("."))
        known = [
            resolved.origins[path[:n]]
            for n in range(len(path), 0, -1)
            if path[:n] in resolved.origins
        ]
        exact = resolved.origins.get(path)
        origin = exact or (known[0] if known and value != row.default_value else "default")
        found.append({"key": name, "value": value, "origin": origin})
    console.say(f"{row.key}: {row.help}")
    console.say(f"  type      {row.type}")
    console.say(f"  default   {row.default}")
    for entry in found:
        console.say(f"  {entry['key']} = {entry['value']}   from {entry['origin']}")
    if run is None and row.key.startswith("stages."):
        console.say("  a recipe may set it when training: by network, image size and count")
    console.emit({"key": row.key, "type": row.type, "help": row.help, "values": found})


def _general(key: str) -> str:
    parts = key.split(".")
    if parts[0] == "stages" and len(parts) > 2:
        parts[1] = "*"
    return ".".join(parts)


def _full_key(key: str, known: list[str], stages: list[str]) -> str:
    if _general(key) in known:
        return key
    ends = [name for name in known if name.endswith(f".{key}")]
    if len(ends) == 1:
        return ends[0]
    raise ConfigError(
        f"no config key '{key}'" if not ends else f"'{key}' could be several keys",
        expected=", ".join(ends) if ends else None,
        hint=did_you_mean(key, [*known, *(name.rpartition(".")[2] for name in known)])
        or f"stages here: {', '.join(stages)}",
    )


def _values(record: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    """(full key, value) of each place that `key` names; `*` stands for every stage."""
    places: list[tuple[str, Any]] = [("", record)]
    for part in key.split("."):
        following = []
        for name, value in places:
            names = list(value) if part == "*" else [part]
            following += [
                (f"{name}.{item}".lstrip("."), value[item])
                for item in names
                if isinstance(value, dict) and item in value
            ]
        places = following
    return places
