"""`--check` and `--overfit-batches`: a few batches, to see that a training runs and learns."""

from __future__ import annotations

from discern.config.schema import RunConfig, StageConfig
from discern.config.stage_lengths import LENGTHS

# Catalyst's CheckRun.
BATCHES = 3
EPOCHS = 2


def shortened(config: RunConfig) -> RunConfig:
    """The same stages in 2 epochs of 3 batches each."""
    stages = {name: _short(stage) for name, stage in config.stages.items()}
    return config.model_copy(update={"stages": stages})


def _short(stage: StageConfig) -> StageConfig:
    if stage.kind != "train":
        return stage
    return stage.model_copy(
        update={
            **dict.fromkeys(LENGTHS),
            "epochs": EPOCHS,
            # A batch that is still to be chosen: the epoch is cut when it is.
            "epoch_size": None if stage.batch_size == "auto" else BATCHES * stage.batch,
            "warmup_epochs": min(1.0, stage.warmup_epochs),
            "close_aug": min(1, stage.close_aug),
        }
    )


def scored_images(config: RunConfig) -> int:
    """How many images of each split a check scores."""
    return BATCHES * max(stage.batch for stage in config.training_stages.values())


def overfit_images(config: RunConfig) -> int | None:
    """The few images that are trained on and scored, if the config asks for that."""
    batches, first = config.data.overfit_batches, next(iter(config.training_stages.values()))
    return None if batches is None else batches * first.batch
