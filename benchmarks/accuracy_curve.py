"""Seconds of training beside the accuracy they buy, for Fashion-MNIST and CIFAR-10, on the CPU.

Each point is a whole run of its own length: the recipe that Discern chooses by itself, its schedule
ending where the run ends, scored once, at the end, on the test images. So a point is what a user
gets who asks for that many epochs, not a reading from a longer run. "Seconds of training" as in
`time_to_accuracy`; `busy` are the seconds that the process held a core in all, start-up, reading
and scoring included: these say what a run costs when something else is running.

    python -m benchmarks.accuracy_curve --data FOLDER [--sets fashion-mnist cifar10]
        [--epochs 1 2 4] [--rounds 1] [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

# DATA and its --root, below the folder of data sets.
SETS: dict[str, tuple[str, str | None]] = {
    "fashion-mnist": ("fashion-mnist", "fashion_mnist"),
    "cifar10": ("cifar10/cifar10_jpeg.tar.gz", None),
}


def run_point(data: Path, name: str, epochs: int, seed: int, threads: int) -> dict[str, float]:
    """One run, in this process."""
    import torch

    import discern

    torch.set_num_threads(threads)
    source, root = SETS[name]
    where = {"root": str(data / root)} if root else {}
    with tempfile.TemporaryDirectory() as runs:
        run = discern.train(
            source if root else str(data / source), epochs=epochs, seed=seed, runs=runs, **where
        )
        record = json.loads((run.path / "run.json").read_text())
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": record["seconds"]["training"],
        "busy": used.ru_utime + used.ru_stime,
        "accuracy": record["metrics"]["accuracy"],
        "count": record["metrics"]["count"],
    }


def start_point(given: argparse.Namespace, name: str, epochs: int, seed: int) -> dict[str, float]:
    """One run in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.accuracy_curve", "--data", given.data, "--threads",
        str(given.threads), "--point", name, str(epochs), str(seed),
    ]  # fmt: skip
    surroundings = {
        **os.environ, "OMP_NUM_THREADS": str(given.threads), "GOMP_SPINCOUNT": "2000",
    }  # fmt: skip
    done = subprocess.run(command, env=surroundings, check=True, stdout=subprocess.PIPE)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the points and print each as it comes, then all as one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with fashion_mnist/ and cifar10/")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--epochs", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1, help="seeds of each point")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--point", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point is not None:
        name, epochs, seed = given.point
        point = run_point(Path(given.data), name, int(epochs), int(seed), given.threads)
        print(json.dumps(point))
        return
    curves: dict[str, list[dict[str, object]]] = {name: [] for name in given.sets}
    for name in given.sets:
        for epochs in given.epochs:
            found = [start_point(given, name, epochs, seed) for seed in range(given.rounds)]
            scores = [point["accuracy"] for point in found]
            curves[name].append({"epochs": epochs, "runs": found})
            print(
                f"{name:<13} {epochs:3} epochs  "
                f"{statistics.median(point['seconds'] for point in found):7.1f} s of training, "
                f"{statistics.median(point['busy'] for point in found):7.1f} s busy  "
                f"accuracy {statistics.fmean(scores):.4f} ({min(scores):.4f} to {max(scores):.4f})",
                flush=True,
            )
    print(json.dumps({
        "benchmark": "accuracy_curve", "python": platform.python_version(),
        "threads": given.threads, "curves": curves,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
