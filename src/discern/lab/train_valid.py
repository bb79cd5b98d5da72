"""A ready training loop for own models: train an epoch, score the validation images, go on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from discern.lab import monit, tracker
from discern.lab.devices import get_device
from discern.lab.model_indicators import store_model_indicators
from discern.lab.training_loop import TrainingLoopConfigs


class Loader(Protocol):
    """Batches of (images, targets), with their data set."""

    dataset: Any

    def __iter__(self) -> Any:
        """The batches of one epoch."""


class Trainer:
    """Goes once over a loader: with an optimizer it trains, without one it scores.

    Tracked in the namespace of the caller: `.loss`, `.accuracy` (right answers / images), both over
    all images at the end of the epoch; in training `.loss` of each batch as a queue of 20 instead,
    written every `log_interval` batches. The global step counts samples trained on.
    """

    def __init__(
        self,
        model: nn.Module,
        loader: Iterable[tuple[Tensor, Tensor]],
        loss_func: Callable[[Tensor, Tensor], Tensor],
        accuracy_func: Callable[[Tensor, Tensor], Any],
        *,
        optimizer: torch.optim.Optimizer | None = None,
        log_interval: int = 10,
    ) -> None:
        self.model = model
        self.loader = loader
        self.loss_func = loss_func
        self.accuracy_func = accuracy_func
        self.optimizer = optimizer
        self.log_interval = log_interval
        self._declared = False

    def __call__(self) -> None:
        self._declare()
        trains = self.optimizer is not None
        self.model.train(trains)
        device = get_device(self.model)
        samples = 0
        right: Any = 0  # sums stay on the device: the host waits for a loss only
        losses: Any = 0
        with torch.set_grad_enabled(trains):
            for number, (data, target) in enumerate(self.loader, start=1):
                images, targets = data.to(device), target.to(device)
                output = self.model(images)
                loss = self.loss_func(output, targets)
                samples += len(targets)
                right = right + self.accuracy_func(output, targets)
                if self.optimizer is None:
                    losses = losses + loss * len(targets)
                    continue
                self.optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self.optimizer.step()
                tracker.add(".loss", float(loss.detach()))
                tracker.add_global_step(len(targets))
                if number % self.log_interval == 0:
                    tracker.save()
        if samples:
            tracker.add(".accuracy", float(right) / samples)
            if not trains:
                tracker.add(".loss", float(losses) / samples)

    def _declare(self) -> None:
        if self._declared:
            return
        self._declared = True
        tracker.set_scalar(".accuracy", is_print=True)
        if self.optimizer is not None:
            tracker.set_queue(".loss", 20, is_print=True)
        else:
            tracker.set_scalar(".loss", is_print=True)


class TrainValidConfigs(TrainingLoopConfigs):
    """Training and validation in turn, `epochs` times; steps are counted in samples.

    With `is_log_parameters` each epoch adds the model's figures, see `store_model_indicators`.
    """

    epochs: int = 10
    loop_count: int = "data_loop_count"  # type: ignore[assignment]
    loop_step: int = "data_loop_step"  # type: ignore[assignment]
    train_log_interval: int = 10
    is_log_parameters: bool = True
    loss_func: Callable[[Tensor, Tensor], Tensor]
    accuracy_func: Callable[[Tensor, Tensor], Any]
    optimizer: torch.optim.Optimizer
    model: nn.Module
    train_loader: Loader
    valid_loader: Loader
    trainer: Trainer
    validator: Trainer

    def run(self) -> None:
        """Train and validate until the epochs are over."""
        for _ in self.training_loop:
            with tracker.namespace("train"), monit.section("Train"):
                self.trainer()
            if self.is_log_parameters:
                store_model_indicators(self.model)
            with tracker.namespace("valid"), monit.section("Valid"):
                self.validator()


@TrainValidConfigs.calc(TrainValidConfigs.loss_func)
def cross_entropy_loss() -> Callable[[Tensor, Tensor], Tensor]:
    """Mean cross entropy of logits."""
    return F.cross_entropy


@TrainValidConfigs.calc(TrainValidConfigs.accuracy_func)
def simple_accuracy() -> Callable[[Tensor, Tensor], Tensor]:
    """How many of a batch are right."""
    return _right_answers


@TrainValidConfigs.calc(TrainValidConfigs.loop_count)
def data_loop_count(c: TrainValidConfigs) -> int:
    """The samples of all epochs."""
    return c.epochs * len(c.train_loader.dataset)


@TrainValidConfigs.calc(TrainValidConfigs.loop_step)
def data_loop_step(c: TrainValidConfigs) -> int:
    """The samples of one epoch."""
    return len(c.train_loader.dataset)


@TrainValidConfigs.calc(TrainValidConfigs.trainer)
def trainer(c: Any) -> Trainer:
    """One epoch of training."""
    return Trainer(
        c.model, c.train_loader, c.loss_func, c.accuracy_func,
        optimizer=c.optimizer, log_interval=c.train_log_interval,
    )  # fmt: skip


@TrainValidConfigs.calc(TrainValidConfigs.validator)
def validator(c: Any) -> Trainer:
    """The validation images, scored."""
    return Trainer(c.model, c.valid_loader, c.loss_func, c.accuracy_func)


def _right_answers(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(dim=1) == target).sum()
