"""Lookahead: a second set of weights that follows the optimizer's every k updates.

Owns the wrapper. timm's begins its slow weights at the first exchange instead of at the start, and
does not say so; this one follows the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import torch
from torch import Tensor

_SLOW = "lookahead_slow"
_COUNT = "lookahead_step"


class Lookahead(torch.optim.Optimizer):
    """`base` makes the steps; every `k` of them the slow weights go `alpha` of the way to it.

    slow += alpha * (fast - slow); fast = slow. Groups, state and its dictionary are the base's,
    with the slow weights in it, so a checkpoint of this is one of an ordinary optimizer.
    Source of formula and defaults: Zhang et al. (2019); Catalyst's k 5, alpha 0.5.
    """

    def __init__(self, base: torch.optim.Optimizer, *, k: int = 5, alpha: float = 0.5) -> None:
        if k < 1 or not 0.0 < alpha <= 1.0:
            message = f"'k' must be at least 1 and 'alpha' in (0, 1], got {k} and {alpha}"
            raise ValueError(message)
        self.base = base
        self.k = k
        self.alpha = alpha
        super().__init__(base.param_groups, dict(base.defaults))
        self._share()

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of the base; each `k`-th is followed by the exchange."""
        fresh = self._first_weights()
        loss = self.base.step() if closure is None else self.base.step(closure)
        for parameter, weight in fresh:
            # The base makes its own state where there is none: only then may ours join it.
            self.state[parameter][_SLOW] = weight
        for group in self.param_groups:
            group[_COUNT] = group.get(_COUNT, 0) + 1
            if group[_COUNT] % self.k == 0:
                self._exchange(group["params"])
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a state of this class, or from one of the base alone."""
        self.base.load_state_dict(state_dict)
        self._share()

    def state_dict(self) -> dict[str, Any]:
        """The base's state with the slow weights and the count of steps."""
        return self.base.state_dict()

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state

    def _first_weights(self) -> list[tuple[Tensor, Tensor]]:
        return [
            (parameter, parameter.detach().clone())
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and _SLOW not in self.state.get(parameter, {})
        ]

    @torch.no_grad()
    def _exchange(self, parameters: list[Tensor]) -> None:
        for parameter in parameters:
            slow = self.state.get(parameter, {}).get(_SLOW)
            if slow is not None:
                slow.lerp_(parameter, self.alpha)
                parameter.copy_(slow)
