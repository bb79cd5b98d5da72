"""A CIFAR-sized training put together by hand: data, network, callbacks, trainer.

Nothing here reads a config or writes a run folder beside the checkpoints. The losses are those of

    discern train DATA --model resnet32_cifar --opt sgd --lr 0.1 --weight-decay 1e-4 \
      --sched cosine --batch-size 32 --augment light --smoothing 0 --precision fp32 --epochs 1

with the same seed, step for step.

    python examples/compose.py DATA --epochs 1 --log-every 1 --summary-every 10
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from discern.base.seeds import derive_seed
from discern.compute.device import seed_everything, set_determinism
from discern.data.mirror import mirror_test
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import load_resident, measure_mean_std, open_source
from discern.feed.augment import Augment, SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.policies import PolicyContext, named_policy
from discern.feed.resident import ResidentFeed
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import train_mode
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.callbacks import CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.evaluate import evaluation_batch
from discern.training.objectives import cross_entropy
from discern.training.session import Session, StagePlan
from discern.training.stage_length import StageLength
from discern.training.step import StepRules, TrainState
from discern.training.stock.names import open_callback
from discern.training.trainer import Trainer

SEED, BATCH, RATE, DECAY = 0, 32, 0.1, 1e-4
CPU = torch.device("cpu")


class Figures:
    """A recorder that keeps what it is told, by step."""

    def __init__(self) -> None:
        self.by_step: dict[int, dict[str, float]] = {}

    def record(self, step: int, readings: dict[str, float]) -> None:
        """Keep the figures of one step."""
        self.by_step.setdefault(step, {}).update(readings)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def rewind(self, step: int) -> None:
        """Forget what came after `step`."""
        self.by_step = {known: r for known, r in self.by_step.items() if known <= step}

    def warn(self, text: str) -> None:
        """Say it."""
        print(f"warning: {text}")

    def series(self, name: str) -> dict[int, float]:
        """One figure by step."""
        return {step: seen[name] for step, seen in self.by_step.items() if name in seen}


def compose(
    data: str, checkpoints: Path, *, epochs: int = 1, log_every: int = 1, summary_every: int = 10
) -> Figures:
    """Train on `data`; gives every recorded figure. The checkpoints are left in `checkpoints`."""
    set_determinism(CPU, deterministic=True)

    # Data: found, split, decoded once; the mirror test says whether mirror images keep their class.
    scanned = scan_data(DataRequest(train=data))
    manifest, source = scanned.manifest, open_source(scanned.manifest)
    train, val = manifest.positions("train"), manifest.positions("val")
    flip = mirror_test(source, train, manifest.targets[train], SEED).allowed

    # Model: seeded weights, then the images' own mean and deviation.
    seed_everything(derive_seed(SEED, "weights"))
    request = ModelRequest(
        name="resnet32_cifar",
        num_classes=len(manifest.classes),
        channels=scanned.facts.channels,
        image_size=(scanned.facts.median_height, scanned.facts.median_width),
    )
    built = build_model(request)
    model = built.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    mean, std = measure_mean_std(source, train, built.preprocess)
    preprocess = replace(built.preprocess, mean=mean, std=std)

    def feed(split: str, augment: Augment, batch_size: int) -> ResidentFeed:
        rows = train if split == "train" else val
        options = FeedOptions(
            batch_size=batch_size,
            training=split == "train",
            seed=derive_seed(SEED, "feed") >> 16,
            augment=augment,
        )
        pixels = load_resident(source, rows, preprocess)
        return ResidentFeed(pixels, manifest.targets[rows], rows, preprocess, options)

    # A shift of a sixteenth of the side, and a mirror.
    crop = SmallImageAugment(pad=max(1, round(preprocess.height / 16)), flip=flip)
    augment = named_policy("light", PolicyContext(small=True, crop=crop, flip=flip))

    # Callbacks by name; trainer.
    names = {"grad_norms": {"every": log_every, "each": False},
             "layer_statistics": {"every": summary_every}}  # fmt: skip
    callbacks = [open_callback(name, given, where=name) for name, given in names.items()]
    seed_everything(derive_seed(SEED, "stage", 0))
    images = feed("train", augment, BATCH)
    plan = StagePlan(
        name="train",
        index=0,
        length=StageLength(images.batches, epochs * images.batches),
        feed=images,
        val_feed=feed("val", None, evaluation_batch(BATCH)),
        classes=manifest.classes,
        rules=StepRules(objective=cross_entropy(), device=CPU),
        log_every=log_every,
    )
    state = TrainState(
        model=model,
        network=model,
        optimizer=build_optimizer("sgd", model.named_parameters(), lr=RATE, weight_decay=DECAY),
        schedule=Schedule("cosine", {}, epochs * plan.feed.batches, plan.feed.batches),
        ema=None,
        scaler=None,
    )
    figures = Figures()
    session = Session(
        store=CheckpointStore(checkpoints, warn=figures.warn),
        callbacks=CallbackList(callbacks),
        recorder=figures,
    )
    Trainer(plan, state, session, lambda: train_mode(model)).run_stage()
    return figures


def main() -> None:
    """Train as the command line says and print the losses."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--log-every", type=int, default=1)
    parser.add_argument("--summary-every", type=int, default=10)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = compose(
            given.data,
            Path(folder),
            epochs=given.epochs,
            log_every=given.log_every,
            summary_every=given.summary_every,
        )
    for step, loss in figures.series("train/loss").items():
        print(f"step {step}: loss {loss:.6f}")
    print(f"val accuracy {list(figures.series('val/accuracy').values())[-1]:.4f}")


if __name__ == "__main__":
    main()
