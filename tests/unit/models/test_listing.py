"""The list of networks and the facts of one."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.models.arithmetic import count_macs, count_parameters
from discern.models.listing import imagenet_classes, list_models, model_facts
from discern.models.published import PUBLISHED
from discern.models.timm_nets import is_timm_name


def test_multiply_adds_agree_with_a_count_by_hand() -> None:
    conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1)
    depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8)
    network = nn.Sequential(
        conv, depthwise, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
    by_hand = 16 * 16 * 8 * 27 + 16 * 16 * 8 * 25 + 80
    assert by_hand == count_macs(network, torch.zeros(1, 3, 32, 32))
    assert by_hand == count_macs(network, torch.zeros(4, 3, 32, 32))
    assert (3 * 8 * 9 + 8) + (8 * 25 + 8) + 90 == count_parameters(network)


def test_facts_of_resnet18_are_the_known_ones() -> None:
    facts = model_facts("imagenet1k-resnet-18")
    assert ("resnet18", 11_689_512, 1.81, 512, 1000) == (
        facts.name,
        facts.parameters,
        round(facts.gmacs, 2),
        facts.features,
        facts.classes,
    )
    assert ((0.485, 0.456, 0.406), 224) == (facts.input.mean, facts.input.height)
    assert facts.license == "apache-2.0"
    assert facts.top1 == 0.73158
    assert facts.published_at is not None
    assert "imagenet1k-resnet-18" in facts.aliases
    json.dumps(facts.record())


def test_facts_of_an_own_network_follow_its_size_and_classes() -> None:
    facts = model_facts("mlp", image_size=(28, 28), channels=1)
    assert (109_386, 109_184 / 1e9, 64) == (facts.parameters, facts.gmacs, facts.features)
    assert ("none", None, None) == (facts.weights, facts.license, facts.top1)
    assert (
        109_386 + 65
        == model_facts("mlp", image_size=(28, 28), channels=1, num_classes=11).parameters
    )


def test_own_networks_for_photographs_are_counted_at_224_pixels() -> None:
    facts = model_facts("squeezenet1_1")
    # 0.349 G are counted for Gluon's, which classifies each of 13 x 13 pixels before the average.
    expected = round(0.349 - 512 * 1000 * (13 * 13 - 1) / 1e9, 3)
    assert (1_235_496, expected, 512, 224) == (
        facts.parameters,
        round(facts.gmacs, 3),
        facts.features,
        facts.input.height,
    )
    assert 61_100_840 == model_facts("alexnet").parameters


def test_list_is_filtered_by_name_size_license_and_weights() -> None:
    assert ["fast_net"] == [line.name for line in list_models("fast_n")]
    small = list_models("resnet*_cifar", max_params=600_000)
    assert ["resnet20_cifar", "resnet32_cifar"] == [
        line.name
        for line in small
        if line.name in ("resnet20_cifar", "resnet32_cifar", "resnet110_cifar")
    ]
    assert all(line.parameters is not None for line in small)
    apache = list_models("convnext_*", license_part="Apache", count=False)
    assert "convnext_atto" in {line.name for line in apache}
    assert {"apache-2.0"} == {line.license for line in apache}
    assert [] == list_models("*cifar*", pretrained=True)
    assert [] == list_models("no-such-network")


def test_names_of_the_published_table_are_timms() -> None:
    for name, row in PUBLISHED.items():
        assert is_timm_name(name), name
        assert 0.7 < row.top1 < row.top5 < 1.0


def test_imagenet_has_1000_classes_in_label_order() -> None:
    classes = imagenet_classes()
    assert 1000 == len(classes)
    assert ("n01440764", "tench") == (classes[0][0], classes[0][1].split(",")[0])
    assert sorted(wnid for wnid, _ in classes) == [wnid for wnid, _ in classes]


def test_unknown_names_are_errors() -> None:
    with pytest.raises(ConfigError, match="unknown model"):
        model_facts("resnet19000")
