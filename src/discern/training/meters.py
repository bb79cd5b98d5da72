"""Running sums kept on the device between readings."""

from __future__ import annotations

import torch

from discern.compute.world import World
from discern.training.step import StepResult
from discern.training.tally import Tally


class Meters:
    """Loss and accuracy since the last reading; read with one wait for the device.

    `tally`: what the steps count instead of right answers, see `StepResult`. All sums are additive:
    those of several processes may be added before they are read.
    """

    def __init__(
        self, device: torch.device, world: World | None = None, tally: Tally | None = None
    ) -> None:
        self._world = world or World()
        # float64 sums: exact enough that the window's length never shows in the figures.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self._tally = tally
        size = 1 if tally is None else tally.size
        self._sums = torch.zeros(2 + size, dtype=dtype, device=device)
        self._loss, self._bad = self._sums[0], self._sums[-1]
        self._correct = self._sums[1] if tally is None else self._sums[1:-1]
        self.count = 0
        self.steps = 0

    def update(self, result: StepResult) -> None:
        """Add one step; a non-finite loss shows in the mean, as it should."""
        self._loss.add_(result.loss, alpha=result.samples)
        self._correct.add_(result.correct)
        self._bad.add_(~result.finite)
        self.count += result.samples
        self.steps += 1

    def read(self) -> dict[str, float]:
        """Mean loss, accuracy, non-finite steps and images of all ranks, since the last reset.

        With a tally its readings stand in place of the accuracy.
        """
        sums = [*self._sums.tolist(), float(self.count)]
        loss, *correct, bad, count = self._world.sum_values(sums)
        figures = {
            "loss": loss / count if count else float("nan"),
            "nonfinite_steps": bad / self._world.ranks,  # such a step is so on every rank
            "images": count,
        }
        if self._tally is not None:
            return figures | self._tally.readings(correct, round(count))
        return figures | {"accuracy": correct[0] / count if count else float("nan")}

    def reset(self) -> None:
        """Start a new window."""
        self._sums.zero_()
        self.count = 0
        self.steps = 0

    def state(self) -> dict[str, float | list[float]]:
        """The sums as JSON values."""
        return {"sums": self._sums.tolist(), "count": self.count, "steps": self.steps}

    def restore(self, state: dict[str, float | list[float]] | None) -> None:
        """Take back what `state` gave, bit for bit; None: start a new window."""
        if state is None:
            self.reset()
            return
        self._sums.copy_(torch.tensor(state["sums"], dtype=self._sums.dtype))
        self.count = int(state["count"])  # type: ignore[arg-type]
        self.steps = int(state["steps"])  # type: ignore[arg-type]
