"""Optimizers by name, over parameter groups made from parameter names.

Owns which parameters decay, which have a rate of their own, and which of torch's implementations is
used. A group's `base_lr` is the rate before the schedule: the trainer sets
`group["lr"] = group["base_lr"] * schedule.factor(step)`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.optim.muon import Muon

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "muon": Muon,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
}
_TIMM = "timm:"
# Heavy-ball momentum of 0.9 with Nesterov's look-ahead: the setting of the ResNet and airbench
# recipes; torch's own default is none at all.
_DEFAULTS: dict[str, dict[str, Any]] = {"sgd": {"momentum": 0.9, "nesterov": True}}
_SET_BY_DISCERN = ("params", "lr", "weight_decay")
# One fused kernel a group. Measured on one core, 23 parameters of a small network, CPU time a step:
# AdamW 0.47 ms fused, 1.47 foreach, 4.66 plain; SGD 0.16, 0.40, 0.54; Adagrad 0.36, 1.11, 0.95.
_FUSED_DEVICES = ("cpu", "cuda", "mps")
_NOT_HIDDEN = ("embed", "token")

Named = tuple[str, nn.Parameter]


def build_optimizer(
    name: str,
    parameters: Iterable[Named],
    *,
    lr: float,
    weight_decay: float = 0.0,
    arguments: Mapping[str, Any] | None = None,
    head_names: tuple[str, ...] = (),
) -> torch.optim.Optimizer:
    """The optimizer `name` over the parameters that require a gradient.

    `name`: one of `OPTIMIZERS`, `timm:NAME`, or an import path of an optimizer class. `parameters`
    are (name, parameter) pairs as `model.named_parameters()` gives them. Weight decay spares
    vectors and scalars (biases, norm layers). A parameter's attribute `lr_scale` multiplies
    its rate.
    `head_names` (prefixes) keep the classifier out of Muon's orthogonal part.
    Raises ConfigError for an unknown name or argument, a bad rate, and when nothing is trainable.
    """
    if not lr > 0 or weight_decay < 0:
        raise ConfigError(
            "the learning rate must be above 0 and the weight decay at least 0",
            where=f"optimizer '{name}'",
            got=f"lr {lr}, weight_decay {weight_decay}",
        )
    trainable = [(key, p) for key, p in parameters if p.requires_grad]
    if not trainable:
        raise ConfigError("no parameter is trainable", where=f"optimizer '{name}'")
    factory = _open_optimizer(name)
    given = dict(arguments or {})
    check_arguments(factory, given, where=f"optimizer '{name}'", given=_SET_BY_DISCERN)
    chosen = {**_DEFAULTS.get(name, {}), **given}
    if name == "sgd" and not chosen["momentum"]:
        chosen["nesterov"] = given.get("nesterov", False)
    chosen.update(_implementation(factory, trainable, chosen))
    groups = parameter_groups(
        trainable,
        lr=lr,
        weight_decay=weight_decay,
        muon_head=head_names if factory is Muon else None,
    )
    try:
        optimizer = factory(groups, lr=lr, weight_decay=weight_decay, **chosen)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the optimizer refuses its settings: {error}", where=f"optimizer '{name}'", got=chosen
        ) from error
    for group in optimizer.param_groups:
        group["base_lr"] = group["initial_lr"] = group["lr"]
    return optimizer


def parameter_groups(
    parameters: Iterable[Named],
    *,
    lr: float,
    weight_decay: float,
    muon_head: tuple[str, ...] | None = None,
) -> list[dict[str, Any]]:
    """Groups of equal treatment, each with `name`, `lr`, `weight_decay` and `lr_scale`.

    Matrices and kernels decay; vectors and scalars do not. With `muon_head` (the head's prefixes)
    hidden matrices and kernels form groups with `muon=True`; embeddings and tokens stay outside.
    The order is that of first appearance, so equal models give equal groups.
    """
    groups: dict[str, dict[str, Any]] = {}
    for key, parameter in parameters:
        scale = float(getattr(parameter, "lr_scale", 1.0))
        matrix = parameter.ndim > 1
        muon = matrix and muon_head is not None and _is_hidden(key, muon_head)
        name = "hidden" if muon else "decay" if matrix else "no_decay"
        if scale != 1.0:
            name = f"{name}_x{scale:g}"
        if name not in groups:
            groups[name] = {
                "params": [],
                "name": name,
                "lr": lr * scale,
                "lr_scale": scale,
                "weight_decay": weight_decay if matrix else 0.0,
            }
            if muon_head is not None:
                groups[name]["muon"] = muon
        groups[name]["params"].append(parameter)
    return list(groups.values())


def _is_hidden(key: str, head_names: tuple[str, ...]) -> bool:
    if any(key == head or key.startswith(f"{head}.") for head in head_names):
        return False
    return not any(mark in key for mark in _NOT_HIDDEN)


def _open_optimizer(name: str) -> Callable[..., torch.optim.Optimizer]:
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    if name.startswith(_TIMM):
        return _open_timm(name.removeprefix(_TIMM))
    if is_import_path(name):
        found: Callable[..., torch.optim.Optimizer] = open_import_path(name, where="optimizer")
        return found
    raise ConfigError(
        f"unknown optimizer '{name}'",
        where="optimizer",
        got=name,
        expected=f"{', '.join(OPTIMIZERS)}, timm:NAME, or package.module:Class",
        hint=did_you_mean(name, OPTIMIZERS),
    )


def _open_timm(name: str) -> Callable[..., torch.optim.Optimizer]:
    # timm costs seconds to import, so only those who name it pay.
    import timm.optim

    factory: Any = timm.optim

    known = factory.list_optimizers()
    if name not in known:
        raise ConfigError(
            f"timm has no optimizer '{name}'",
            where="optimizer",
            got=f"{_TIMM}{name}",
            expected=", ".join(known),
            hint=did_you_mean(name, known),
        )
    found: Callable[..., torch.optim.Optimizer] = factory.get_optimizer_class(
        name, bind_defaults=True
    )
    return found


def _implementation(
    factory: Callable[..., torch.optim.Optimizer], parameters: list[Named], chosen: dict[str, Any]
) -> dict[str, Any]:
    """Torch's fused kernel where there is one and the user has not chosen."""
    if "fused" in chosen or "foreach" in chosen or chosen.get("differentiable"):
        return {}
    own = factory in OPTIMIZERS.values()
    if not own or "fused" not in inspect.signature(factory).parameters:
        return {}
    fits = all(
        p.device.type in _FUSED_DEVICES and p.is_floating_point() and p.layout is torch.strided
        for _, p in parameters
    )
    return {"fused": True} if fits else {}
