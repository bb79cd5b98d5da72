"""What `discern runs list|show|export` do, as functions of plain values."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from discern.base.console import Console
from discern.base.errors import OK, ConfigError
from discern.base.files import write_text
from discern.base.names import printable
from discern.cli.byte_text import byte_text

if TYPE_CHECKING:
    from discern.track.metrics_read import Series
    from discern.track.run_folder import Run
    from discern.track.series_summary import SeriesSummary

_FORMATS: Final = ("csv", "json", "md")
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r")
_MOST_NAME: Final = 60  # a longer one would push the figures out of sight
_MOST_ROWS: Final = 200
_SHORT_TIME: Final = len("2026-01-31T12:34:56")


def show_command(text: str, root: Path, console: Console) -> int:
    """One run: status, scores, attempts, choices, notes, series, sizes, and what is wrong.

    `--json`: the summary of `list` with path, attempts, series (last and best
    point), notes, bytes by part, files, problems and the record.
    """
    from discern.cli.run_account import account, account_lines
    from discern.track.run_folder import open_run
    from discern.track.run_notes import read_notes
    from discern.track.run_removal import disk_sizes
    from discern.track.series_summary import summarize_run

    run = open_run(text, root)
    notes = read_notes(run.path, run.record)
    summaries = summarize_run(run.path)
    sizes = disk_sizes(run.path)
    problems = _problems(run) + ([notes.problem] if notes.problem is not None else [])
    files = sorted(
        f"{path.name}/" if path.is_dir() else path.name
        for path in run.path.iterdir()
        if not path.name.startswith(".")
    )
    console.emit(
        {
            **_summary(run),
            "path": str(run.path),
            "attempts": run.record.get("attempts", []),
            "exit": run.exit_record(),
            "series": {name: _figures(name, summary) for name, summary in summaries.items()},
            "notes": {"title": notes.title, "note": notes.note, "tags": list(notes.tags)},
            "bytes": sizes,
            "files": files,
            "problems": problems,
            **account(run),
            "record": run.record,
        }
    )
    console.say(f"run      {run.id}  ({run.status})")
    console.say(f"folder   {run.path}")
    _say_fields(run, console)
    for kind, text in (("title", notes.title), ("tags", ", ".join(notes.tags))):
        if text:
            console.say(f"{kind:<8} {printable(text)}")
    for line in notes.note.splitlines():
        console.say(f"note     {printable(line)}")
    if summaries:
        console.say()
        headers = ("series", "points", "last step", "last value", "best", "best step")
        rows = [_series_row(*pair) for pair in summaries.items()]
        console.table(headers, rows[:_MOST_ROWS])
        if len(rows) > _MOST_ROWS:
            console.say(f"... and {len(rows) - _MOST_ROWS:,} series more; --json tells all")
    for line in account_lines(run):
        console.say(line)
    parts = (f"{part} {size:,}" for part, size in sizes.items() if size and part != "total")
    console.say(f"disk     {byte_text(sizes['total'])}: {', '.join(parts)}")
    console.say(f"files    {', '.join(files)}")
    for problem in problems:
        console.warn(problem)
    return OK


def export_command(
    text: str,
    root: Path,
    console: Console,
    *,
    form: str = "csv",
    out: str | None = None,
    names: Sequence[str] = (),
) -> int:
    """A run's metrics as CSV (series, step, time, value), JSON or a Markdown table.

    They go to the file `out`, else stdout. The table has a row per step and a column per series,
    of `names` if any are given; a cell without a value is empty.

    Times are seconds since 1970 UTC. Values that are not finite are "nan", "inf", "-inf" in both.
    JSON: {"run": id, "series": {name: {"steps": [...], "times": [...], "values": [...]}}}.
    """
    from discern.track.run_folder import open_run

    if form not in _FORMATS:
        raise ConfigError("no such format", where="--format", got=form, expected="csv, json or md")
    run = open_run(text, root)
    series = {name: run.read_series(name) for name in names} if names else run.read_all()
    for problem in _problems(run):
        console.warn(problem)
    forms = {"csv": _as_csv, "md": _as_markdown}
    content = forms[form](series) if form in forms else _as_json(run, series)
    if out is None:
        console.result(content.rstrip("\n"))
        return OK
    write_text(Path(out), content)
    console.say(f"{sum(map(len, series.values()))} points of {len(series)} series: {out}")
    return OK


def _summary(run: Run) -> dict[str, Any]:
    return {
        "id": run.id,
        "project": run.project,
        "name": run.name,
        "status": run.status,
        "created": run.created,
        "metrics": run.metrics,
    }


def _say_fields(run: Run, console: Console) -> None:
    for name in ("metrics", "val_metrics", "split"):
        values = run.record.get(name)
        if isinstance(values, dict) and values:
            told = (f"{key} {_short(value)}" for key, value in values.items())
            console.say(printable(f"{name.partition('_metrics')[0]:<8} {', '.join(told)}"))
    choices = run.record.get("choices")
    for name, value in (choices if isinstance(choices, dict) else {}).items():
        console.say(printable(f"chosen   {name}: {_short(value)}"))
    for attempt in run.record.get("attempts", []):
        times = f"{_moment(attempt.get('start'))} to {_moment(attempt.get('end'))}"
        ended = attempt.get("status")
        if ended == "running" and run.status != "running":
            ended = run.status
        who = f"process {attempt.get('pid')} on {attempt.get('host')}"
        console.say(f"attempt  {attempt.get('number')}: {times}, {ended}, {who}")
    end = run.exit_record()
    if end is not None and end.get("attempt") == run.attempt:
        reason, code = end.get("reason"), f"exit code {end.get('exit_code')}"
        console.say(f"end      {reason}" if reason == code else f"end      {reason} ({code})")


def _problems(run: Run) -> list[str]:
    from discern.track.metrics_blocks import METRICS_FILE
    from discern.track.metrics_read import check_metrics, read_names

    told = [str(problem) for problem in run.record.get("problems") or []]
    if not (run.path / METRICS_FILE).exists() and (named := len(read_names(run.path))):
        told.append(f"metrics.bin is missing: the points of {named} series are lost")
    checked = check_metrics(run.path)
    # A living writer may be in the middle of its last block.
    if checked.read_bytes < checked.file_bytes and not run.locked:
        lost = checked.file_bytes - checked.read_bytes
        told.append(f"metrics.bin: damaged at byte {checked.read_bytes}, {lost} bytes are not read")
    return told


def _as_csv(series: dict[str, Series]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("series", "step", "time", "value"))
    for name, points in series.items():
        # No spreadsheet may run the name of a series as a formula.
        cell = f"'{name}" if name.startswith(_FORMULA_STARTS) else name
        for step, time, value in zip(
            points.steps.tolist(), points.times.tolist(), points.values.tolist(), strict=True
        ):
            writer.writerow((cell, step, repr(time), repr(value)))
    return stream.getvalue()


def _as_markdown(series: dict[str, Series]) -> str:
    """A row per step, a column per series that has points; the last value of a step counts."""
    columns = {
        name: dict(zip(points.steps.tolist(), points.values.tolist(), strict=True))
        for name, points in series.items()
        if len(points)
    }
    steps = sorted({step for values in columns.values() for step in values})
    rows = [["step", *(name.replace("|", "\\|") for name in columns)]]
    for step in steps:
        cells = [values.get(step) for values in columns.values()]
        rows.append([str(step), *("" if cell is None else f"{cell:.6g}" for cell in cells)])
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + " ---: |" * len(rows[0]), *lines[1:]]) + "\n"


def _as_json(run: Run, series: dict[str, Series]) -> str:
    from discern.track.plain_values import to_plain

    columns = {
        name: {"steps": points.steps, "times": points.times, "values": points.values}
        for name, points in series.items()
    }
    content = to_plain({"run": run.id, "series": columns})
    return json.dumps(content, ensure_ascii=False, allow_nan=False) + "\n"


def _series_row(name: str, summary: SeriesSummary) -> tuple[object, ...]:
    value, step = summary.best(name) or (None, None)
    if len(name) > _MOST_NAME:
        name = f"{name[: _MOST_NAME - 1]}…"
    return name, summary.points, summary.last_step, summary.last, value, step


def _figures(name: str, summary: SeriesSummary) -> dict[str, Any]:
    """The last point and the best, where it is known which way is better."""
    from discern.track.plain_values import to_plain

    value, step = summary.best(name) or (None, None)
    figures: dict[str, Any] = to_plain(
        {
            "points": summary.points,
            "step": summary.last_step,
            "value": summary.last,
            "best": value,
            "best_step": step,
        }
    )
    return figures


def _moment(text: object) -> str:
    return str(text)[:_SHORT_TIME].replace("T", " ") if text else "-"


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(entry)}" for key, entry in value.items()) + "}"
    return str(value)
