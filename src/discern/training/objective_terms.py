"""Formulas of the objectives, on plain tensors, and how missing labels are left out of a mean.

Owns what a target means to a formula (`class_shares`, `binary_targets`), the averages over labeled
rows and entries, and the loss of each row or entry. Knows no name, no config and no model.
N samples, K classes, D features. All sums are at least in float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from discern.base.errors import ConfigError
from discern.models.classifier import Output

# (output, targets) -> loss []. One that also takes `whole`, the targets of a batch that these are a
# part of, then divides by what is labeled in all of it: the parts' losses add up to the batch's.
Objective = Callable[..., Tensor]
ClassWeights = Literal["balanced"] | Sequence[float] | None
MISSING = -1


class PerClass:
    """One number a class, [K]: taken to the device and type of the logits once, not every step."""

    def __init__(self, values: Sequence[float] | NDArray[Any]) -> None:
        self._exact = torch.as_tensor(np.asarray(values, dtype=np.float64))
        self._moved = self._exact

    def like(self, logits: Tensor) -> Tensor:
        """The numbers as float [K] with the device and dtype of `logits`."""
        if self._moved.device != logits.device or self._moved.dtype is not logits.dtype:
            self._moved = self._exact.to(device=logits.device, dtype=logits.dtype)
        return self._moved


def check_number(
    name: str, value: object, low: float | None = None, high: float | None = None
) -> None:
    """Raise ConfigError unless the argument `name` is a finite number from `low` to `high`."""
    usable = isinstance(value, int | float) and not isinstance(value, bool)
    if usable and math.isfinite(cast("float", value)):
        number = cast("float", value)
        if (low is None or number >= low) and (high is None or number <= high):
            return
    bounds = [] if low is None else [f"from {low:g}"]
    bounds += [] if high is None else [f"to {high:g}"]
    raise ConfigError(
        f"the objective's {name} cannot be used",
        where=name,
        got=repr(value),
        expected=" ".join(["a number", *bounds]),
    )


def class_weights(
    wanted: ClassWeights, class_counts: NDArray[Any] | None, num_classes: int | None
) -> PerClass | None:
    """The weights [K] that `wanted` tells: a list, none, or `balanced`.

    `balanced` is samples / (classes * samples of the class), scikit-learn's rule; a class without
    samples weighs 0 and is not counted. Raises ConfigError if the weights do not fit the classes.
    """
    if wanted is None:
        return None
    if not isinstance(wanted, list | tuple | np.ndarray):
        if wanted != "balanced":
            raise ConfigError(
                "unknown class weights",
                where="class_weights",
                got=wanted,
                expected="balanced, or one number a class",
            )
        counts = counts_needed("class_weights 'balanced'", class_counts)
        present = counts > 0
        rule = counts.sum() / (present.sum() * np.maximum(counts, 1))
        return PerClass(np.where(present, rule, 0.0))
    weights = list(wanted)
    for weight in weights:
        check_number("class_weights", weight, 0.0)
    if (num_classes is not None and len(weights) != num_classes) or not any(weights):
        raise ConfigError(
            "the class weights do not fit the classes",
            where="class_weights",
            got=f"{len(weights)} numbers: {weights}",
            expected=f"{num_classes} numbers, not all 0",
        )
    return PerClass(weights)


def counts_needed(wanted_by: str, class_counts: NDArray[Any] | None) -> NDArray[np.float64]:
    """`class_counts` [K] as float64; raises ConfigError if there are none to count with."""
    if class_counts is None or not np.sum(class_counts) > 0:
        raise ConfigError(
            f"{wanted_by} needs the number of samples of each class",
            where="objective",
            got=class_counts,
            expected="training data with labels",
        )
    return np.asarray(class_counts, dtype=np.float64)


def in_full_precision(values: Tensor) -> Tensor:
    """Half precision, as autocast gives it, as float32; float32 and float64 stay as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def class_shares(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Each sample's share in each class, float [N, K], and which samples are labeled, bool [N].

    `targets` is int64 [N], -1 where missing, or soft, float [N, K], NaN where missing. The share of
    an unlabeled sample is 0 everywhere.
    """
    if targets.is_floating_point():
        labeled = ~targets.isnan().any(1)
        return torch.where(labeled[:, None], targets, 0.0).to(logits.dtype), labeled
    labeled = targets != MISSING
    shares = F.one_hot(targets.clamp(min=0), logits.shape[1]).to(logits.dtype)
    return shares * labeled[:, None], labeled


def binary_targets(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Yes (1) or no (0) for each class, float [N, K], and which of them are known, bool [N, K].

    `targets` is int64 [N], -1 where missing, which becomes one-hot, or float [N, K], where each
    NaN is one unknown entry.
    """
    if targets.is_floating_point():
        known = ~targets.isnan()
        return targets.nan_to_num(0.0).to(logits.dtype), known
    shares, labeled = class_shares(logits, targets)
    return shares, labeled[:, None].expand_as(shares)


def mean_of_known(losses: Tensor, known: Tensor, whole: Tensor | None = None) -> Tensor:
    """The mean of `losses` [N] or [N, K] over what is known; 0 with gradient 0 if nothing is.

    `whole`: what is known in the batch that these are a part of, bool like `known` of more rows;
    its count then divides.
    """
    count = (known if whole is None else whole).sum()
    return torch.where(known, losses, 0.0).sum() / count.clamp(min=1)


def sum_of_classes(losses: Tensor, known: Tensor, whole: Tensor | None = None) -> Tensor:
    """Each class's mean of `losses` [N, K] over its known entries, summed over the classes.

    With no entry missing it is the mean over samples of the sum over classes. `whole` as in
    `mean_of_known`.
    """
    sums = torch.where(known, losses, 0.0).sum(0)
    counts = (known if whole is None else whole).sum(0)
    return (sums / counts.clamp(min=1)).sum()


def known_rows(targets: Tensor | None) -> Tensor | None:
    """Which samples have a label, bool [N]: of soft targets none is NaN. None stays None."""
    if targets is None:
        return None
    return ~targets.isnan().any(1) if targets.is_floating_point() else targets != MISSING


def labeled_count(targets: Tensor) -> Tensor:
    """How many samples have any label, int64 []."""
    if targets.is_floating_point():
        return (~targets.isnan().all(1)).sum()
    return (targets != MISSING).sum()


def known_entries(logits: Tensor, targets: Tensor | None) -> Tensor | None:
    """Which entries of `targets` are known, bool [N, K], as `binary_targets` has it."""
    if targets is None:
        return None
    if targets.is_floating_point():
        return ~targets.isnan()
    return (targets != MISSING)[:, None].expand(-1, logits.shape[1])


def focal_entries(logits: Tensor, values: Tensor, gamma: float, alpha: float | None) -> Tensor:
    """Binary focal loss of each entry, float [N, K]: -(1 - p_t)^gamma log p_t.

    p is the sigmoid of the logit; p_t is p where the value is 1, 1 - p where it is 0, and a value
    between counts as that share of each. `alpha` weighs ones, 1 - `alpha` zeros. The powers are
    taken in logarithms, so a sure answer has a finite gradient for every gamma >= 0.
    Source: Lin et al. 2017, Focal Loss for Dense Object Detection, arXiv:1708.02002, equation 5.
    """
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    ones = -values * (gamma * log_no).exp() * log_yes
    zeros = -(1 - values) * (gamma * log_yes).exp() * log_no
    return ones + zeros if alpha is None else alpha * ones + (1 - alpha) * zeros


def asymmetric_entries(
    logits: Tensor, values: Tensor, gamma_pos: float, gamma_neg: float, margin: float
) -> Tensor:
    """Asymmetric loss of each entry, float [N, K].

    -(1 - p)^gamma_pos log p for ones; -p_m^gamma_neg log(1 - p_m) for zeros, where
    p_m = max(p - margin, 0): a zero that is answered below the margin counts nothing.
    Source: Ridnik et al. 2021, Asymmetric Loss For Multi-Label Classification, arXiv:2009.14119,
    equations 4 to 7.
    """
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    ones = -values * (gamma_pos * log_no).exp() * log_yes
    if margin == 0:
        return ones - (1 - values) * (gamma_neg * log_yes).exp() * log_no
    # Not 0 but the least number, whose power has a gradient for every exponent.
    shifted = (logits.sigmoid() - margin).clamp(min=torch.finfo(logits.dtype).tiny)
    return ones - (1 - values) * shifted.pow(gamma_neg) * torch.log1p(-shifted)


def softmax_focal_rows(logits: Tensor, shares: Tensor, gamma: float) -> Tensor:
    """Focal loss of the softmax, float [N]: sum over classes of -share (1 - p)^gamma log p.

    Source: Lin et al. 2017, arXiv:1708.02002, equation 4, with p the softmax.
    """
    logs = F.log_softmax(logits, 1)
    rest = (-torch.expm1(logs)).clamp(min=torch.finfo(logits.dtype).tiny)
    return -(shares * rest.pow(gamma) * logs).sum(1)


def cross_entropy_rows(logits: Tensor, shares: Tensor) -> Tensor:
    """Cross entropy of the softmax, float [N]: sum over classes of -share log p."""
    return -(shares * F.log_softmax(logits, 1)).sum(1)


def reverse_cross_entropy_rows(logits: Tensor, shares: Tensor, log_zero: float) -> Tensor:
    """Reverse cross entropy, float [N]: sum over classes of -p log share, log 0 = `log_zero`.

    Source: Wang et al. 2019, Symmetric Cross Entropy for Robust Learning with Noisy Labels,
    arXiv:1908.06112, equation 5 and section 3.2.
    """
    logs = shares.log().clamp(min=log_zero)
    return -(F.softmax(logits, 1) * logs).sum(1)


def generalized_rows(logits: Tensor, shares: Tensor, exponent: float) -> Tensor:
    """Generalized cross entropy, float [N]: sum over classes of share (1 - p^q) / q.

    q is `exponent`: near 0 it is cross entropy, at 1 the mean absolute error (halved).
    Source: Zhang and Sabuncu 2018, Generalized Cross Entropy Loss for Training Deep Neural Networks
    with Noisy Labels, arXiv:1805.07836, equation 6.
    """
    logs = F.log_softmax(logits, 1)
    return -(shares * torch.expm1(exponent * logs)).sum(1) / exponent


def focal(gamma: float = 2.0, alpha: float | None = 0.25) -> Objective:
    """Binary focal loss of each class, mean over the samples, summed over the classes.

    Several labels an image and unknown entries are taken as they are. `alpha` weighs the ones,
    1 - `alpha` the zeros; None weighs neither, and with `gamma` 0 that is the summed BCE.
    Source: Catalyst 20's FocalLossMultiClass, its defaults 2 and 0.25 too; there a target of -1
    counts as no class unless `ignore` says otherwise, here it never counts.
    """
    _check_focal(gamma, alpha)

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = in_full_precision(output.logits)
        values, known = binary_targets(logits, targets)
        losses = focal_entries(logits, values, gamma, alpha)
        return sum_of_classes(losses, known, known_entries(logits, whole))

    return objective


def focal_binary(gamma: float = 2.0, alpha: float | None = None) -> Objective:
    """Binary focal loss averaged over all known entries; with `gamma` 0 it is BCE.

    Source: Lin et al. 2017, arXiv:1708.02002: gamma 2 is its best. Catalyst's FocalLossBinary is
    this with `alpha` 0.25.
    """
    _check_focal(gamma, alpha)

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = in_full_precision(output.logits)
        values, known = binary_targets(logits, targets)
        losses = focal_entries(logits, values, gamma, alpha)
        return mean_of_known(losses, known, known_entries(logits, whole))

    return objective


def asymmetric(gamma_pos: float = 0.0, gamma_neg: float = 4.0, margin: float = 0.05) -> Objective:
    """Asymmetric loss, mean over the samples, summed over the classes.

    Source: Ridnik et al. 2021, arXiv:2009.14119; the defaults are those of its MS-COCO training,
    which sums over the samples too: divided here, so that the rate does not hang on the batch.
    """
    check_number("gamma_pos", gamma_pos, 0.0)
    check_number("gamma_neg", gamma_neg, 0.0)
    check_number("margin", margin, 0.0, 1.0)

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = in_full_precision(output.logits)
        values, known = binary_targets(logits, targets)
        losses = asymmetric_entries(logits, values, gamma_pos, gamma_neg, margin)
        return sum_of_classes(losses, known, known_entries(logits, whole))

    return objective


def softmax_focal(gamma: float = 2.0) -> Objective:
    """Mean focal loss of the softmax: cross entropy where each sample counts (1 - p)^gamma."""
    check_number("gamma", gamma, 0.0)
    return _of_rows(partial(softmax_focal_rows, gamma=gamma))


def symmetric_cross_entropy(
    alpha: float = 0.1, beta: float = 1.0, log_zero: float = -4.0
) -> Objective:
    """`alpha` cross entropy + `beta` reverse cross entropy, which wrong labels pull less.

    Source: Wang et al. 2019, arXiv:1908.06112; alpha and beta are its choice for CIFAR-10.
    """
    check_number("alpha", alpha, 0.0)
    check_number("beta", beta, 0.0)
    check_number("log_zero", log_zero, high=0.0)

    def rows(logits: Tensor, shares: Tensor) -> Tensor:
        forward = cross_entropy_rows(logits, shares)
        return alpha * forward + beta * reverse_cross_entropy_rows(logits, shares, log_zero)

    return _of_rows(rows)


def generalized_cross_entropy(exponent: float = 0.7) -> Objective:
    """Mean of (1 - p^q) / q, between cross entropy (q to 0) and absolute error (q = 1).

    Source: Zhang and Sabuncu 2018, arXiv:1805.07836, which uses q = 0.7 throughout.
    """
    check_number("exponent", exponent, 1e-3, 1.0)
    return _of_rows(partial(generalized_rows, exponent=exponent))


def embedding_norm() -> Objective:
    """Mean L2 norm of the labeled samples' features: a term that keeps embeddings short."""

    def labeled(targets: Tensor) -> Tensor:
        if targets.is_floating_point():
            return ~targets.isnan().all(1)
        return targets != MISSING

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        features = in_full_precision(output.features)
        norms = torch.linalg.vector_norm(features, dim=1)
        return mean_of_known(norms, labeled(targets), None if whole is None else labeled(whole))

    return objective


def _of_rows(rows: Callable[[Tensor, Tensor], Tensor]) -> Objective:
    """The objective that averages `rows(logits, shares)` [N] over the labeled samples."""

    def objective(output: Output, targets: Tensor, whole: Tensor | None = None) -> Tensor:
        logits = in_full_precision(output.logits)
        shares, labeled = class_shares(logits, targets)
        return mean_of_known(rows(logits, shares), labeled, known_rows(whole))

    return objective


def _check_focal(gamma: float, alpha: float | None) -> None:
    check_number("gamma", gamma, 0.0)
    if alpha is not None:
        check_number("alpha", alpha, 0.0, 1.0)
