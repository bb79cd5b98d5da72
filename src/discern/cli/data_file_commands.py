"""`discern data extract|index|get`: archives, record indexes, downloads."""

from __future__ import annotations

from typing import Annotated

import typer

from discern.cli.data_options import speaking
from discern.cli.options import DebugFlag, JsonFlag, QuietFlag


def extract(
    archive: Annotated[str, typer.Argument(help="tar, tgz, tar.gz, tar.bz2, tar.xz or zip")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="new folder; default: the archive's name")
    ] = None,
    skip_links: Annotated[
        bool, typer.Option("--skip-links", help="leave links out instead of refusing them")
    ] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Unpack an archive."""
    from pathlib import Path

    from discern.data.extract import extract_archive

    target = Path(archive).name.split(".")[0] if out is None else out
    with speaking("bytes read", json=json, quiet=quiet) as (console, progress):
        report = extract_archive(archive, target, progress=progress, skip_links=skip_links)
    for name in report.skipped:
        console.warn(f"left out: {name}: a link or special entry")
    for name in report.nested:
        console.say(f"note     {name} is an archive itself; it was not opened")
    console.result(
        f"{report.files:,} files in {report.folders:,} folders, "
        f"{report.unpacked_bytes / 1e6:.1f} MB; DATA is {report.data}"
    )
    console.emit(report.record())
    return 0


def index(
    rec: Annotated[str, typer.Argument(help="record file")],
    idx: Annotated[str | None, typer.Argument(help="index to write; default: beside it")] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Write the index of a record file."""
    from discern.data.record_files import build_index

    with speaking("bytes read", json=json, quiet=quiet) as (console, progress):
        report = build_index(rec, idx, progress=progress)
    console.result(f"wrote    {report.path}: {report.records:,} records")
    console.emit(report.record())
    return 0


def get(
    name: Annotated[str, typer.Argument(help="mnist, fashion-mnist, cifar10, ..., or an address")],
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="folder; default: the data's name")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="of the file to download")] = None,
    expect: Annotated[
        list[str] | None, typer.Option("--expect", help="file that must be there; pattern")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="folder with the original files")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Download or convert a data set."""
    from pathlib import Path

    from discern.data.get import get_data

    target = Path(name.rstrip("/").rpartition("/")[2].split(".")[0]) if out is None else Path(out)
    with speaking("done", json=json, quiet=quiet) as (console, progress):
        report = get_data(
            name, target, sha256=sha256, root=root, expect=tuple(expect or ()), progress=progress
        )
    state = "all there already" if report.already else report.layout
    console.result(f"{report.files:,} files in {report.folder}, {state}; DATA is {report.data}")
    console.emit(report.record())
    return 0
