"""New splits for a data set: by shares, by counts per class, or as folds; `discern data split`.

The manifest given is never changed: a new one comes back. The plan and the report are in
`split_plan`; how images that belong together are found and dealt is in `folds`.

Axes: N images, U units, C strata (classes), P parts (splits or folds).
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError, DataError
from discern.base.names import did_you_mean
from discern.data.folds import (
    Members,
    Strata,
    Units,
    contents,
    deal_units,
    fill_gaps,
    find_strata,
    find_units,
    take_counts,
)
from discern.data.label_columns import missing_rows
from discern.data.label_origin import kept_note, labeled_by_models
from discern.data.manifest import NO_SPLIT, SPLITS, Head, Manifest
from discern.data.split import LEAST_PER_CLASS, TEST, TRAIN, VAL, held_counts
from discern.data.split_plan import SplitPlan, SplitReport

__all__ = ["SplitPlan", "SplitReport", "class_counts", "group_values", "resplit"]

_SHOWN = 20


def resplit(
    manifest: Manifest, plan: SplitPlan, clusters: NDArray[np.integer[Any]] | None = None
) -> tuple[Manifest, SplitReport]:
    """A new manifest with the splits or folds of `plan`, by the first head's classes.

    `clusters`: int [N], near duplicates that stay together, negative for none. Unlabeled images go
    to train by shares, to a fold by folds, and to no split by counts. What models labeled is dealt
    to folds, and of splits in train with what belongs with it. Raises DataError for a class
    with too few images, ConfigError for a plan that does not fit the data.
    """
    cluster_key = None if clusters is None else np.asarray(clusters)
    if cluster_key is not None and len(cluster_key) != len(manifest):
        raise DataError(
            "the clusters are of other images", got=len(cluster_key), expected=len(manifest)
        )
    manifest, dropped, rows = _drop_small_classes(manifest, plan)
    keys = _keys(manifest, plan, None if cluster_key is None else cluster_key[rows])
    units = find_units(manifest.ids, plan.seed, keys)
    notes: list[str] = []
    codes, fold = manifest.split.copy(), np.full(len(manifest), -1, dtype=np.int32)
    learned = labeled_by_models(manifest.origin, len(manifest))
    free = _follow_kept(codes, units, plan, learned & (plan.way != "folds"), notes)
    if not len(free):
        raise DataError(
            "no image is left to split",
            got=f"kept: {', '.join(plan.keep)}" if plan.keep else "labels of models alone",
        )
    part, own = manifest, units
    if len(free) < len(manifest):
        part = manifest.select(free)
        own = find_units(part.ids, plan.seed, [key[free] for key in keys])
    dealt = _Deal.of(part, own, plan)
    if plan.way == "folds":
        fold[free] = dealt.folds(notes)
        if plan.val_folds or plan.test_folds:
            codes[free] = _codes_of_folds(fold[free], plan)
            codes[learned] = TRAIN
    else:
        codes[free] = dealt.shares(notes) if plan.way == "shares" else dealt.counts(notes)
    if learned.any() and (codes[learned] == TRAIN).all():
        notes.append(kept_note(int(learned.sum())))
    left_out = codes == _LEFT_OUT
    result = replace(
        manifest,
        split=np.where(left_out, NO_SPLIT, codes).astype(np.int8),
        fold=fold if plan.way == "folds" else manifest.fold,
    )
    if left_out.any():
        result = result.select(np.flatnonzero(~left_out).astype(np.int64))
    return result, _report(result, plan, units, dropped, int(left_out.sum()), notes)


_LEFT_OUT = -2


def _report(
    result: Manifest,
    plan: SplitPlan,
    units: Units,
    dropped: dict[str, int],
    left_out: int,
    notes: list[str],
) -> SplitReport:
    several = units.sizes[units.sizes > 1]
    return SplitReport(
        plan=plan,
        images=len(result),
        counts=_counts(result, plan),
        folds=_fold_counts(result) if plan.way == "folds" else {},
        sizes=_sizes(result),
        dropped=dropped,
        left_out=left_out,
        together=int(several.sum()),
        units=len(several),
        largest=int(several.max(initial=0)),
        notes=tuple(notes),
    )


def _drop_small_classes(
    manifest: Manifest, plan: SplitPlan
) -> tuple[Manifest, dict[str, int], NDArray[np.int64]]:
    """(the manifest without classes below the least, these and their images, rows that stay)."""
    rows = np.arange(len(manifest), dtype=np.int64)
    if plan.min_per_class is None:
        return manifest, {}, rows
    head = manifest.heads[0]
    if head.kind != "single":
        raise ConfigError("classes can be dropped of a head of kind single only", where=head.name)
    sizes = np.array(list(head.counts().values()))
    small = sizes < plan.min_per_class
    if small.all():
        raise DataError(
            "no class has enough images",
            got=f"at most {sizes.max(initial=0)} in a class",
            expected=f"at least {plan.min_per_class}",
        )
    dropped = {head.classes[n]: int(sizes[n]) for n in np.flatnonzero(small)}
    if not dropped:
        return manifest, {}, rows
    labels = head.targets
    rows = np.flatnonzero(~small[labels] | (labels < 0)).astype(np.int64)
    numbers = np.where(small, -1, np.cumsum(~small) - 1)
    kept = manifest.select(rows)
    targets = np.where(kept.heads[0].targets < 0, -1, numbers[kept.heads[0].targets])
    classes = tuple(c for c, gone in zip(head.classes, small, strict=True) if not gone)
    first = Head(head.name, head.kind, classes, targets.astype(np.int64))
    return replace(kept, heads=(first, *kept.heads[1:])), dropped, rows


def _keys(manifest: Manifest, plan: SplitPlan, clusters: NDArray[Any] | None) -> list[NDArray[Any]]:
    """What joins images, each [N]."""
    keys: list[NDArray[Any]] = [contents(manifest.ids)] if plan.keep_duplicates else []
    if clusters is not None:
        keys.append(clusters)
    if plan.group_by is not None:
        keys.append(group_values(manifest, plan.group_by))
    return keys


def group_values(manifest: Manifest, name: str) -> NDArray[Any]:
    """The column whose values stay together, [N]: "group", "folder", "origin" or a single head."""
    if name == "folder":
        where = manifest.locations
        inside = [
            f"{container}:{posixpath.dirname(str(path))}"
            for container, path in zip(where.containers, where.paths, strict=True)
        ]
        return np.array(inside, dtype=np.str_)
    columns = {"group": manifest.group, "origin": manifest.origin}
    columns |= {head.name: head.targets for head in manifest.heads if head.kind == "single"}
    known = {key: column for key, column in columns.items() if column is not None}
    if name in known:
        return known[name]
    raise ConfigError(
        "the images cannot be grouped by this",
        got=name,
        expected=", ".join([*known, "folder"]),
        hint=did_you_mean(name, [*known, "folder"])
        or ("the data has no group column" if name == "group" else None),
    )


def _follow_kept(
    codes: NDArray[np.int8],
    units: Units,
    plan: SplitPlan,
    learned: NDArray[np.bool_],
    notes: list[str],
) -> NDArray[np.int64]:
    """Rows free to be split. What belongs with a kept image takes its split, in `codes`.

    `learned`, bool [N], are kept in train.
    """
    codes[learned] = TRAIN
    kept = np.isin(codes, [SPLITS.index(name) for name in plan.keep]) | learned
    if not kept.any():
        return np.arange(len(codes), dtype=np.int64)
    of_unit = np.full(len(units), NO_SPLIT, dtype=np.int8)
    np.maximum.at(of_unit, units.of_image[kept], codes[kept])
    taken = of_unit[units.of_image]
    cut = int((kept & (codes != taken)).sum())
    if cut:
        notes.append(f"{cut} images stay in a kept split although what belongs with them is not")
    followers = (taken != NO_SPLIT) & ~kept
    codes[followers] = taken[followers]
    if followers.any():
        notes.append(f"{int(followers.sum())} images follow equal or grouped ones that are kept")
    return np.flatnonzero(taken == NO_SPLIT).astype(np.int64)


@dataclass(frozen=True, slots=True)
class _Deal:
    """The images to be split, their units and strata, and the three ways to deal them."""

    head: Head
    plan: SplitPlan
    units: Units
    strata: Strata
    members: Members

    @classmethod
    def of(cls, manifest: Manifest, units: Units, plan: SplitPlan) -> _Deal:
        head = manifest.heads[0]
        strata = find_strata(head, stratify=plan.stratify)
        if plan.way == "counts":
            known = strata.labels != strata.unlabeled
            strata = replace(strata, images=strata.images[known], labels=strata.labels[known])
        return cls(head, plan, units, strata, Members.of(units, strata))

    def name(self, stratum: int) -> str:
        """What to call a stratum."""
        return f"class '{self.head.classes[stratum]}'" if self.plan.stratify else "all images"

    @property
    def classes(self) -> range:
        """The strata that are classes."""
        return range(len(self.head.classes) if self.plan.stratify else 1)

    def shares(self, notes: list[str]) -> NDArray[np.int8]:
        """Split codes [N] by the plan's shares."""
        held = {code: share for code, share in self.plan.shares.items() if share > 0}
        sizes = self.strata.sizes
        wanted = np.zeros((len(held) + 1, self.strata.count))
        for stratum, size in enumerate(sizes.tolist()):
            enough = size >= LEAST_PER_CLASS
            if size and not enough and stratum in self.classes and self.head.kind == "single":
                raise self._too_few(stratum, size, LEAST_PER_CLASS)
            if enough and stratum != self.strata.unlabeled:
                wanted[:-1, stratum] = held_counts(size, list(held.values()))
        self._need_labels(notes)
        wanted[-1] = sizes - wanted[:-1].sum(axis=0)
        parts = deal_units(
            self.units, self.members, wanted, seed=self.plan.seed, largest_first=False
        )
        parts = fill_gaps(self.units, self.members, parts, wanted)
        codes = np.array([*held, TRAIN], dtype=np.int8)
        self._note_missing(parts, [SPLITS[code] for code in codes], wanted > 0, notes)
        return codes[parts[self.units.of_image]]

    def folds(self, notes: list[str]) -> NDArray[np.int32]:
        """Fold numbers [N]."""
        count = self.plan.folds or 0
        if len(self.units) < count:
            raise DataError(
                "there are fewer images, or groups of images, than folds",
                got=len(self.units),
                expected=f"at least {count}",
            )
        sizes = self.strata.sizes
        wanted = np.tile(sizes / count, (count, 1))
        parts = deal_units(
            self.units, self.members, wanted, seed=self.plan.seed, largest_first=True
        )
        names = [f"fold {fold}" for fold in range(count)]
        self._note_missing(parts, names, np.tile(sizes > 0, (count, 1)), notes)
        return parts[self.units.of_image].astype(np.int32)

    def counts(self, notes: list[str]) -> NDArray[np.int8]:
        """Split codes [N] by counts per class; images beyond all counts are `_LEFT_OUT`."""
        takes = [(code, take) for code, take in enumerate(self.plan.takes) if take is not None]
        rest = next((code for code, take in enumerate(self.plan.takes) if take is None), _LEFT_OUT)
        least = sum(take for _, take in takes) + (rest != _LEFT_OUT)
        sizes = self.strata.sizes
        self._need_labels(notes)
        for stratum in self.classes:
            if 0 < sizes[stratum] < least:
                raise self._too_few(stratum, int(sizes[stratum]), least)
        parts = take_counts(self.members, [take for _, take in takes])
        have = self.members.tally(parts, len(takes))
        for place, (code, take) in enumerate(takes):
            short = [n for n in self.classes if sizes[n] and have[place, n] < take]
            notes += [
                f"{self.name(n)} gives {have[place, n]} of {take} images to {SPLITS[code]}: what "
                "belongs together does not fit"
                for n in short[:_SHOWN]
            ]
        codes = np.array([*(code for code, _ in takes), rest], dtype=np.int8)[parts]
        codes[np.diff(self.members.starts) == 0] = NO_SPLIT
        return codes[self.units.of_image]

    def _need_labels(self, notes: list[str]) -> None:
        """Note classes without images. Raises DataError if there are no others."""
        empty = [stratum for stratum in self.classes if not self.strata.sizes[stratum]]
        if len(empty) == len(self.classes):
            raise DataError(
                "no image has a class to be split by",
                where=f"label column '{self.head.name}'",
                hint="shares of all images, whatever they are, need no classes: --no-stratify",
            )
        if empty:
            listed = ", ".join(self.head.classes[stratum] for stratum in empty[:_SHOWN])
            notes.append(f"{len(empty)} classes have no image to be split: {listed}")

    def _too_few(self, stratum: int, size: int, least: int) -> DataError:
        return DataError(
            "a class has too few images to be split",
            where=self.name(stratum),
            got=f"{size} images",
            expected=f"at least {least}",
            hint="add images, or drop such classes with --min-per-class",
        )

    def _note_missing(
        self,
        parts: NDArray[np.int64],
        names: list[str],
        wanted: NDArray[np.bool_],
        notes: list[str],
    ) -> None:
        have = self.members.tally(parts, len(names))
        for part, name in enumerate(names):
            lacking = [n for n in self.classes if wanted[part, n] and not have[part, n]]
            if lacking and self.plan.stratify:
                listed = ", ".join(self.head.classes[n] for n in lacking[:_SHOWN])
                notes.append(f"{name} has no image of {len(lacking)} classes: {listed}")


def _codes_of_folds(fold: NDArray[np.int32], plan: SplitPlan) -> NDArray[np.int8]:
    codes = np.full(len(fold), TRAIN, dtype=np.int8)
    codes[np.isin(fold, plan.val_folds)] = VAL
    codes[np.isin(fold, plan.test_folds)] = TEST
    return codes


def class_counts(head: Head, rows: NDArray[np.int64]) -> dict[str, int]:
    """Images per class among `rows`; "" counts the unlabeled ones where there are any."""
    unlabeled = int(missing_rows(head.kind, head.targets[rows]).sum())
    return head.counts(rows) | ({"": unlabeled} if unlabeled else {})


def _counts(manifest: Manifest, plan: SplitPlan) -> dict[str, dict[str, int]]:
    names = dict(enumerate(SPLITS)) | {NO_SPLIT: "none"}
    counts = {
        name: class_counts(manifest.heads[0], _rows(manifest.split == code))
        for code, name in names.items()
        if (manifest.split == code).any()
    }
    whole_in_folds = plan.way == "folds" and list(counts) == ["none"]
    return {} if whole_in_folds else counts


def _fold_counts(manifest: Manifest) -> dict[str, dict[str, int]]:
    fold = manifest.fold
    if fold is None:
        return {}
    return {
        f"fold {number}": class_counts(manifest.heads[0], _rows(fold == number))
        for number in range(int(fold.max()) + 1)
    }


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Images by split and by fold."""
    names = dict(enumerate(SPLITS)) | {NO_SPLIT: "none"}
    sizes = {name: int((manifest.split == code).sum()) for code, name in names.items()}
    fold = manifest.fold
    if fold is not None:
        sizes |= {f"fold {n}": int((fold == n).sum()) for n in range(int(fold.max(initial=-1)) + 1)}
    return {name: size for name, size in sizes.items() if size}


def _rows(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(mask).astype(np.int64)
