"""A step on another device than the host's: no value is read, no two devices are mixed.

Torch's device `meta` has shapes and types but no values, so this runs on any machine: what would
make the host wait for a GPU raises an error there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from discern.data.images import Preprocess
from discern.feed.augment import SmallImageAugment
from discern.feed.batch import Feed, FeedOptions
from discern.feed.mixing import MixedFeed, Mixing
from discern.feed.resident import ResidentFeed
from discern.models.classifier import Classifier, Route
from discern.models.ema import ModelEma
from discern.models.nets.fast_net import fast_net
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.meters import Meters
from discern.training.objectives import cross_entropy
from discern.training.step import StepRules, TrainState, train_step

META = torch.device("meta")
COUNT, CLASSES = 150, 10


def feed(mixup: float, memory_limit: int) -> Feed:
    """Three batches of 50 images that are kept on the device."""
    preprocess = Preprocess(height=32, width=32, channels=3, mean=(0.5,) * 3, std=(0.2,) * 3)
    augment = SmallImageAugment(pad=2)
    options = FeedOptions(batch_size=50, training=True, augment=augment, device=META)
    pixels, labels = np.zeros((COUNT, 32, 32, 3), np.uint8), np.zeros(COUNT, np.int64)
    images = ResidentFeed(
        pixels, labels, np.arange(COUNT), preprocess, options, memory_limit=memory_limit
    )
    return MixedFeed(images, Mixing(mixup=mixup), classes=CLASSES, seed=0) if mixup else images


def network() -> nn.Module:
    with META:
        return fast_net(CLASSES, 3, (32, 32), width=8)


@pytest.mark.parametrize(
    ("optimizer", "how", "mixup", "memory_limit"),
    [("sgd", {}, 0.0, 1 << 30),
     ("adamw", {"clip_grad": 1.0}, 0.2, 0),
     ("adamw", {"grad_accum_steps": 2}, 0.0, COUNT * 36 * 36 * 3)],
)  # fmt: skip
def test_a_step_reads_nothing_off_its_device(
    optimizer: str, how: dict[str, Any], mixup: float, memory_limit: int
) -> None:
    model = Classifier(network(), route=Route.OWN, head_names=("network.head",)).train()
    made = build_optimizer(
        optimizer, model.named_parameters(), lr=0.1, weight_decay=0.01, head_names=model.head_names
    )
    state = TrainState(model, model, made, Schedule("constant", {}, 9, 9), ModelEma(model), None)
    # The guard's own way around waiting needs the fused kernels of a real GPU.
    rules = StepRules(objective=cross_entropy(0.1), device=META, guard=False, **how)
    meters = Meters(META)
    for batch in feed(mixup, memory_limit).epoch(0):
        assert "cpu" == batch.positions.device.type
        result = train_step(state, batch, rules)
        meters.update(result)
        assert {"meta"} == {part.device.type for part in result[:3]}
    assert (3, 3, COUNT) == (state.step, meters.steps, meters.count)
    with pytest.raises((RuntimeError, NotImplementedError)):
        meters.read()


def test_what_would_wait_is_an_error_here() -> None:
    value = torch.zeros(3, device=META)
    for wait in (value.tolist, value.sum().item, value.cpu, lambda: value + torch.zeros(3)):
        with pytest.raises((RuntimeError, NotImplementedError)):
            wait()
