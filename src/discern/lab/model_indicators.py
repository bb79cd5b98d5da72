"""Figures of a model while it learns: of each parameter, its gradient, and the optimizer's state.

Written for modules and optimizers of PyTorch, which are read by their methods alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from discern.lab import tracker

__all__ = ["add_model_indicators", "store_model_indicators", "store_optimizer_indicators"]


def add_model_indicators(model: Any, model_name: str = "model") -> None:
    """Declare histograms MODEL.PARAMETER and MODEL.PARAMETER.grad of all that is trained.

    `store_model_indicators` then gives their values: the mean is written as NAME.mean, the
    distribution by the writers that keep one.
    """
    for name in trained_parameters(model):
        tracker.set_histogram(f"{model_name}.{name}")
        tracker.set_histogram(f"{model_name}.{name}.grad")
    _declared.add(model_name)


def store_model_indicators(model: Any, model_name: str = "model") -> None:
    """Add the present parameters and gradients of `model`; call it before a save.

    After `add_model_indicators` with this name: to its histograms. Without it: the mean, the mean
    of magnitudes (l1) and the root of the mean square (l2) of each, as param.MODEL.PARAMETER.mean,
    .l1 and .l2, and grad. likewise. A parameter without a gradient adds none. Waits for the device.
    """
    for name, parameter in trained_parameters(model).items():
        gradient = parameter.grad
        if model_name in _declared:
            tracker.add(f"{model_name}.{name}", parameter)
            if gradient is not None:
                tracker.add(f"{model_name}.{name}.grad", gradient)
            continue
        _add_norms(f"param.{model_name}.{name}", parameter)
        if gradient is not None:
            _add_norms(f"grad.{model_name}.{name}", gradient)


def store_optimizer_indicators(
    optimizer: Any, *, models: dict[str, Any] | None = None, optimizer_name: str = "optimizer"
) -> None:
    """Add the optimizer's state of each parameter: optim.OPTIMIZER.PARAMETER.KEY.mean, .l1, .l2.

    `models` (name to module) names the parameters, else they are numbered as the optimizer has
    them. States of one number, such as Adam's step, are added as they are.
    """
    names = {
        id(parameter): f"{model_name}.{name}"
        for model_name, model in (models or {}).items()
        for name, parameter in model.named_parameters()
    }
    number = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            name = names.get(id(parameter), str(number))
            number += 1
            for key, value in optimizer.state.get(parameter, {}).items():
                full = f"optim.{optimizer_name}.{name}.{key}"
                if not hasattr(value, "numel"):
                    if isinstance(value, (int, float)):
                        tracker.add(full, value)
                elif value.numel() == 1:
                    tracker.add(full, value)
                else:
                    _add_norms(full, value)


def trained_parameters(model: Any) -> dict[str, Any]:
    """The parameters by name that have a gradient to be."""
    named: Iterable[tuple[str, Any]] = model.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def _add_norms(name: str, tensor: Any) -> None:
    if not tensor.numel():
        return
    # In float64 on the host: sums of half precision on the device would overflow.
    values = tensor.detach().cpu().double()
    tracker.add(f"{name}.mean", float(values.mean()))
    tracker.add(f"{name}.l1", float(values.abs().mean()))
    tracker.add(f"{name}.l2", float((values * values).mean().sqrt()))


_declared: set[str] = set()
