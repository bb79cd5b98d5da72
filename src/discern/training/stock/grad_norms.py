"""Norms of the gradients, all together and parameter by parameter."""

from __future__ import annotations

import math
import re
from re import Pattern

import torch
from torch import Tensor

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback
from discern.training.probes import Probe
from discern.training.step import TrainState


def gradient_scale(state: TrainState) -> float:
    """What the gradients are multiplied by while they are computed: fp16's loss scale, else 1."""
    return 1.0 if state.scaler is None else float(state.scaler.get_scale())


def name_pattern(text: str, where: str) -> Pattern[str]:
    """`text` as a regular expression for whole names. Raises ConfigError."""
    try:
        return re.compile(text)
    except re.error as error:
        raise ConfigError(f"not a regular expression: {error}", where=where, got=text) from error


class GradNorms(Callback):
    """Norms of each parameter's gradient and of all together, before clipping.

    Readings: `gradients/norm` and `gradients/norm/PARAMETER`. `every`: steps between looks, None:
    those between readings. `order` of the norm: 2, 1, ... or inf. `each` false leaves out the
    single parameters; `match` is a regular expression for the whole names of those shown.
    """

    def __init__(
        self,
        every: int | None = None,
        order: float = 2.0,
        each: bool = True,  # noqa: FBT001, FBT002 - a config key
        match: str = ".*",
    ) -> None:
        if every is not None and every < 1:
            raise ConfigError(
                "not a number of steps", where="grad_norms", got=every, expected=">= 1"
            )
        if not (order > 0 or math.isinf(order)):
            raise ConfigError("not the order of a norm", where="grad_norms", got=order)
        self.every = every
        self._order = float(order)
        self._each = each
        self._pattern = name_pattern(match, "grad_norms.match")

    def probe(self) -> Probe:
        """It looks by itself."""
        return self

    def open(self, state: TrainState) -> None:
        """Nothing to set: gradients lie with their parameters."""

    def close(self) -> None:
        """Nothing to take off."""

    def look(self, state: TrainState) -> dict[str, Tensor]:
        """The norms: float32 []."""
        scale = gradient_scale(state)
        norms = {
            name: torch.linalg.vector_norm(
                parameter.grad.detach(), self._order, dtype=torch.float32
            ) / scale
            for name, parameter in state.model.named_parameters()
            if parameter.grad is not None
        }  # fmt: skip
        if not norms:
            return {}
        whole = torch.linalg.vector_norm(torch.stack(list(norms.values())), self._order)
        figures = {"gradients/norm": whole}
        if self._each:
            figures |= {
                f"gradients/norm/{name}": norm
                for name, norm in norms.items()
                if self._pattern.fullmatch(name)
            }
        return figures
