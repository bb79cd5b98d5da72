"""`discern data scan|check|stats|preview`: what there is, without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import CHECK_FAILED, ConfigError
from discern.base.names import counted
from discern.cli.data_flags import CATALYST_SCAN, CHECK, chosen, way_in
from discern.cli.data_options import (
    Data,
    check_manifest_name,
    read_data,
    speaking,
    write_new_manifest,
)
from discern.cli.options import (
    ConfigFlag,
    DebugFlag,
    JsonFlag,
    Pairs,
    QuietFlag,
    SetFlag,
    make_request,
)

if TYPE_CHECKING:
    from discern.data.scan_summary import ScanReport

_SHOWN = 20


def scan(
    data: Annotated[
        str | None, typer.Argument(help="folder, table, manifest, archive, shards, .rec, .lst, ...")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="manifest to write: .parquet, .csv, .jsonl")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Tell what there is."""
    from discern.data.scan import DataRequest, scan_report

    catalyst = chosen(flags, "scan", CATALYST_SCAN)
    if catalyst:
        return _tag2label(data, catalyst, json=json)
    if data is None:
        raise ConfigError("scan needs DATA", where="discern data scan", expected="a folder, ...")
    if out is not None:
        check_manifest_name(out)
    given = way_in(flags, "scan")
    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        report = scan_report(DataRequest(train=data, **given), progress)
    _tell_scan(report, console)
    if out is not None:
        skipping = {**given, "on_bad_image": "skip"}
        scanned = read_data(data, skipping, Console(json=json, quiet=True), None)
        write_new_manifest(scanned.manifest, out, console)
    console.emit(report.record())
    return 0


def _tell_scan(report: ScanReport, console: Console) -> None:
    console.say(f"data     {report.layout}")
    files = f"{counted(report.files, 'file')}, " if report.files != report.images else ""
    console.say(
        f"images   {files}{counted(report.images, 'image')}, {report.unreadable:,} unreadable"
    )
    if report.sizes is not None:
        named = {name: f"{height}x{width}" for name, (height, width) in report.sizes.items()}
        sizes = ", ".join(f"{name} {size}" for name, size in named.items())
        console.say(f"sizes    {sizes}; {report.channels} channels")
    for split, count in report.splits.items():
        console.say(f"{split:<8} {counted(count, 'image')}")
    largest = sorted(report.classes.items(), key=lambda entry: -entry[1])
    console.table(("class", "images"), largest[:_SHOWN])
    if len(largest) > _SHOWN:
        console.say(f"and {len(largest) - _SHOWN} more classes")
    for note in report.notes:
        console.say(f"note     {note}")
    for problem in report.problems[:_SHOWN]:
        console.warn(f"{problem.kind}: {problem.path}: {problem.text}")
    if len(report.problems) > _SHOWN:
        console.warn(f"and {len(report.problems) - _SHOWN} more; --json lists all")


def _tag2label(data: str | None, given: dict[str, Any], *, json: bool) -> int:
    """Catalyst's `tag2label`: a table and a JSON of class numbers."""
    from pathlib import Path

    from discern.data.catalyst_tables import tag2label
    from discern.data.table_files import is_table

    if not {"out_dataset", "out_labeling"} <= set(given):
        raise ConfigError(
            "Catalyst's table and class numbers are written together",
            got=", ".join(sorted(given)),
            expected="--out-dataset F.csv --out-labeling F.json",
        )
    if data is not None:
        given["in_csv" if is_table(Path(data)) else "in_dirs"] = data
    report = tag2label(**given)
    console = Console(json=json)
    for line in report.lines():
        console.result(line)
    console.emit(report.record())
    return 0


def check(
    data: Data,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit code 3 on any error or warning")
    ] = False,
    page: Annotated[
        str | None, typer.Option("--page", "-o", "--out", help="HTML page with thumbnails to write")
    ] = None,
    quarantine: Annotated[
        str | None, typer.Option("--quarantine", help="CSV of the images to leave out, to write")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Find what is wrong with the data."""
    from pathlib import Path

    from discern.data.check import CheckOptions, check_data
    from discern.data.check_page import write_check_page
    from discern.data.scan import DataRequest

    given = chosen(flags, "check", CHECK)
    if "embeddings" in given:
        given["embeddings"] = _read_array(given["embeddings"])
    request = DataRequest(train=data, **way_in(flags, "check"))
    with speaking("images decoded", json=json, quiet=quiet) as (console, progress):
        report = check_data(request, CheckOptions(**given), progress)
    for line in report.summary_lines():
        console.result(line)
    if page is not None:
        write_check_page(report, Path(page))
        console.say(f"page     {page}")
    if quarantine is not None:
        count = report.write_quarantine(Path(quarantine))
        console.say(
            f"list     {quarantine}: {counted(count, 'image')} to leave out; nothing was deleted"
        )
    console.emit(report.record())
    return 0 if report.passes(strict=strict) else CHECK_FAILED


def _read_array(path: str) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the embeddings cannot be read: {error}", where=path, expected="a .npy file"
        ) from error


def stats(
    data: Data,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Describe the data in numbers."""
    from discern.data.statistics import describe

    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        scanned = read_data(data, way_in(flags, "stats"), console, progress)
        found = describe(scanned, progress)
    for line in found.lines():
        console.result(line)
    console.emit(found.record())
    return 0


def preview(
    data: Data,
    config: ConfigFlag = None,
    sets: SetFlag = None,
    out: Annotated[str, typer.Option("--out", "-o", help="PNG to write")] = "preview.png",
    epoch: Annotated[int, typer.Option("--epoch", min=0, help="the epoch that is shown")] = 0,
    make_labels: Annotated[
        str | None,
        typer.Option("--make-labels", help="rotate,blur,flare: changes that are their own labels"),
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    *,
    flags: Pairs,
) -> None:
    """Show what the network sees."""
    from discern.launch.worker_process import become_worker

    become_worker(
        make_request(
            "data-preview",
            arguments={
                "out": out,
                "epoch": epoch,
                "make_labels": [] if make_labels is None else make_labels.split(","),
            },
            flags=[("DATA", "data.source", data), *flags],
            config=config,
            sets=sets,
            json=json,
            quiet=quiet,
            debug=debug,
        )
    )
