"""Initial values of weights by name: MXNet's set, with its own arguments.

Weights of convolutions and linear layers are drawn anew, their biases become 0; norms keep 1 and 0.
Axes of a weight: out, in per group, kernel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_FANS: dict[str, Callable[[float, float], float]] = {
    "in": lambda fan_in, fan_out: fan_in,  # noqa: ARG005 - one signature for the three
    "out": lambda fan_in, fan_out: fan_out,  # noqa: ARG005
    "avg": lambda fan_in, fan_out: (fan_in + fan_out) / 2,
}


def xavier(
    weight: Tensor, distribution: str = "uniform", fan: str = "avg", magnitude: float = 3.0
) -> None:
    """Uniform in +-sqrt(magnitude / fan), or normal of that deviation.

    Variance: magnitude / 3 / fan, or magnitude / fan. Source: Glorot and Bengio (2010); the
    arguments and their defaults are those of MXNet's Xavier.
    """
    fan_in, fan_out = _fans(weight)
    if fan not in _FANS or distribution not in ("uniform", "normal") or magnitude <= 0:
        raise ConfigError(
            "no such initial values",
            where="model.init",
            got=f"distribution {distribution}, fan {fan}, magnitude {magnitude}",
            expected="uniform or normal; fan in, out or avg; a magnitude above 0",
        )
    scale = math.sqrt(magnitude / _FANS[fan](fan_in, fan_out))
    if distribution == "uniform":
        weight.uniform_(-scale, scale)
    else:
        weight.normal_(0.0, scale)


def msra(weight: Tensor, fan: str = "avg", slope: float = 0.25) -> None:
    """Normal of variance 2 / (1 + slope^2) / fan. Source: He et al. (2015); MXNet's MSRAPrelu."""
    xavier(weight, "normal", fan, 2.0 / (1.0 + slope * slope))


def orthogonal(weight: Tensor, scale: float = 1.414) -> None:
    """Rows, or columns where they are fewer, of length `scale` at right angles to each other.

    Source: Saxe et al. (2013); scale 1.414 as in MXNet.
    """
    nn.init.orthogonal_(weight, scale)


def normal(weight: Tensor, sigma: float = 0.01) -> None:
    """Normal of deviation `sigma`."""
    weight.normal_(0.0, sigma)


def uniform(weight: Tensor, scale: float = 0.07) -> None:
    """Uniform in +-`scale`: variance scale^2 / 3."""
    weight.uniform_(-scale, scale)


def one(weight: Tensor) -> None:
    """All 1."""
    weight.fill_(1.0)


def zero(weight: Tensor) -> None:
    """All 0."""
    weight.zero_()


INITIALIZERS: dict[str, Callable[..., None]] = {
    "xavier": xavier,
    "msra": msra,
    "orthogonal": orthogonal,
    "normal": normal,
    "uniform": uniform,
    "one": one,
    "zero": zero,
}
DEFAULT = "default"


def open_initializer(
    name: str, arguments: Mapping[str, Any], model_name: str
) -> tuple[Callable[..., None], dict[str, Any]]:
    """The initializer and its arguments; `default` chooses by the network, as MXNet's example does.

    There alexnet takes normal, a VGG xavier, all others normal values of variance 2 / fan in.
    Raises ConfigError for an unknown name or argument.
    """
    if name == DEFAULT:
        check_arguments(lambda: None, dict(arguments), where="model.init")
        if "alexnet" in model_name:
            return normal, {}
        if "vgg" in model_name:
            return xavier, {}
        return xavier, {"distribution": "normal", "fan": "in", "magnitude": 2.0}
    if name not in INITIALIZERS:
        raise ConfigError(
            f"unknown initializer '{name}'",
            where="model.init",
            got=name,
            expected=", ".join((DEFAULT, *INITIALIZERS)),
            hint=did_you_mean(name, [DEFAULT, *INITIALIZERS]),
        )
    found = INITIALIZERS[name]
    check_arguments(found, dict(arguments), where=f"initializer '{name}'", given=("weight",))
    return found, dict(arguments)


@torch.no_grad()
def initialize(
    network: nn.Module,
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    model_name: str = "",
    only: Iterable[str] | None = None,
) -> int:
    """Draw the weights of `network`'s layers by the initializer `name`; gives how many layers.

    `only`: names of the tensors that may change (those that no weights file filled); None for all.
    Layers whose start is part of what they are (`fixed_start`) keep it. Raises ConfigError.
    """
    fill, given = open_initializer(name, arguments or {}, model_name)
    allowed = None if only is None else set(only)
    count = 0
    for prefix, module in network.named_modules():
        if not isinstance(module, _LAYERS) or getattr(module, "fixed_start", False):
            continue
        changed = False
        for key, tensor in module.named_parameters(recurse=False):
            if allowed is not None and f"{prefix}.{key}".lstrip(".") not in allowed:
                continue
            changed = True
            if tensor.ndim < 2:
                tensor.zero_()
            else:
                fill(tensor, **given)
        count += changed
    return count


def _fans(weight: Tensor) -> tuple[float, float]:
    """(values into one output, values out of one input) of the layer."""
    kernel = math.prod(weight.shape[2:])
    return float(weight.shape[1] * kernel), float(weight.shape[0] * kernel)
