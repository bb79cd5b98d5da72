"""`discern data pack|unpack|verify`: images in few large files, and back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import CHECK_FAILED
from discern.base.names import counted
from discern.cli.data_flags import PACK, chosen, way_in
from discern.cli.data_options import Data, read_data, speaking
from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag

if TYPE_CHECKING:
    from discern.data.packing import PackReport

Packed = Annotated[str, typer.Argument(help="folder of shards or records, or one file")]
OutFolder = Annotated[str, typer.Option("--out", "-o", help="folder to write into")]
Workers = Annotated[
    int | None, typer.Option("--workers", "-j", min=1, help="threads; default: one per core")
]
_SHOWN = 10


def pack(
    data: Data,
    out: OutFolder,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Pack images."""
    from discern.data.pack_plan import PackOptions
    from discern.data.packing import pack as pack_images
    from discern.data.recipes import follow_recipe, recipe

    way, given = way_in(flags, "pack"), _pack_options(chosen(flags, "pack", PACK))
    followed = given.pop("recipe", None)
    given["workers"] = way.get("threads")
    given["on_bad_image"] = way.get("on_bad_image", "error")
    base = PackOptions() if followed is None else recipe(followed).pack
    options = replace(base, **given)
    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        scanned = read_data(data, way, console, progress)
    manifest = scanned.manifest
    if followed is not None:
        manifest, told = follow_recipe(recipe(followed), manifest)
        for line in told.lines():
            console.say(line)
    with speaking("images packed", json=json, quiet=quiet) as (console, progress):
        report = pack_images(manifest, out, options, progress)
    _tell_packed(report, console)
    skipped = [problem.record() for problem in scanned.problems]
    record = report.record()
    problems = [*skipped, *record["problems"]]
    console.emit({**record, "problems": problems, "skipped": len(problems)})
    return 0


def _pack_options(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of PackOptions out of im2rec's and our own spellings."""
    if given.pop("grayscale", False):
        given["color"] = 0
    for name in ("resize", "max_size"):
        if given.get(name) == 0:  # im2rec's default: the size stays
            del given[name]
    if "encoding" in given:
        given["encoding"] = given["encoding"].lstrip(".")
    if {"quality", "compress_level", "clear_exif"} & set(given):
        # Asked for by name, so that images are encoded anew even if nothing else changes.
        given.setdefault("pass_through", False)
    return given


def _tell_packed(report: PackReport, console: Console) -> None:
    for file in report.files[:_SHOWN]:
        console.say(
            f"wrote    {file.name}: {counted(file.images, 'image')}, {file.size / 1e6:.1f} MB"
        )
    if len(report.files) > _SHOWN:
        console.say(f"and {len(report.files) - _SHOWN} more files")
    for note in report.notes:
        console.say(f"note     {note}")
    for problem in report.problems:
        console.warn(f"left out: {problem.path}: {problem.text}")
    resumed = f", {report.resumed:,} of them by an earlier pack" if report.resumed else ""
    console.result(
        f"packed   {counted(report.images, 'image')} into {report.out}, "
        f"{report.size / 1e6:.1f} MB, {report.seconds:.1f} s{resumed}"
    )


def unpack(
    packed: Packed,
    out: OutFolder,
    on_bad_image: Annotated[
        str, typer.Option("--on-bad-image", help="error or skip: counted and named")
    ] = "error",
    workers: Workers = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Write packed images as files."""
    from discern.data.unpacking import unpack as unpack_images

    with speaking("images unpacked", json=json, quiet=quiet) as (console, progress):
        report = unpack_images(packed, out, progress, on_bad_image=on_bad_image, workers=workers)
    for note in report.notes:
        console.say(f"note     {note}")
    for problem in report.problems:
        console.warn(f"left out: {problem.path}: {problem.text}")
    state = "verified first" if report.verified else "without an index to verify against"
    console.result(
        f"unpacked {counted(report.images, 'image')} of "
        f"{counted(len(report.classes), 'class', 'classes')} into {out}, {state}"
    )
    console.emit(report.record())
    return 0


def verify(
    packed: Packed,
    workers: Workers = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
) -> int:
    """Compare packed files with their index; exit code 3 when one differs."""
    from discern.data.packed_check import verify_packed

    with speaking("images hashed", json=json, quiet=quiet) as (console, progress):
        report = verify_packed(packed, progress, threads=workers)
    for problem in report.problems[:_SHOWN]:
        console.warn(f"{problem.kind}: {problem.path}: {problem.text}")
    if len(report.problems) > _SHOWN:
        console.warn(f"and {len(report.problems) - _SHOWN} more; --json lists all")
    verdict = (
        counted(len(report.problems), "problem") if report.problems else "all as they were packed"
    )
    console.result(f"{counted(report.files, 'file')}, {counted(report.images, 'image')}: {verdict}")
    console.emit(report.record())
    return CHECK_FAILED if report.problems else 0
