"""Builds each stage's parts from its config, runs the stages in order, hands the model on.

An assembler: it reads the config, so that nothing below has to.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from discern.base.errors import ConfigError
from discern.base.seeds import derive_seed
from discern.compute.device import AMP_TYPES, choose_precision, seed_everything
from discern.compute.world import World
from discern.config.schema import RunConfig, StageConfig
from discern.feed.features import Extract
from discern.feed.mixing import MixedFeed, Mixing
from discern.models.classifier import Classifier, set_trainable, train_mode
from discern.models.ema import ModelEma
from discern.models.head_part import HeadPart
from discern.optim.schedules import resolve_schedule, warmup_fraction
from discern.training.callbacks import Callback, CallbackList, Signal
from discern.training.checkpoints import Checkpoint
from discern.training.crash import crash_kept
from discern.training.kept_features import FeatureStore, feature_extract
from discern.training.material import Material
from discern.training.monitor import LAST_EPOCH, open_monitor
from discern.training.objectives import learned_parts
from discern.training.session import Session, StagePlan
from discern.training.shared_gradients import SharedGradients
from discern.training.stage_length import closing_epoch
from discern.training.stage_parts import (
    head_wish,
    length_of_stage,
    peak_rate,
    stage_metrics,
    stage_objective,
    stage_optimizer,
    stage_schedule,
)
from discern.training.stage_starts import predict_stage, starting_point
from discern.training.starting_point import earlier_stage, is_elsewhere
from discern.training.step import StepRules, TrainState, train_step
from discern.training.stock.early_stop import EarlyStop
from discern.training.trainers import open_trainer
from discern.training.uneven_labels import counts_unevenly
from discern.training.validation import HeadFeeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One run's parts: what the stages are built from. `precision` is fp32, bf16 or fp16.

    `on_features`: names of the stages that train heads on features computed once; what other runs
    have computed of them is in `kept_features`.
    """

    config: RunConfig
    model: Classifier
    material: Material
    device: torch.device
    precision: str
    on_features: frozenset[str] = frozenset()
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    own_images: Mapping[str, Material] = field(default_factory=dict)
    kept_features: FeatureStore | None = None
    world: World = field(default_factory=World)

    def seed_stage(self, index: int) -> None:
        """Seed stage number `index`: the ranks draw different dropout masks."""
        more = () if self.world.leads else ("rank", self.world.rank)
        seed_everything(derive_seed(self.config.seed, "stage", index, *more))


def run_stages(training: Training, session: Session, checkpoint: Checkpoint | None = None) -> None:
    """Run all stages, or go on from `checkpoint`; the model ends with the last stage's weights."""
    stages = list(training.config.stages.items())
    first = 0
    step = samples = 0
    if checkpoint is not None:
        first = checkpoint.state["stage_index"]
    listeners = session.callbacks.callbacks
    session.ledger.monitors = {
        name: open_monitor(stage.monitor, stage.monitor_mode)
        for name, stage in training.config.training_stages.items()
    }
    session.callbacks.call("before_run", session.progress)
    signal = Signal.GO_ON
    for index in range(first, len(stages)):
        name, config = stages[index]
        if config.kind == "predict":
            predict_stage(training, session, name)
            continue
        if signal is Signal.END_RUN:
            continue  # the stages that only predict still do
        if checkpoint is None or index != first:
            starting_point(training, name).load(training.model, session)
        session.callbacks = CallbackList([*listeners, *_stage_callbacks(config)])
        training.seed_stage(index)
        training.world.spread_(list(training.model.state_dict().values()))
        plan = plan_stage(training, name, config, index)
        with plan.feed, HeadFeeds(feed=plan.val_feed, side_feed=plan.side_feed):
            state = stage_state(training, config, plan, step, samples)
            make = open_trainer(config.trainer.name, config.trainer.args)
            trainer = make(plan, state, session, lambda: train_mode(training.model))
            with crash_kept(session, state):
                signal = trainer.run_stage(checkpoint if index == first else None)
        if state.ema is not None:
            # The next stage, and the run's last weights, are those that the scores are of.
            training.model.load_state_dict(state.ema.model.state_dict())
        step, samples = state.step, state.samples
    session.callbacks = CallbackList(listeners)
    session.callbacks.call("after_run", session.progress)


def check_stages(config: RunConfig, model: Classifier, material: Material) -> None:
    """Raise ConfigError for an optimizer, schedule, objective or parameter named in vain."""
    heads = material.training_heads()
    stage_metrics(config, material.heads)
    before: list[str] = []
    for name, stage in config.stages.items():
        if not is_elsewhere(stage.start_from):
            wish = stage.start_from or ("best" if stage.kind == "predict" else None)
            if wish is not None:
                earlier_stage(wish, before, where=f"stages.{name}.start_from")
        if stage.kind == "predict":
            continue
        before.append(name)
        objective, _ = stage_objective(stage, heads, model)
        set_trainable(model, stage.trainable)
        resolve_schedule(stage.schedule.name, stage.schedule.args)
        warmup_fraction(stage.warmup_lr, peak_rate(stage).lr)
        stage_optimizer(stage, model, learned_parts(objective))
        _check_monitor(stage, f"stages.{name}")


def _check_monitor(stage: StageConfig, where: str) -> None:
    """Raise ConfigError for a monitor named in vain."""
    open_monitor(stage.monitor, stage.monitor_mode)
    for key in stage.by_figure:
        if stage.monitor == LAST_EPOCH:
            raise ConfigError(
                f"{key} goes by a figure, and 'last' is none",
                where=f"{where}.monitor",
                got=LAST_EPOCH,
                expected="accuracy, loss, ...",
                hint=f"--monitor loss, or leave {key} out",
            )


def _stage_callbacks(config: StageConfig) -> list[Callback]:
    if config.patience is None:
        return []
    return [EarlyStop(config.patience, config.monitor, config.min_delta, config.monitor_mode)]


def step_rules(training: Training, config: StageConfig) -> StepRules:
    """How a stage's steps compute."""
    heads = training.material.training_heads()
    objective, tally = stage_objective(config, heads, training.model)
    learned = learned_parts(objective).to(training.device)
    training.world.spread_(list(learned.state_dict().values()))  # each rank drew its own
    asked = [config.objective, *(head.objective for head in config.heads.values())]
    uneven = counts_unevenly(heads, objective, [head_wish(one) for one in asked])
    unit = config.batch / training.world.ranks
    shared = SharedGradients(training.world, unit, by_labels=uneven)
    return StepRules(
        objective=objective,
        device=training.device,
        amp_dtype=AMP_TYPES[training.precision],
        clip_grad=config.clip_grad,
        grad_accum_steps=config.grad_accum_steps,
        guard=training.config.compute.skip_nonfinite,
        tally=tally,
        shared=None if training.world.alone else shared,
    )


def plan_stage(training: Training, name: str, config: StageConfig, index: int) -> StagePlan:
    """The feeds, lengths and rules of one stage, from its config."""
    material, tracking = training.material, training.config.tracking
    augment = material.augmentation(config.augment.name, config.augment.args)
    sampler = material.sampler(config.sampler.name, config.sampler.args, config.epoch_size)
    length = length_of_stage(material, config)
    close_from = closing_epoch(name, length, config.close_aug)
    extract = _extract(training, name) if name in training.on_features else None
    feed = material.training_feed(
        augment, config.batch, index, sampler, close_from, extract=extract
    )
    mixing = Mixing(mixup=config.mixup, cutmix=config.cutmix)
    if mixing.active:
        widths = {head.name: head.width for head in material.heads}
        classes = widths if len(widths) > 1 else material.heads[0].width
        seed = material.settings.seed + index
        feed = MixedFeed(feed, mixing, classes=classes, seed=seed, until=close_from)
    val_split, val_batch = material.settings.val_split, material.evaluation_batch(config.batch)
    metrics, tag_metrics = stage_metrics(training.config, material.heads)
    return StagePlan(
        name=name,
        index=index,
        length=length,
        feed=feed,
        val_feed=material.evaluation_feed(val_split, val_batch, extract=extract),
        side_feed=material.side_feed(val_split, val_batch),
        classes=material.heads[0].classes,
        heads=material.heads,
        rules=step_rules(training, config),
        features=extract is not None,
        metrics=metrics,
        tag_metrics=tag_metrics,
        monitor=open_monitor(config.monitor, config.monitor_mode),
        keep_top=max(config.keep_top, config.soup or 0),
        evaluate_every=config.evaluate_every,
        log_every=tracking.log_every,
        checkpoint_every_s=tracking.checkpoint_every_s,
    )


def _extract(training: Training, name: str) -> Extract:
    """How the images of stage `name` become features: by the model as it is when they are wanted.

    Only the first stage begins with a frozen part that other runs have too.
    """
    first = name == next(iter(training.config.training_stages))
    return feature_extract(
        training.model,
        training.material,
        amp_dtype=AMP_TYPES[training.precision],
        store=training.kept_features if first else None,
    )


def stage_state(
    training: Training, config: StageConfig, plan: StagePlan, step: int, samples: int
) -> TrainState:
    """Optimizer, schedule and averages of one stage, built afresh around the model."""
    model = training.model
    set_trainable(model, config.trainable)
    learned = learned_parts(plan.rules.objective)
    optimizer = stage_optimizer(config, model, learned)
    schedule = stage_schedule(config, plan)
    scaler = torch.amp.GradScaler(training.device.type) if training.precision == "fp16" else None
    called = HeadPart(model) if plan.features else model
    network = torch.compile(called) if training.config.compute.compile else called
    state = TrainState(
        model=model,
        network=network,  # type: ignore[arg-type]
        optimizer=optimizer,
        schedule=schedule,
        ema=None if config.ema is None else ModelEma(model, config.ema),
        scaler=scaler,
        learned=learned if len(learned) else None,
    )
    state.step, state.samples = step, samples
    return state


def probe_precision(
    config: RunConfig, model: Classifier, material: Material, device: torch.device
) -> tuple[str, str]:
    """(precision, reason): `auto` times training steps of a scratch copy of the model each way."""
    name, stage = next(iter(config.training_stages.items()))
    wanted = config.compute.precision
    if wanted != "auto" or device.type != "cpu":
        return choose_precision(wanted, device, lambda _: None)
    scratch = copy.deepcopy(model)
    trial = Training(
        config=config,
        model=scratch,
        material=material,
        device=device,
        precision="fp32",
    )
    plan = plan_stage(trial, name, stage, 0)
    with plan.feed, HeadFeeds(feed=plan.val_feed, side_feed=plan.side_feed):
        state = stage_state(trial, stage, plan, 0, 0)
        train_mode(scratch)
        batch = next(plan.feed.epoch(0))

        def step(amp_dtype: torch.dtype | None) -> None:
            rules = StepRules(
                objective=plan.rules.objective,
                device=device,
                amp_dtype=amp_dtype,
                grad_accum_steps=stage.grad_accum_steps,
                tally=plan.rules.tally,
            )
            train_step(state, batch, rules)

        return choose_precision(wanted, device, step)
