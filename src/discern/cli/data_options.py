"""What the `discern data` commands share: how they speak, read data and write manifests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.base.progress_bar import counting_bar

if TYPE_CHECKING:
    from discern.data.manifest import Manifest
    from discern.data.scan import ScannedData

Data = Annotated[
    str, typer.Argument(help="folder, table, manifest, archive, shards, .rec, .lst, or a name")
]
OutFlag = Annotated[
    str, typer.Option("--out", "-o", help="manifest to write: .parquet, .csv or .jsonl")
]
Progress = Callable[[int, int], None]


@contextmanager
def speaking(what: str, *, json: bool, quiet: bool = False) -> Iterator[tuple[Console, Any]]:
    """(console, progress callback or None) of one command."""
    console = Console(json=json, quiet=quiet)
    with counting_bar(console, what) as progress:
        yield console, progress


def read_data(
    data: str, given: dict[str, Any], console: Console, progress: Progress | None
) -> ScannedData:
    """Every image of `data`, opened, in the splits that it has; tells how it came in."""
    from discern.data.scan import DataRequest, scan_data

    scanned = scan_data(replace(DataRequest(train=data, **given), split=None), progress)
    console.say(f"data     {scanned.manifest.layout}")
    for note in scanned.notes:
        console.say(f"note     {note}")
    for problem in scanned.problems:
        console.warn(f"left out: {problem.path}: {problem.text}")
    return scanned


def write_new_manifest(manifest: Manifest, out: str, console: Console) -> None:
    """Write the manifest, and say so."""
    from discern.data.manifest_files import write_manifest

    write_manifest(manifest, out)
    console.say(f"wrote    {out}: {counted(len(manifest), 'image')}")


def check_manifest_name(out: str) -> None:
    """Raises ConfigError, before anything is read, for a name that no manifest can have."""
    from discern.data.table_files import TABLE_SUFFIXES

    if not out.lower().endswith(TABLE_SUFFIXES):
        raise ConfigError(
            "no table format has this suffix",
            where="--out",
            got=out,
            expected=f"a name ending in {', '.join(TABLE_SUFFIXES)}",
        )


def whole_numbers(text: str | None, where: str) -> tuple[int, ...]:
    """`0,1,2` as numbers; nothing as none. Raises ConfigError."""
    if not text:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError("not whole numbers", where=where, got=text, expected="such as 0,1,2")
    return tuple(int(part) for part in parts)
