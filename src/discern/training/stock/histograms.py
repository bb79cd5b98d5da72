"""Distributions of parameters and gradients, for the writers that keep them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback, Distribute, Place
from discern.training.probes import Probe
from discern.training.step import TrainState
from discern.training.stock.grad_norms import gradient_scale, name_pattern


class Histograms(Callback):
    """All values of each parameter and of its gradient before clipping, every so many steps.

    Written as `parameters/NAME` and `gradients/NAME` by the writers that keep distributions
    (TensorBoard, JSON lines, W&B); the run's own log has none. `every`: steps between looks. Such a
    step waits for the device and copies the network to the host: twice its float32 size is in
    memory until the writers have it. `match`: regular expression for the whole names of parameters.
    """

    def __init__(self, every: int = 100, match: str = ".*") -> None:
        if every < 1:
            raise ConfigError(
                "not a number of steps", where="histograms", got=every, expected=">=1"
            )
        self.every: int | None = every
        self._pattern = name_pattern(match, "histograms.match")
        self._distribute: Distribute | None = None

    def attach(self, place: Place) -> None:
        """Learn where distributions go."""
        self._distribute = place.distribute

    def probe(self) -> Probe | None:
        """It looks by itself, if anybody takes what it sees."""
        return None if self._distribute is None else self

    def open(self, state: TrainState) -> None:
        """Nothing to set: gradients lie with their parameters."""

    def close(self) -> None:
        """Nothing to take off."""

    def look(self, state: TrainState) -> dict[str, Tensor]:
        """Hand over the values; no figures for the readings."""
        if self._distribute is None:
            return {}
        step, scale = state.step + 1, gradient_scale(state)
        for name, parameter in state.model.named_parameters():
            if not self._pattern.fullmatch(name):
                continue
            self._distribute(f"parameters/{name}", step, _host(parameter.detach()))
            if parameter.grad is not None:
                self._distribute(f"gradients/{name}", step, _host(parameter.grad.detach() / scale))
        return {}


def _host(values: Tensor) -> NDArray[np.float32]:
    # A copy: the parameter is another one by the time that a writer reads it.
    host: NDArray[np.float32] = values.flatten().float().cpu().clone().numpy()
    return host
