"""What a batch of some images takes on this device: two steps and an evaluation pass on a copy.

Owns the measuring of one size; which sizes are measured is the search's.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from discern.compute.device import AMP_TYPES, autocast
from discern.compute.memory import held_bytes, is_out_of_memory, peak_meter, release_unused
from discern.config.schema import StageConfig
from discern.feed.batch import Batch, matched_samples
from discern.models.classifier import train_mode
from discern.training.batch_search import BatchTrial
from discern.training.frozen_features import evaluation_mode
from discern.training.session import StagePlan
from discern.training.stages import Training, plan_stage, stage_state
from discern.training.step import train_step
from discern.training.validation import HeadFeeds

# The first step makes the optimizer's state; the second holds it beside activations.
_STEPS = 2


def probe_batch(
    training: Training,
    name: str,
    stage: StageConfig,
    index: int,
    images: int,
    *,
    scored: bool = True,
) -> BatchTrial:
    """Bytes that passes of `images` on this rank take at most beyond what is held, and the time.

    `scored`: an evaluation pass is one of them. `training` is of one rank's own: no other rank is
    waited for.
    """
    device = training.device
    release_unused(device)
    held, began = held_bytes(device), time.monotonic()
    peak: int | None = None
    try:
        with peak_meter(device) as highest:
            _train_a_little(training, name, stage, index, images, scored=scored)
            peak = max(0, highest() - held)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    release_unused(device)
    return BatchTrial(images, peak, time.monotonic() - began)


def _train_a_little(
    training: Training,
    name: str,
    stage: StageConfig,
    index: int,
    images: int,
    *,
    scored: bool,
) -> None:
    scratch = replace(training, model=copy.deepcopy(training.model))
    update = images * training.material.settings.ranks * stage.grad_accum_steps
    config = stage.model_copy(update={"batch_size": update})
    plan = plan_stage(scratch, name, config, index)
    feeds = HeadFeeds(feed=plan.val_feed, side_feed=plan.side_feed)
    with plan.feed, feeds:
        state = stage_state(scratch, config, plan, 0, 0)
        train_mode(scratch.model)
        if plan.features:
            batches = _feature_batches(scratch, config)
        else:
            batches = itertools.chain(plan.feed.epoch(0), plan.feed.epoch(1))
        for batch in itertools.islice(batches, _STEPS):
            train_step(state, batch, plan.rules)
        if scored and not plan.features:
            _score_a_batch(scratch, plan, state.network)


def _score_a_batch(training: Training, plan: StagePlan, network: torch.nn.Module) -> None:
    with (
        evaluation_mode(training.model),
        torch.inference_mode(),
        autocast(training.device, AMP_TYPES[training.precision]),
    ):
        for batch in itertools.islice(plan.val_feed.epoch(0), 1):
            network(batch.images)


def _feature_batches(training: Training, config: StageConfig) -> Iterator[Batch]:
    """Batches as kept features make them, of noise: no image need pass the frozen part for this.

    One pass of it is made as large as those that the features are computed in.
    """
    material, device = training.material, training.device
    settings, preprocess = material.settings, material.preprocess
    size = material.evaluation_batch(config.batch)
    shape = (size, preprocess.channels, preprocess.height, preprocess.width)
    with (
        evaluation_mode(training.model),
        torch.no_grad(),
        autocast(training.device, AMP_TYPES[training.precision]),
    ):
        features = training.model.embed(torch.randn(shape, device=device)).clone()
    rows = torch.arange(-(-config.batch // settings.ranks))
    positions = material.positions("train")
    positions = positions[rows.numpy() % len(positions)]
    targets, places = matched_samples(material.targets(positions), positions)
    pictures = features[rows.to(device) % size]
    while True:
        yield Batch(pictures, targets.to(device), places)
