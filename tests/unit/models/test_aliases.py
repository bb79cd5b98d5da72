"""Every name of the older zoos leads to a network, which learns or names its smallest images."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from discern.base.errors import ConfigError, DiscernError, ModelError
from discern.models.aliases import ALIASES, MXNET_ZOO_NAMES
from discern.models.arithmetic import count_parameters
from discern.models.catalogue import ModelRequest, build_model, resolve_name
from discern.models.nets.builders import BUILDERS, own_names, resolve_own, usual_side
from discern.models.nets.smallest import smallest_side, with_smallest_side
from discern.models.timm_nets import build_timm, timm_names, timm_record

SMALL_NETS = ["mlp", "lenet", "lenet_stn", "lenet-stn"]
CLASSIC_NETS = [
    *("alexnet", "googlenet"),
    *("inception-bn", "inception-v3", "inception-v4", "inception-resnet-v2"),
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
]
DEPTHS = (18, 34, 50, 101, 152, 200, 269)
RESNETS = [
    *("resnet", "resnet-v1", "resnetv1"),
    *(f"resnet{depth}" for depth in (*DEPTHS, 20, 32, 44, 56, 110, 164)),
    *(f"resnet{depth}_v{version}" for depth in DEPTHS for version in (1, 2)),
]
RESNEXTS = [
    "resnext",
    *(f"resnext{depth}" for depth in DEPTHS),
    *(f"resnext{depth}_{groups}x4d" for depth in DEPTHS[2:] for groups in (32, 64)),
]
MULTIPLIERS = ("1.0", "0.75", "0.5", "0.25")
MOBILE_NETS = [
    *("mobilenet", "mobilenetv2", "mobilenetv3"),
    *(f"mobilenet{multiplier}" for multiplier in MULTIPLIERS),
    *(f"mobilenetv2_{multiplier}" for multiplier in MULTIPLIERS),
]
# Values in all parameters and in the running statistics of batch norm at 1,000 classes. Source: the
# table of Gluon's model zoo (mxnet.gluon.model_zoo.vision). None where the layers differ from
# Gluon's, whose bottlenecks of version 1 have biases, whose resnets of version 2 begin with a norm
# of the data, and whose MobileNetV2 has no bias in the head and other rounding of its widths.
GLUON: dict[str, int | None] = {
    "alexnet": 61_100_840,
    "densenet121": 8_062_504,
    "densenet161": 28_900_936,
    "densenet169": 14_307_880,
    "densenet201": 20_242_984,
    "inceptionv3": 23_869_000,
    "mobilenet0.25": 475_544,
    "mobilenet0.5": 1_342_536,
    "mobilenet0.75": 2_601_976,
    "mobilenet1.0": 4_253_864,
    "mobilenetv2_0.25": 1_526_856 + 1000,
    "mobilenetv2_0.5": None,
    "mobilenetv2_0.75": None,
    "mobilenetv2_1.0": None,
    "resnet18_v1": 11_699_112,
    "resnet34_v1": 21_814_696,
    **{f"resnet{depth}_v1": None for depth in (50, 101, 152)},
    **{f"resnet{depth}_v2": None for depth in (18, 34, 50, 101, 152)},
    "squeezenet1.0": 1_248_424,
    "squeezenet1.1": 1_235_496,
    "vgg11": 132_863_336,
    "vgg11_bn": 132_874_344,
    "vgg13": 133_047_848,
    "vgg13_bn": 133_059_624,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_374_440,
    "vgg19": 143_667_240,
    "vgg19_bn": 143_689_256,
}
LAMBDA_NETS = ["resnet32", "resnet50", "inception_v4", "nasnet_A_large"]
ZOO = [name for name in MXNET_ZOO_NAMES if ALIASES[name].target is not None]
ALL = [
    *(*SMALL_NETS, *CLASSIC_NETS, *RESNETS, *RESNEXTS, *MOBILE_NETS, *GLUON, *LAMBDA_NETS, *ZOO),
    *(*own_names(), *ALIASES),
]
TARGETS = sorted({resolve_name(n) for n in ALL if n not in ALIASES or ALIASES[n].target})
# The same builder as a network that learns here, only deeper or wider.
DEEPER = re.compile(r"resnext(152|200|269)_64x4d|resnext(200|269)_32x4d")
# So deep that a pass or two take five seconds; others of each builder are tried in every run.
SLOW = re.compile(r"densenet(161|169|201)|inception_(v4|resnet_v2)|nasnet\w*|resnet(200|269)\w*")
# The least sides above 28 pixels; all others take 28. Found by trying (see test below).
SMALLEST = {
    "alexnet": 63,
    **{f"densenet{depth}": 29 for depth in (121, 161, 169, 201)},
    **dict.fromkeys(("inception_v3", "inception_v4", "inception_resnet_v2"), 75),
    **{f"vgg{depth}{norm}": 32 for depth in (11, 13, 16, 19) for norm in ("", "_bn")},
}


def skeleton(name: str, classes: int, channels: int, side: int) -> nn.Module:
    """The network behind `name` on the meta device: shapes without memory or arithmetic."""
    target = resolve_name(name)
    own = resolve_own(target)
    with torch.device("meta"):
        if own is not None:
            return BUILDERS[own[0]](classes, channels, (side, side), **own[1])
        return build_timm(
            target,
            num_classes=classes,
            channels=channels,
            image_size=None,
            arguments={},
            pretrained=False,
        )


@cache
def own_side(name: str) -> int:
    """The side that the network behind `name` is made for."""
    target = resolve_name(name)
    own = resolve_own(target)
    return usual_side(own[0]) if own else int(timm_record(target)["input_size"][1])


def pass_through(net: nn.Module, count: int, channels: int, side: int) -> Tensor:
    logits = net(torch.zeros(count, channels, side, side, device="meta"))
    assert isinstance(logits, Tensor)
    return logits


def learn(net: nn.Module, channels: int, side: int) -> None:
    """One training step on the meta device: every shape of the forward and backward pass."""
    logits = pass_through(net.train(), 2, channels, side)
    assert (2, 7) == tuple(logits.shape)
    functional.cross_entropy(logits, torch.zeros(2, dtype=torch.long, device="meta")).backward()
    assert all(p.grad is not None for p in net.parameters())


@cache
def logits_shape(target: str) -> tuple[int, ...]:
    """Logits of two photographs in color of the size that `target` is made for, 7 classes."""
    side = own_side(target)
    return tuple(pass_through(skeleton(target, 7, 3, side).eval(), 2, 3, side).shape)


@pytest.mark.feature("MX-60")
@pytest.mark.parametrize("name", SMALL_NETS)
def test_small_nets_give_logits(name: str) -> None:
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("MX-61")
@pytest.mark.parametrize("name", CLASSIC_NETS)
def test_classic_nets_give_logits(name: str) -> None:
    assert own_side(name) == (299 if name.startswith(("inception-v", "inception-r")) else 224)
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize("name", RESNETS)
def test_resnets_give_logits(name: str) -> None:
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("MX-63")
@pytest.mark.parametrize("name", RESNEXTS)
def test_resnexts_give_logits(name: str) -> None:
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("MX-64")
@pytest.mark.parametrize("name", MOBILE_NETS)
def test_mobile_nets_give_logits(name: str) -> None:
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("MX-65")
@pytest.mark.parametrize(("name", "expected"), GLUON.items())
def test_gluons_names_lead_to_networks_of_their_size(name: str, expected: int | None) -> None:
    net = skeleton(name, 1000, 3, own_side(name))
    if expected is not None:
        running = sum(b.numel() for key, b in net.named_buffers() if "running" in key)
        assert expected == count_parameters(net) + running


@pytest.mark.feature("MX-65")
def test_gluons_names_are_all_here() -> None:
    expected = {
        *("alexnet", "inceptionv3", "squeezenet1.0", "squeezenet1.1"),
        *(f"resnet{depth}_v{v}" for depth in (18, 34, 50, 101, 152) for v in (1, 2)),
        *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
        *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
        *(f"mobilenet{m}" for m in MULTIPLIERS),
        *(f"mobilenetv2_{m}" for m in MULTIPLIERS),
    }
    assert expected == set(GLUON)
    assert "resnetv2_50" == resolve_name("resnet50_v2")
    assert ("mobilenet_v1", {"multiplier": 0.5}) == resolve_own(resolve_name("mobilenet0.5"))
    for name in ("inceptionv3", "mobilenet1.0", "resnet18_v1", "densenet121", "vgg16_bn"):
        assert 1000 == timm_record(resolve_name(name))["num_classes"]
    for name in ("resnet18_v1", "densenet121", "vgg16_bn", "mobilenetv2_1.0"):
        record = timm_record(resolve_name(name))
        assert ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) == (record["mean"], record["std"])


@pytest.mark.feature("MX-66")
@pytest.mark.parametrize("name", MXNET_ZOO_NAMES)
def test_the_twelve_zoo_names_lead_to_a_network_or_say_why_not(name: str) -> None:
    alias = ALIASES[name]
    if alias.target is None:
        with pytest.raises(ConfigError, match="published for MXNet only") as caught:
            resolve_name(name)
        assert f"use '{alias.near}'" in str(caught.value)
    else:
        assert 224 == own_side(name)
        assert (2, 7) == logits_shape(alias.target)
    assert 12 == len(MXNET_ZOO_NAMES)


@pytest.mark.feature("LA-18")
@pytest.mark.parametrize(
    ("name", "target", "side"),
    [
        ("resnet32", "resnet32_cifar", 32),
        ("resnet50", "resnet50", 224),
        ("inception_v4", "inception_v4", 299),
        ("nasnet_A_large", "nasnetalarge", 331),
    ],
)
def test_lambdas_networks_give_logits(name: str, target: str, side: int) -> None:
    assert (target, side) == (resolve_name(name), own_side(name))
    assert (2, 7) == logits_shape(resolve_name(name))


@pytest.mark.feature("LA-18")
def test_resnet32_gives_logits_and_probabilities_of_cifar_images() -> None:
    request = ModelRequest(name="resnet32", num_classes=10, image_size=(32, 32))
    output = build_model(request).model(torch.rand(4, 3, 32, 32))
    assert ((4, 10), (4, 64)) == (tuple(output.logits.shape), tuple(output.features.shape))
    torch.testing.assert_close(output.logits.softmax(1).sum(1), torch.ones(4))


def test_every_alias_has_a_network_or_a_reason_with_the_nearest() -> None:
    known = {*timm_names(), *own_names()}
    for name, alias in ALIASES.items():
        assert (alias.target is None) == (alias.reason is not None), name
        assert (alias.target is None) == (alias.near is not None), name
        assert (alias.target or alias.near) in known, name
        assert name not in known, name
    with pytest.raises(ConfigError, match="say the depth") as caught:
        resolve_name("vgg")
    assert "use 'vgg16'" in str(caught.value)


def refusal(name: str, channels: int, side: int) -> str:
    """What is said to images too small: own networks say it when built, timm's when tried."""
    try:
        pass_through(skeleton(name, 7, channels, side), 2, channels, side)
    except DiscernError as error:
        return str(error.expected)
    except RuntimeError:
        refused = ModelError("the network cannot take images of this size", where=name)
        least = smallest_side(lambda: skeleton(name, 7, channels, 224), channels)
        told = with_smallest_side(refused, least, (side, side))
        return str(told.expected)
    return "nothing"


# Gray digits of 28 pixels; color images of 32 for those that do not take the digits.
@pytest.mark.parametrize(
    ("name", "channels", "side"),
    [
        pytest.param(name, *size, marks=[pytest.mark.slow] if SLOW.fullmatch(name) else [])
        for name, *size in [
            *((n, 1, 28) for n in TARGETS if not DEEPER.fullmatch(n)),
            *((n, 3, 32) for n, least in SMALLEST.items() if least <= 32),
        ]
    ],
)
def test_each_learns_on_small_images_or_names_its_smallest(
    name: str, channels: int, side: int
) -> None:
    least = SMALLEST.get(name, 0)
    if least <= side:
        learn(skeleton(name, 7, channels, side), channels, side)
    else:
        assert f"at least {least} pixels a side" == refusal(name, channels, side)


@pytest.mark.parametrize("name", ["imagenet1k-inception-bn", "squeezenet1_1", "resnet18_v1"])
def test_a_network_by_its_old_name_is_built_and_learns(name: str) -> None:
    torch.manual_seed(0)
    built = build_model(ModelRequest(name=name, num_classes=5, channels=1, image_size=(32, 32)))
    model = built.model.train()
    functional.cross_entropy(model(torch.rand(4, 1, 32, 32)).logits, torch.arange(4)).backward()
    assert all(p.grad is not None for p in model.parameters())
    again = ModelRequest(
        name=built.architecture,
        num_classes=5,
        channels=1,
        image_size=(32, 32),
        arguments=built.arguments,
    )
    assert model.state_dict().keys() == build_model(again).model.state_dict().keys()
