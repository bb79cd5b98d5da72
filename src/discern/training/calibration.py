"""Temperatures: one number that makes stated probabilities come true without changing an answer.

NumPy only. Owns the fit on logits, its cross-validation, and what it does to a table's figures.
Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017.

Axes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.training.metrics import brier
from discern.training.scores import EvalTable, calibration, mean_loss, table_from_logits

Floats = NDArray[np.float64]

# Beyond these a temperature says that the network knows nothing (hot) or that the fit has no
# mistakes to learn from (cold), not how sure it is.
LEAST_TEMPERATURE: Final = 0.01
MOST_TEMPERATURE: Final = 100.0
# Ten are fitted in 5 folds twice; fewer say nothing of a fold left out.
FOLDS: Final = 5
_STEPS: Final = 200


def fit_temperature(logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]) -> float:
    """The T > 0 for which softmax(logits / T) is likeliest to give the labels.

    logits: [N, K]; targets: [N], negative = unlabeled and left out. The loss is convex in 1 / T,
    so Newton's steps between two bounds find its only minimum: equal input gives equal bits. Where
    no image is named wrong the loss has no minimum; the runner-up classes then count as the labels
    of one further image (the rule of succession). T is at least 0.01 and at most 100. Raises
    DataError for logits that are not finite, no labeled image, or shapes that do not fit.
    """
    logits, targets = _checked(logits, targets)
    rows = np.arange(len(targets))
    own = logits[rows, targets]
    others = logits.copy()
    others[rows, targets] = -np.inf
    runner_up = others.max(axis=1)
    extra = 0.0 if bool((runner_up > own).any()) else 1.0 / len(targets)
    wanted = own + extra * np.where(np.isfinite(runner_up), runner_up, own)
    spread = logits.max(axis=1) - logits.min(axis=1)
    if not spread.any():
        return 1.0  # equal logits say the same at any temperature

    def slope(inverse: float) -> tuple[float, float]:
        shares = _softmax(logits * inverse)
        mean = (shares * logits).sum(axis=1)
        variance = (shares * (logits - mean[:, None]) ** 2).sum(axis=1)
        weight = 1.0 + extra
        return float((weight * mean - wanted).mean()), float(weight * variance.mean())

    return 1.0 / _root(slope, 1.0 / MOST_TEMPERATURE, 1.0 / LEAST_TEMPERATURE)


def _root(slope: Any, low: float, high: float) -> float:
    """Where the first value of a rising `slope` is 0, else the nearer end of low..high."""
    if slope(low)[0] >= 0.0:
        return low
    if slope(high)[0] <= 0.0:
        return high
    place = 1.0
    for _ in range(_STEPS):
        value, steepness = slope(place)
        low, high = (place, high) if value < 0.0 else (low, place)
        following = place - value / steepness if steepness > 0.0 else low
        if not low < following < high:
            following = 0.5 * (low + high)
        if abs(following - place) <= 1e-12 * place:
            return following
        place = following
    return place


def fit_label_temperature(
    logits: NDArray[np.floating[Any]], targets: NDArray[np.floating[Any]]
) -> float:
    """The same for several labels an image: sigmoid(logits / T), over all known entries.

    logits and targets: [N, K]; targets 0 or 1, NaN = unknown and left out. Raises DataError as
    `fit_temperature` does.
    """
    known = ~np.isnan(targets)
    entries = np.asarray(logits, dtype=np.float64)[known]
    pairs = np.stack([np.zeros_like(entries), entries], axis=1)
    return fit_temperature(pairs, (targets[known] >= 0.5).astype(np.int64))


@dataclass(frozen=True, slots=True)
class CrossValidated:
    """A temperature whose effect is told by images that took no part in its fit.

    temperature: fitted on all. fold_temperatures: float64 [folds]. probabilities: float64 [N, K],
    each image's under the temperature of the folds without it; NaN for unlabeled images.
    """

    temperature: float
    fold_temperatures: Floats
    probabilities: Floats


def cross_validated_temperature(
    logits: NDArray[np.floating[Any]],
    targets: NDArray[np.integer[Any]],
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> CrossValidated:
    """Fit a temperature on all images, and one for each of `folds` stratified folds left out.

    logits: [N, K], of a model that did not learn these images; targets: [N], negative =
    unlabeled. A class with fewer images than folds is in some folds only; with fewer images than
    folds each image is a fold. Raises DataError as `fit_temperature`, and for fewer than 2 images.
    """
    if folds < 2:
        raise DataError("cross-validation needs folds", got=folds, expected="at least 2")
    whole = fit_temperature(logits, targets)
    labeled = np.flatnonzero(np.asarray(targets) >= 0)
    if len(labeled) < 2:
        raise DataError(
            "one image cannot be cross-validated", got=len(labeled), expected="2 labeled images"
        )
    fold = stratified_folds(np.asarray(targets)[labeled], min(folds, len(labeled)), seed)
    wide = np.asarray(logits, dtype=np.float64)
    stated = np.full(wide.shape, np.nan)
    found = []
    for number in range(int(fold.max()) + 1):
        own, others = labeled[fold == number], labeled[fold != number]
        temperature = fit_temperature(wide[others], np.asarray(targets)[others])
        stated[own] = _softmax(wide[own] / temperature)
        found.append(temperature)
    return CrossValidated(whole, np.array(found), stated)


def stratified_folds(targets: NDArray[np.integer[Any]], folds: int, seed: int) -> NDArray[np.int64]:
    """A fold number for each image [N], classes dealt evenly: int64 [N], no fold is empty.

    A class's images go to folds in turn, the next class going on where it ended, so that fold
    sizes differ by at most one.
    """
    draws = np.random.default_rng(seed).permutation(len(targets))
    order = draws[np.argsort(np.asarray(targets)[draws], kind="stable")]
    fold = np.empty(len(targets), dtype=np.int64)
    fold[order] = np.arange(len(targets)) % folds
    return fold


def at_temperature(table: EvalTable, temperature: float) -> EvalTable:
    """The table as its network would give it with its logits divided by `temperature`.

    Raises DataError when the table keeps no logits.
    """
    if table.logits is None:
        raise DataError(
            "a temperature needs the logits, and they were not kept",
            got=f"{len(table)} images of {len(table.classes)} classes",
            expected="an evaluation of at most 50 million logits",
        )
    return table_from_logits(
        (table.logits.astype(np.float64) / temperature).astype(np.float32),
        table.targets,
        classes=table.classes,
        positions=table.positions,
    )


def calibration_figures(table: EvalTable, bins: int = 15) -> dict[str, float]:
    """`loss` (nats), `ece`, `brier`, `bias` of the labeled images. Raises DataError as `brier`.

    ece: the mean gap between stated probability and share named right. bias: above 0 the network
    is too sure of itself.
    """
    found = calibration(table, bins=bins)
    return {
        "loss": mean_loss(table),
        "ece": found.error,
        "brier": brier(table),
        "bias": found.bias,
    }


def _softmax(logits: Floats) -> Floats:
    wide = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(wide / wide.sum(axis=1, keepdims=True))


def _checked(
    logits: NDArray[np.floating[Any]], targets: NDArray[np.integer[Any]]
) -> tuple[Floats, NDArray[np.int64]]:
    """The labeled images' logits and labels. Raises DataError."""
    logits, targets = np.asarray(logits), np.asarray(targets)
    if logits.ndim != 2 or targets.shape != (len(logits),) or logits.shape[1] < 1:
        raise DataError(
            "logits and labels do not fit together",
            got=f"{list(logits.shape)} and {list(targets.shape)}",
            expected="[N, K] and [N]",
        )
    labeled = targets >= 0
    if not labeled.any():
        raise DataError(
            "no labeled image to fit on", got=f"{len(targets)} images",
            expected="at least one with a label",
        )  # fmt: skip
    kept = logits[labeled].astype(np.float64)
    if not np.isfinite(kept).all():
        raise DataError(
            "the logits are not finite",
            got=f"{int((~np.isfinite(kept)).any(axis=1).sum())} of {len(kept)} images",
            hint="the model's weights are damaged or were saved after a diverged step",
        )
    codes = targets[labeled].astype(np.int64)
    if codes.max() >= kept.shape[1]:
        raise DataError("a label is no class", got=int(codes.max()), expected=f"< {kept.shape[1]}")
    return kept, codes


def held_out_figures(table: EvalTable, found: CrossValidated) -> dict[str, float]:
    """`calibration_figures` of the labeled images, each under its folds' temperature in `found`."""
    labeled = table.labeled
    # A probability that is 0 in float64 still has a logarithm.
    logits = np.log(np.maximum(found.probabilities[labeled], 1e-30)).astype(np.float32)
    return calibration_figures(
        table_from_logits(logits, table.targets[labeled], classes=table.classes)
    )
