"""Builds a command's parameters from the flag table, and a worker's request from their values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from discern.base.errors import ConfigError
from discern.cli.flags import Flag
from discern.config.request import Request

_TYPES: dict[str, Any] = {
    "text": str | None,
    "int": int | None,
    "float": float | None,
    "switch": bool | None,
    "pairs": list[str] | None,
    "names": list[str] | None,
    "value": str | None,
    "columns": str | None,
}


def _parameter(flag: Flag) -> inspect.Parameter:
    names = [flag.name, *flag.aliases]
    if flag.kind == "switch":
        names = [f"{name}/--no-{name.removeprefix('--')}" for name in names]
    text = flag.help if flag.plain else f"{flag.help}  [{flag.key}]"
    option = typer.Option(*names, help=text, rich_help_panel=flag.group)
    return inspect.Parameter(
        flag.parameter,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[_TYPES[flag.kind], option],
    )


def build_command(function: Callable[..., Any], flags: Sequence[Flag]) -> Callable[..., Any]:
    """`function` with `flags` added; it gets those that were given as `flags`.

    An option of the function's own goes before a flag of the same name.
    """
    own = inspect.signature(function, eval_str=True)
    parameters = [p for p in own.parameters.values() if p.name != "flags"]
    flags = [flag for flag in flags if flag.parameter not in own.parameters]

    def wrapped(**values: Any) -> Any:
        given = {flag: values.pop(flag.parameter) for flag in flags}
        return function(**values, flags=flag_pairs(given))

    added = [_parameter(flag) for flag in flags]
    everything = [*parameters, *added]
    wrapped.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in everything]
    )
    wrapped.__annotations__ = {p.name: p.annotation for p in everything}
    wrapped.__doc__ = function.__doc__
    wrapped.__name__ = function.__name__
    return wrapped


Pairs = list[tuple[str, str, Any]]


def flag_pairs(values: dict[Flag, Any]) -> Pairs:
    """(origin, config key, value) of each flag that was given."""
    pairs: Pairs = []
    for flag, value in values.items():
        if value is None or value == []:
            continue
        if flag.kind == "pairs":
            pairs += [_named_argument(flag, text) for text in value]
        elif flag.kind == "value" or (flag.kind == "columns" and value.lstrip()[:1] in ("[", "{")):
            pairs.append((flag.name, flag.key, _yaml_value(value, flag.name)))
        else:
            pairs.append((flag.name, flag.key, value))
    return pairs


def _yaml_value(text: str, name: str) -> Any:
    from discern.config.yaml_text import parse_value

    return parse_value(text, name)


def _named_argument(flag: Flag, text: str) -> tuple[str, str, Any]:
    from discern.config.yaml_text import parse_value

    key, equals, value = text.partition("=")
    if not equals or not key.isidentifier():
        raise ConfigError(f"{flag.name} takes NAME=VALUE", where=flag.name, got=text)
    return (flag.name, f"{flag.key}.{key}", parse_value(value, f"{flag.name} {key}"))


def make_request(
    verb: str,
    *,
    arguments: dict[str, Any],
    flags: Pairs,
    config: list[str] | None = None,
    sets: list[str] | None = None,
    json: bool = False,
    quiet: bool = False,
    debug: bool = False,
) -> Request:
    """The request of one command."""
    return Request(
        verb=verb,
        arguments=arguments,
        files=list(config or []),
        pairs=flags,
        sets=list(sets or []),
        json=json,
        quiet=quiet,
        debug=debug,
    )


JsonFlag = Annotated[
    bool, typer.Option("--json", help="one JSON object on stdout, all else on stderr")
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="only results and warnings")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="tracebacks of errors")]
RunsFlag = Annotated[
    str | None,
    typer.Option("--runs", help="folder of all runs; default $DISCERN_RUNS, else ./runs"),
]
ConfigFlag = Annotated[
    list[str] | None,
    typer.Option("--config", "-c", help="config file; several are merged in order"),
]
SetFlag = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE of any config key; wins over all else")
]
