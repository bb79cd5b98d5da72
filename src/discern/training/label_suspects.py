"""Which labels are probably wrong: signals from predictions and neighbors, and one score of all.

Owns the signals and how they are joined; knows no files and no images. The score is what the
probe and the neighbors leave to other classes than the label's, in the mean.

Axes: N images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.training.linear_probe import Codes, Features, Probabilities, Standard

CONFIDENT: Final = "confident"
NEIGHBORS: Final = "neighbors"
CONFLICT: Final = "same image"
LOSS: Final = "high loss"
MARGIN: Final = "low margin"
# Every reason, the strongest first, and what it says.
REASONS: Final = {
    CONFLICT: "the same picture is there under another label",
    CONFIDENT: "out of fold another class is as sure as it is of its own images",
    NEIGHBORS: "most of the nearest images have another label",
    LOSS: "out of fold the label is less likely than a guess",
    MARGIN: "two classes are nearly as likely as each other",
}
# Neighbors asked. Of 5, 10 and 20, 10 and 20 found most of the flipped labels of flowers12.
NEIGHBOR_COUNT: Final = 10
# Directions that neighbors are found in: as many as the index takes by default. On flowers12 with
# mobilenetv2 they find the same share of flipped labels as all 1,280 (0.84 to 0.92, six seeds).
_DIRECTIONS: Final = 128
# Difference of the two largest probabilities below which neither is believed.
LEAST_MARGIN: Final = 0.1
# As in cleanlab, so that rounding decides nothing.
_ROUNDING: Final = 1e-6
_BLOCK_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """What is held against each of N labels.

    `score` float64 [N], 0 to 1, NaN without a label; `suggested` int64 [N]: the likeliest class,
    which may be the given one; `reasons`: bool [N] each; `own`: probability of the label out of
    fold, [N]; `loss`: -log of it; `share` [N]: the neighbors' weight on the label, NaN where it is
    not known.
    """

    score: NDArray[np.float64]
    suggested: Codes
    reasons: dict[str, NDArray[np.bool_]]
    own: NDArray[np.float64]
    loss: NDArray[np.float64]
    share: NDArray[np.float64]

    def ranked(self, least: float = 0.0) -> Codes:
        """Rows with a reason and a score of at least `least`, the highest score first.

        Equal scores keep the order of the rows. Raises ConfigError for `least` outside 0 to 1.
        """
        if not 0 <= least <= 1:
            raise ConfigError(
                "the threshold is out of range", where="--threshold", got=least, expected="0 to 1"
            )
        known = np.nan_to_num(self.score, nan=-1.0)
        told = np.logical_or.reduce(list(self.reasons.values())) & (known >= least)
        rows = np.flatnonzero(told)
        return rows[np.argsort(-known[rows], kind="stable")].astype(np.int64)

    def reasons_of(self, row: int) -> list[str]:
        """The names of what is held against one label, the strongest first."""
        return [name for name in REASONS if name in self.reasons and self.reasons[name][row]]


def find_suspects(
    probabilities: Probabilities,
    codes: Codes,
    *,
    votes: Probabilities | None = None,
    same: Sequence[NDArray[np.int64]] = (),
    confident: NDArray[np.bool_] | None = None,
) -> Suspects:
    """Join the signals of N images: out-of-fold probabilities [N, K] of labels [N], -1 for none.

    `votes` [N, K]: see `neighbor_votes`; without them the score is the probe's alone. `same`: rows
    that show the same picture; where their labels differ, the score is at least the share of them
    with another label. `confident`: rows found by other rules than `confident_suspects`. Raises
    DataError for probabilities that are none.
    """
    _check(probabilities, codes)
    known, rows = codes >= 0, np.arange(len(codes))
    own = np.where(known, probabilities[rows, codes], np.nan)
    asked = np.zeros(len(codes), dtype=bool) if votes is None else votes.sum(axis=1) > 0
    share = np.full(len(codes), np.nan)
    belief = probabilities
    if votes is not None:
        share = np.where(known & asked, votes[rows, codes], np.nan)
        belief = np.where(asked[:, None], (probabilities + votes) / 2, probabilities)
    score = 1.0 - np.where(known, belief[rows, codes], np.nan)
    suggested = belief.argmax(axis=1).astype(np.int64)
    conflict = np.zeros(len(codes), dtype=bool)
    for group in same:
        _tell_conflict(group[known[group]], codes, belief, score, suggested, conflict)
    two = np.sort(probabilities, axis=1)[:, -2:]
    loss = -np.log(np.maximum(own, 1e-12))
    most = np.zeros(len(codes)) if votes is None else votes.max(axis=1)
    if confident is None:
        confident = confident_suspects(probabilities, codes)
    reasons = {
        CONFLICT: conflict,
        CONFIDENT: confident & known,
        NEIGHBORS: np.nan_to_num(share, nan=1.0) < most - _ROUNDING,
        LOSS: np.nan_to_num(own, nan=1.0) < 1.0 / probabilities.shape[1],
        MARGIN: known & (two[:, 1] - two[:, 0] < LEAST_MARGIN),
    }
    return Suspects(
        score=score, suggested=suggested, reasons=reasons, own=own, loss=loss, share=share
    )


def _check(probabilities: Probabilities, codes: Codes) -> None:
    if probabilities.ndim != 2 or len(probabilities) != len(codes):
        raise DataError(
            "probabilities and labels do not belong together",
            got=f"{list(probabilities.shape)}, {len(codes)} labels", expected="[N, K] and [N]",
        )  # fmt: skip
    if codes.max(initial=-1) >= probabilities.shape[1] or probabilities.shape[1] < 2:
        raise DataError(
            "a label has no probability", got=f"class number {codes.max(initial=-1)}",
            expected=f"0 to {probabilities.shape[1] - 1}, of two classes at least",
        )  # fmt: skip
    bad = ~np.isfinite(probabilities).all(axis=1) | (np.abs(probabilities.sum(axis=1) - 1) > 0.01)
    if bad.any():
        raise DataError(
            f"the probabilities of {int(bad.sum())} images are none",
            got=f"row {int(np.flatnonzero(bad)[0])}: {probabilities[bad][0][:5].tolist()}",
            expected="numbers from 0 to 1 that sum to 1",
        )


def _tell_conflict(
    group: NDArray[np.int64],
    codes: Codes,
    belief: Probabilities,
    score: NDArray[np.float64],
    suggested: Codes,
    conflict: NDArray[np.bool_],
) -> None:
    """Rows of one picture under several labels: at most one of these is right. In place."""
    labels, counts = np.unique(codes[group], return_counts=True)
    if len(labels) < 2:
        return
    conflict[group] = True
    others = 1.0 - counts[np.searchsorted(labels, codes[group])] / len(group)
    score[group] = np.maximum(score[group], others)
    # The label of most; among equals the likeliest.
    mean = belief[group].mean(axis=0)[labels]
    suggested[group] = labels[np.lexsort((mean, counts))[-1]]


def confident_suspects(probabilities: Probabilities, codes: Codes) -> NDArray[np.bool_]:
    """Labels off the diagonal of the confident joint: bool [N].

    A class is confident of an image where it is at least as likely as it is, in the mean, for the
    images of its own label; of several the likeliest counts. Source: Northcutt, Jiang and Chuang,
    Confident Learning, 2021, section 3.1.
    """
    classes = probabilities.shape[1]
    means = np.full(classes, np.inf)
    for code in range(classes):
        own = probabilities[codes == code, code]
        means[code] = own.mean() if len(own) else np.inf
    sure = np.where(probabilities >= means - _ROUNDING, probabilities, -1.0)
    likeliest = sure.argmax(axis=1)
    found: NDArray[np.bool_] = (sure.max(axis=1) >= 0) & (codes >= 0) & (likeliest != codes)
    found &= probabilities.argmax(axis=1) != codes
    return found


def cleanlab_suspects(probabilities: Probabilities, codes: Codes) -> NDArray[np.bool_]:
    """The same by the library cleanlab, an extra: bool [N]. Raises ConfigError without it."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ConfigError(
            "the package cleanlab is not installed", where="--suspects", got="cleanlab",
            hint="pip install 'discern[cleanlab]', or leave --suspects out",
        ) from error  # fmt: skip
    found = np.zeros(len(codes), dtype=bool)
    known = np.flatnonzero(codes >= 0)
    given: Any = find_label_issues(
        codes[known], probabilities[known], filter_by="confident_learning", n_jobs=1
    )
    found[known] = given
    return found


def neighbor_votes(
    features: Features, codes: Codes, groups: Codes | None = None, count: int = NEIGHBOR_COUNT
) -> Probabilities:
    """The labels of each image's nearest others, weighted by cosine: [N, K], rows sum to 1 or 0.

    In at most 128 principal directions of standardized features. `groups` [N]: images of one
    group do not vote for each other, negative numbers are alone. Unlabeled images have no vote;
    a row of zeros: nobody near. Exact, a block at a time.
    """
    classes = int(codes.max(initial=0)) + 1
    unit = _directions(features)
    voters = np.flatnonzero(codes >= 0)
    votes = np.zeros((len(features), classes))
    if not len(voters):
        return votes
    there, labels = unit[voters], codes[voters]
    own = np.arange(len(codes)) if groups is None else _own_numbers(groups)
    step = max(1, _BLOCK_BYTES // (4 * len(voters)))
    asked = min(count, len(voters))
    for begin in range(0, len(features), step):
        block = unit[begin : begin + step] @ there.T
        block[own[begin : begin + step, None] == own[voters]] = -np.inf
        near = np.argpartition(-block, asked - 1, axis=1)[:, :asked]
        weight = np.maximum(np.take_along_axis(block, near, axis=1), 0.0).astype(np.float64)
        rows = np.repeat(np.arange(begin, begin + len(block)), asked)
        np.add.at(votes, (rows, labels[near].ravel()), weight.ravel())
    total = votes.sum(axis=1, keepdims=True)
    np.divide(votes, total, out=votes, where=total > 0)
    return votes


def _own_numbers(groups: Codes) -> Codes:
    """Group numbers with one of its own for each that is in none."""
    alone = groups < 0
    result = groups.astype(np.int64)
    result[alone] = int(groups.max(initial=-1)) + 1 + np.arange(int(alone.sum()))
    return result


def _directions(features: Features) -> Features:
    rows = Standard.of(features).of_rows(features)
    if rows.shape[1] > _DIRECTIONS:
        _, vectors = np.linalg.eigh((rows.T @ rows).astype(np.float64))
        rows = rows @ vectors[:, -_DIRECTIONS:].astype(np.float32)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    result: Features = rows / np.maximum(lengths, 1e-12)
    return result
