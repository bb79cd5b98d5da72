"""`discern data split|merge|relabel|list`: new manifests and lists; images stay where they are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.cli.data_flags import CATALYST_SPLIT, LISTS, MERGE, RELABEL, SPLIT, chosen, way_in
from discern.cli.data_options import (
    OutFlag,
    check_manifest_name,
    read_data,
    speaking,
    whole_numbers,
    write_new_manifest,
)
from discern.cli.options import DebugFlag, JsonFlag, Pairs, QuietFlag


def split(
    data: Annotated[str | None, typer.Argument(help="as for train; or a table by --in-csv")] = None,
    out: Annotated[
        str | None, typer.Option("--out", "-o", help="manifest to write: .parquet, .csv, .jsonl")
    ] = None,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Write a manifest with splits or folds."""
    from discern.data.resplit import resplit
    from discern.data.split_plan import SplitPlan

    given = chosen(flags, "split", SPLIT)
    for name in ("val_folds", "test_folds"):
        if name in given:
            given[name] = whole_numbers(given[name], f"--{name.replace('_', '-')}")
    table = chosen(flags, "split", CATALYST_SPLIT)
    if table:
        return _split_table(table, given, way_in(flags, "split"), Console(json=json, quiet=quiet))
    if data is None or out is None:
        raise ConfigError(
            "split needs DATA and --out",
            where="discern data split",
            expected="DATA --out split.parquet, or --in-csv F.csv --out-csv X.csv",
        )
    check_manifest_name(out)
    given["keep"] = tuple(given.get("keep", ()))
    plan = SplitPlan(**given)
    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        scanned = read_data(data, way_in(flags, "split"), console, progress)
    manifest, report = resplit(scanned.manifest, plan)
    for line in report.lines():
        console.result(line)
    write_new_manifest(manifest, out, console)
    console.emit({"manifest": out, **report.record()})
    return 0


def _split_table(
    table: dict[str, Any], plan: dict[str, Any], way: dict[str, Any], console: Console
) -> int:
    """Catalyst's `split-dataframe`."""
    from discern.data.catalyst_tables import SEED, split_dataframe

    for name in ("in_csv", "out_csv", "train_folds"):
        if name not in table:
            raise ConfigError(
                "a table is split with --in-csv, --out-csv and --train-folds",
                where="discern data split",
                got=", ".join(f"--{key.replace('_', '-')}" for key in table),
            )
    table["train_folds"] = whole_numbers(table["train_folds"], "--train-folds")
    report = split_dataframe(
        **table,
        valid_folds=plan.get("val_folds"),
        infer_folds=plan.get("test_folds"),
        n_folds=plan.get("folds"),
        tag2class=way.get("class_index"),
        seed=plan.get("seed", SEED),
    )
    for line in report.lines():
        console.result(line)
    console.emit(report.record())
    return 0


def merge(
    data: Annotated[list[str], typer.Argument(help="two or more data sets of any kind")],
    out: OutFlag,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Join data sets."""
    from discern.data.merge import merge_data

    check_manifest_name(out)
    given, way = chosen(flags, "merge", MERGE), way_in(flags, "merge")
    if "names" in given:
        given["names"] = [name.strip() for name in given["names"].split(",")]
    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        manifests = [read_data(one, way, console, progress).manifest for one in data]
    merged, report = merge_data(manifests, **given)
    for line in report.lines():
        console.result(line)
    write_new_manifest(merged, out, console)
    console.emit({"manifest": out, **report.record()})
    return 0


def relabel(
    data: Annotated[str, typer.Argument(help="as for train; often a manifest")],
    table: Annotated[
        str, typer.Argument(help=".lst, .csv, .jsonl, .parquet by id or path; or an overlay")
    ],
    out: OutFlag,
    overlay: Annotated[
        str | None, typer.Option("--overlay", help="write the changes here: old and new labels")
    ] = None,
    reverse: Annotated[
        bool, typer.Option("--reverse", help="TABLE is an overlay: take its changes back")
    ] = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Give images other labels."""
    from pathlib import Path

    from discern.data.label_overlay import apply_overlay, read_overlay, write_overlay
    from discern.data.relabel import relabel as give_labels

    check_manifest_name(out)
    with speaking("images opened", json=json, quiet=quiet) as (console, progress):
        scanned = read_data(data, way_in(flags, "relabel"), console, progress)
    if reverse:
        changes = read_overlay(Path(table)).reversed()
        write_new_manifest(apply_overlay(scanned.manifest, changes), out, console)
        console.result(f"{len(changes.changes):,} labels taken back")
        console.emit({"manifest": out, "changed": len(changes.changes)})
        return 0
    manifest, report = give_labels(scanned.manifest, table, **chosen(flags, "relabel", RELABEL))
    for line in report.lines():
        console.result(line)
    if overlay is not None:  # first: without it the new labels could not be taken back
        write_overlay(report.overlay, Path(overlay))
        console.say(f"changes  {overlay}: `--reverse` with it takes them back")
    write_new_manifest(manifest, out, console)
    console.emit({"manifest": out, **report.record()})
    return 0


def list_images(
    prefix: Annotated[str, typer.Argument(help="PREFIX.lst is written")],
    root: Annotated[str, typer.Argument(help="folder of images")],
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,  # noqa: ARG001 - read by the last door
    *,
    flags: Pairs,
) -> int:
    """Write lists of images."""
    from discern.data.image_lists import make_lists

    with speaking("images found", json=json, quiet=quiet) as (console, progress):
        report = make_lists(prefix, root, **chosen(flags, "list", LISTS), progress=progress)
    for name, count in report.files.items():
        console.result(f"wrote    {name}: {counted(count, 'image')}")
    console.say(f"classes  {report.classes_file}: {len(report.classes)}")
    for note in report.notes:
        console.say(f"note     {note}")
    console.emit(report.record())
    return 0
