"""What the trainer's figures, guard and moving average are of one update of resnet18 at 32 pixels.

Two loops over the same resident batches, interleaved, on one thread: `plain` (forward, loss,
backward, SGD; nothing else) and `trainer` (ours with EMA, loss and accuracy, finite guard,
readings, callbacks, checkpoint clock). For resnet18 as Discern builds it for small images (3x3
stem, no pool) and as timm has it (7x7 stem, pool), whose update is a fifteenth of the work. CPU
seconds; prints a table and one JSON line.

    OMP_NUM_THREADS=1 python -m benchmarks.step_share [--rounds 7]
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
import timm
import torch
from benchmarks.trainer_overhead import CPU, Nowhere

from discern.data.images import Preprocess
from discern.feed.batch import FeedOptions
from discern.feed.resident import ResidentFeed
from discern.models.classifier import Classifier, wrap_network
from discern.models.ema import ModelEma
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.objectives import cross_entropy
from discern.training.stage_length import StageLength
from discern.training.step import StepRules, TrainState
from discern.training.trainer import Session, StagePlan, Trainer

SIDE, CLASSES = 32, 10
# Share of a plain update.
GOAL = 0.05
STEMS = {"small": (32, 2), "timm": (128, 4)}  # images and updates of a turn


def make_feed(count: int, updates: int) -> ResidentFeed:
    """`updates` batches of `count` random images and classes."""
    generator = np.random.default_rng(0)
    images = count * updates
    pixels = generator.integers(0, 256, (images, SIDE, SIDE, 3)).astype(np.uint8)
    targets = generator.integers(0, CLASSES, images)
    options = FeedOptions(batch_size=count, training=True, seed=1)
    preprocess = Preprocess(height=SIDE, width=SIDE, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    return ResidentFeed(pixels, targets, np.arange(images), preprocess, options)


def make_network(stem: str) -> Classifier:
    """resnet18 with a stem for small images, or with timm's own; the same weights each time."""
    torch.manual_seed(0)
    network = timm.create_model("resnet18", num_classes=CLASSES)
    if stem == "small":
        network.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        network.maxpool = torch.nn.Identity()
    network = network.to(memory_format=torch.channels_last)
    return wrap_network(network.train(), torch.zeros(2, 3, SIDE, SIDE))


def plain_turn(stem: str) -> float:
    """CPU seconds an update of forward, loss, backward, SGD."""
    count, updates = STEMS[stem]
    feed, model = make_feed(count, updates), make_network(stem)
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.01)
    started = time.process_time()
    for batch in feed.epoch(0):
        loss = torch.nn.functional.cross_entropy(model(batch.images).logits, batch.targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
    return (time.process_time() - started) / updates


def trainer_turn(stem: str) -> float:
    """CPU seconds an update of the trainer's own epoch, with EMA, figures and guard."""
    count, updates = STEMS[stem]
    feed, model = make_feed(count, updates), make_network(stem)
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.01)
    schedule = Schedule("cosine", {}, updates, updates)
    state = TrainState(model, model, optimizer, schedule, ModelEma(model), None)
    plan = StagePlan(
        name="train", index=0, length=StageLength(feed.batches, feed.batches), feed=feed,
        val_feed=feed, classes=("a",) * CLASSES,
        rules=StepRules(objective=cross_entropy(missing=False), device=CPU), log_every=50,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder), warn=print)
        session = Session(store=store, callbacks=CallbackList([]), recorder=Nowhere())
        trainer = Trainer(plan, state, session, lambda: None)
        trainer._next_save = time.monotonic() + 1e6
        session.progress.batches = feed.batches
        started = time.process_time()
        trainer._train_epoch(0, 0)
        return (time.process_time() - started) / updates


def main() -> None:
    """Time the loops interleaved and print the trainer's share for each stem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    results = {}
    print(
        f"{'stem':<6} {'images':>6} {'plain':>9} {'trainer':>9} {'share':>7}   ms of CPU an update"
    )
    for stem, (count, _) in STEMS.items():
        plain_turn(stem), trainer_turn(stem)
        pairs = [(plain_turn(stem), trainer_turn(stem)) for _ in range(rounds)]
        plain, ours = (1e3 * statistics.median(side) for side in zip(*pairs, strict=True))
        shares = sorted(b / a - 1 for a, b in pairs)
        share = statistics.median(shares)
        print(
            f"{stem:<6} {count:>6} {plain:9.1f} {ours:9.1f} {share:7.1%}   "
            f"({shares[0]:.1%} to {shares[-1]:.1%})"
        )
        results[stem] = {"plain_ms": plain, "trainer_ms": ours, "share": share, "shares": shares}
    print(json.dumps({
        "benchmark": "step_share", "torch": torch.__version__, "rounds": rounds,
        "python": platform.python_version(), "goal": GOAL, "results": results,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
