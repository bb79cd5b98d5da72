"""Training steps on synthetic images, timed: no data set, no feed, no files.

One random batch in [-1, 1] is used again and again (as MXNet's `--benchmark 1` does), so that what
is measured is the step alone: forward, loss, backward, update.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from discern.base.errors import ConfigError
from discern.compute.device import AMP_TYPES
from discern.compute.memory import peak_bytes
from discern.feed.batch import Batch
from discern.models.catalogue import ModelRequest, build_model
from discern.models.recompute import recompute_activations
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState, train_step

# What a form's name may be put together of, joined by `+`.
PARTS = ("plain", "channels_last", "bf16", "fp16", "compile", "recompute")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingTest:
    """What to measure. `rounds`: medians are over so many runs of `steps` steps."""

    network: str
    batch_size: int = 32
    side: int = 224
    channels: int = 3
    num_classes: int = 1000
    steps: int = 10
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSpeed:
    """One form's figures: images a second (median, lowest, highest), first step, peak, loss."""

    form: str
    images_per_s: float
    lowest: float
    highest: float
    first_step_s: float
    peak_mb: float
    loss: float

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {name: getattr(self, name) for name in self.__slots__}


def form_parts(form: str) -> list[str]:
    """`channels_last+bf16` as its parts. Raises ConfigError for one that there is not."""
    parts = [part.strip().replace("-", "_") for part in form.split("+")]
    for part in parts:
        if part not in PARTS:
            raise ConfigError(
                "no such form of training", where="--forms", got=form,
                expected=f"{', '.join(PARTS)}, joined by +",
            )  # fmt: skip
    return parts


def measure_training(test: TrainingTest, form: str, device: torch.device) -> TrainingSpeed:
    """Train the network on one synthetic batch in one form. Raises ConfigError or ModelError."""
    parts = form_parts(form)
    state, batch = _parts(test, parts, device)
    precision = next((part for part in parts if part in ("bf16", "fp16")), "fp32")
    rules = StepRules(
        objective=cross_entropy(missing=False),
        device=device,
        amp_dtype=AMP_TYPES[precision],
        guard=False,
    )
    state.model.train()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    began = time.perf_counter()
    loss = train_step(state, batch, rules).loss.item()
    first = time.perf_counter() - began
    speeds = []
    for _ in range(test.rounds):
        began = time.perf_counter()
        for _ in range(test.steps):
            result = train_step(state, batch, rules)
        loss = result.loss.item()  # waits for the device
        speeds.append(test.steps * test.batch_size / (time.perf_counter() - began))
    return TrainingSpeed(
        form=form,
        images_per_s=statistics.median(speeds),
        lowest=min(speeds),
        highest=max(speeds),
        first_step_s=first,
        peak_mb=peak_bytes(device) / 1e6,
        loss=loss,
    )


def synthetic_batch(test: TrainingTest, device: torch.device) -> Batch:
    """Random images in [-1, 1] and random classes, the same for every form."""
    generator = torch.Generator().manual_seed(0)
    shape = (test.batch_size, test.channels, test.side, test.side)
    images = torch.rand(shape, generator=generator) * 2 - 1
    targets = torch.randint(0, test.num_classes, (test.batch_size,), generator=generator)
    return Batch(images.to(device), targets.to(device), torch.arange(test.batch_size))


def _parts(test: TrainingTest, parts: list[str], device: torch.device) -> tuple[TrainState, Batch]:
    torch.manual_seed(0)
    built = build_model(
        ModelRequest(
            name=test.network,
            num_classes=test.num_classes,
            channels=test.channels,
            image_size=(test.side, test.side),
        )
    )
    model, batch = built.model.to(device), synthetic_batch(test, device)
    if "channels_last" in parts:
        model = model.to(memory_format=torch.channels_last)
        images = batch.images.contiguous(memory_format=torch.channels_last)
        batch = batch._replace(images=images)
    if "recompute" in parts:
        recompute_activations(model)
    network: Any = torch.compile(model) if "compile" in parts else model
    arguments = {"momentum": 0.9, "nesterov": False}
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.01, arguments=arguments)
    scaler = torch.amp.GradScaler(device.type) if "fp16" in parts else None
    schedule = Schedule("constant", {}, 1, 1)
    return TrainState(model, network, optimizer, schedule, None, scaler), batch
