"""Parameters in groups of equal treatment: who decays, who has a rate of its own.

Owns the rules by name (regular expressions), layer-wise decay and what weight decay spares. Knows
names and parameters, no network.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from discern.base.errors import ConfigError
from discern.base.names import counted, did_you_mean
from discern.optim.layer_depth import Named, in_modules, inner_name, layer_scales

_HEAD = "head"
_NOT_HIDDEN = ("embed", "token")


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRule:
    """What is different for the parameters whose whole name fits the expression `match`.

    Names are those inside the network (`layer4.0.conv1.weight`); `head` alone means the
    classifying layers. `lr_scale` multiplies the rate, `lr` sets it whatever layer-wise decay says;
    `weight_decay` replaces the stage's for those that decay at all; `args` are the optimizer's
    own, such as `momentum`.
    """

    match: str
    lr: float | None = None
    lr_scale: float = 1.0
    weight_decay: float | None = None
    args: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.lr is not None and self.lr_scale != 1.0:
            raise _wrong("give either 'lr' or 'lr_scale'", self.match, "one of the two")
        if self.lr_scale <= 0 or (self.lr is not None and self.lr <= 0):
            rate = self.lr_scale if self.lr is None else self.lr
            raise _wrong("a group's rate must be above 0", rate, "freeze with 'trainable' instead")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise _wrong("a group's weight decay is negative", self.weight_decay, "at least 0")
        _compile(self.match, "groups")


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Everything that parts the parameters, but for the stage's rate and weight decay.

    `rules`: the first whose expression fits counts. `layer_decay`: multiple of the rate from each
    layer to the one before it, None or 1 for none. `no_decay`: expressions of further names that
    weight decay spares. `decay_all`: let it act on norms and biases too. `head_names`: prefixes
    of the classifying layers. `muon`: mark hidden matrices for Muon. `matrix_flags`: options of the
    optimizer that are true in groups of matrices and false in those of vectors.
    """

    rules: tuple[GroupRule, ...] = ()
    layer_decay: float | None = None
    no_decay: tuple[str, ...] = ()
    decay_all: bool = False
    head_names: tuple[str, ...] = ()
    muon: bool = False
    matrix_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.layer_decay is not None and not 0 < self.layer_decay <= 1:
            raise ConfigError(
                "'layer_decay' is out of range",
                where="layer_decay",
                got=self.layer_decay,
                expected="a number above 0 and at most 1, such as 0.75",
            )


def read_rules(groups: Iterable[GroupRule | Mapping[str, Any]]) -> tuple[GroupRule, ...]:
    """Rules from a config's mappings. Raises ConfigError for an unknown key, naming the nearest."""
    known = [f.name for f in fields(GroupRule)]
    rules = []
    for entry in groups:
        if isinstance(entry, GroupRule):
            rules.append(entry)
            continue
        for key in entry:
            if key not in known:
                raise ConfigError(
                    f"unknown key '{key}' in a parameter group",
                    where="groups",
                    got=key,
                    expected=", ".join(known),
                    hint=did_you_mean(str(key), known),
                )
        if "match" not in entry:
            raise _wrong("a parameter group has no 'match'", dict(entry), "match: 'head.*'")
        rules.append(GroupRule(**entry))
    return tuple(rules)


def parameter_groups(
    parameters: Iterable[Named],
    *,
    lr: float,
    weight_decay: float,
    muon_head: tuple[str, ...] | None = None,
    grouping: Grouping | None = None,
) -> list[dict[str, Any]]:
    """Groups of equal treatment, each with `name`, `lr`, `weight_decay` and `lr_scale`.

    Matrices and kernels decay; vectors and scalars do not. A parameter's attribute `lr_scale`
    multiplies its rate, as the rules and the layer-wise decay of `grouping` do. Frozen parameters
    count in layers and in names and are in no group. With `muon_head` (the head's prefixes; short
    for the grouping's `muon` and `head_names`) hidden matrices and kernels form groups with
    `muon=True`; embeddings and tokens stay outside. The order is that of first appearance, so equal
    models give equal groups. Raises ConfigError for an expression that fits no name.
    """
    named = list(parameters)
    how = grouping or Grouping(muon=muon_head is not None, head_names=muon_head or ())
    rule_of = _assign(named, how)
    spared = _spared(named, how.no_decay)
    decayed = how.layer_decay is not None and how.layer_decay != 1.0
    depth = layer_scales(named, how.layer_decay or 1.0, how.head_names) if decayed else {}
    groups: dict[object, dict[str, Any]] = {}
    for key, parameter in named:
        if not parameter.requires_grad:
            continue
        rule = rule_of.get(key)
        matrix = parameter.ndim > 1
        muon = matrix and how.muon and _is_hidden(key, how.head_names)
        decays = (matrix or how.decay_all) and key not in spared
        scale = float(getattr(parameter, "lr_scale", 1.0)) * depth.get(key, 1.0)
        rate = lr * scale
        decay = weight_decay
        if rule is not None:
            scale = scale * rule.lr_scale if rule.lr is None else rule.lr / lr
            rate = lr * scale if rule.lr is None else rule.lr
            decay = decay if rule.weight_decay is None else rule.weight_decay
        settings: dict[str, Any] = dict(rule.args) if rule is not None else {}
        settings |= {flag: matrix for flag in how.matrix_flags if flag not in settings}
        if how.muon:
            settings["muon"] = muon
        kind = "hidden" if muon else "decay" if decays else "no_decay"
        identity = (kind, rate, decay if decays else 0.0, repr(sorted(settings.items())))
        if identity not in groups:
            name = kind if scale == 1.0 else f"{kind}_x{scale:g}"
            name = name if decay == weight_decay or not decays else f"{name}_wd{decay:g}"
            groups[identity] = {
                "params": [],
                "name": _unused(name, {group["name"] for group in groups.values()}),
                "lr": rate,
                "lr_scale": scale,
                "weight_decay": decay if decays else 0.0,
                **settings,
            }
        groups[identity]["params"].append(parameter)
    return list(groups.values())


def group_lines(optimizer: torch.optim.Optimizer) -> list[str]:
    """One line a group for people: its name, tensors, numbers in them, peak rate, weight decay."""
    lines = []
    for group in optimizer.param_groups:
        tensors = group["params"]
        count = sum(p.numel() for p in tensors)
        lines.append(
            f"{group['name']}: {counted(len(tensors), 'tensor')}, {counted(count, 'number')}, "
            f"rate {group['initial_lr']:g}, weight decay {group['weight_decay']:g}"
        )
    return lines


def group_rates(optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float | None]]:
    """(rate of the last update, momentum) by group name; Adam's momentum is its first beta.

    None where an optimizer has no momentum.
    """
    rates = {}
    for group in optimizer.param_groups:
        betas = group.get("betas")
        momentum = group.get("momentum") if betas is None else betas[0]
        rates[str(group["name"])] = (
            float(group["lr"]),
            None if momentum is None else float(momentum),
        )
    return rates


def _unused(name: str, taken: set[str]) -> str:
    number = 1
    unused = name
    while unused in taken:
        number += 1
        unused = f"{name}_{number}"
    return unused


def _assign(named: Sequence[Named], how: Grouping) -> dict[str, GroupRule]:
    """The first rule that fits, by parameter name."""
    assigned: dict[str, GroupRule] = {}
    for rule in how.rules:
        expression = _compile(rule.match, "groups")
        fits = [
            key
            for key, _ in named
            if expression.fullmatch(inner_name(key))
            or (rule.match == _HEAD and in_modules(key, how.head_names))
        ]
        if not fits:
            raise _no_match(rule.match, named, "groups")
        for key in fits:
            assigned.setdefault(key, rule)
    return assigned


def _spared(named: Sequence[Named], patterns: Sequence[str]) -> set[str]:
    spared: set[str] = set()
    for pattern in patterns:
        expression = _compile(pattern, "no_decay")
        fits = {key for key, _ in named if expression.fullmatch(inner_name(key))}
        if not fits:
            raise _no_match(pattern, named, "no_decay")
        spared |= fits
    return spared


def _is_hidden(key: str, head_names: tuple[str, ...]) -> bool:
    return not in_modules(key, head_names) and not any(mark in key for mark in _NOT_HIDDEN)


def _compile(pattern: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"not a regular expression: {error}", where=where, got=pattern) from error


def _no_match(pattern: str, named: Sequence[Named], where: str) -> ConfigError:
    names = [inner_name(key) for key, _ in named]
    plain = re.sub(r"[^A-Za-z0-9_.]", "", pattern).strip(".")
    modules = {name.rpartition(".")[0] for name in names} - {""}
    near = did_you_mean(plain, [*names, *sorted(modules)])
    return ConfigError(
        f"no parameter's name fits '{pattern}'",
        where=where,
        got=pattern,
        expected="an expression for a whole name, such as "
        + " or ".join(f"'{name}'" for name in (names[0], names[-1])),
        hint=near or "write .*NAME.* for names that hold NAME",
    )


def _wrong(what: str, got: object, expected: str) -> ConfigError:
    return ConfigError(what, where="groups", got=got, expected=expected)
