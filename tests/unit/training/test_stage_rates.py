"""From a stage's config to the rates of its parameters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError
from discern.config.schema import RunConfig, StageConfig
from discern.data.images import Preprocess
from discern.data.manifest import Head, Locations, Manifest, unique_ids
from discern.data.sources import open_source
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import Classifier
from discern.optim.schedules import Schedule
from discern.training.material import FeedSettings, Material
from discern.training.stage_parts import optimizer_lines, peak_rate, stage_optimizer
from discern.training.stages import check_stages


def two_images() -> Material:
    """One training image of each class."""
    manifest = Manifest(
        ids=unique_ids(["a" * 64, "b" * 64]),
        locations=Locations.files(["a.png", "b.png"]),
        heads=(Head("label", "single", ("a", "b"), np.array([0, 1], dtype=np.int64)),),
        split=np.zeros(2, dtype=np.int8),
        root=Path(),
        layout="files",
    )
    pixels = Preprocess(height=8, width=8, channels=1, mean=(0.5,), std=(0.5,))
    settings = FeedSettings(device=torch.device("cpu"), workers=0, seed=0, flip=False)
    return Material(manifest, open_source(manifest), pixels, settings)


def network() -> Classifier:
    request = ModelRequest(name="resnet20", num_classes=2, image_size=(32, 32))
    return build_model(request).model


def test_scaled_rate_reaches_the_optimizer_and_is_told() -> None:
    stage = StageConfig(lr_base=0.1, batch_size=512, weight_decay=1e-4)
    assert 0.2 == pytest.approx(peak_rate(stage).lr)
    assert {0.2} == {g["base_lr"] for g in stage_optimizer(stage, network()).param_groups}
    assert [peak_rate(stage).line] == optimizer_lines(stage, network())


def test_groups_and_layer_decay_reach_the_optimizer() -> None:
    groups = [{"match": "head", "lr_scale": 10.0, "weight_decay": 0.0}]
    stage = StageConfig.model_validate({"lr": 0.1, "layer_decay": 0.5, "groups": groups})
    model = network()
    optimizer = stage_optimizer(stage, model)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    named = dict(model.named_parameters())
    assert 1.0 == pytest.approx(rates[id(named["network.head.weight"])])
    assert 0.1 * 0.5**10 == pytest.approx(rates[id(named["network.stem.weight"])])
    assert len(optimizer.param_groups) == len(optimizer_lines(stage, model))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"groups": [{"match": "haed.*"}]}, "did you mean 'head'"),
        ({"no_decay": ["nrom.*"]}, "no parameter's name fits"),
        ({"lr": 0.1, "warmup_lr": 0.5}, "warmup_lr"),
    ],
)
def test_settings_that_do_nothing_stop_before_training(
    settings: dict[str, object], text: str
) -> None:
    config = RunConfig.model_validate({"data": {"source": "images"}, "stages": {"train": settings}})
    with pytest.raises(ConfigError) as caught:
        check_stages(config, network(), two_images())
    assert text in str(caught.value)


@pytest.mark.feature("LA-05")
def test_knobs_of_the_lambda_trainer_are_in_the_config() -> None:
    """Rate, piecewise boundaries and decays, momentum, l2_weight_decay and what it skips."""
    stage = StageConfig.model_validate(
        {
            "lr": 0.5,
            "schedule": {
                "name": "piecewise",
                "args": {"boundaries": [2], "multiples": [1.0, 0.1]},
            },
            "optimizer": "momentum",
            "weight_decay": 0.0002,
            "no_decay": [r".*norm.*"],
        }
    )
    dumped = stage.model_dump()
    assert ["momentum", 0.5, 0.0002] == [
        dumped["optimizer"]["name"],
        dumped["lr"],
        dumped["weight_decay"],
    ]
    assert {"boundaries": [2], "multiples": [1.0, 0.1]} == dumped["schedule"]["args"]
    group = stage_optimizer(stage, network()).param_groups[0]
    assert (0.9, False) == (group["momentum"], group["nesterov"])
    schedule = Schedule(stage.schedule.name, stage.schedule.args, 40, 10)
    assert [0.5, 0.05] == pytest.approx([0.5 * schedule.factor(k) for k in (19, 20)])
