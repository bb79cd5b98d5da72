"""Seconds to an accuracy on CIFAR-10 on one GPU: our recipe beside the airbench package.

Both train on the same 50,000 images (decoded before any clock starts) and are scored on the same
10,000, once, at the end. Arms take turns, a process each, with one training before the clock
counts, so that start-up, libraries and autotuning stay out of it.

`airbench`  the package's own `train94`; its own clock (whitening and updates, by GPU events), its
            own score: of 6 views of each test image, as its recipe does, and of one.
`discern`   `discern.train` with recipes/cifar10-gpu.yaml; the run's seconds of training; its score
            of one view, and `discern.evaluate` with `tta` of 10. All 50,000 train, so that the test
            images stand in for the validation images: they are scored once, after the last update,
            by the recipe's own length, and a run that scored them more often is refused. Nothing
            stops early, and no checkpoint is chosen.

`compiled`  the same with `compile`: torch.compile's time is in the first training, which does not
            count.

`whole` is what a caller waits for: `train94`, and `discern.train` with its checkpoints, its report
and its bundle.

    pip install airbench
    python -m benchmarks.gpu_cifar10 --data FOLDER [--rounds 3] [--runs 4]
    python -m benchmarks.gpu_cifar10 --data FOLDER --arms discern --device cpu --steps 2 --runs 1
"""

from __future__ import annotations

import argparse
import contextlib
import io
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

import numpy as np
import torch
from benchmarks.small_images import read_archive

# Ours over airbench's median seconds, at a mean accuracy that is not lower.
GOAL = 0.75
RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "cifar10-gpu.yaml"
CLASSES = 10
ARMS = ("airbench", "discern", "compiled")


def store_images(data: Path, folder: Path) -> None:
    """Decode the archive once: `images.npz` for ours, `cifar10/{train,test}.pt` for the peer."""
    archive = data / "cifar10" / "cifar10_jpeg.tar.gz"
    arrays: dict[str, np.ndarray] = {}
    (folder / "cifar10").mkdir()
    for split in ("train", "test"):
        images, labels = read_archive(archive, split)
        arrays |= {f"x_{split}": images, f"y_{split}": labels}
        stored = {"images": torch.from_numpy(images), "labels": torch.from_numpy(labels)}
        torch.save(stored | {"classes": list(range(CLASSES))}, folder / "cifar10" / f"{split}.pt")
    np.savez(folder / "images.npz", **arrays)


def airbench_run(seed: int) -> dict[str, float]:
    """One training of `train94`, its printed table read back; needs a GPU."""
    import airbench

    torch.manual_seed(seed)
    table, began = io.StringIO(), time.perf_counter()
    with contextlib.redirect_stdout(table):
        airbench.train94(run=seed)
    whole = time.perf_counter() - began
    rows = [[cell.strip() for cell in line.split("|")] for line in table.getvalue().splitlines()]
    # run, epoch, training loss and accuracy, score, score over several views, seconds so far
    rows = [row[1:-1] for row in rows if len(row) > 1]
    trained = [row for row in rows if row[1].isdigit()][-1]
    scored = next(row for row in rows if row[1] == "eval")
    return {
        "seconds": float(trained[6]),
        "accuracy": float(scored[5]),
        "one view": float(trained[4]),
        "whole": whole,
    }


def check_scored_once(checkpoints: dict[str, Any]) -> None:
    """Raise unless the test images were looked at once, at the last step: nothing was chosen."""
    scored = [entry["step"] for entry in checkpoints["epochs"]]
    if len(scored) != 1 or f"step-{scored[0]}" != checkpoints["last"]:
        raise RuntimeError(f"scored on the test images at steps {scored}: one may be chosen")


def discern_run(
    seed: int, device: str, steps: int | None, *, compiled: bool = False
) -> dict[str, float]:
    """One training by the recipe, `steps` updates of it if given."""
    import discern

    changed: dict[str, Any] = {} if steps is None else {"steps": steps}
    if device == "cpu":
        changed["precision"] = "fp32"  # most CPUs do bfloat16 by hand
    if compiled:
        changed["compile"] = True
    with tempfile.TemporaryDirectory() as runs:
        began = time.perf_counter()
        run = discern.train(
            "images.npz", val="test", config=RECIPE, seed=seed, device=device, runs=runs, **changed
        )
        whole = time.perf_counter() - began
        record = json.loads((run.path / "run.json").read_text())
        check_scored_once(json.loads((run.path / "checkpoints" / "metrics.json").read_text()))
        scored = discern.evaluate(
            run, "images.npz", split="test", tta=True, leaks=False, device=device
        )
    return {
        "seconds": record["seconds"]["training"],
        "accuracy": scored["metrics"]["accuracy"],
        "one view": record["metrics"]["accuracy"],
        "whole": whole,
    }


def do_arm(given: argparse.Namespace) -> list[dict[str, float]]:
    """The work of one process, in the folder of the images: the first training does not count."""
    rows = []
    for seed in range(given.seed, given.seed + given.runs + 1):
        began = time.perf_counter()
        if given.arm == "airbench":
            row = airbench_run(seed)
        else:
            row = discern_run(seed, given.device, given.steps, compiled=given.arm == "compiled")
        # Seen at once, so that nothing measured is lost if the rest is stopped.
        whole = time.perf_counter() - began
        print(f"{given.arm} seed {seed}: {row}, {whole:.1f} s in all", file=sys.stderr, flush=True)
        rows.append(row)
    return rows


def run_arm(arm: str, given: argparse.Namespace, folder: Path, seed: int) -> list[dict[str, float]]:
    """The runs of `arm` in one process, the first of them (start and warm-up) last in the list."""
    command = [
        sys.executable, "-m", "benchmarks.gpu_cifar10", "--data", ".", "--arm", arm,
        "--runs", str(given.runs), "--seed", str(seed), "--device", given.device,
        *([] if given.steps is None else ["--steps", str(given.steps)]),
    ]  # fmt: skip
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    surroundings = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, cwd=folder, env=surroundings, check=True, stdout=subprocess.PIPE)
    first, *rest = json.loads(done.stdout.splitlines()[-1])
    for row in rest:
        print(f"{arm:<9} {row['seconds']:7.2f} s  {row['accuracy']:.4f}", flush=True)
    print(f"{arm:<9} {first['seconds']:7.2f} s  the first, which does not count", flush=True)
    return [*rest, first]


def main() -> None:
    """Run the arms in turns; print seconds, accuracies and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with cifar10/")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=4, help="trainings of each arm in a round")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--device", default="cuda", help="ours only; the peer needs CUDA")
    parser.add_argument("--steps", type=int, help="updates of ours, to try the script")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.arm is not None:
        print(json.dumps(do_arm(given)))
        return
    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in given.arms}
    warm: dict[str, list[float]] = {arm: [] for arm in given.arms}
    with tempfile.TemporaryDirectory() as folder:
        store_images(given.data, Path(folder))
        for number in range(given.rounds):
            for arm in given.arms:
                *counted, first = run_arm(arm, given, Path(folder), 100 * number)
                rows[arm] += counted
                warm[arm].append(first["seconds"])
    report(rows, warm, given.device)


def report(
    rows: dict[str, list[dict[str, float]]], warm: dict[str, list[float]], device: str
) -> None:
    """Print what the arms' runs come to, as text and as one JSON line."""
    seconds = {
        arm: statistics.median(row["seconds"] for row in found) for arm, found in rows.items()
    }
    scores, one_view = (
        {arm: statistics.fmean(row[score] for row in found) for arm, found in rows.items()}
        for score in ("accuracy", "one view")
    )
    whole = {arm: statistics.median(row["whole"] for row in found) for arm, found in rows.items()}
    for arm, found in rows.items():
        lowest, highest = (pick(row["seconds"] for row in found) for pick in (min, max))
        print(
            f"{arm:<9} median {seconds[arm]:.2f} s ({lowest:.2f} to {highest:.2f}), mean accuracy "
            f"{scores[arm]:.4f} over {len(found)} runs (one view {one_view[arm]:.4f}); "
            f"whole call {whole[arm]:.2f} s; first training {warm[arm][0]:.2f} s"
        )
    ratios = {}
    for arm in sorted(set(rows) - {"airbench"} if "airbench" in rows else ()):
        ratios[arm] = seconds[arm] / seconds["airbench"]
        reached = "reached" if scores[arm] >= scores["airbench"] else "NOT reached"
        print(
            f"{arm} / airbench: {ratios[arm]:.2f} (goal: at most {GOAL}); its accuracy is {reached}"
        )
    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor()
    print(json.dumps({
        "benchmark": "gpu_cifar10", "torch": torch.__version__, "python": platform.python_version(),
        "device": name, "goal": GOAL, "ratios": ratios, "runs": rows, "first": warm,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
