"""What a checkpoint holds of a training in progress, taken out of it and put back bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor

from discern.base.errors import RunError
from discern.training.step import TrainState
from discern.training.tensor_trees import join_tree, on_host, split_tree


def capture_state(state: TrainState) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
    """(tensor groups, JSON values) of model, EMA, optimizer, scaler, counters, random states.

    And of the objective's own weights, if it has any.
    """
    optimizer_tensors, optimizer_tree = split_tree(state.optimizer.state_dict())
    rng_tensors, rng_tree = split_tree(_random_states(_device(state)))
    groups = {
        "model": on_host(state.model.state_dict()),
        "optimizer": on_host(optimizer_tensors),
        "random": on_host(rng_tensors),
    }
    if state.ema is not None:
        groups["ema"] = on_host(state.ema.state_dict())
    if state.learned is not None:
        groups["objective"] = on_host(state.learned.state_dict())
    values = {
        "step": state.step,
        "stage_step": state.stage_step,
        "samples": state.samples,
        "rate_scale": state.rate_scale,
        "optimizer": optimizer_tree,
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "random": rng_tree,
        "ema_updates": None if state.ema is None else state.ema.updates,
    }
    return groups, values


def restore_state(
    state: TrainState, groups: dict[str, dict[str, Tensor]], values: dict[str, Any]
) -> None:
    """Put back what `capture_state` took. Raises RunError if it belongs to another training."""
    try:
        state.model.load_state_dict(groups["model"])
        if state.learned is not None:
            state.learned.load_state_dict(groups["objective"])
        _restore_optimizer(state, join_tree(values["optimizer"], groups["optimizer"]))
        if state.ema is not None:
            state.ema.load_state_dict(groups["ema"], updates=int(values["ema_updates"]))
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(
            "the checkpoint does not fit this network and optimizer",
            got=str(error).splitlines()[0][:300],
            hint="the config changed since it was written: start a new run with --fresh",
        ) from error
    if state.scaler is not None and values["scaler"] is not None:
        state.scaler.load_state_dict(values["scaler"])
    state.step = values["step"]
    state.stage_step = values["stage_step"]
    state.samples = values["samples"]
    state.rate_scale = values["rate_scale"]
    if values["random"] is not None:
        _restore_random(join_tree(values["random"], groups["random"]), _device(state))


def _restore_optimizer(state: TrainState, saved: dict[str, Any]) -> None:
    state.optimizer.load_state_dict(saved)
    for parameter, entry in state.optimizer.state.items():
        for name, value in entry.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                # The file holds contiguous tensors; kernels want the parameter's own layout.
                entry[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)


def _device(state: TrainState) -> torch.device:
    """Where the training computes."""
    return next((p.device for p in state.parameters), torch.device("cpu"))


def _random_states(device: torch.device) -> dict[str, Any]:
    version, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": list(random.getstate()[1]),
        "python_gauss": random.getstate()[2],
        "numpy": [
            str(version),
            [int(k) for k in keys],
            int(position),
            int(has_gauss),
            float(gauss),
        ],
    }
    if device.type == "cuda":
        # Of this device alone: asking the others would claim memory on each.
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _restore_random(states: dict[str, Any], device: torch.device) -> None:
    torch.set_rng_state(states["torch"])
    random.setstate((3, tuple(states["python"]), states["python_gauss"]))
    version, keys, position, has_gauss, gauss = states["numpy"]
    np.random.set_state((version, np.array(keys, dtype=np.uint32), position, has_gauss, gauss))
    if "cuda" in states and device.type == "cuda":
        torch.cuda.set_rng_state(_own_state(states["cuda"], device), device)


def _own_state(stored: Tensor | list[Tensor], device: torch.device) -> Tensor:
    """The state of `device`; checkpoints once held those of all devices of the machine."""
    if isinstance(stored, Tensor):
        return stored
    return stored[min(device.index or 0, len(stored) - 1)]
