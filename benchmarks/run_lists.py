"""`discern runs list` over many runs, beside the start of Python and of the command itself.

Makes run folders as trainings leave them: a record of 9 kB with the resolved config, figures of two
series, every hundredth run killed. Then, as whole processes, interleaved: the list with the index
up to date, with one run changed, of a condition over config values, and the list that makes the
index anew. The answers are compared with what was made.
Prints a table and one JSON line.

    python -m benchmarks.run_lists
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import discern
from discern.track.metrics_log import MetricsLog
from discern.track.run import create_run

# Wall seconds on a quiet machine, start-up included, by the number of runs.
GOALS_S = {("up to date", 1_000): 0.3, ("up to date", 10_000): 1.0, ("made anew", 1_000): 5.0}
_AGE_S = 3600
_LAYERS = 60


def make_record(folder: Path) -> dict[str, Any]:
    """The record of a finished run, with as many config values as a training has."""
    stage = {f"value_{number}": number / 7 for number in range(_LAYERS)} | {"lr": 0.0}
    config = {"model": {"name": "lenet"}, "stages": {"train": stage, "tune": dict(stage)}}
    with create_run(folder, "seed", name="one", record={"config": config}) as writer:
        writer.update(metrics={"accuracy": 0.0, "loss": 0.5, "count": 100})
    record: dict[str, Any] = json.loads((folder / "seed" / "one" / "run.json").read_bytes())
    return record


def make_runs(root: Path, count: int, record: dict[str, Any]) -> None:
    """`count` run folders in ten projects, last changed an hour ago."""
    then = time.time() - _AGE_S
    for number in range(count):
        path = root / f"project-{number % 10}" / f"lenet-{number}"
        path.mkdir(parents=True)
        record["created"] = f"2026-11-{1 + number % 28:02d}T10:00:00.{number % 1000:03d}+00:00"
        record["metrics"]["accuracy"] = number / count
        record["config"]["stages"]["train"]["lr"] = (1 + number % 100) / 1000
        record["status"] = "running" if number % 100 == 0 else "finished"
        (path / "run.json").write_text(json.dumps(record, indent=2))
        log = MetricsLog(path, 1)
        for step in range(1, 11):
            log.add("val/accuracy", step, step / 10)
            log.add("val/loss", step, 1 / step)
        log.close()
        for place in (path / "run.json", path):
            os.utime(place, (then, then))


def run_once(command: list[str]) -> tuple[float, float, bytes]:
    """(wall seconds, CPU seconds, stdout) of a process. Raises CalledProcessError."""
    before, started = os.times(), time.perf_counter()
    done = subprocess.run(command, capture_output=True, check=True)
    wall, after = time.perf_counter() - started, os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return wall, cpu, done.stdout


def measure(count: int, rounds: int, folder: Path) -> dict[str, dict[str, list[float]]]:
    """Wall and CPU seconds of each case."""
    root = folder / f"runs-{count}"
    make_runs(root, count, make_record(folder / f"seed-{count}"))
    command = [sys.executable, "-m", "discern", "runs", "list", "--runs", str(root)]
    cases = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "discern --help": [sys.executable, "-m", "discern", "--help"],
        "of no runs": [*command[:-1], str(folder / "none")],
        "up to date": command,
        "as JSON": [*command, "--json"],
        "one changed": command,
        "lr < 0.0105": [*command, "--ids", "--where", "stages.train.lr<0.0105"],
        "best of a series": [*command, "--ids", "--where", "best(val/loss)<0.2"],
        "made anew": command,
    }
    spent: dict[str, dict[str, list[float]]] = {case: {"wall": [], "cpu": []} for case in cases}
    for number in range(rounds + 1):
        for case, words in cases.items():
            if case == "made anew":
                (root / ".runs.sqlite").unlink(missing_ok=True)
            if case == "one changed":
                os.utime(root / "project-1" / "lenet-1", ns=(number, number))
            wall, cpu, out = run_once(words)
            check(case, count, out)
            if number:  # the first round fills the page cache and the index
                spent[case]["wall"].append(wall)
                spent[case]["cpu"].append(cpu)
    return spent


def check(case: str, count: int, out: bytes) -> None:
    """Stop if a case did not answer for all runs."""
    lines = len(out.splitlines())
    expected = {
        "python -c pass": 0, "of no runs": 1, "as JSON": 1, "lr < 0.0105": count // 10,
        "best of a series": count,
    }.get(case, count + 2)  # fmt: skip
    if case == "as JSON":
        runs = json.loads(out)["runs"]
        if len(runs) != count or sum(run["status"] == "lost" for run in runs) != count // 100:
            raise RuntimeError(f"{case}: {len(runs)} runs")
    if lines != expected and case != "discern --help":
        raise RuntimeError(f"{case}: {lines} lines, not {expected}")


def main() -> None:
    """Time the lists; print a table and one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counts", type=int, nargs="+", default=[1_000, 10_000])
    given = parser.parse_args()
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        for count in given.counts:
            spent = measure(count, given.rounds, Path(name))
            print(f"{count} runs{'':<14} {'wall':>7} {'(range)':>18} {'CPU':>7}   goal, wall")
            for case, of in spent.items():
                wall, cpu = (statistics.median(of[kind]) for kind in ("wall", "cpu"))
                goal = GOALS_S.get((case, count))
                ranged = f"({min(of['wall']):.3f} to {max(of['wall']):.3f})"
                print(f"{case:<22} {wall:7.3f} {ranged:>18} {cpu:7.3f}   {goal or ''}")
                results[f"{case}, {count}"] = {"wall": wall, "cpu": cpu, "range": ranged}
    print(json.dumps({
        "benchmark": "run_lists", "rounds": given.rounds, "python": platform.python_version(),
        "discern": discern.__version__, "results": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
