"""The shared loop of the optimizers written here: one parameter after the other.

Owns the step; the formulas are its subclasses'. Torch's and timm's optimizers do not pass here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor


class PerParameterOptimizer(torch.optim.Optimizer, ABC):
    """Calls `update_parameter` for each parameter with a gradient. A rate of 0 changes nothing."""

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any]) -> None:
        super().__init__(params, defaults)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    self.update_parameter(parameter, parameter.grad, state, group)
        return loss

    @abstractmethod
    def update_parameter(
        self, parameter: Tensor, gradient: Tensor, state: dict[str, Any], group: dict[str, Any]
    ) -> None:
        """One update in place, with the parameter's `state` (empty at first) and its group."""


def decayed_gradient(parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
    """The gradient of loss + weight_decay / 2 * |parameter|^2: coupled decay."""
    if not group["weight_decay"]:
        return gradient
    return gradient.add(parameter, alpha=group["weight_decay"])


def check_fraction(name: str, value: float) -> None:
    """Raise ValueError unless 0 <= `value` < 1."""
    if not 0.0 <= value < 1.0:
        message = f"'{name}' is {value}, but must be at least 0 and below 1"
        raise ValueError(message)
