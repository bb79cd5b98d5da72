"""The ways to say how long a stage is; each stage has exactly one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from discern.config.schema.stage import StageConfig

LENGTHS: Final = ("epochs", "steps", "examples", "minutes")
DEFAULT_EPOCHS: Final = 10


def length_in_epochs(stage: StageConfig, images: int) -> float | None:
    """About how many passes over `images` training images `stage` makes; None: of some minutes.

    A batch that is still to be chosen counts as one image, the least it can be.
    """
    shown = min(stage.epoch_size or images, images) or 1
    if stage.steps is not None:
        return stage.steps * (1 if stage.batch_size == "auto" else stage.batch) / shown
    if stage.examples is not None:
        return stage.examples / shown
    return stage.epochs
