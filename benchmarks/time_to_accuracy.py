"""Seconds of training to 99.0 % on MNIST's test images, on the CPU, beside two hand-written loops.

Arms, a process each, `--threads` arithmetic threads, one after the other:

`tutorial`  the loop that people start from: conv 20@5, conv 50@5, linear 500, SGD 0.01 with
            momentum 0.5, batches of 64, torchvision's MNIST, transforms and a DataLoader without
            workers; scored on the test images after each epoch, until it first reaches 99.0 % or
            has done 12 epochs. Run once.
`bare`      a hand-written loop of our own recipe: the same network, optimizer, rate, augmentation
            (written as a plain gather) and number of updates; nothing else. Each seed.
`discern`   `discern.train` with recipes/mnist-99.yaml, as a user runs it: validation part held out,
            meters, checkpoint, report. Each seed; its run's own seconds of training.
`better`    the same with recipes/mnist-995.yaml.

"Seconds of training" are wall seconds from the first batch to the end of the last update: start-up,
reading and evaluation apart. Both recipes and their lengths were chosen on a validation part of the
training images (docs/lab-log.md); the test images are scored once, at the end.

    python -m benchmarks.time_to_accuracy --data FOLDER [--rounds 5] [--threads 2] [--arms ARM ...]
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

TARGET, BETTER = 0.990, 0.995
TUTORIAL_EPOCHS = 12
# Ratios of the medians: ours over the tutorial's, ours over the bare loop's; seconds to BETTER.
GOALS = {"discern / tutorial": 1 / 25, "discern / bare": 1.1, "better": 60.0}
FILES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
RECIPES = Path(__file__).resolve().parent.parent / "recipes"
ARMS = ("tutorial", "bare", "discern", "better")


def read_idx(folder: Path, name: str) -> np.ndarray:
    """One of MNIST's files as uint8 [N] or [N, 28, 28]."""
    data = gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes())
    values = np.frombuffer(data, np.uint8, offset=8 if "labels" in name else 16)
    return values if "labels" in name else values.reshape(-1, 28, 28)


def tutorial(mnist: Path, seed: int) -> dict[str, float]:
    """Train as the tutorials do; (seconds, accuracy) when the target was first touched."""
    from torchvision import datasets, transforms

    torch.manual_seed(seed)
    changes = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
    )
    with tempfile.TemporaryDirectory() as root:
        raw = Path(root) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for name in FILES:
            with gzip.open(mnist / f"{name}-ubyte.gz") as packed:
                (raw / f"{name}-ubyte").write_bytes(packed.read())
        train = datasets.MNIST(root, train=True, transform=changes)
        test = datasets.MNIST(root, train=False, transform=changes)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 20, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Conv2d(20, 50, 5), torch.nn.ReLU(), torch.nn.MaxPool2d(2),
        torch.nn.Flatten(), torch.nn.Linear(800, 500), torch.nn.ReLU(), torch.nn.Linear(500, 10),
    )  # fmt: skip
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    batches = torch.utils.data.DataLoader(train, batch_size=64, shuffle=True)
    scored = torch.utils.data.DataLoader(test, batch_size=1000)
    seconds, accuracy = 0.0, 0.0
    for epoch in range(1, TUTORIAL_EPOCHS + 1):
        net.train()
        started = time.perf_counter()
        for images, targets in batches:
            optimizer.zero_grad()
            F.cross_entropy(net(images), targets).backward()
            optimizer.step()
        seconds += time.perf_counter() - started
        net.eval()
        with torch.no_grad():
            right = sum(int((net(x).argmax(1) == y).sum()) for x, y in scored)
        accuracy = right / len(test)
        print(f"tutorial epoch {epoch}: {seconds:.1f} s, {accuracy:.4f}", file=sys.stderr)
        if accuracy >= TARGET:
            break
    return {"seconds": seconds, "accuracy": accuracy, "epochs": epoch}


def discern_run(mnist: Path, seed: int, recipe: str) -> dict[str, float]:
    """What a user's `discern train mnist --config RECIPE` takes and scores."""
    import discern

    with tempfile.TemporaryDirectory() as runs:
        run = discern.train("mnist", root=str(mnist), config=RECIPES / recipe, seed=seed, runs=runs)
        record = json.loads((run.path / "run.json").read_text())
        return {
            "seconds": record["seconds"]["training"],
            "accuracy": record["metrics"]["accuracy"],
            "whole": record["seconds"]["whole"],
        }


def shifted(images: torch.Tensor, pad: int) -> Iterator[torch.Tensor]:
    """Windows of `images` [N, 28, 28] padded by `pad`, for index tensors sent in; see `bare`."""
    padded = F.pad(images, (pad, pad, pad, pad))
    windows = padded.unfold(1, 28, 1).unfold(2, 28, 1)  # [N, 2 pad + 1, 2 pad + 1, 28, 28]
    chosen = yield torch.empty(0)
    while True:
        places = torch.randint(0, 2 * pad + 1, (2, len(chosen)))
        chosen = yield windows[chosen, places[0], places[1]]


def bare(mnist: Path, seed: int) -> dict[str, float]:
    """The recipe as a plain loop: no meters, no guard, no checkpoint, no validation."""
    from discern.config.yaml_text import read_document
    from discern.models.nets.builders import BUILDERS
    from discern.optim.optimizers import build_optimizer

    recipe = read_document(RECIPES / "mnist-99.yaml").value
    stage = recipe["stages"]["train"]
    torch.manual_seed(seed)
    images = torch.from_numpy(read_idx(mnist, FILES[0]).copy())
    targets = torch.from_numpy(read_idx(mnist, FILES[1]).astype(np.int64))
    # As Discern holds out a tenth of train, the bare loop does with as many images.
    kept = torch.randperm(len(images))[: len(images) * 9 // 10]
    images, targets = images[kept], targets[kept]
    net = BUILDERS["fast_net"](10, 1, (28, 28), **recipe["model"]["args"])
    net = net.to(memory_format=torch.channels_last)
    optimizer = build_optimizer(
        stage["optimizer"], net.named_parameters(), lr=stage["lr"],
        weight_decay=stage["weight_decay"], head_names=("head",),
    )  # fmt: skip
    batch, updates = stage["batch_size"], stage["steps"]
    windows = shifted(images, pad=2)
    next(windows)
    mean, std = 255 * 0.1307, 255 * 0.3081
    order = torch.randperm(len(images))
    if updates * batch > len(images):
        raise RuntimeError("the bare loop shows each image at most once")
    net.train()
    started = time.perf_counter()
    for step in range(updates):
        chosen = order[step * batch : (step + 1) * batch]
        pixels = windows.send(chosen).float().sub_(mean).div_(std).unsqueeze(1)
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        factor = triangular(step / updates)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        loss = F.cross_entropy(net(pixels), targets[chosen], label_smoothing=stage["smoothing"])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - started
    net.eval()
    test = torch.from_numpy(read_idx(mnist, FILES[2]).copy())
    answers = torch.from_numpy(read_idx(mnist, FILES[3]).astype(np.int64))
    with torch.inference_mode():
        parts = test.float().sub_(mean).div_(std).unsqueeze(1).split(1000)
        predicted = torch.cat([net(part).argmax(1) for part in parts])
    return {"seconds": seconds, "accuracy": float((predicted == answers).double().mean())}


def triangular(progress: float) -> float:
    """The schedule of the recipe, as `optim.schedules` has it."""
    from discern.optim.schedules import Schedule

    return Schedule("triangular", {}, 1000, 1000).factor(round(progress * 1000))


def run_arm(arm: str, given: argparse.Namespace, seed: int) -> dict[str, float]:
    """One run of `arm` in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.time_to_accuracy", "--data", given.data,
        "--threads", str(given.threads), "--arm", arm, "--seed", str(seed),
    ]  # fmt: skip
    surroundings = {
        **os.environ,
        "OMP_NUM_THREADS": str(given.threads),
        "GOMP_SPINCOUNT": "2000",
    }
    done = subprocess.run(command, env=surroundings, check=True, stdout=subprocess.PIPE)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"{arm:<9} seed {seed}  {result['seconds']:7.2f} s  {result['accuracy']:.4f}", flush=True)
    return result


def do_arm(arm: str, given: argparse.Namespace) -> dict[str, float]:
    """The work of one process."""
    torch.set_num_threads(given.threads)
    mnist = Path(given.data) / "mnist"
    if arm == "tutorial":
        return tutorial(mnist, given.seed)
    if arm == "bare":
        return bare(mnist, given.seed)
    recipe = "mnist-99.yaml" if arm == "discern" else "mnist-995.yaml"
    return discern_run(mnist, given.seed, recipe)


def spread(values: list[float]) -> dict[str, float]:
    """Median, lowest and highest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def main() -> None:
    """Run the arms and print their seconds, accuracies and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder with mnist/")
    parser.add_argument("--rounds", type=int, default=5, help="seeds of each arm but the tutorial")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), help="default: all")
    parser.add_argument("--arm", choices=ARMS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.arm is not None:
        print(json.dumps(do_arm(given.arm, given)))
        return
    rows: dict[str, list[dict[str, float]]] = {arm: [] for arm in given.arms}
    for seed in range(given.rounds):
        for arm in given.arms:
            if arm != "tutorial":
                rows[arm].append(run_arm(arm, given, seed))
    if "tutorial" in rows:
        rows["tutorial"].append(run_arm("tutorial", given, 0))
    report(rows, given.threads)


def report(rows: dict[str, list[dict[str, float]]], threads: int) -> None:
    """Print what the arms' runs come to, as text and as one JSON line."""
    seconds = {arm: spread([row["seconds"] for row in found]) for arm, found in rows.items()}
    ratios = {}
    if {"discern", "tutorial"} <= set(rows):
        ratio = seconds["discern"]["median"] / seconds["tutorial"]["median"]
        ratios["discern / tutorial"] = ratio
    if {"discern", "bare"} <= set(rows):
        pairs = zip(rows["discern"], rows["bare"], strict=True)
        ratios["discern / bare"] = statistics.median(
            ours["seconds"] / plain["seconds"] for ours, plain in pairs
        )
    for arm, found in rows.items():
        scores = [row["accuracy"] for row in found]
        reached = sum(score >= TARGET for score in scores)
        print(
            f"{arm:<9} median {seconds[arm]['median']:.2f} s, mean accuracy "
            f"{statistics.fmean(scores):.4f}; {TARGET:.1%} reached by {reached} of {len(found)}"
        )
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.3f} (goal: at most {GOALS[name]:.3f})")
    print(json.dumps({
        "benchmark": "time_to_accuracy", "torch": torch.__version__,
        "python": platform.python_version(), "threads": threads, "goals": GOALS,
        "seconds": seconds, "ratios": ratios, "runs": rows,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
