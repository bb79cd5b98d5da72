"""Rates and warm-ups for batches of another size than the one a rate was found for.

Owns the scaling rules, the plan that stands for MXNet's `lbsgd`, and the optimizer of its `lars`
strategy. Arithmetic but for that class.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.optim.per_parameter import PerParameterOptimizer, check_fraction, decayed_gradient

SCALING_RULES = ("linear", "sqrt")
WARMUP_STRATEGIES = ("linear", "power2", "sqrt", "lars")
# MXNet's bounds of the ratio of a layer's weights to its gradient, and its guard against 0.
_LEAST_RATIO, _LARGEST_RATIO, _EPSILON = 0.01, 100.0, 1e-18


@dataclass(frozen=True, slots=True)
class ScaledRate:
    """A peak rate for this batch, and the line that tells how it came about."""

    lr: float
    line: str


def scale_rate(
    lr_base: float, batch_size: int, *, lr_base_size: int = 256, rule: str = "linear"
) -> ScaledRate:
    """`lr_base`, found for batches of `lr_base_size`, for batches of `batch_size` images an update.

    `linear` (for SGD): lr_base * batch_size / lr_base_size; `sqrt` (for Adam and its kin): by the
    square root of that. `batch_size` counts all devices and accumulated parts.
    Source: Goyal et al., "Accurate, large minibatch SGD" (2017), base 256; Krizhevsky (2014).
    """
    if rule not in SCALING_RULES:
        raise ConfigError(
            f"unknown scaling rule '{rule}'",
            where="lr_scaling",
            got=rule,
            expected=" or ".join(SCALING_RULES),
            hint=did_you_mean(rule, SCALING_RULES),
        )
    if not lr_base > 0 or batch_size < 1 or lr_base_size < 1:
        raise ConfigError(
            "a rate and batch sizes above 0 are needed to scale a rate",
            where="lr_base",
            got=f"lr_base {lr_base}, batch size {batch_size}, lr_base_size {lr_base_size}",
        )
    ratio = batch_size / lr_base_size
    lr = lr_base * (ratio if rule == "linear" else math.sqrt(ratio))
    shown = f"{batch_size} / {lr_base_size}"
    line = f"learning rate {lr:g} = {lr_base:g} x " + (
        shown if rule == "linear" else f"sqrt({shown})"
    )
    return ScaledRate(lr, f"{line} (images per update / base)")


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeBatchPlan:
    """A stage's settings that stand for `lbsgd`: what to give the stage, and a line to print.

    `batch_size`: images an update; `grad_accum_steps`: parts it is summed from. `lr`: the peak.
    The warm-up rises from `warmup_begin` (a fraction of the peak) over `warmup_epochs` in the form
    `warmup_mode`.
    """

    batch_size: int
    grad_accum_steps: int
    lr: float
    warmup_epochs: float
    warmup_mode: str
    warmup_begin: float
    optimizer: str = "lbsgd"
    arguments: dict[str, Any] = field(default_factory=dict)
    line: str = ""


def plan_large_batch(
    lr: float,
    batch_size: int,
    *,
    macrobatch_size: int = 0,
    workers: int = 1,
    warmup_epochs: float = 5.0,
    strategy: str = "linear",
) -> LargeBatchPlan:
    """MXNet's `lbsgd` as a stage: `lr` is the rate of one worker's `batch_size` images.

    The scale is ceil(macrobatch_size / batch_size / workers), 1 for a macrobatch of 0. Update k of
    the W warm-up updates has the rate lr * (1 + (scale - 1) * s), s = k / W (`linear`), its square
    (`power2`) or its root (`sqrt`), and lr * scale after them. `lars` has no warm-up: each layer's
    rate is lr times its own ratio, see `LargeBatchSgd`. Defaults are MXNet's.
    """
    if strategy not in WARMUP_STRATEGIES:
        raise ConfigError(
            f"unknown warm-up strategy '{strategy}'",
            where="warmup_strategy",
            got=strategy,
            expected=", ".join(WARMUP_STRATEGIES),
            hint=did_you_mean(strategy, WARMUP_STRATEGIES),
        )
    if not lr > 0 or batch_size < 1 or workers < 1 or macrobatch_size < 0 or warmup_epochs < 0:
        raise ConfigError(
            "a large batch needs a rate, a batch and workers above 0",
            where="lbsgd",
            got=f"lr {lr}, batch {batch_size}, macrobatch {macrobatch_size}, workers {workers}, "
            f"warm-up of {warmup_epochs} epochs",
        )
    scale = max(1, math.ceil(macrobatch_size / batch_size / workers))
    by_layer = strategy == "lars"
    peak = lr if by_layer else lr * scale
    images = batch_size * workers * scale
    tale = (
        "each layer at its own ratio (lars)"
        if by_layer
        else f"{strategy} warm-up from {lr:g} over {warmup_epochs:g} epochs"
    )
    return LargeBatchPlan(
        batch_size=images,
        grad_accum_steps=scale,
        lr=peak,
        warmup_epochs=0.0 if by_layer else warmup_epochs,
        warmup_mode="linear" if by_layer else strategy,
        warmup_begin=1.0 if by_layer else 1.0 / scale,
        arguments={"layer_rates": by_layer},
        line=f"large batch: {images} images per update in {scale} parts, rate {peak:g}, {tale}",
    )


class LargeBatchSgd(PerParameterOptimizer):
    """Heavy-ball SGD, with `layer_rates` at a rate of its own for each layer.

    g += weight_decay * w; m = momentum * m - lr * r * g; w += m. With `layer_rates`
    r = sqrt(|w|^2 / (|g|^2 + weight_decay * |w|^2)), kept in [0.01, 100], in groups of matrices
    (g before decay); else 1. Source: MXNet's LBSGD; You et al., LARS (2017); momentum: its example.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.1,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        layer_rates: bool = False,
    ) -> None:
        check_fraction("momentum", momentum)
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "layer_rates": layer_rates,
            },
        )

    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """The heavy-ball step at the layer's rate."""
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        ratio = torch.ones((), dtype=parameter.dtype, device=parameter.device)
        if group["layer_rates"] and parameter.ndim > 1:
            weight = parameter.square().sum()
            slope = gradient.square().sum() + group["weight_decay"] * weight + _EPSILON
            ratio = (weight / slope).sqrt().clamp_(_LEAST_RATIO, _LARGEST_RATIO)
        drift = decayed_gradient(parameter, gradient, group)
        buffer = state["momentum_buffer"].mul_(group["momentum"])
        buffer.sub_(drift * (ratio * group["lr"]))
        parameter.add_(buffer)
