"""The preprocessing that the stages' augmentation was made for."""

from __future__ import annotations

from dataclasses import replace

from discern.base.errors import ConfigError
from discern.config.schema import RunConfig
from discern.data.images import Preprocess
from discern.feed.augment import Policy
from discern.training.material import Material


def as_augmented(config: RunConfig, material: Material) -> Preprocess:
    """The preprocessing that the stages' augmentation belongs to; what the config gives stays."""
    preprocess, data = material.preprocess, config.data

    def kept(adapted: Preprocess) -> Preprocess:
        if data.mean is not None:
            adapted = replace(
                adapted, mean=preprocess.mean, std=preprocess.std, per_image=preprocess.per_image
            )
        if data.crop_pct is not None:
            adapted = replace(adapted, crop_pct=preprocess.crop_pct)
        return adapted

    wanted = set()
    for stage in config.training_stages.values():
        augment = material.augmentation(stage.augment.name, stage.augment.args)
        if isinstance(augment, Policy):
            wanted.add(kept(augment.evaluation.adapt(preprocess)))
        elif augment is not None:
            wanted.add(preprocess)
    if len(wanted) > 1:
        raise ConfigError(
            "the stages' augmentations want different normalizations",
            where="stages.*.augment",
            hint="give data.mean and data.std, or presets of one kind",
        )
    return wanted.pop() if wanted else preprocess
