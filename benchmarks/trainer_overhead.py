"""CPU time per step of the trainer beside hand-written loops, on a tiny model.

Loops over the same resident batches of one linear layer, batch 32, one thread, interleaved:
`plain`: forward, loss, backward, SGD. `same`: the same arithmetic as the trainer's (running loss
and accuracy kept on the device and read every 50 steps, finite flag, schedule). `trainer`: ours,
with its callbacks, stop flag, checkpoint clock and readings. `same + clip, EMA` and `trainer +
clip, EMA` add the clipping of the gradient norm and a moving average of the weights to both.
Before anything is timed, each pair must end with equal weights (and averages), bit for bit.
Prints a table and one JSON line.

    OMP_NUM_THREADS=1 python -m benchmarks.trainer_overhead
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from discern.data.images import Preprocess
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.models.classifier import wrap_network
from discern.models.ema import ModelEma
from discern.models.nets.headed import HeadedNetwork
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.objectives import cross_entropy
from discern.training.stage_length import StageLength
from discern.training.step import StepRules, TrainState
from discern.training.trainer import Session, StagePlan, Trainer

CPU = torch.device("cpu")
# Short loops taking turns: over seconds the speed of a shared machine drifts by more than the
# difference that is looked for.
BATCH, STEPS, LOG_EVERY = 32, 400, 50
CLIP, DECAY = 1.0, 0.999
# Microseconds of CPU time a step over the hand-written loop of the same arithmetic.
GOAL_US = 30.0
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

    def say(self, text: str) -> None:
        """Print it."""
        print(text)

    def warn(self, text: str) -> None:
        """Print it."""
        print(text)


class Timed(NamedTuple):
    """CPU seconds per step of a loop, and what it left behind."""

    seconds: float
    weights: list[torch.Tensor]


def make_parts(ema: bool = False) -> tuple[ResidentFeed, TrainState]:
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
    average = ModelEma(model, DECAY) if ema else None
    return feed, TrainState(model, model, optimizer, schedule, average, None)


def plain_loop() -> Timed:
    """Forward, loss, backward, update."""
    feed, state = make_parts()
    network, optimizer = state.network, state.optimizer
    started = time.process_time()
    for batch in feed.epoch(0):
        loss = torch.nn.functional.cross_entropy(network(batch.images).logits, batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return Timed((time.process_time() - started) / STEPS, left(state.model))


def same_loop(extras: bool = False) -> Timed:
    """A hand-written loop of the trainer's arithmetic; `extras`: clipping and moving average."""
    feed, state = make_parts()
    network, optimizer, schedule = state.network, state.optimizer, state.schedule
    parameters = list(network.parameters())
    averages = [p.detach().clone() for p in parameters]
    values = [p.detach() for p in parameters]
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
        loss.backward()  # type: ignore[no-untyped-call]
        finite = torch.isfinite(loss.detach())
        if extras:
            norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            finite = finite & torch.isfinite(norm)
        if finite.item():
            optimizer.step()
            if extras:
                weight = 1.0 - min(DECAY, (1.0 + step) / (10.0 + step))
                torch._foreach_lerp_(averages, values, weight)
        optimizer.zero_grad()
        loss_sum += loss.detach() * len(batch.targets)
        correct_sum += (logits.detach().argmax(1) == batch.targets).sum()
        bad_sum += ~finite
        if (step + 1) % LOG_EVERY == 0:
            torch.stack([loss_sum, correct_sum, bad_sum]).tolist()
            for total in (loss_sum, correct_sum, bad_sum):
                total.zero_()
    seconds = (time.process_time() - started) / STEPS
    return Timed(seconds, left(state.model) + (averages if extras else []))


def trainer_loop(extras: bool = False) -> Timed:
    """The trainer's own epoch; `extras`: clipping and moving average."""
    feed, state = make_parts(ema=extras)
    clip = CLIP if extras else None
    rules = StepRules(objective=cross_entropy(missing=False), device=CPU, clip_grad=clip)
    plan = StagePlan(
        name="train", index=0, length=StageLength(feed.batches, feed.batches), feed=feed,
        val_feed=feed, classes=("a",) * 10, rules=rules, log_every=LOG_EVERY,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), warn=print)
        session = Session(store=store, callbacks=CallbackList([]), recorder=Nowhere())
        trainer = Trainer(plan, state, session, lambda: None)
        trainer._next_save = time.monotonic() + 1e6
        session.progress.batches = feed.batches
        started = time.process_time()
        trainer._train_epoch(0, 0)
        seconds = (time.process_time() - started) / STEPS
    averages = [] if state.ema is None else left(state.ema.model)
    return Timed(seconds, left(state.model) + averages)


def left(model: torch.nn.Module) -> list[torch.Tensor]:
    """The weights at the end of a loop."""
    return [parameter.detach().clone() for parameter in model.parameters()]


LOOPS: dict[str, Callable[[], Timed]] = {
    "plain": plain_loop,
    "same": same_loop,
    "trainer": trainer_loop,
    "same + clip, EMA": lambda: same_loop(extras=True),
    "trainer + clip, EMA": lambda: trainer_loop(extras=True),
}
PAIRS = (("trainer", "same"), ("trainer", "plain"), ("trainer + clip, EMA", "same + clip, EMA"))


def check(first: dict[str, Timed]) -> None:
    """Raise RuntimeError unless the hand-written loops did the trainer's arithmetic exactly."""
    for ours, other in PAIRS:
        if other == "plain":
            continue  # it has no schedule
        pairs = zip(first[ours].weights, first[other].weights, strict=True)
        if not all(torch.equal(a, b) for a, b in pairs):
            raise RuntimeError(f"'{ours}' and '{other}' ended with different weights")


def main() -> None:
    """Time the loops interleaved and print medians, spreads and differences."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=45)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    check({name: loop() for name, loop in LOOPS.items()})
    rows: dict[str, list[float]] = {name: [] for name in LOOPS}
    for _ in range(rounds):
        for name, loop in LOOPS.items():
            rows[name].append(loop().seconds * 1e6)
    for ours, other in PAIRS:
        pairs = zip(rows[ours], rows[other], strict=True)
        rows[f"{ours} - {other}"] = [a - b for a, b in pairs]
    print(f"{'loop':<42} {'median':>8} {'25 %':>8} {'75 %':>8}   microseconds of CPU time a step")
    spreads = {name: statistics.quantiles(values, n=4) for name, values in rows.items()}
    for name, (low, middle, high) in spreads.items():
        print(f"{name:<42} {middle:8.1f} {low:8.1f} {high:8.1f}")
    print(json.dumps({
        "benchmark": "trainer_overhead", "torch": torch.__version__,
        "python": platform.python_version(), "rounds": rounds, "steps": STEPS, "batch": BATCH,
        "goal_us": GOAL_US,
        "results": {name: {"median": middle, "quartiles": [low, high]}
                    for name, (low, middle, high) in spreads.items()},
    }))  # fmt: skip


if __name__ == "__main__":
    main()
