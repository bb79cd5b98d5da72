"""The classic networks by name: published sizes, forms, smallest images, one training step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from discern.base.errors import ConfigError, ModelError
from discern.models.arithmetic import count_parameters
from discern.models.classifier import Route, wrap_network
from discern.models.nets.alexnet import alexnet
from discern.models.nets.builders import BUILDERS, own_names, resolve_own, usual_side
from discern.models.nets.googlenet import googlenet
from discern.models.nets.headed import HeadedNetwork
from discern.models.nets.inception_bn import inception_bn
from discern.models.nets.mobilenet import mobilenet_v1, mobilenet_v2
from discern.models.nets.resnet_cifar import ResNetCifar
from discern.models.nets.resnet_imagenet import STAGES, resnet, resnet_imagenet, resnext
from discern.models.nets.smallest import smallest_side, with_smallest_side
from discern.models.nets.squeezenet import squeezenet
from discern.models.timm_nets import build_timm

LARGE = (224, 224)
Build = Callable[..., HeadedNetwork]

# 1,000 classes, 3 channels. Sources: alexnet and googlenet (without its auxiliary heads), the
# num_params of torchvision's weight records; squeezenet, the same and Gluon's model zoo; inception
# with batch norm, bninception of pretrained-models.pytorch; resnext, those of torchvision.
PUBLISHED: list[tuple[Build, dict[str, Any], int]] = [
    (alexnet, {}, 61_100_840),
    (googlenet, {}, 6_624_904),
    (inception_bn, {}, 11_295_240),
    (squeezenet, {"version": "1.0"}, 1_248_424),
    (squeezenet, {"version": "1.1"}, 1_235_496),
]

# The table of Gluon's model zoo (mxnet.gluon.model_zoo.vision), which counts the running mean and
# variance of batch norm too; its MobileNetV2 has no bias in the head, ours has 1,000 values there.
GLUON: list[tuple[Build, dict[str, Any], int]] = [
    (mobilenet_v1, {"multiplier": 1.0}, 4_253_864),
    (mobilenet_v1, {"multiplier": 0.75}, 2_601_976),
    (mobilenet_v1, {"multiplier": 0.5}, 1_342_536),
    (mobilenet_v1, {"multiplier": 0.25}, 475_544),
    (mobilenet_v2, {"multiplier": 1.0}, 3_539_136 + 1000),
    (mobilenet_v2, {"multiplier": 0.75}, 2_653_864 + 1000),
    (mobilenet_v2, {"multiplier": 0.5}, 1_983_104 + 1000),
    (mobilenet_v2, {"multiplier": 0.25}, 1_526_856 + 1000),
    (resnet, {"num_layers": 18, "version": 1}, 11_699_112),
    (resnet, {"num_layers": 34, "version": 1}, 21_814_696),
    (resnet, {"num_layers": 18, "version": 2}, 11_695_796),
    (resnet, {"num_layers": 34, "version": 2}, 21_811_380),
    (resnet, {"num_layers": 50, "version": 2}, 25_595_060),
    (resnet, {"num_layers": 101, "version": 2}, 44_639_412),
    (resnet, {"num_layers": 152, "version": 2}, 60_329_140),
]


def count_with_statistics(network: nn.Module) -> int:
    running = (b for name, b in network.named_buffers() if "running" in name)
    return count_parameters(network) + sum(b.numel() for b in running)


@pytest.mark.feature("MX-61")
@pytest.mark.parametrize(("build", "arguments", "expected"), PUBLISHED)
def test_parameters_are_as_published(build: Build, arguments: Any, expected: int) -> None:
    with torch.device("meta"):
        assert expected == count_parameters(build(1000, 3, LARGE, **arguments))


@pytest.mark.feature("MX-64")
@pytest.mark.feature("MX-65")
@pytest.mark.parametrize(("build", "arguments", "expected"), GLUON)
def test_values_are_as_many_as_gluons(build: Build, arguments: Any, expected: int) -> None:
    with torch.device("meta"):
        assert expected == count_with_statistics(build(1000, 3, LARGE, **arguments))


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152, 200])
def test_version_1_is_as_large_as_timms(depth: int) -> None:
    with torch.device("meta"):
        own = resnet_imagenet(1000, 3, LARGE, depth, 1)
        timms = build_timm(
            f"resnet{depth}",
            num_classes=1000,
            channels=3,
            image_size=None,
            arguments={},
            pretrained=False,
        )
    assert count_parameters(timms) == count_parameters(own)


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize(("version", "kinds"), [(1, (nn.Identity,)), (2, (nn.BatchNorm2d,))])
def test_version_2_begins_with_a_norm_of_the_data(version: int, kinds: tuple[type, ...]) -> None:
    net = resnet_imagenet(10, 3, (64, 64), 18, version)
    assert isinstance(net.data_norm, kinds)
    if version == 2:
        net.train()
        torch.manual_seed(0)
        images = torch.rand(8, 3, 64, 64)
        torch.testing.assert_close(net(images), net(5 * images + 3), atol=1e-3, rtol=1e-3)


@pytest.mark.feature("MX-62")
def test_depths_of_both_sizes_are_those_stated() -> None:
    assert [18, 34, 50, 101, 152, 200, 269] == list(STAGES)
    for depth, stages in STAGES.items():
        assert depth == 2 + sum(stages) * (3 if depth >= 50 else 2)
    assert isinstance(resnet(10, 1, (28, 28), 110), ResNetCifar)
    with pytest.raises(ConfigError, match="cannot have 101 layers"):
        resnet(10, 3, (32, 32), 101)
    with pytest.raises(ConfigError, match="the nearest is 101"):
        resnet(10, 3, (64, 64), 110)
    with pytest.raises(ConfigError, match="version 1 or 2"):
        resnet(10, 3, (64, 64), 18, 3)


# 25.0 M, 44.2 M and 83.5 M: timm's table of results and torchvision's weight records.
@pytest.mark.feature("MX-63")
@pytest.mark.parametrize(
    ("depth", "groups", "expected"),
    [(50, 32, 25_028_904), (101, 32, 44_177_704), (101, 64, 83_455_272)],
)
def test_resnext_is_as_large_as_published(depth: int, groups: int, expected: int) -> None:
    with torch.device("meta"):
        net = resnext(1000, 3, LARGE, depth, groups)
    assert expected == count_parameters(net)
    assert {1, groups} == {m.groups for m in net.modules() if isinstance(m, nn.Conv2d)}


@pytest.mark.feature("MX-63")
def test_resnext_has_32_groups_and_50_layers_unasked_and_refuses_what_is_none() -> None:
    with torch.device("meta"):
        net = resnext(1000, 3, LARGE)
    assert 25_028_904 == count_parameters(net)
    with pytest.raises(ConfigError, match="the nearest is 50"):
        resnext(10, 3, LARGE, 18)
    with pytest.raises(ConfigError, match="two groups"):
        resnext(10, 3, LARGE, 50, 1)


@pytest.mark.parametrize(
    ("build", "arguments", "side", "expected"),
    [
        (alexnet, {}, 64, Route.OWN),
        (googlenet, {}, 32, Route.OWN),
        (inception_bn, {}, 32, Route.OWN),
        (inception_bn, {"small": False}, 64, Route.OWN),
        (mobilenet_v1, {"multiplier": 0.25}, 32, Route.OWN),
        (mobilenet_v2, {"multiplier": 0.25}, 32, Route.OWN),
        (resnet_imagenet, {"num_layers": 18, "version": 2}, 64, Route.OWN),
        (resnet_imagenet, {"num_layers": 18, "version": 1}, 64, Route.OWN),
        (resnext, {}, 64, Route.OWN),
        (squeezenet, {"version": "1.0"}, 64, Route.OWN),
        (squeezenet, {"version": "1.1"}, 32, Route.OWN),
    ],
)
def test_a_training_step_lowers_the_loss(
    build: Build, arguments: Any, side: int, expected: Route
) -> None:
    torch.manual_seed(0)
    images, targets = torch.randn(16, 3, side, side), torch.arange(16) % 4
    model = wrap_network(build(4, 3, (side, side), **arguments), images[:1])
    assert expected == model.route
    assert ("network.head",) == model.head_names
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0  # the same function before and after the step
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.01)
    before = functional.cross_entropy(model(images).logits, targets)
    before.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)  # deep norms over 1 x 1 maps: steep at first
    optimizer.step()
    with torch.no_grad():
        after = functional.cross_entropy(model(images).logits, targets)
    assert before.item() > after.item()


def test_small_images_take_the_small_form_of_inception_bn() -> None:
    small, large = inception_bn(10, 3, (32, 32)), inception_bn(10, 3, (33, 33))
    assert (336, 1024) == (small.head.in_features, large.head.in_features)
    maps = small.body(torch.zeros(1, 3, 28, 28))
    assert (1, 336, 7, 7) == tuple(maps.shape)  # a quarter of 28: the example pools by 7
    assert 1024 == inception_bn(10, 3, (32, 32), small=False).head.in_features


@pytest.mark.parametrize(
    ("build", "least"),
    [
        (alexnet, 63),
        (googlenet, 15),
        (lambda *a: squeezenet(*a, version="1.0"), 21),
        (lambda *a: squeezenet(*a, version="1.1"), 17),
        (inception_bn, 8),
        (mobilenet_v1, 8),
        (mobilenet_v2, 8),
        (resnext, 8),
    ],
)
def test_the_smallest_size_is_taken_and_the_next_refused(build: Build, least: int) -> None:
    with torch.device("meta"):
        net = build(3, 3, (least, least)).eval()
        assert (1, 3) == tuple(net(torch.zeros(1, 3, least, least)).shape)
    with pytest.raises(ModelError, match=f"at least {least} pixels a side"):
        build(3, 3, (224, least - 1))


def test_wrong_versions_and_multipliers_are_errors() -> None:
    with pytest.raises(ConfigError, match=r"1\.0 or 1\.1"):
        squeezenet(10, 3, (64, 64), "1.2")
    assert 512 == squeezenet(10, 3, (64, 64), 1.1).head.in_features
    for build in (mobilenet_v1, mobilenet_v2):
        for multiplier in (0.1, float("inf"), float("nan")):
            with pytest.raises(ConfigError, match=r"0\.25 to 8"):
                build(10, 3, (64, 64), multiplier)
    for build in (alexnet, googlenet, squeezenet):
        with pytest.raises(ConfigError, match="share of the values"):
            build(10, 3, (64, 64), dropout=1.5)


def test_every_own_name_resolves_and_none_shadows_another() -> None:
    names = own_names()
    assert len(names) == len(set(names))
    for name in names:
        resolved = resolve_own(name)
        assert resolved is not None
        assert resolved[0] in BUILDERS
    first = resolve_own("squeezenet1.0")
    assert first is not None
    first[1]["version"] = "changed"
    assert ("squeezenet", {"version": "1.0"}) == resolve_own("squeezenet1.0")
    assert (224, 32) == (usual_side("alexnet"), usual_side("mlp"))


def _small_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 2, 5),
        nn.MaxPool2d(2),
        nn.Conv2d(2, 2, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def test_the_smallest_side_is_found_by_trying() -> None:
    assert 10 == smallest_side(_small_net, 1)
    assert smallest_side(_small_net, 3) is None
    raised = ModelError("it cannot", where="net")
    told = with_smallest_side(raised, 10, (9, 40))
    assert ("it cannot", "at least 10 pixels a side") == (told.what, told.expected)
    assert raised is with_smallest_side(raised, 10, (10, 40))
    assert raised is with_smallest_side(raised, None, (9, 40))
