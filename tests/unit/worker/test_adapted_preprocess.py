"""The preprocessing that the stages' augmentations were made for."""

from types import SimpleNamespace

import pytest

from discern.base.errors import ConfigError
from discern.config.schema import RunConfig
from discern.data.images import Preprocess
from discern.feed.photo import PhotoAugment
from discern.feed.policies import PolicyContext, named_policy
from discern.worker.adapted_preprocess import as_augmented

PHOTO = Preprocess(height=64, width=64, channels=3, mean=(0.4,) * 3, std=(0.2,) * 3)


def adapted(**data):
    config = RunConfig.model_validate(
        {
            "data": {"source": "photos", **data},
            "stages": {"one": {"augment": "imagenet"}, "two": {"augment": "light"}},
        }
    )
    context = PolicyContext(small=False, crop=PhotoAugment(), flip=True)
    material = SimpleNamespace(
        preprocess=PHOTO, augmentation=lambda name, _: named_policy(name, context)
    )
    return as_augmented(config, material)


def test_presets_of_different_normalizations_need_a_mean_and_deviation():
    with pytest.raises(ConfigError, match="different normalizations") as refused:
        adapted()
    assert "give data.mean and data.std" in refused.value.hint


def test_with_a_mean_and_deviation_given_presets_may_differ():
    assert adapted(mean=[0.4] * 3, std=[0.2] * 3) == PHOTO
