"""Calls of the tracker beside TensorBoard's writer and, where installed, MLflow, Aim and labml.

Each call stores one number of one series: ours by `tracker.add` and `tracker.save(step)` into a run
folder, TensorBoard's by `SummaryWriter.add_scalar`, MLflow's by `log_metric` into its file store,
Aim's by `Run.track` into its local repository, labml's by `tracker.add` and `tracker.save` with its
file writer (its others print or send to a server). `ten`: ten names
added for each save, a figure's share. Rounds of short loops take turns in one process; the median
of the rounds counts, in wall time and in CPU time of all threads, so that what a background thread
does is counted too. In the end what was stored is read back and compared.
`step`: one number, and ten, saved after each update of a small network on one thread; the share is
of the update's CPU time.
Prints a table and one JSON line.

    python -m benchmarks.tracker_calls
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional
from torch.utils.tensorboard import SummaryWriter

from discern.lab import tracker
from discern.track.metrics_log import read_series
from discern.track.run import create_run

STEPS = 300
CALLS = {
    "ours": 20_000,
    "ten": 20_000,
    "tensorboard": 2_000,
    "mlflow": 500,
    "aim": 2_000,
    "labml": 2_000,
}
# Goals: microseconds a scalar on a fast machine, and calls a second as ratios.
GOAL_US, GOAL_TENSORBOARD, GOAL_MLFLOW = 1.0, 35.0, 250.0
NAMES = [f"figure {number}" for number in range(10)]


class Spent(NamedTuple):
    """Microseconds a scalar."""

    wall: float
    cpu: float


def timed(loop: Callable[[int], None], calls: int) -> Spent:
    """One round of `calls` scalars."""
    wall, cpu = time.perf_counter(), time.process_time()
    loop(calls)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return Spent(wall / calls * 1e6, cpu / calls * 1e6)


def our_loop(calls: int) -> None:
    """One scalar, saved each step."""
    add, save = tracker.add, tracker.save
    for step in range(calls):
        add("loss", 0.5)
        save(step)


def our_ten(calls: int) -> None:
    """Ten scalars, saved each step."""
    add, save = tracker.add, tracker.save
    for step in range(calls // 10):
        for name in NAMES:
            add(name, 0.5)
        save(step)


def update() -> Callable[[], None]:
    """One update of a small network: 165 us on the machine that the goals were set on."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images, targets = torch.randn(64, 64), torch.randint(0, 10, (64,))

    def step() -> None:
        optimizer.zero_grad()
        functional.cross_entropy(network(images), targets).backward()
        optimizer.step()

    return step


def share_of_step(folder: Path, rounds: int) -> dict[str, float]:
    """Microseconds of CPU a step: of an update, and of one and ten figures saved after it.

    The clock is read around the tracker's calls alone, where the update has just emptied the
    processor's caches; what two readings with nothing between them take is subtracted.
    """
    step = update()
    add, save, clock = tracker.add, tracker.save, time.thread_time
    names = {"nothing": NAMES[:0], "one": NAMES[:1], "ten": NAMES}

    def loop(figures: list[str]) -> tuple[float, float]:
        whole, tracked = clock(), 0.0
        for number in range(STEPS):
            step()
            before = clock()
            for name in figures:
                add(name, 0.5)
            if figures:
                save(number)
            tracked += clock() - before
        return (clock() - whole) / STEPS * 1e6, tracked / STEPS * 1e6

    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with create_run(folder, "tracker", name="steps") as run:
        tracker.open_run(run)
        for turn in range(rounds + 1):
            for name, figures in names.items():
                took = loop(figures)
                if turn:
                    spent[name].append(took)
        tracker.close_run()
    tracked = {name: statistics.median(row[1] for row in rows) for name, rows in spent.items()}
    nothing = tracked.pop("nothing")
    alone = statistics.median(row[0] for row in spent["nothing"]) - nothing
    return {"alone": alone, **{name: took - nothing for name, took in tracked.items()}}


def mlflow_loop(folder: Path) -> Callable[[int], None] | None:
    """MLflow's file store; None where it is not installed."""
    try:
        import mlflow
    except ImportError:
        return None
    mlflow.set_tracking_uri(folder.as_uri())
    mlflow.start_run()

    def loop(calls: int) -> None:
        for step in range(calls):
            mlflow.log_metric("loss", 0.5, step=step)

    return loop


def aim_loop(folder: Path) -> Callable[[int], None] | None:
    """Aim's local repository; None where it is not installed."""
    try:
        import aim
    except ImportError:
        return None
    run = aim.Run(repo=str(folder), log_system_params=False, system_tracking_interval=None)

    def loop(calls: int) -> None:
        for step in range(calls):
            run.track(0.5, name="loss", step=step)

    return loop


def labml_loop(folder: Path) -> Callable[[int], None] | None:
    """labml's file writer; None where it is not installed."""
    try:
        import labml.tracker
        from labml import experiment, lab
    except ImportError:
        return None
    folder.mkdir()
    lab.configure({"path": str(folder), "experiments_path": str(folder / "logs")})
    experiment.create(name="calls", writers={"file"}, disable_screen=True)
    experiment.start()
    add, save = labml.tracker.add, labml.tracker.save

    def loop(calls: int) -> None:
        for step in range(calls):
            add("loss", 0.5)
            save(step)

    return loop


def measure(folder: Path, rounds: int) -> dict[str, list[Spent]]:
    """Rounds of each loop by its name, the first of each left out."""
    board = SummaryWriter(str(folder / "board"))

    def tensorboard_loop(calls: int) -> None:
        for step in range(calls):
            board.add_scalar("loss", 0.5, step)

    loops = {"ours": our_loop, "ten": our_ten, "tensorboard": tensorboard_loop}
    others = {"mlflow": mlflow_loop, "aim": aim_loop, "labml": labml_loop}
    for name, make in others.items():
        other = make(folder / name)
        if other is not None:
            loops[name] = other
    spent: dict[str, list[Spent]] = {name: [] for name in loops}
    with create_run(folder, "tracker", name="calls") as run:
        tracker.open_run(run)
        for turn in range(rounds + 1):
            for name, loop in loops.items():
                round_spent = timed(loop, CALLS[name])
                if turn:
                    spent[name].append(round_spent)
        tracker.close_run()
    board.close()
    found = read_series(run.path, "loss")
    if len(found) != CALLS["ours"] * (rounds + 1):
        sys.exit(f"{len(found)} points were stored")
    return spent


def main() -> int:
    """Measure, print; 0 if the goals are reached."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        spent = measure(Path(folder), given.rounds)
        share = share_of_step(Path(folder), 4 * given.rounds)
    median = {
        name: Spent(*(statistics.median(column) for column in zip(*rows, strict=True)))
        for name, rows in spent.items()
    }
    print(f"{'us a scalar':<14}{'wall':>9}{'cpu':>9}{'wall low':>10}{'high':>9}")
    for name, figures in median.items():
        walls = [row.wall for row in spent[name]]
        print(f"{name:<14}{figures.wall:9.2f}{figures.cpu:9.2f}{min(walls):10.2f}{max(walls):9.2f}")
    ratios = {
        peer: {
            "wall": round(median[peer].wall / median["ours"].wall, 1),
            "cpu": round(median[peer].cpu / median["ours"].cpu, 1),
        }
        for peer in ("tensorboard", "mlflow", "aim", "labml")
        if peer in median
    }
    for peer, figures in ratios.items():
        print(f"{peer} / ours: {figures['wall']} in wall time, {figures['cpu']} in CPU time")
    for name in ("one", "ten"):
        percent = 100 * share[name] / share["alone"]
        told = f"{share[name]:.2f} us, {percent:.2f} % of an update of {share['alone']:.0f} us"
        print(f"{name} a step: {told}")
    record = {
        "benchmark": "tracker_calls",
        "step_us": share,
        "us": {name: {"wall": v.wall, "cpu": v.cpu} for name, v in median.items()},
        "ratios": ratios,
        "goals": {"us": GOAL_US, "tensorboard": GOAL_TENSORBOARD, "mlflow": GOAL_MLFLOW},
        "python": platform.python_version(),
        "tensorboard": version("tensorboard"),
    }
    print(json.dumps(record))
    reached = ratios["tensorboard"]["wall"] >= GOAL_TENSORBOARD
    if "mlflow" in ratios:
        reached = reached and ratios["mlflow"]["wall"] >= GOAL_MLFLOW
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
