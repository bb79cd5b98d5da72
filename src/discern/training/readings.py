"""The plain figures of some steps: loss and rates."""

from __future__ import annotations

from collections.abc import Mapping

import torch


def step_readings(
    figures: Mapping[str, float], optimizer: torch.optim.Optimizer
) -> dict[str, float]:
    """`train/...`: means over the steps since the last reading, and the highest rate."""
    readings = {
        "train/loss": figures["loss"],
        "train/accuracy": figures["accuracy"],
        "train/lr": max(float(group["lr"]) for group in optimizer.param_groups),
    }
    # Of several heads each one's accuracy, and the parts of the loss.
    readings |= {f"train/{name}": value for name, value in figures.items() if "/" in name}
    if figures["nonfinite_steps"]:
        readings["train/nonfinite_steps"] = figures["nonfinite_steps"]
    return readings


def group_rates(optimizer: torch.optim.Optimizer) -> tuple[tuple[float, float | None], ...]:
    """(rate, momentum) of each parameter group; Adam's momentum is its first beta.

    None for an optimizer without one.
    """
    return tuple((float(group["lr"]), _momentum(group)) for group in optimizer.param_groups)


def _momentum(group: Mapping[str, object]) -> float | None:
    momentum = group.get("momentum")
    betas = group.get("betas")
    if momentum is None and isinstance(betas, (tuple, list)) and betas:
        momentum = betas[0]
    return float(momentum) if isinstance(momentum, (int, float)) else None
