"""The questions that a way in answers: one label column, several, or several labels an image.

Owns `LabelColumn`, and how the columns of several sources become the heads of one manifest: classes
are matched by name, never by number.

Axes: N images, K classes of a column.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.manifest import MISSING, YES, Head, order_classes

LABEL: Final = "label"
# One image each for train, val and test.
LEAST_PER_STRATUM: Final = 3
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelColumn:
    """One question as found.

    `targets`: int64 [N] into `classes`, -1 missing, for kind single; float32 [N, K], NaN missing,
    for kind multi. `ordered`: the source itself lists its classes in this order. `numeric`: the
    classes are bare numbers, without names.
    """

    name: str = LABEL
    kind: str = "single"
    classes: tuple[str, ...]
    targets: NDArray[Any]
    ordered: bool = False
    numeric: bool = False

    @classmethod
    def of_labels(
        cls,
        labels: Sequence[str | None],
        *,
        name: str = LABEL,
        classes: tuple[str, ...] | None = None,
        numeric: bool = False,
    ) -> LabelColumn:
        """A column of one class an image, None where unlabeled.

        Raises DataError for a label that is not in `classes`, if these are given.
        """
        texts = [None if label is None else _normal(label) for label in labels]
        order = order_classes({t for t in texts if t is not None}) if classes is None else classes
        numbers: dict[str | None, int] = {label: number for number, label in enumerate(order)}
        numbers[None] = MISSING
        for text in texts:
            if text not in numbers:
                raise _unlisted(text, order, name)
        return cls(
            name=name,
            classes=order,
            targets=np.array([numbers[text] for text in texts], dtype=np.int64),
            ordered=classes is not None,
            numeric=numeric,
        )

    @classmethod
    def of_tags(
        cls,
        rows: Sequence[Sequence[str] | None],
        *,
        name: str = LABEL,
        classes: tuple[str, ...] | None = None,
    ) -> LabelColumn:
        """A column of any number of classes an image, None where nothing is known.

        Raises DataError for a class that is not in `classes`, if these are given.
        """
        texts = [None if row is None else [_normal(tag) for tag in row] for row in rows]
        order = classes or order_classes({t for row in texts for t in row or ()})
        numbers = {label: number for number, label in enumerate(order)}
        targets = np.zeros((len(texts), len(order)), dtype=np.float32)
        for place, row in enumerate(texts):
            if row is None:
                targets[place] = np.nan
            for tag in row or ():
                if tag not in numbers:
                    raise _unlisted(tag, order, name)
                targets[place, numbers[tag]] = 1.0
        return cls(name=name, kind="multi", classes=order, targets=targets, ordered=bool(classes))

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: NDArray[np.int64]) -> LabelColumn:
        """The given rows; the classes stay."""
        return replace(self, targets=self.targets[rows])

    def texts(self) -> list[str | None]:
        """The class of each image, or its classes joined by `;`; None where nothing is known."""
        if self.kind == "single":
            names: tuple[str | None, ...] = (*self.classes, None)  # the last one for MISSING, -1
            return [names[target] for target in self.targets.tolist()]
        known = ~self.missing()
        yes = self.targets >= YES
        return [
            ";".join(self.classes[k] for k in np.flatnonzero(row)) if there else None
            for row, there in zip(yes, known, strict=True)
        ]

    def missing(self) -> NDArray[np.bool_]:
        """Where nothing is known of an image: bool [N]."""
        return missing_rows(self.kind, self.targets)

    def used(self, rows: NDArray[np.bool_] | None = None) -> tuple[str, ...]:
        """The classes that any image has (of those marked in `rows`), in the column's order."""
        targets = self.targets if rows is None else self.targets[rows]
        if self.kind == "single":
            numbers = np.unique(targets[targets >= 0])
        else:
            numbers = np.flatnonzero((targets >= YES).any(axis=0))
        return tuple(self.classes[number] for number in numbers.tolist())

    def renumbered(self, classes: tuple[str, ...]) -> NDArray[Any]:
        """The targets by the numbers of `classes`; a class that is not there counts as missing.

        In a multi column, a class that it lacks is unknown for every image if it lists its classes
        (columns of 0 and 1), and absent if they are those found (tags).
        """
        numbers = {name: number for number, name in enumerate(classes)}
        if self.kind == "single":
            table = np.array([*(numbers.get(name, MISSING) for name in self.classes), MISSING])
            single: NDArray[np.int64] = table[self.targets].astype(np.int64)
            return single
        multi = np.full((len(self), len(classes)), np.nan, dtype=np.float32)
        if not self.ordered:
            multi[~self.missing()] = 0.0
        for place, name in enumerate(self.classes):
            if name in numbers:
                multi[:, numbers[name]] = self.targets[:, place]
        return multi


def missing_rows(kind: str, targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Where nothing is known of an image: bool [N]."""
    if kind == "single":
        single: NDArray[np.bool_] = targets == MISSING
        return single
    multi: NDArray[np.bool_] = np.isnan(targets).all(axis=1)
    return multi


def _normal(label: str) -> str:
    return unicodedata.normalize("NFC", label)


def _unlisted(label: str | None, classes: tuple[str, ...], name: str) -> DataError:
    return DataError(
        "a label is not one of the listed classes",
        where=f"label column '{name}'",
        got=label,
        expected=", ".join(classes[:20]),
        hint=did_you_mean(str(label), classes),
    )


def match_columns(parts: Sequence[Sequence[LabelColumn]], sources: Sequence[str]) -> None:
    """Raise DataError unless every source answers the questions of the first one.

    A single question may go by another name elsewhere: a folder has none for it.
    """
    first = parts[0]
    for part, source in zip(parts[1:], sources[1:], strict=True):
        alone = len(first) == len(part) == 1
        names = [column.name for column in part]
        for column in first:
            other = part[0] if alone else next((c for c in part if c.name == column.name), None)
            if other is None:
                raise DataError(
                    f"there is no label column '{column.name}'",
                    where=source, got=", ".join(names),
                    expected=", ".join(c.name for c in first),
                    hint=did_you_mean(column.name, names),
                )  # fmt: skip
            if other.kind != column.kind:
                raise DataError(
                    f"the label column '{column.name}' is of another kind than in the first source",
                    where=source, got=other.kind, expected=column.kind,
                )  # fmt: skip


def class_order(
    column: LabelColumn,
    given: tuple[str, ...] | None,
    train: NDArray[np.bool_],
    *,
    needs_train: bool,
) -> tuple[str, ...]:
    """The class names of a head: as given, as the source lists them, else those of the train rows.

    Without `needs_train`, as for evaluation, data without train rows gives its own classes.
    """
    if given is not None:
        return given
    if column.ordered:
        return column.classes
    used = column.used(train)
    if not used and not needs_train:
        used = column.used()
    return order_classes(used)


def check_known(
    column: LabelColumn, classes: tuple[str, ...], source: str, *, numeric: bool
) -> None:
    """Raise DataError naming the classes that `classes` lacks; bare numbers are told by count."""
    unknown = sorted(set(column.used()) - set(classes))
    if not unknown:
        return
    what = "there are classes" if len(unknown) > 1 else "there is a class"
    raise DataError(
        f"{what} that the training images do not have",
        where=source,
        got=", ".join(unknown[:_SHOWN]),
        expected=f"{len(classes)} numbered classes" if numeric else ", ".join(classes[:20]),
        hint=did_you_mean(unknown[0], classes)
        or "give them images in train, leave them out, or name the classes in data.classes",
    )


def join_heads(
    parts: Sequence[Sequence[LabelColumn]], classes: Sequence[tuple[str, ...]]
) -> tuple[Head, ...]:
    """The heads of one manifest, of the images of each source in turn.

    One head of kind single is called `label` whatever its column is called, so that a folder and a
    table of the same images are the same manifest.
    """
    first = parts[0]
    plain = len(first) == 1 and first[0].kind == "single"
    heads = []
    for column, names in zip(first, classes, strict=True):
        targets = [own.renumbered(names) for own in same_column(column, parts)]
        name = LABEL if plain else column.name
        heads.append(Head(name, column.kind, names, np.concatenate(targets)))
    return tuple(heads)


def same_column(column: LabelColumn, parts: Sequence[Sequence[LabelColumn]]) -> list[LabelColumn]:
    """That column of each source: of the same name, or the only one. See `match_columns`."""
    if len(parts[0]) == 1:
        return [part[0] for part in parts]
    return [next(own for own in part if own.name == column.name) for part in parts]


def join_columns(parts: Sequence[Sequence[LabelColumn]]) -> tuple[LabelColumn, ...]:
    """The columns of several sources in a row, over the classes of all of them.

    The listed order of the first source is kept where it has one; new names follow.
    """
    joined = []
    for column in parts[0]:
        own = same_column(column, parts)
        names = dict.fromkeys(name for each in own for name in each.classes)
        ordered = column.ordered and len(names) == len(column.classes)
        classes = tuple(names) if ordered else order_classes(names)
        targets = np.concatenate([each.renumbered(classes) for each in own])
        numeric = all(each.numeric for each in own)
        joined.append(
            replace(column, classes=classes, targets=targets, ordered=ordered, numeric=numeric)
        )
    return tuple(joined)


def split_strata(
    heads: Sequence[Head], drawn: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """What a split is stratified by: (numbers int64 [N], -1 unlabeled; names).

    One head of kind single: its classes. Else the combinations of answers among the images that are
    `drawn` from, bool [N], where those of fewer than three images are pooled (with the largest one,
    if the pool itself is that small).
    """
    if len(heads) == 1 and heads[0].kind == "single":
        return heads[0].targets, heads[0].classes
    columns = [
        head.targets[:, None] if head.kind == "single" else np.nan_to_num(head.targets) >= YES
        for head in heads
    ]
    answers = np.concatenate([column.astype(np.int64) for column in columns], axis=1)
    unknown = np.all([missing_rows(head.kind, head.targets) for head in heads], axis=0)
    numbers = np.full(len(answers), MISSING, dtype=np.int64)
    known = np.flatnonzero(~unknown & drawn)
    if not len(known):
        return numbers, ()
    _, inverse, counts = np.unique(answers[known], axis=0, return_inverse=True, return_counts=True)
    inverse = inverse.reshape(-1)
    small = counts < LEAST_PER_STRATUM
    if small.any():
        largest = int(counts.argmax())
        enough = counts[small].sum() >= LEAST_PER_STRATUM
        inverse = np.where(small[inverse], np.flatnonzero(small)[0] if enough else largest, inverse)
    kept, inverse = np.unique(inverse, return_inverse=True)
    numbers[known] = inverse.reshape(-1)
    return numbers, tuple(f"combination {number}" for number in range(len(kept)))


def answer_numbers(head: Head, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """One number for each answer to `head` at `rows`, -1 unlabeled: its class, or its labels."""
    if head.kind == "single":
        return np.asarray(head.targets[rows])
    numbers, _ = split_strata([head], np.ones(len(head.targets), dtype=np.bool_))
    return numbers[rows]


def given_classes(
    given: Sequence[str] | Mapping[str, Sequence[str]] | None, columns: Sequence[LabelColumn]
) -> list[tuple[str, ...] | None]:
    """The listed classes of each column: a list for the only one, or lists by column name.

    Raises DataError if a list is given for several columns, or for one that is not there.
    """
    if given is None:
        return [None] * len(columns)
    if isinstance(given, Mapping):
        names = [column.name for column in columns]
        for name in given:
            if name not in names:
                raise DataError(
                    f"classes are listed for a label column that is not there: '{name}'",
                    where="data.classes", got=name, expected=", ".join(names),
                    hint=did_you_mean(name, names),
                )  # fmt: skip
        return [tuple(given[name]) if name in given else None for name in names]
    if len(columns) > 1:
        raise DataError(
            "one list of classes cannot serve several label columns",
            where="data.classes", got=", ".join(given),
            expected="a list for each of " + ", ".join(column.name for column in columns),
        )  # fmt: skip
    return [tuple(given)]
