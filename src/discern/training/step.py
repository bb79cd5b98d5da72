"""One update of the weights: values in, values out.

The step prints nothing, waits for nothing that it does not need, knows no run and no callback.
Its results stay on the device; reading one is the reader's cost.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from discern.feed.batch import Batch, HeadTargets
from discern.models.classifier import Classifier, Output
from discern.models.ema import ModelEma
from discern.optim.schedules import Schedule
from discern.optim.timed_schedule import TimedSchedule
from discern.training.objective_parts import Parted, share_of_batch
from discern.training.objectives import Objective, likeliest
from discern.training.shared_gradients import SharedGradients
from discern.training.tally import Tally


@dataclass(slots=True)
class TrainState:
    """All that a step reads and changes. `step` counts updates over all stages."""

    model: Classifier
    network: torch.nn.Module  # what is called: the model, or its compiled form
    optimizer: torch.optim.Optimizer
    schedule: Schedule | TimedSchedule
    ema: ModelEma | None
    scaler: torch.amp.GradScaler | None
    step: int = field(default=0, init=False)
    stage_step: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)
    rate_scale: float = field(default=1.0, init=False)  # halved by each rollback
    learned: torch.nn.Module | None = None  # the objective's own weights, such as class centers
    # Listed once: the walk through the modules takes 27 us of a step with 23 parameters.
    parameters: list[torch.nn.Parameter] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.parameters = list(self.model.parameters())
        if self.learned is not None:
            self.parameters += self.learned.parameters()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRules:
    """How a step computes. `amp_dtype` None is full precision."""

    objective: Objective
    device: torch.device
    amp_dtype: torch.dtype | None = None
    clip_grad: float | None = None
    grad_accum_steps: int = 1
    guard: bool = True  # a non-finite step leaves weights and optimizer untouched
    shared: SharedGradients | None = None  # where the batch's other images are on other ranks
    # Counts what one number of right answers does not tell: several heads, several labels an image,
    # missing ones, parts of the loss. None: one head, whose images all have one label.
    tally: Tally | None = None


class StepResult(NamedTuple):
    """Detached device tensors: mean loss [], right answers [], finite []; and the sample count.

    Loss and finite are those of all ranks; right answers and count are this rank's.
    Under a tally `correct` holds its sums [S].
    """

    loss: Tensor
    correct: Tensor
    finite: Tensor
    samples: int


def train_step(
    state: TrainState,
    batch: Batch,
    rules: StepRules,
    look: Callable[[TrainState], None] | None = None,
) -> StepResult:
    """Forward, loss, backward, clip, update; advances `state` by one step.

    `look` may read the gradients once they are whole, before they are clipped.
    """
    factor = state.schedule.factor(state.stage_step) * state.rate_scale
    for group in state.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
    loss, correct = _gradients(state, batch, rules)
    count = batch.images.shape[0]
    if rules.shared is not None:
        loss = rules.shared.average_(state.parameters, loss, count)
    if look is not None:
        look(state)
    finite = torch.isfinite(loss)
    if state.scaler is not None:
        _scaled_update(state, rules)
    else:
        if rules.clip_grad is not None:
            norm = torch.nn.utils.clip_grad_norm_(state.parameters, rules.clip_grad)
            finite = finite & torch.isfinite(norm)
        _update(state, rules, finite)
    state.optimizer.zero_grad(set_to_none=True)
    state.step += 1
    state.stage_step += 1
    state.samples += batch.whole or count
    return StepResult(loss, correct, finite, count)


def _gradients(state: TrainState, batch: Batch, rules: StepRules) -> tuple[Tensor, Tensor]:
    whole, images_of_loss = None, len(batch.images)
    if rules.shared is not None and rules.shared.by_labels:
        whole, images_of_loss = rules.shared.whole_targets(batch), batch.whole
    if rules.grad_accum_steps == 1:
        loss, correct = _forward(state, batch, rules, whole, images_of_loss)
        _backward(state, loss)
        return loss.detach(), correct
    loss_sum = torch.zeros((), device=rules.device)
    counts = []
    parts = zip(
        batch.images.tensor_split(rules.grad_accum_steps),
        _split_targets(batch.targets, rules.grad_accum_steps),
        strict=True,
    )
    whole = batch.targets if whole is None else whole
    for images, targets in parts:
        if not len(images):
            continue
        # Each part counts by what is labeled in it, so the sum is the mean over the whole batch.
        part = batch._replace(images=images, targets=targets)
        loss, correct = _forward(state, part, rules, whole, images_of_loss)
        _backward(state, loss)
        loss_sum += loss.detach()
        counts.append(correct)
    return loss_sum, torch.stack(counts).sum(0)


def _split_targets(targets: Tensor, parts: int) -> Sequence[Tensor]:
    """Parts of the targets; those of several heads are split head by head."""
    heads: Any = targets
    if not isinstance(heads, dict):
        return targets.tensor_split(parts)
    split = {name: own.tensor_split(parts) for name, own in heads.items()}
    return [HeadTargets({n: own[k] for n, own in split.items()}) for k in range(parts)]  # type: ignore[misc]


def _forward(
    state: TrainState, part: Batch, rules: StepRules, whole: Tensor | None, images_of_loss: int
) -> tuple[Tensor, Tensor]:
    """(loss, right answers or the tally's sums) of a batch, or of its part.

    `whole`: the targets of the batch that `part` is a part of, None: it is all; `images_of_loss`:
    how many images it has, over which the loss is a mean.
    """
    targets = part.targets
    if rules.amp_dtype is None:
        output = state.network(part.images)
    else:
        with torch.autocast(rules.device.type, dtype=rules.amp_dtype):
            output = state.network(part.images)
    if rules.tally is not None:
        return _tallied(output, targets, whole, rules, images_of_loss)
    if whole is None:
        loss = rules.objective(output, targets)
    else:
        loss = share_of_batch(rules.objective, output, targets, whole)
    correct = (output.logits.detach().argmax(1) == likeliest(targets)).sum()
    return loss, correct


def _tallied(
    output: Output, targets: Tensor, whole: Tensor | None, rules: StepRules, images: int
) -> tuple[Tensor, Tensor]:
    """(loss, the tally's sums); `images`: of the whole batch, over which the loss is a mean."""
    tally, objective = cast("Tally", rules.tally), rules.objective
    if not tally.parts:
        loss = share_of_batch(objective, output, targets, whole)
        return loss, tally.sums(output, targets, (), images)
    parts = list(cast("Parted", objective).parts(output, targets, whole).values())
    return torch.stack(parts).sum(), tally.sums(output, targets, parts, images)


def _backward(state: TrainState, loss: Tensor) -> None:
    if state.scaler is None:
        loss.backward()  # type: ignore[no-untyped-call]
    else:
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]


def _scaled_update(state: TrainState, rules: StepRules) -> None:
    """Under fp16 the scaler itself leaves out an update with non-finite gradients."""
    scaler = state.scaler
    if scaler is None:
        return
    if rules.clip_grad is not None:
        scaler.unscale_(state.optimizer)
        torch.nn.utils.clip_grad_norm_(state.parameters, rules.clip_grad)
    before = scaler.get_scale() if _lacks_momentum(state.optimizer) else 0.0
    scaler.step(state.optimizer)
    scaler.update()
    if before and scaler.get_scale() < before:
        state.optimizer.state.clear()  # left out: what it made for momentum was never written to
    if state.ema is not None:
        state.ema.update(state.model)


def _update(state: TrainState, rules: StepRules, finite: Tensor) -> None:
    if rules.guard:
        fused = hasattr(state.optimizer, "_step_supports_amp_scaling")
        if rules.device.type == "cpu" or not fused or _lacks_momentum(state.optimizer):
            if not finite.item():
                return
        else:
            # Fused kernels leave the update out by themselves: the host need not wait.
            state.optimizer.grad_scale = None  # type: ignore[attr-defined]
            state.optimizer.found_inf = 1.0 - finite.float()  # type: ignore[attr-defined]
    state.optimizer.step()
    if state.ema is not None:
        state.ema.update(state.model)


def _lacks_momentum(optimizer: torch.optim.Optimizer) -> bool:
    """Before the first update of an optimizer with momentum.

    Torch's fused SGD makes its momentum in that update and leaves it unset if the update is left
    out (torch 2.11 to 2.15): from the next one on it would learn from whatever lay there.
    """
    return not optimizer.state and any(group.get("momentum") for group in optimizer.param_groups)
