"""The forms that are read, each told by what lies in its folder."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from discern.track.imported.event_reader import PATTERN, read_events
from discern.track.imported.foreign_run import ForeignRun, ReadMapping

CATALYST: Final = "catalyst"
LAB: Final = "lab"
TIMM: Final = "timm"
ULTRALYTICS: Final = "ultralytics"
TENSORBOARD: Final = "tensorboard"

_SUMMARY: Final = "summary.csv"
_RESULTS: Final = "results.csv"
_ARGUMENTS: Final = "args.yaml"


def form_of(folder: Path) -> str | None:
    """The form of the run in `folder`; None if it holds none that is read."""
    if (folder / "checkpoints" / "_metrics.json").is_file() or (
        (folder / "configs" / "_config.json").is_file() and any(folder.glob("*_log"))
    ):
        return CATALYST
    if (folder / "run.yaml").is_file():
        return LAB
    for name, form, column in ((_SUMMARY, TIMM, "epoch"), (_RESULTS, ULTRALYTICS, "epoch")):
        if (folder / name).is_file() and column in _first_line(folder / name):
            return form
    if any(folder.glob(PATTERN)) or any(folder.glob(f"*/{PATTERN}")):
        return TENSORBOARD
    return None


def read_form(form: str, folder: Path, read: ReadMapping) -> ForeignRun:
    """The run of that form in `folder`; what is damaged is among its problems."""
    run = ForeignRun(form, folder)
    if form == CATALYST:
        _read_catalyst(run, read)
    elif form == LAB:
        _read_lab(run, read)
    elif form == TENSORBOARD:
        _read_event_folders(run)
    else:
        run.settings = run.mapping(folder / _ARGUMENTS, read)
        _read_table(run, folder / (_SUMMARY if form == TIMM else _RESULTS))
        run.list_checkpoints(folder, "**/*.pt" if form == ULTRALYTICS else "*.pth.tar")
    return run


def _read_event_folders(run: ForeignRun) -> None:
    read_events(run, run.source)
    for folder in sorted(path for path in run.source.iterdir() if path.is_dir()):
        read_events(run, folder, f"{folder.name}/")


def _read_catalyst(run: ForeignRun, read: ReadMapping) -> None:
    """Figures of the loaders' event folders, else the epochs of `_metrics.json`."""
    run.settings = run.mapping(run.source / "configs" / "_config.json", read)
    for folder in sorted(run.source.glob("*_log")):
        read_events(run, folder, f"{folder.name.removesuffix('_log')}/")
    path = run.source / "checkpoints" / "_metrics.json"
    metrics = run.mapping(path, read)
    time = path.stat().st_mtime if path.is_file() else 0.0
    told_by_events = bool(run.series)
    for name, figures in metrics.items():
        epoch = name.removeprefix("epoch_")
        if told_by_events or name == epoch or not epoch.isdecimal():
            continue
        if isinstance(figures, dict):
            for metric, value in figures.items():
                if _is_number(value) and not metric.startswith("_"):
                    run.add(f"valid/{metric}", int(epoch), float(value), time)
    run.facts["best"], run.facts["last"] = metrics.get("best"), metrics.get("last")
    run.list_checkpoints(run.source / "checkpoints", "*.pth")


def _read_lab(run: ForeignRun, read: ReadMapping) -> None:
    """Figures of `sqlite.db` (its table `scalars`), of `log.jsonl`, else of event files."""
    run.facts = run.mapping(run.source / "run.yaml", read)
    for name, item in run.mapping(run.source / "configs.yaml", read).items():
        described = isinstance(item, dict) and ("value" in item or "computed" in item)
        run.settings[name] = _config_value(item) if described else item
    database = run.source / "sqlite.db"
    if database.is_file():
        _read_sqlite(run, database)
    if not run.series and (run.source / "log.jsonl").is_file():
        _read_json_lines(run, run.source / "log.jsonl")
    if not run.series and (run.source / "tensorboard").is_dir():
        read_events(run, run.source / "tensorboard")
    run.list_checkpoints(run.source / "checkpoints", "*")


def _config_value(item: dict[str, Any]) -> Any:
    computed = item.get("computed")
    return item.get("value") if computed is None else computed


def _read_sqlite(run: ForeignRun, path: Path) -> None:
    run.files.append(path)
    time = path.stat().st_mtime
    # Read-only: nothing of the source changes, also where its writer was killed.
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
    try:
        rows = connection.execute("select indicator, step, value from scalars order by rowid")
        for name, step, value in rows:
            if isinstance(step, int) and step >= 0 and value is not None:
                run.add(str(name), step, float(value), time)
    except (sqlite3.Error, ValueError) as error:
        run.note(path, error)
    finally:
        connection.close()


def _read_json_lines(run: ForeignRun, path: Path) -> None:
    """Lines {"step", NAME: value, ...} or {"indicator" | "name", "step", "value"}."""
    run.files.append(path)
    time = path.stat().st_mtime
    for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            run.note(path, f"line {number}: {type(error).__name__}: {error}")
            continue
        name = record.get("indicator") or record.get("name")
        values = {name: record.get("value")} if name else record
        for key, value in values.items():
            if key != "step" and _is_number(value):
                run.add(str(key), step, float(value), float(record.get("time") or time))


def _read_table(run: ForeignRun, path: Path) -> None:
    """A CSV with a column `epoch` and one a figure; blanks around cells do not count."""
    run.files.append(path)
    time = path.stat().st_mtime
    with open(path, newline="", encoding="utf-8", errors="replace") as stream:
        rows = csv.reader(stream)
        header = [name.strip() for name in next(rows, [])]
        for line, row in enumerate(rows, 2):
            cells = [cell.strip() for cell in row]
            if cells == header or not any(cells):
                continue  # timm writes its header again when a run goes on
            epoch = _number(dict(zip(header, cells, strict=False)).get("epoch", ""))
            if len(cells) != len(header) or epoch is None or epoch < 0 or epoch != int(epoch):
                run.note(path, f"line {line}: not a row of {len(header)} figures")
                continue
            for name, cell in zip(header, cells, strict=True):
                value = _number(cell)
                if name != "epoch" and value is not None:
                    run.add(name, int(epoch), value, time)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _first_line(path: Path) -> list[str]:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return [name.strip() for name in stream.readline().split(",")]


def last_values(run: ForeignRun) -> dict[str, float]:
    """The latest figure of each series, also one that is not finite: so it ended."""
    return {name: points[-1].value for name, points in run.series.items() if points}


def find_folders(root: Path, depth: int = 4) -> Iterator[Path]:
    """`root` if it is a run, else the runs at most `depth` folders below it, in order."""
    if form_of(root) is not None:
        yield root
    elif depth:
        for folder in sorted(path for path in root.iterdir() if path.is_dir()):
            if not folder.name.startswith("."):
                yield from find_folders(folder, depth - 1)
