"""Names of Discern's own networks, and the builder behind each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from discern.models.nets.alexnet import alexnet
from discern.models.nets.fast_net import fast_net
from discern.models.nets.googlenet import googlenet
from discern.models.nets.headed import HeadedNetwork
from discern.models.nets.inception_bn import inception_bn
from discern.models.nets.lenet import lenet
from discern.models.nets.mlp import mlp
from discern.models.nets.mobilenet import mobilenet_v1, mobilenet_v2
from discern.models.nets.resnet_cifar import NAMED_DEPTHS, resnet_cifar
from discern.models.nets.resnet_imagenet import resnet, resnet_imagenet, resnext
from discern.models.nets.squeezenet import squeezenet

Builder = Callable[..., HeadedNetwork]

BUILDERS: dict[str, Builder] = {
    "alexnet": alexnet,
    "fast_net": fast_net,
    "googlenet": googlenet,
    "inception_bn": inception_bn,
    "lenet": lenet,
    "mlp": mlp,
    "mobilenet_v1": mobilenet_v1,
    "mobilenet_v2": mobilenet_v2,
    "resnet": resnet,
    "resnet_cifar": resnet_cifar,
    "resnet_imagenet": resnet_imagenet,
    "resnext": resnext,
    "squeezenet": squeezenet,
}
# Made for photographs: what is told of them without a given size is told at 224 pixels.
_MADE_FOR_224 = frozenset(
    (
        "alexnet",
        "googlenet",
        "inception_bn",
        "mobilenet_v1",
        "mobilenet_v2",
        "resnet",
        "resnet_imagenet",
        "resnext",
        "squeezenet",
    )
)
# Names that imply arguments: what older zoos have by name and timm does not.
_NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "lenet_stn": ("lenet", {"stn": True}),
    "mobilenet0.25": ("mobilenet_v1", {"multiplier": 0.25}),
    "mobilenet0.5": ("mobilenet_v1", {"multiplier": 0.5}),
    "mobilenet0.75": ("mobilenet_v1", {"multiplier": 0.75}),
    "mobilenetv2_0.25": ("mobilenet_v2", {"multiplier": 0.25}),
    "resnet200_v2": ("resnet_imagenet", {"num_layers": 200, "version": 2}),
    "resnet269_v1": ("resnet_imagenet", {"num_layers": 269, "version": 1}),
    "resnet269_v2": ("resnet_imagenet", {"num_layers": 269, "version": 2}),
    "resnext50_64x4d": ("resnext", {"num_layers": 50, "num_group": 64}),
    **{
        f"resnext{depth}_{groups}x4d": ("resnext", {"num_layers": depth, "num_group": groups})
        for depth in (152, 200, 269)
        for groups in (32, 64)
    },
    "squeezenet1.0": ("squeezenet", {"version": "1.0"}),
    "squeezenet1.1": ("squeezenet", {"version": "1.1"}),
}
_NAMED_RESNET = re.compile(r"resnet(\d+)_cifar")
_SMALL_SIDE = 32
_LARGE_SIDE = 224


def own_names() -> list[str]:
    """Every own name that `models list` shows, the depths of the CIFAR networks spelled out."""
    depths = (f"resnet{depth}_cifar" for depth in NAMED_DEPTHS)
    return sorted([*BUILDERS, *_NAMED, *depths])


def resolve_own(name: str) -> tuple[str, dict[str, Any]] | None:
    """The builder's name and the arguments that `name` implies, or None if it is no own network.

    `resnet56_cifar` is `resnet_cifar` with `num_layers=56`; the builder judges the depth.
    """
    if name in BUILDERS:
        return name, {}
    if name in _NAMED:
        builder, arguments = _NAMED[name]
        return builder, dict(arguments)
    match = _NAMED_RESNET.fullmatch(name)
    return ("resnet_cifar", {"num_layers": int(match[1])}) if match else None


def usual_side(builder: str) -> int:
    """The side in pixels that the networks of `builder` are made for: 32 or 224."""
    return _LARGE_SIDE if builder in _MADE_FOR_224 else _SMALL_SIDE
