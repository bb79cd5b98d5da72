"""Checkpoints at fixed steps or epochs, the last few of which are kept."""

from __future__ import annotations

from typing import Any

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback, Progress, Signal


class CheckpointEvery(Callback):
    """Saves every `steps` updates, or every `epochs` epochs, and keeps the last `keep` of these.

    `keep` None keeps all. The newest and the best checkpoints are kept in any case.
    """

    def __init__(
        self, steps: int | None = None, epochs: int | None = None, keep: int | None = 1
    ) -> None:
        if (steps is None) == (epochs is None) or (steps or epochs or 0) < 1:
            raise ConfigError(
                "checkpoints are asked for every so many steps or every so many epochs",
                where="checkpoint_every", got=f"steps {steps}, epochs {epochs}",
                expected="one of the two, 1 or more",
            )  # fmt: skip
        if keep is not None and keep < 1:
            raise ConfigError(
                "a checkpoint that is not kept need not be written",
                where="checkpoint_every", got=f"keep {keep}", expected="1 or more, or null for all",
            )  # fmt: skip
        self.steps, self.epochs, self.keep = steps, epochs, keep
        self.saved: list[int] = []

    def after_step(self, progress: Progress) -> Signal | None:
        """Save at multiples of `steps`, counted over all stages."""
        if self.steps is None or progress.step % self.steps:
            return None
        self._note(progress.step)
        return Signal.SAVE

    def after_epoch(self, progress: Progress) -> None:
        """An epoch's end is saved anyway: keep it at multiples of `epochs`."""
        if self.epochs is not None and progress.epoch % self.epochs == 0:
            self._note(progress.step)

    def _note(self, step: int) -> None:
        if step not in self.saved:
            self.saved.append(step)

    def kept_steps(self) -> set[int]:
        """The last `keep` of the steps saved."""
        return set(self.saved if self.keep is None else self.saved[-self.keep :])

    def state(self) -> dict[str, Any]:
        """The steps saved."""
        return {"saved": self.saved}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self.saved = list(state["saved"])
