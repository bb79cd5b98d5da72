"""The default recipe on small photo sets beside a linear probe, several seeds each.

`discern train DATA --model mobilenetv2_100 --weights FILE`, no other flag but the seed, on two real
sets (`flowers12`: its test images; `hymenoptera`: its val images, the reported ones) beside a
logistic regression on the same features of the same training rows. Nothing is chosen on the
reported images. Prints a table and one JSON line.

    python -m benchmarks.fine_tune --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from discern.base.console import Console
from discern.config.request import Request
from discern.training.frozen_features import extract_features
from discern.worker.plan import build_network, choose_preprocess, make_material, plan_training

MODEL = "mobilenetv2_100"
GOALS = {"flowers12": 0.967, "hymenoptera": 0.9375}
ARCHIVES = {"flowers12": "flowers12.tar", "hymenoptera": "hymenoptera_200.tar"}


def train(images: Path, weights: Path, seed: int, runs: Path) -> dict[str, Any]:
    """One training by the command line; gives the run's record and its object."""
    command = [
        sys.executable, "-m", "discern.cli.main", "train", str(images), "--model", MODEL,
        "--weights", str(weights), "--seed", str(seed), "--runs", str(runs), "--json", "--fresh",
    ]  # fmt: skip
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(ended.stdout)
    told["record"] = json.loads((Path(told["path"]) / "run.json").read_text())
    return told


def probe(images: Path, weights: Path) -> float:
    """Accuracy on the reported images of a logistic regression on the training rows' features."""
    pairs = [
        ("", "data.source", str(images)),
        ("", "model.name", MODEL),
        ("", "model.weights", str(weights)),
    ]
    plan = plan_training(Request(verb="train", pairs=pairs), Console())
    built = build_network(plan)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=False)
    rows = {}
    for split in ("train", "test"):
        with material.evaluation_feed(split, 64) as feed:
            features = extract_features(built.model, feed, 1)[0]
        targets = material.manifest.targets[material.positions(split)]
        rows[split] = (features.numpy(), targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = LogisticRegression(max_iter=3000).fit(*rows["train"])
    right: np.ndarray = fitted.predict(rows["test"][0]) == rows["test"][1]
    return float(right.mean())


def main() -> None:
    """Train each set with each seed and print the scores beside the probe's."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--rounds", type=int, default=3, help="seeds")
    parser.add_argument("--only", choices=list(GOALS), help="one of the sets")
    given = parser.parse_args()
    weights = given.data / "weights" / f"{MODEL}.safetensors"
    results = {}
    print(f"{'set':<12} {'seed':>4} {'accuracy':>8} {'val':>7} {'kept':<16} {'seconds':>8}")
    for name, goal in GOALS.items():
        if given.only not in (None, name):
            continue
        with tempfile.TemporaryDirectory() as folder:
            images = Path(folder) / name
            with tarfile.open(given.data / name / ARCHIVES[name]) as archive:
                archive.extractall(images, filter="data")
            linear = probe(images, weights)
            scores, seconds = [], []
            for seed in range(given.rounds):
                told = train(images, weights, seed, Path(folder) / "runs")
                best = told["record"]["best"]
                scores.append(told["metrics"]["accuracy"])
                seconds.append(told["seconds"])
                kept = f"{best['stage']} epoch {best['epoch']}"
                print(
                    f"{name:<12} {seed:>4} {scores[-1]:8.4f} {best['accuracy']:7.4f} {kept:<16} "
                    f"{seconds[-1]:8.0f}",
                    flush=True,
                )
        mean = statistics.mean(scores)
        print(
            f"{name:<12} mean {mean:8.4f} ({min(scores):.4f} to {max(scores):.4f}), "
            f"goal {goal}; linear probe {linear:.4f}"
        )
        results[name] = {
            "scores": scores, "mean": mean, "probe": linear, "seconds": seconds, "goal": goal,
        }  # fmt: skip
    print(json.dumps({
        "benchmark": "fine_tune", "torch": torch.__version__, "load": os.getloadavg()[0],
        "python": platform.python_version(), "results": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
