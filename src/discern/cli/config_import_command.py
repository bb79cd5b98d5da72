"""`discern config import`: a config of an older suite made into one of Discern's."""

from __future__ import annotations

import json as json_text
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.files import write_text
from discern.cli.options import JsonFlag

if TYPE_CHECKING:
    from discern.config.foreign.config_import import ImportedConfig

# Overrides have names that no option can have: they arrive among the files.
IMPORT_SETTINGS = {"ignore_unknown_options": True}
_SHOWN_WIDTH = 40


def import_config(
    files: Annotated[
        list[str],
        typer.Argument(
            help="Catalyst YAML, mlsteam.yml or Lambda's, merged in order; --a/b/c=value:type"
        ),
    ],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="write here; several get a number each")
    ] = None,
    skip: Annotated[
        list[str] | None, typer.Option("--skip", help="leave a refused key out; may be given again")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="of the trials that a tuner draws")] = 0,
    force: Annotated[bool, typer.Option("--force", help="write over a file")] = False,
    json: JsonFlag = False,
) -> None:
    """Import a config."""
    from discern.config.foreign.config_import import import_configs

    overrides = _overrides([text for text in files if text.startswith("-")])
    files = [text for text in files if not text.startswith("-")]
    if not files:
        raise ConfigError("import needs a FILE", where="discern config import")
    found = import_configs([Path(name) for name in files], overrides, skip=skip or [], seed=seed)
    console = Console(json=json)
    _tell(found, console)
    refused = found[0].refused
    if refused:
        raise ConfigError(
            "the config asks for what cannot be honored here",
            where=", ".join(files),
            got="; ".join(f"{row.source}: {row.why}" for row in refused),
            hint=f"change them, or leave them out: --skip {refused[0].source}",
        )
    paths = _paths(found, out)
    taken = [path for path in paths if path.exists()]
    if taken and not force:
        raise ConfigError("there is such a file", where=taken[0], hint="--force writes over it")
    for path, one in zip(paths, found, strict=False):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, one.text)
        console.say(f"wrote {path}{f': {one.label}' if one.label else ''}")
    if out is None:
        console.result(found[0].text.rstrip("\n"))
    console.emit(
        {
            "kind": found[0].kind,
            "files": [str(path) for path in paths],
            "configs": [one.config for one in found],
            "rows": [row.record() for row in found[0].rows],
        }
    )


def _overrides(given: list[str]) -> list[str]:
    for text in given:
        if not text.startswith("--") or "=" not in text:
            raise ConfigError(
                f"no such flag: {text}", where="discern config import",
                expected="--a/b/c=value:type for an override, or one of --out, --skip, --seed",
            )  # fmt: skip
    return given


def _paths(found: list[ImportedConfig], out: str | None) -> list[Path]:
    if out is None:
        if len(found) > 1:
            raise ConfigError(
                f"this makes {len(found)} configs",
                got="; ".join(one.label for one in found[:4]),
                hint="--out config.yaml writes config-1.yaml, config-2.yaml, ...",
            )
        return []
    path = Path(out)
    if len(found) == 1:
        return [path]
    return [path.with_stem(f"{path.stem}-{number}") for number in range(1, len(found) + 1)]


def _tell(found: list[ImportedConfig], console: Console) -> None:
    """What became of each value; of several configs that of the first."""
    for row in found[0].rows:
        to = row.fate if not row.key else row.key
        to += "" if row.written is None else f" = {_short(row.written)}"
        console.say(
            f"{row.source} = {_short(row.value)}  ->  {to}{f'  ({row.why})' if row.why else ''}"
        )


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json_text.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN_WIDTH else f"{text[: _SHOWN_WIDTH - 3]}..."
