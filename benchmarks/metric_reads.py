"""Reading one series of 100 runs that hold 20 series of 10,000 points each.

`index`: to arrays, with the block index; `no index`: the index files are gone, and every block is
found by its head and checksum; `buckets`: with the index, to the lowest and highest value of 1,000
stretches of steps. The runs are written the way a tracker writes them, a save of 20 figures a step.
Rounds take turns in one process; the median counts, in wall and in CPU time. Files are in the page
cache. Beside them, in the same rounds, the limit: the series' own bytes from one flat file a run,
read by `np.fromfile`. What was read is compared with what was written. Prints a table and one JSON
line.

    python -m benchmarks.metric_reads
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from discern.track.metrics_buckets import read_buckets
from discern.track.metrics_log import MetricsLog, read_series

RUNS, SERIES, POINTS, BUCKETS = 100, 20, 10_000, 1_000
# Milliseconds for all runs together.
GOALS = {"index": 20.0, "no index": 60.0, "buckets": 60.0}


def write_run(folder: Path) -> None:
    """One run: figure k of step n is n + k."""
    with MetricsLog(folder, 1) as log:
        series = [log.series(f"figure {number}") for number in range(SERIES)]
        for step in range(POINTS):
            for number, one in enumerate(series):
                one.add(step, float(step + number), 1e9 + step)


def copies(root: Path) -> list[Path]:
    """All runs: the first is written, the others are copies of its files."""
    write_run(root / "0")
    for number in range(1, RUNS):
        (root / str(number)).mkdir()
        for path in (root / "0").iterdir():
            (root / str(number) / path.name).write_bytes(path.read_bytes())
    flat = np.zeros((POINTS, 3))
    for number in range(RUNS):
        flat.tofile(root / str(number) / "flat")
    return [root / str(number) for number in range(RUNS)]


def measure(
    folders: list[Path], bare: list[Path], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """Milliseconds of each round, of the clock and of the CPU, by what was read."""
    name = "figure 7"
    ways: dict[str, Callable[[], int]] = {
        "limit": lambda: sum(len(np.fromfile(path / "flat")) // 3 for path in folders),
        "index": lambda: sum(len(read_series(path, name)) for path in folders),
        "no index": lambda: sum(len(read_series(path, name)) for path in bare),
        "buckets": lambda: sum(int(read_buckets(p, name, BUCKETS).counts.sum()) for p in folders),
    }
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way, read in ways.items():
            start, cpu = time.perf_counter(), time.process_time()
            points = read()
            took = 1000 * (time.perf_counter() - start), 1000 * (time.process_time() - cpu)
            if points != RUNS * POINTS:
                sys.exit(f"{way}: {points} points")
            if turn:
                spent[way].append(took)
    return spent


def main() -> int:
    """Write, measure, print; 0 if the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as indexed, tempfile.TemporaryDirectory() as without:
        folders, bare = copies(Path(indexed)), copies(Path(without))
        for path in bare:
            (path / "metrics.idx").unlink()
        if read_series(folders[-1], "figure 7").values[-1] != POINTS - 1 + 7:
            sys.exit("the last value is another")
        spent = measure(folders, bare, given.rounds)
    print(f"{'ms':<10}{'median':>9}{'low':>9}{'high':>9}{'cpu':>9}{'goal':>8}")
    medians = {}
    for way, rounds in spent.items():
        walls, cpus = zip(*rounds, strict=True)
        medians[way] = {"wall": statistics.median(walls), "cpu": statistics.median(cpus)}
        wall, cpu = medians[way].values()
        low, high, goal = min(walls), max(walls), GOALS.get(way, 0)
        print(f"{way:<10}{wall:9.1f}{low:9.1f}{high:9.1f}{cpu:9.1f}{goal:8.0f}")
    record = {
        "benchmark": "metric_reads",
        "ms": medians,
        "goals_ms": GOALS,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    print(json.dumps(record))
    reached = all(medians[way]["wall"] <= goal for way, goal in GOALS.items())
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
