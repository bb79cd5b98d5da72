"""Images that stay together, and how they are dealt to splits or folds.

Owns two pure steps: `find_units` joins what must never be cut (a group, equal content, a given
cluster), `deal_units` gives each unit to a part so that every class comes as near its wanted
count as whole units allow. The order of rows never matters: units are numbered by a keyed hash of
their ids. See `resplit` for the command.

Axes: N images, U units, C strata (classes), P parts (splits or folds), M memberships.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.seeds import derive_seed
from discern.data.label_columns import missing_rows
from discern.data.manifest import YES, Head
from discern.data.split import shuffled_rows

# Orders tried for units of several images, and the units looked at in all of them: with few units
# the best of some orders is much nearer the shares, with many every order is near (the gap shrinks
# as one over their number).
_ORDERS = 16
_LOOKED_AT = 40_000
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Units:
    """Images that stay together. `of_image`: int64 [N]; `sizes`: images per unit, int64 [U].

    Units are numbered in a seeded order that depends on the ids of their images alone.
    """

    of_image: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.sizes)


@dataclass(frozen=True, slots=True)
class Strata:
    """Which image counts for which class: `images` and `labels` int64 [M].

    One stratum a class, then one for unlabeled images, and for heads of kind multi one more for
    images that have none of the classes.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    count: int
    unlabeled: int | None = None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Images per stratum: int64 [C]."""
        return np.bincount(self.labels, minlength=self.count).astype(np.int64)


def contents(ids: NDArray[np.str_]) -> NDArray[np.str_]:
    """Ids without the -2, -3 of repeats: equal for images of equal bytes."""
    return np.array([str(name).partition("-")[0] for name in ids], dtype=np.str_)


def find_units(ids: NDArray[np.str_], seed: int, keys: Sequence[NDArray[Any]] = ()) -> Units:
    """Join the images that share a value of any of `keys` (each [N]); "" and negatives join none.

    A chain of shared values makes one unit: A and B of one patient, B and C of equal bytes.
    """
    rank = np.empty(len(ids), dtype=np.int64)
    rank[shuffled_rows(ids, np.arange(len(ids), dtype=np.int64), seed)] = np.arange(len(ids))
    joined = _components(len(ids), keys)
    first = np.full(int(joined.max(initial=-1)) + 1, len(ids), dtype=np.int64)
    np.minimum.at(first, joined, rank)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    of_image = number[joined]
    return Units(of_image, np.bincount(of_image, minlength=len(first)).astype(np.int64))


def _components(count: int, keys: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    """Connected components of images over shared values: int64 [N], numbered from 0."""
    if not keys:
        return np.arange(count, dtype=np.int64)
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    images, nodes = [], []
    total = count
    for key in keys:
        joins = key != "" if key.dtype.kind == "U" else key >= 0
        rows = np.flatnonzero(joins)
        values, codes = np.unique(key[rows], return_inverse=True)
        images.append(rows)
        nodes.append(codes.reshape(-1) + total)
        total += len(values)
    ends = (np.concatenate(images), np.concatenate(nodes))
    links = coo_array((np.ones(len(ends[0]), dtype=np.int8), ends), shape=(total, total))
    labels = connected_components(links, directed=False)[1][:count]
    return np.unique(labels, return_inverse=True)[1].reshape(-1).astype(np.int64)


def find_strata(head: Head, *, stratify: bool) -> Strata:
    """The strata of a head; all labeled images are one if not `stratify`, all images if none is."""
    targets = head.targets
    count = len(head.classes)
    if head.kind == "multi":
        missing = np.flatnonzero(missing_rows(head.kind, targets))
        images, labels = np.nonzero(targets >= YES)
        none = np.setdiff1d(np.arange(len(targets)), np.concatenate([images, missing]))
        if not stratify:
            missing = missing[:0] if len(missing) == len(targets) else missing
            known = np.setdiff1d(np.arange(len(targets)), missing)
            images, labels, none = known, np.zeros(len(known), dtype=np.int64), known[:0]
            count = 1
        images = np.concatenate([images, missing, none])
        labels = np.concatenate(
            [labels, np.full(len(missing), count), np.full(len(none), count + 1)]
        )
        return Strata(images.astype(np.int64), labels.astype(np.int64), count + 2, count)
    labels = targets if stratify else np.minimum(targets, 0)
    if not stratify and not (targets >= 0).any():
        labels = np.zeros(len(targets), dtype=np.int64)
    count = count if stratify else 1
    labels = np.where(labels < 0, count, labels).astype(np.int64)
    return Strata(np.arange(len(labels), dtype=np.int64), labels, count + 1, count)


@dataclass(frozen=True, slots=True)
class Members:
    """How many images of each stratum a unit has, unit by unit.

    `starts`: int64 [U + 1], into `labels` and `counts`, int64 [M].
    """

    starts: NDArray[np.int64]
    labels: NDArray[np.int64]
    counts: NDArray[np.int64]
    strata: int

    @classmethod
    def of(cls, units: Units, strata: Strata) -> Members:
        """Count the memberships of `strata` within each unit."""
        codes = units.of_image[strata.images] * strata.count + strata.labels
        pairs, counts = np.unique(codes, return_counts=True)
        starts = np.searchsorted(pairs, np.arange(len(units) + 1) * strata.count)
        labels = (pairs % strata.count).astype(np.int64)
        return cls(starts.astype(np.int64), labels, counts.astype(np.int64), strata.count)

    def of_unit(self, unit: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(strata, images of each) of a unit."""
        part = slice(int(self.starts[unit]), int(self.starts[unit + 1]))
        return self.labels[part], self.counts[part]

    @property
    def light(self) -> NDArray[np.bool_]:
        """Units that count once for one stratum: bool [U]."""
        alone: NDArray[np.bool_] = np.diff(self.starts) == 1
        alone[alone] = self.counts[self.starts[:-1][alone]] == 1
        return alone

    def tally(self, parts: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Images per part and stratum, int64 [P, C], of the units' `parts` [U]; -1 is nowhere."""
        owner = np.repeat(parts, np.diff(self.starts))
        there = owner >= 0
        codes = owner[there] * self.strata + self.labels[there]
        flat = np.bincount(codes, self.counts[there], minlength=count * self.strata)
        return flat.astype(np.int64).reshape(count, self.strata)


def deal_units(
    units: Units, members: Members, wanted: NDArray[np.float64], *, seed: int, largest_first: bool
) -> NDArray[np.int64]:
    """The part of each unit, int64 [U], near `wanted` images [P, C] of each part and stratum.

    Units of several images go first, each to the part that lacks it most (the one that lowers the
    sum of squared gaps, weighted by the size of the class, most); then images of their own fill
    what is left, exactly where the gaps add up. `largest_first` balances best and suits parts of
    equal size; otherwise the nearest of some seeded orders is taken, so that big groups may be
    held out as well as small ones.
    """
    light = members.light
    heavy = np.flatnonzero(~light).astype(np.int64)
    orders = [heavy[np.argsort(-units.sizes[heavy], kind="stable")]]
    if not largest_first:
        tries = max(1, min(_ORDERS, _LOOKED_AT // max(1, len(heavy))))
        orders = [
            heavy[np.random.default_rng(derive_seed(seed, "units", n)).permutation(len(heavy))]
            for n in range(tries if len(heavy) else 1)
        ]
    best, least = np.zeros(len(units), dtype=np.int64), np.inf
    sizes = np.maximum(wanted.sum(axis=0), 1.0)
    for order in orders:
        parts, left = _deal_heavy(order, members, wanted, sizes, len(units))
        _deal_light(np.flatnonzero(light), members, left, parts)
        gap = float((left**2 / sizes).sum())
        if gap < least - _TIE:
            best, least = parts, gap
    return best


def _deal_heavy(
    order: NDArray[np.int64],
    members: Members,
    wanted: NDArray[np.float64],
    sizes: NDArray[np.float64],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(parts [U] with -1 for the rest, what each part still lacks [P, C])."""
    parts = np.full(count, -1, dtype=np.int64)
    left = wanted.copy()
    totals = left.sum(axis=1)
    for unit in order.tolist():
        labels, counts = members.of_unit(unit)
        part = _most(left[:, labels] @ (counts / sizes[labels]), totals)
        parts[unit] = part
        left[part, labels] -= counts
        totals[part] -= counts.sum()
    return parts, left


def _most(score: NDArray[np.float64], totals: NDArray[np.float64]) -> int:
    """The part of the highest score; among equals the one that lacks most, then the first."""
    near = np.flatnonzero(score >= score.max() - _TIE)
    return int(near[np.argmax(totals[near])])


def _deal_light(
    light: NDArray[np.intp],
    members: Members,
    left: NDArray[np.float64],
    parts: NDArray[np.int64],
) -> None:
    """Give images of their own to what is left, in place: `left` [P, C] and `parts` [U]."""
    labels = members.labels[members.starts[:-1][light]]
    order = light[np.argsort(labels, kind="stable")]
    ends = np.cumsum(np.bincount(labels, minlength=members.strata))
    totals = left.sum(axis=1)
    for stratum, end in enumerate(ends.tolist()):
        start = 0 if stratum == 0 else int(ends[stratum - 1])
        if end == start:
            continue
        numbers = _fill(left[:, stratum], end - start, totals)
        parts[order[start:end]] = np.repeat(np.arange(len(numbers)), numbers)
        left[:, stratum] -= numbers
        totals -= numbers


def _fill(left: NDArray[np.float64], count: int, totals: NDArray[np.float64]) -> NDArray[np.int64]:
    """`count` images to parts, int64 [P], so that the largest of what is left is smallest."""
    falling = np.sort(left)[::-1]
    levels = (np.cumsum(falling) - count) / np.arange(1, len(left) + 1)
    # The water level: the last part that is still above it.
    level = levels[np.flatnonzero(falling > levels)[-1]]
    numbers: NDArray[np.int64] = np.floor(np.maximum(left - level, 0.0) + _TIE).astype(np.int64)
    for _ in range(count - int(numbers.sum())):
        numbers[_most(left - numbers, totals - numbers)] += 1
    return numbers


def fill_gaps(
    units: Units, members: Members, parts: NDArray[np.int64], wanted: NDArray[np.float64]
) -> NDArray[np.int64]:
    """`parts` after moving units from the last part to parts that have no image of a class.

    Of the units that may leave (each of their classes stays in the last part) the smallest goes.
    """
    parts = parts.copy()
    last = len(wanted) - 1
    have = members.tally(parts, len(wanted))
    owner = np.repeat(np.arange(len(units)), np.diff(members.starts))
    for part, stratum in np.argwhere((have[:last] == 0) & (wanted[:last] > 0)).tolist():
        if have[part, stratum]:
            continue  # an earlier move brought this class along
        holders = owner[members.labels == stratum]
        holders = holders[parts[holders] == last]
        for unit in holders[np.argsort(units.sizes[holders], kind="stable")].tolist():
            labels, counts = members.of_unit(unit)
            if (have[last, labels] > counts).all():
                parts[unit] = part
                have[last, labels] -= counts
                have[part, labels] += counts
                break
    return parts


def take_counts(members: Members, takes: Sequence[int]) -> NDArray[np.int64]:
    """Parts int64 [U]: `takes[p]` images of each class to part p, in unit order; -1 the rest.

    A unit that would go beyond a count of any of its classes is passed over.
    """
    count = len(members.starts) - 1
    room = [[take] * members.strata for take in takes]
    parts = np.full(count, -1, dtype=np.int64)
    starts, labels, counts = (
        column.tolist() for column in (members.starts, members.labels, members.counts)
    )
    for unit in range(count):
        pairs = [(labels[place], counts[place]) for place in range(starts[unit], starts[unit + 1])]
        for part, free in enumerate(room):
            if all(free[label] >= number for label, number in pairs):
                for label, number in pairs:
                    free[label] -= number
                parts[unit] = part
                break
    return parts
