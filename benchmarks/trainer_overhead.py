"""CPU time per step of the trainer beside hand-written loops, on a tiny model.

Three loops over the same resident batches of one linear layer, batch 32, one thread, interleaved:
`plain`: forward, loss, backward, SGD. `same`: the same arithmetic as the trainer's (running loss
and accuracy kept on the device and read every 50 steps, finite flag, schedule). `trainer`: ours,
with its callbacks, stop flag, checkpoint clock and readings. Prints a table and one JSON line.

    OMP_NUM_THREADS=1 python benchmarks/trainer_overhead.py
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from discern.data.images import Preprocess
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.models.classifier import wrap_network
from discern.models.nets.headed import HeadedNetwork
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState
from discern.training.trainer import Session, StagePlan, Trainer

CPU = torch.device("cpu")
BATCH, STEPS, LOG_EVERY = 32, 2000, 50
PREPROCESS = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.25,))


class Linear(HeadedNetwork):
    """One linear layer over the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(64, 10)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Flat pixels [N, 64]."""
        return images.flatten(1)


class Nowhere:
    """A recorder that keeps nothing."""

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Forget."""

    def flush(self) -> None:
        """Nothing to flush."""

    def rewind(self, step: int) -> None:
        """Nothing to rewind."""

    def warn(self, text: str) -> None:
        """Say it."""
        print(text)


def make_parts() -> tuple[ResidentFeed, TrainState]:
    """A feed of STEPS batches and a fresh training state."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (BATCH * STEPS, 8, 8, 1)).astype(np.uint8)
    targets = generator.integers(0, 10, BATCH * STEPS)
    options = FeedOptions(batch_size=BATCH, training=True, seed=1)
    feed = ResidentFeed(pixels, targets, np.arange(BATCH * STEPS), PREPROCESS, options)
    torch.manual_seed(0)
    model = wrap_network(Linear(), torch.zeros(2, 1, 8, 8))
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.01)
    schedule = Schedule("cosine", {}, STEPS, STEPS)
    return feed, TrainState(model, model, optimizer, schedule, None, None)


def plain_loop() -> float:
    """CPU seconds per step of forward, loss, backward, update."""
    feed, state = make_parts()
    network, optimizer = state.network, state.optimizer
    started = time.process_time()
    for batch in feed.epoch(0):
        loss = torch.nn.functional.cross_entropy(network(batch.images).logits, batch.targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - started) / STEPS


def same_loop() -> float:
    """CPU seconds per step of a hand-written loop that does the trainer's arithmetic."""
    feed, state = make_parts()
    network, optimizer, schedule = state.network, state.optimizer, state.schedule
    loss_sum = torch.zeros((), dtype=torch.float64)
    correct_sum = torch.zeros((), dtype=torch.float64)
    bad_sum = torch.zeros((), dtype=torch.float64)
    started = time.process_time()
    for step, batch in enumerate(feed.epoch(0)):
        factor = schedule.factor(step)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        logits = network(batch.images).logits
        loss = torch.nn.functional.cross_entropy(logits, batch.targets)
        loss.backward()
        finite = torch.isfinite(loss.detach())
        if finite.item():
            optimizer.step()
        optimizer.zero_grad()
        loss_sum += loss.detach() * len(batch.targets)
        correct_sum += (logits.detach().argmax(1) == batch.targets).sum()
        bad_sum += ~finite
        if (step + 1) % LOG_EVERY == 0:
            torch.stack([loss_sum, correct_sum, bad_sum]).tolist()
            for total in (loss_sum, correct_sum, bad_sum):
                total.zero_()
    return (time.process_time() - started) / STEPS


def trainer_loop() -> float:
    """CPU seconds per step of the trainer's own epoch."""
    feed, state = make_parts()
    rules = StepRules(objective=cross_entropy(), device=CPU)
    plan = StagePlan(
        name="train", index=0, epochs=1, feed=feed, val_feed=feed, classes=("a",) * 10,
        rules=rules, log_every=LOG_EVERY,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), warn=print)
        session = Session(store=store, callbacks=CallbackList([]), recorder=Nowhere())
        trainer = Trainer(plan, state, session, lambda: None)
        trainer._next_save = time.monotonic() + 1e6
        session.progress.batches = feed.batches
        started = time.process_time()
        trainer._train_epoch(0, 0)
        return (time.process_time() - started) / STEPS


def main() -> None:
    """Time the loops interleaved and print medians, spreads and differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    loops = {"plain": plain_loop, "same": same_loop, "trainer": trainer_loop}
    for loop in loops.values():
        loop()
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            seconds[name].append(loop() * 1e6)
    over_same = [t - s for t, s in zip(seconds["trainer"], seconds["same"], strict=True)]
    over_plain = [t - p for t, p in zip(seconds["trainer"], seconds["plain"], strict=True)]
    rows = {**seconds, "trainer - same": over_same, "trainer - plain": over_plain}
    print(f"{'loop':<16} {'median':>8} {'min':>8} {'max':>8}   microseconds of CPU time a step")
    for name, values in rows.items():
        print(f"{name:<16} {statistics.median(values):8.1f} {min(values):8.1f} {max(values):8.1f}")
    print(json.dumps({
        "benchmark": "trainer_overhead", "torch": torch.__version__,
        "python": platform.python_version(), "rounds": rounds, "steps": STEPS, "batch": BATCH,
        "results": {name: {"median": statistics.median(v), "min": min(v), "max": max(v)}
                    for name, v in rows.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
