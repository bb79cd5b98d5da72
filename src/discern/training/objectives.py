"""What is minimized: from a network's output and targets to a scalar, chosen by name.

Owns the table of objectives and `build_objective`; the formulas stand in `objective_terms`.
An objective of one's own is `package.module:name` or `./my_file.py:name`, where the name is either
a function `(output, targets, **arguments) -> loss` or a factory `(**arguments) -> Objective`.

N samples, K classes, D features. Targets are int64 [N], -1 where missing; soft (mixup, CutMix),
float [N, K], a row of NaN where missing; or, of several labels an image, float [N, K] of zeros and
ones, NaN for each entry that is not known. Every mean is over what is labeled; with nothing labeled
a loss is 0 and its gradient too.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.models.classifier import Output
from discern.training import metric_learning
from discern.training import objective_terms as formulas
from discern.training.objective_parts import (
    WeightedSum,
    fed_in_full,
    learned_parts,
    share_of_batch,
)
from discern.training.objective_terms import (
    MISSING,
    ClassWeights,
    Objective,
    PerClass,
    check_number,
)

__all__ = [
    "MISSING",
    "OBJECTIVES",
    "Objective",
    "WeightedSum",
    "build_objective",
    "cross_entropy",
    "learned_parts",
    "likeliest",
    "share_of_batch",
]

Kind = Literal["single", "multi"]
_FACE: Final = ("output", "targets")


def likeliest(targets: Tensor) -> Tensor:
    """The class of each target, int64 [N]: of a soft one that of the largest share; -1 missing."""
    if not targets.is_floating_point():
        return targets
    return torch.where(targets.isnan().any(1), MISSING, targets.argmax(1))


def cross_entropy(
    smoothing: float = 0.0,
    class_weights: ClassWeights = None,
    *,
    class_counts: NDArray[Any] | None = None,
    num_classes: int | None = None,
    missing: bool = True,
) -> Objective:
    """Mean cross entropy in float32 (of float64 logits in float64); missing targets do not count.

    `missing` False: every image has a label, so no step looks for those without.
    `smoothing` in [0, 1) shares that part of each target among all classes. `class_weights` [K], or
    `balanced` (samples / (classes * samples of the class)), weigh each sample by its class, and the
    mean is over the weights, as in torch; a soft target weighs its shares' mean weight.
    Source of smoothing: Szegedy et al. 2016, arXiv:1512.00567, section 7.
    """
    check_number("smoothing", smoothing, 0.0, 1.0)
    weights = formulas.class_weights(class_weights, class_counts, num_classes)
    fit = partial(F.cross_entropy, ignore_index=MISSING, label_smoothing=smoothing)

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = formulas.in_full_precision(output.logits)
        weight = None if weights is None else weights.like(logits)
        if whole is not None:
            return part_of(logits, targets, whole, weight)
        if targets.is_floating_point():
            shares, labeled = formulas.class_shares(logits, targets)
            losses = F.cross_entropy(
                logits, shares, weight, label_smoothing=smoothing, reduction="none"
            )
            if weight is None:
                return formulas.mean_of_known(losses, labeled)
            return torch.where(labeled, losses, 0.0).sum() / _nonzero((shares @ weight).sum())
        if weight is None and not missing:
            return fit(logits, targets)
        labeled = targets != MISSING
        if weight is None:
            # Of no sample torch gives NaN, though with a gradient of 0.
            return torch.where(labeled.any(), fit(logits, targets), 0.0)
        total = (weight[targets.clamp(min=0)] * labeled).sum()
        return fit(logits, targets, weight, reduction="sum") / _nonzero(total)

    def part_of(logits: Tensor, targets: Tensor, whole: Tensor, weight: Tensor | None) -> Tensor:
        shares, labeled = formulas.class_shares(logits, targets)
        all_shares, _ = formulas.class_shares(logits, whole)
        wanted = shares if targets.is_floating_point() else targets
        losses = fit(logits, wanted, weight, reduction="none")
        if weight is None:
            return formulas.mean_of_known(losses, labeled, formulas.known_rows(whole))
        return torch.where(labeled, losses, 0.0).sum() / _nonzero((all_shares @ weight).sum())

    return objective


def _bce(
    smoothing: float = 0.0,
    target_threshold: float | None = None,
    class_weights: ClassWeights = None,
    *,
    sum_classes: bool = False,
    kind: Kind = "single",
    class_counts: NDArray[Any] | None = None,
    num_classes: int | None = None,
) -> Objective:
    """Binary cross entropy of each class's sigmoid, averaged over entries (or summed over classes).

    `smoothing` moves one-hot and soft targets to (1 - s) target + s / K, and targets of several
    labels an image to (1 - s) target + s / 2; then `target_threshold` makes them 0 or 1, as in timm
    1.0.31's BinaryCrossEntropy (the recipe of Wightman et al. 2021, arXiv:2110.00476, section 3).
    `class_weights` weigh the classes.
    """
    check_number("smoothing", smoothing, 0.0, 1.0)
    if target_threshold is not None:
        check_number("target_threshold", target_threshold, 0.0, 1.0)
    if not isinstance(sum_classes, bool):
        raise ConfigError(
            "sum_classes is a switch",
            where="objective 'bce'",
            got=sum_classes,
            expected="true or false",
        )
    weights = formulas.class_weights(class_weights, class_counts, num_classes)
    average = formulas.sum_of_classes if sum_classes else formulas.mean_of_known

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = formulas.in_full_precision(output.logits)
        values, known = formulas.binary_targets(logits, targets)
        if smoothing:
            rest = 0.5 if kind == "multi" else 1 / logits.shape[1]
            values = values * (1 - smoothing) + smoothing * rest
        if target_threshold is not None:
            values = (values > target_threshold).to(logits.dtype)
        weight = None if weights is None else weights.like(logits)
        losses = F.binary_cross_entropy_with_logits(logits, values, weight, reduction="none")
        return average(losses, known, formulas.known_entries(logits, whole))

    return objective


def _logit_adjusted(
    tau: float = 1.0, smoothing: float = 0.0, *, class_counts: NDArray[Any] | None = None
) -> Objective:
    """Cross entropy of logits + `tau` log(share of the class in training), for rare classes.

    Only training adjusts: the network's own logits then answer as if classes were equally common.
    A class without samples counts as one sample.
    Source: Menon et al. 2020, Long-tail learning via logit adjustment, arXiv:2007.07314, equation
    10; tau 1 is its consistent choice.
    """
    check_number("tau", tau, 0.0)
    counts = np.maximum(formulas.counts_needed("logit_adjusted", class_counts), 1)
    offsets = PerClass(tau * np.log(counts / counts.sum()))
    inner = cross_entropy(smoothing)

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = formulas.in_full_precision(output.logits)
        return inner(output._replace(logits=logits + offsets.like(logits)), targets, whole)

    return objective


def _nonzero(total: Tensor) -> Tensor:
    return torch.where(total > 0, total, 1.0)


def _weighted_sum(
    terms: Sequence[Mapping[str, Any]],
    mode: Literal["sum", "mean"] = "sum",
    *,
    kind: Kind = "single",
    class_counts: NDArray[Any] | None = None,
    num_classes: int,
    feature_dim: int | None = None,
    missing: bool = True,
) -> Objective:
    """Several objectives together: `terms` of name, weight (1), args ({}) and label (the name).

    `mode` mean divides the weights by their sum.
    """
    where = "objective 'weighted_sum'"
    if mode not in ("sum", "mean"):
        raise ConfigError("unknown mode", where=where, got=mode, expected="sum or mean")
    if isinstance(terms, str | Mapping) or not terms:
        raise ConfigError(
            "no list of terms", where=where, got=terms, expected="[{name, weight, args}, ...]"
        )
    made: dict[str, tuple[float, Objective]] = {}
    for number, term in enumerate(terms):
        place = f"{where}, terms[{number}]"
        if not isinstance(term, Mapping) or "name" not in term:
            raise ConfigError("a term has no name", where=place, got=term, expected="{name: ...}")
        check_arguments(_term, dict(term), where=place)
        name, weight, arguments, label = _term(**term)
        check_number(f"terms[{number}].weight", weight)
        if label in made:
            raise ConfigError(
                f"two terms are called '{label}'", where=place, hint="give one of them a label"
            )
        part = build_objective(
            name,
            arguments,
            class_counts=class_counts,
            kind=kind,
            num_classes=num_classes,
            feature_dim=feature_dim,
            missing=missing,
        )
        made[label] = (float(weight), part)
    total = sum(weight for weight, _ in made.values()) if mode == "mean" else 1.0
    if not total or not any(weight for weight, _ in made.values()):
        raise ConfigError("the weights of the terms come to nothing", where=where, got=terms)
    return WeightedSum(
        terms=tuple((label, weight / total, part) for label, (weight, part) in made.items())
    )


def _term(
    name: str, weight: float = 1.0, args: Mapping[str, Any] | None = None, label: str | None = None
) -> tuple[str, float, Mapping[str, Any], str]:
    return name, weight, args or {}, label or name


OBJECTIVES: Final[Mapping[str, Callable[..., Objective]]] = MappingProxyType(
    {
        "cross_entropy": cross_entropy,
        "bce": _bce,
        "focal": formulas.focal,
        "focal_binary": formulas.focal_binary,
        "softmax_focal": formulas.softmax_focal,
        "asymmetric": formulas.asymmetric,
        "logit_adjusted": _logit_adjusted,
        "symmetric_cross_entropy": formulas.symmetric_cross_entropy,
        "generalized_cross_entropy": formulas.generalized_cross_entropy,
        "embedding_norm": formulas.embedding_norm,
        "contrastive": metric_learning.contrastive,
        "triplet": metric_learning.triplet,
        "margin": metric_learning.margin,
        "arcface": metric_learning.arcface,
        "weighted_sum": _weighted_sum,
    }
)
# What needs no softmax can learn several labels an image.
_ANY_KIND: Final = frozenset(
    {"bce", "focal", "focal_binary", "asymmetric", "embedding_norm", "weighted_sum"}
)


def build_objective(
    name: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    class_counts: NDArray[Any] | None,
    kind: Kind,
    num_classes: int,
    feature_dim: int | None = None,
    missing: bool = True,
) -> Objective:
    """The objective `name` with `arguments`: one of OBJECTIVES, or one's own by import path.

    `class_counts` [K] are the training part's samples of each class; `kind` is `single` (one label
    an image) or `multi`; `feature_dim` is D, which only arcface needs; `missing`: some of those
    samples may lack a label. A factory or function whose signature has one of these is given it.
    See `learned_parts` for what has to be trained and saved with the network. Raises ConfigError
    for an unknown name or argument, a value out of its range, and an objective of one label for
    several.
    """
    where = f"objective '{name}'"
    target = _open_objective(name)
    if kind == "multi" and name in OBJECTIVES and name not in _ANY_KIND:
        raise ConfigError(
            f"{name} is for one label an image",
            where=where,
            got="several labels an image",
            expected=", ".join(sorted(_ANY_KIND)),
        )
    given = dict(arguments or {})
    facts = {
        "kind": kind,
        "class_counts": class_counts,
        "num_classes": num_classes,
        "feature_dim": feature_dim,
        "missing": missing,
    }
    taken = inspect.signature(target).parameters
    is_function = all(part in taken for part in _FACE)
    check_arguments(
        target, given, where=where, given=(*facts, *_FACE, "whole") if is_function else (*facts,)
    )
    given.update({fact: value for fact, value in facts.items() if fact in taken})
    if name in OBJECTIVES:
        return partial(target, **given) if is_function else target(**given)
    own = partial(target, **given) if is_function else _own_objective(target, given, where)
    return fed_in_full(own, name)


def _own_objective(target: Callable[..., Any], given: dict[str, Any], where: str) -> Objective:
    try:
        made = target(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"the objective refuses its settings: {error}", where=where, got=given
        ) from error
    if not callable(made):
        raise ConfigError(
            "what this name makes is no objective",
            where=where,
            got=type(made).__name__,
            expected="a function (output, targets) -> loss",
        )
    objective: Objective = made
    return objective


def _open_objective(name: str) -> Callable[..., Any]:
    if name in OBJECTIVES:
        return OBJECTIVES[name]
    if is_import_path(name):
        found: Callable[..., Any] = open_import_path(name, where="objective")
        if callable(found):
            return found
        raise ConfigError("this name cannot be called", where="objective", got=name)
    raise ConfigError(
        f"unknown objective '{name}'",
        where="objective",
        got=name,
        expected=f"{', '.join(OBJECTIVES)}, package.module:name or ./my_file.py:name",
        hint="--loss takes a name; with arguments: "
        "--set 'stages.*.objective={name: focal, args: {gamma: 2}}'"
        if name.lstrip().startswith("{")
        else did_you_mean(name, OBJECTIVES),
    )
