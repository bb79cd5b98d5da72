"""What one stage trains with, from its config: objective, optimizer, rates, length, figures.

An assembler's part: `training.stages` makes a stage of these.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from discern.base.plugins import is_import_path
from discern.config.schema import RunConfig, Spec, StageConfig
from discern.data.head_spec import HeadSpec, find_head
from discern.models.classifier import Classifier, set_trainable
from discern.optim.large_batch import ScaledRate, scale_rate
from discern.optim.optimizers import build_optimizer
from discern.optim.parameter_groups import group_lines
from discern.optim.schedules import Schedule, warmup_fraction
from discern.optim.timed_schedule import TimedSchedule
from discern.training.head_objectives import HeadWish, TrainingHead, head_objectives
from discern.training.material import Material
from discern.training.metric_table import Metric, open_metrics
from discern.training.monitor import ALWAYS
from discern.training.neighbors import NEIGHBOR_FIGURES, learns_embeddings
from discern.training.objectives import Objective
from discern.training.session import StagePlan
from discern.training.stage_length import StageLength, stage_length
from discern.training.tally import Tally

OBJECTIVE = "objective"  # prefix of the names of an objective's own weights


def peak_rate(stage: StageConfig) -> ScaledRate:
    """The stage's peak learning rate: `lr`, or `lr_base` scaled to the batch, and how it came."""
    if stage.lr_base is None:
        return ScaledRate(stage.lr, f"learning rate {stage.lr:g}")
    return scale_rate(
        stage.lr_base,
        stage.batch,
        lr_base_size=stage.lr_base_size,
        rule=stage.lr_scaling,
    )


def stage_optimizer(
    stage: StageConfig, model: Classifier, learned: nn.Module | None = None
) -> torch.optim.Optimizer:
    """The optimizer that `stage` asks for, over those parameters of `model` that learn now.

    `learned`: what the objective has weights of; they learn as the head does.
    """
    named = [*model.named_parameters()]
    head_names = model.head_names
    if learned is not None:
        named += [(f"{OBJECTIVE}.{name}", weight) for name, weight in learned.named_parameters()]
        head_names = (*head_names, OBJECTIVE)
    return build_optimizer(
        stage.optimizer.name,
        named,
        lr=peak_rate(stage).lr,
        weight_decay=stage.weight_decay,
        arguments=stage.optimizer.args,
        head_names=head_names,
        layer_decay=stage.layer_decay,
        groups=[group.model_dump() for group in stage.groups],
        no_decay=stage.no_decay,
        decay_all=stage.decay_all,
    )


def optimizer_lines(stage: StageConfig, model: Classifier) -> list[str]:
    """What people should see of the stage's rates: the scaled rate, and groups that differ."""
    lines = [] if stage.lr_base is None else [peak_rate(stage).line]
    if stage.groups or stage.layer_decay is not None:
        set_trainable(model, stage.trainable)
        lines += group_lines(stage_optimizer(stage, model))
    return lines


def stage_objective(
    config: StageConfig, heads: Sequence[TrainingHead], model: Classifier
) -> tuple[Objective, Tally | None]:
    """What a stage minimizes, and what it counts beside it. Raises ConfigError."""
    return head_objectives(
        heads,
        head_wish(config.objective),
        {name: head_wish(head.objective, head.weight) for name, head in config.heads.items()},
        smoothing=config.smoothing,
        feature_width=model.feature_width,
    )


def head_wish(objective: Spec | None, weight: float = 1.0) -> HeadWish:
    name, args = (None, {}) if objective is None else (objective.name, objective.args)
    return HeadWish(objective=name, args=args, weight=weight)


def asked_metrics(config: RunConfig) -> list[tuple[str, dict[str, Any]]]:
    """(Name, arguments) of the config's metrics, and Recall@k if a stage learns embeddings."""
    wanted = {spec.name: spec.args for spec in config.tracking.metrics}
    objectives = [stage.objective for stage in config.training_stages.values()]
    if any(one is not None and learns_embeddings(one.name, one.args) for one in objectives):
        wanted = {name: {} for name in NEIGHBOR_FIGURES} | wanted
    return list(wanted.items())


def stage_metrics(
    config: RunConfig, heads: Sequence[HeadSpec]
) -> tuple[tuple[Metric, ...], tuple[Metric, ...]]:
    """The further figures of each evaluation: of one label an image, and of several.

    Those that the config asks for, and those that any stage's model is chosen by. Raises
    ConfigError for one that no head has, and for a head that is not there.
    """
    wanted = dict(asked_metrics(config))
    for stage in config.training_stages.values():
        head, _, plain = stage.monitor.rpartition("/")
        if is_import_path(stage.monitor) or not head:
            plain = stage.monitor
        else:
            find_head(heads, head, "stages.*.monitor")
        if plain not in ALWAYS:
            wanted.setdefault(plain, {})
    metrics, tag_metrics = open_metrics(list(wanted.items()), heads)
    return tuple(metrics), tuple(tag_metrics)


def length_of_stage(material: Material, config: StageConfig) -> StageLength:
    """The stage's length over the training images as it samples them."""
    sampler = material.sampler(config.sampler.name, config.sampler.args, config.epoch_size)
    batches, samples = material.epoch_size(config.batch, sampler)
    return stage_length(
        batches=batches,
        samples=samples,
        epochs=config.epochs,
        steps=config.steps,
        examples=config.examples,
        minutes=config.minutes,
    )


def stage_schedule(config: StageConfig, plan: StagePlan) -> Schedule | TimedSchedule:
    """The rates over the stage's updates, or over its time."""
    batches, steps = plan.feed.batches, plan.length.steps
    schedule = Schedule(
        config.schedule.name,
        config.schedule.args,
        total_steps=sys.maxsize if steps is None else steps,
        steps_per_epoch=batches,
        warmup_steps=round(config.warmup_epochs * batches),
        warmup_mode=config.warmup_mode,
        warmup_begin=warmup_fraction(config.warmup_lr, peak_rate(config).lr),
    )
    return schedule if steps is not None else TimedSchedule(schedule)
