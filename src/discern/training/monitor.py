"""The figure that a stage's model is chosen by: its name, and which way is better."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

from discern.base.errors import ConfigError
from discern.base.plugins import is_import_path
from discern.training.metric_table import better_way, open_metric

Mode = Literal["max", "min"]
# No figure: the later evaluation is the better one, so that the last epoch is kept.
LAST_EPOCH: Final = "last"
# Those of every evaluation; others are computed because a config names them.
ALWAYS = ("accuracy", "loss", "top5", LAST_EPOCH)


@dataclass(frozen=True, slots=True)
class Monitor:
    """A figure of the evaluation on the images that the model is chosen by."""

    name: str = "accuracy"
    mode: Mode = "max"

    def merit(self, value: float) -> float:
        """`value` so that more is better; one that is not a number is worse than all others."""
        if math.isnan(value):
            return -math.inf
        return value if self.mode == "max" else -value


def open_monitor(name: str, mode: Mode | None = None) -> Monitor:
    """The monitor of this name; `mode` None leaves it to what the name is known for.

    `last` is no figure: the latest evaluation ranks first. Raises ConfigError for an unknown
    metric, and for one whose better way nobody knows.
    """
    if name == LAST_EPOCH:
        return Monitor(LAST_EPOCH, "max")
    if is_import_path(name):
        open_metric(name)
    mode = better_way(name) if mode is None else mode
    if mode is None:
        raise ConfigError(
            "which way this figure is better is not known",
            where="monitor",
            got=name,
            expected="monitor_mode: max or min beside it",
        )
    return Monitor(name, mode)
