"""What each stage of a training will take, measured on a few of its steps before anything runs.

Owns the measuring, on scratch copies of the model, and its record. What is done with it (a plan for
people, a budget) is the worker's.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, replace

import torch

from discern.base.seeds import derive_seed
from discern.compute.device import autocast, seed_everything
from discern.compute.memory import peak_bytes
from discern.config.schema import StageConfig
from discern.models.classifier import train_mode
from discern.training.checkpoints import KEEP_LAST
from discern.training.stages import Training, plan_stage, stage_state
from discern.training.state_io import capture_state
from discern.training.step import train_step

# Steps whose time is taken, after as many that warm up kernels, caches and memory.
PROBE_STEPS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class StageNeed:
    """One stage's measured costs: seconds of a step and of an evaluation, bytes of its peak.

    `checkpoint_bytes`: of one checkpoint; `kept`: checkpoints on disk at once, at most.
    """

    name: str
    epochs: int
    steps: int
    batches: int
    evaluate_every: int
    step_s: float
    evaluation_s: float
    peak_bytes: int
    checkpoint_bytes: int
    kept: int
    in_epochs: bool = True  # only such a stage is shortened
    time_s: float | None = None  # of a stage whose length is a time
    rank_peaks: tuple[int, ...] = ()  # of several ranks

    @property
    def epoch_s(self) -> float:
        """Seconds of an epoch with its share of the evaluations."""
        return self.batches * self.step_s + self.evaluation_s / self.evaluate_every

    @property
    def seconds(self) -> float:
        """Seconds of the whole stage."""
        if self.time_s is not None:
            return self.time_s
        return self.steps * self.step_s + self.epochs * self.evaluation_s / self.evaluate_every

    def of_epochs(self, epochs: int) -> StageNeed:
        """The same stage, shorter or longer."""
        return replace(self, epochs=epochs, steps=epochs * self.batches)


def probe_stages(training: Training) -> list[StageNeed]:
    """Measure some steps and evaluation batches of every stage on a copy of the model.

    The model, and all that the run draws at random, stay as they are: each stage seeds itself anew.
    """
    return [
        _probe(training, name, stage, index)
        for index, (name, stage) in enumerate(training.config.stages.items())
        if stage.kind == "train"
    ]


def _probe(training: Training, name: str, stage: StageConfig, index: int) -> StageNeed:
    trial = replace(training, model=copy.deepcopy(training.model))
    seed_everything(derive_seed(training.config.seed, "stage", index))
    plan = plan_stage(trial, name, stage, index)
    device = training.device
    with plan.feed, plan.val_feed:
        state = stage_state(trial, stage, plan, 0, 0)
        train_mode(trial.model)
        wanted, done, began = 2 * PROBE_STEPS, 0, 0.0
        epoch = 0
        while done < wanted:
            for batch in plan.feed.epoch(epoch):
                if done == PROBE_STEPS:
                    _wait(device)
                    began = time.perf_counter()
                train_step(state, batch, plan.rules)
                done += 1
                if done == wanted:
                    break
            epoch += 1
        _wait(device)
        step_s = (time.perf_counter() - began) / PROBE_STEPS
        trial.model.eval()
        began, seen = time.perf_counter(), 0
        with torch.inference_mode(), autocast(device, plan.rules.amp_dtype):
            for batch in plan.val_feed.epoch(0):
                state.network(batch.images)
                seen += 1
                if seen == PROBE_STEPS:
                    break
        _wait(device)
        evaluation_s = (time.perf_counter() - began) / max(1, seen) * plan.val_feed.batches
        groups, _ = capture_state(state)
    length = plan.length
    steps = length.steps if length.steps is not None else round((length.seconds or 0.0) / step_s)
    return StageNeed(
        name=name,
        epochs=length.epochs or -(-steps // plan.feed.batches),
        steps=steps,
        in_epochs=stage.epochs is not None,
        time_s=length.seconds,
        batches=plan.feed.batches,
        evaluate_every=plan.evaluate_every,
        step_s=step_s,
        evaluation_s=evaluation_s,
        peak_bytes=peak_bytes(device),
        checkpoint_bytes=sum(t.nbytes for group in groups.values() for t in group.values()),
        kept=plan.keep_top + KEEP_LAST,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
