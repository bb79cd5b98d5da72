"""Names of Discern's own networks, and the builder behind each."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from discern.models.nets.fast_net import fast_net
from discern.models.nets.headed import HeadedNetwork
from discern.models.nets.lenet import lenet
from discern.models.nets.mlp import mlp
from discern.models.nets.resnet_cifar import NAMED_DEPTHS, resnet_cifar

Builder = Callable[..., HeadedNetwork]

BUILDERS: dict[str, Builder] = {
    "fast_net": fast_net,
    "lenet": lenet,
    "mlp": mlp,
    "resnet_cifar": resnet_cifar,
}
_NAMED_RESNET = re.compile(r"resnet(\d+)_cifar")


def own_names() -> list[str]:
    """Every own name that `models list` shows, the depths of the CIFAR networks spelled out."""
    return sorted([*BUILDERS, *(f"resnet{depth}_cifar" for depth in NAMED_DEPTHS)])


def resolve_own(name: str) -> tuple[str, dict[str, Any]] | None:
    """The builder's name and the arguments that `name` implies, or None if it is no own network.

    `resnet56_cifar` is `resnet_cifar` with `num_layers=56`; the builder judges the depth.
    """
    if name in BUILDERS:
        return name, {}
    match = _NAMED_RESNET.fullmatch(name)
    return ("resnet_cifar", {"num_layers": int(match[1])}) if match else None
