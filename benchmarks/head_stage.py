"""A head stage on a frozen network: features computed once beside the network run every epoch.

Real photos and real weights (`flowers12`, `mobilenetv2_100`), the stage that `--trainable head
--augment none` gives, in this process, on one thread; both ways start from the same weights and
train for the same epochs, evaluations included. Their losses must agree to float tolerance and
their accuracies must be equal before anything is printed. Seconds are CPU time, and wall time
beside it. Prints a table and one JSON line.

    OMP_NUM_THREADS=1 python -m benchmarks.head_stage --data FOLDER
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import tarfile
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import torch

from discern.base.console import Console
from discern.config.request import Request
from discern.training.callbacks import CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.stages import Training, run_stages
from discern.training.trainer import Session
from discern.worker.plan import (
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    plan_training,
)

MODEL = "mobilenetv2_100"
GOAL = 8.0
STAGE = {
    "trainable": "head",
    "augment": "none",
    "batch_size": 32,
    "optimizer": "adamw",
    "lr": 1e-3,
    "keep_top": 1,
}


class Notes:
    """A recorder that keeps the figures of each epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.accuracies: list[float] = []

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Keep losses and accuracies."""
        del step
        if "train/loss" in readings:
            self.losses.append(readings["train/loss"])
        if "val/accuracy" in readings:
            self.losses.append(readings["val/loss"])
            self.accuracies.append(readings["val/accuracy"])

    def flush(self) -> None:
        """Nothing to flush."""

    def rewind(self, step: int) -> None:
        """Nothing to rewind."""

    def warn(self, text: str) -> None:
        """Say it."""
        print(text)


class Timed(NamedTuple):
    """A stage's seconds, and what it scored."""

    cpu_s: float
    wall_s: float
    notes: Notes


def run_stage(images: Path, weights: Path, epochs: int, *, cached: bool) -> Timed:
    """The stage from the same start, timed from its first step to its last checkpoint."""
    pairs = [
        ("", "data.source", str(images)),
        ("", "model.name", MODEL),
        ("", "model.weights", str(weights)),
        ("", "stages", {"head": {**STAGE, "epochs": epochs}, "all": None}),
        ("", "compute.threads", 1),
        ("", "data.workers", 0),
    ]
    plan = plan_training(Request(verb="train", pairs=pairs), Console())
    built = build_network(plan)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=allow_flip(plan))
    training = Training(
        config=plan.config,
        model=built.model,
        material=material,
        device=torch.device("cpu"),
        precision="fp32",
        on_features=frozenset({"head"}) if cached else frozenset(),
    )
    notes = Notes()
    with tempfile.TemporaryDirectory() as folder:
        session = Session(
            store=CheckpointStore(Path(folder), warn=print),
            callbacks=CallbackList([]),
            recorder=notes,
        )
        cpu, wall = time.process_time(), time.perf_counter()
        run_stages(training, session)
        return Timed(time.process_time() - cpu, time.perf_counter() - wall, notes)


def check(cached: Timed, whole: Timed) -> None:
    """Raise RuntimeError unless both ways trained alike."""
    if cached.notes.accuracies != whole.notes.accuracies:
        raise RuntimeError(f"{cached.notes.accuracies} and {whole.notes.accuracies}")
    for one, other in zip(cached.notes.losses, whole.notes.losses, strict=True):
        if not math.isclose(one, other, rel_tol=1e-3):
            raise RuntimeError(f"a loss of {one} on features, {other} on images")


def main() -> None:
    """Time both ways, check that they agree, print the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of data sets")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(1)
    weights = given.data / "weights" / f"{MODEL}.safetensors"
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(given.data / "flowers12" / "flowers12.tar") as archive:
            archive.extractall(folder, filter="data")
        for _ in range(given.rounds):
            cached = run_stage(Path(folder), weights, given.epochs, cached=True)
            whole = run_stage(Path(folder), weights, given.epochs, cached=False)
            check(cached, whole)
            rounds.append((cached, whole))
    print(f"{'':<12} {'CPU s':>8} {'wall s':>8}   {given.epochs} epochs, evaluations included")
    for cached, whole in rounds:
        print(f"{'on features':<12} {cached.cpu_s:8.1f} {cached.wall_s:8.1f}")
        print(f"{'on images':<12} {whole.cpu_s:8.1f} {whole.wall_s:8.1f}")
        ratios = whole.cpu_s / cached.cpu_s, whole.wall_s / cached.wall_s
        print(f"{'ratio':<12} {ratios[0]:8.1f} {ratios[1]:8.1f}   goal {GOAL:g}")
    last = rounds[-1][0].notes.accuracies[-1]
    print(f"validation accuracy at the end, of both: {last:.4f}")
    print(json.dumps({
        "benchmark": "head_stage", "torch": torch.__version__, "epochs": given.epochs,
        "python": platform.python_version(), "load": os.getloadavg()[0], "goal": GOAL,
        "accuracy": last,
        "results": [{"cached_cpu_s": c.cpu_s, "whole_cpu_s": w.cpu_s, "cached_wall_s": c.wall_s,
                     "whole_wall_s": w.wall_s} for c, w in rounds],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
