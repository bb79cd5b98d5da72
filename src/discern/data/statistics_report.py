"""The numbers that describe a data set, as records and as lines for the terminal.

See `statistics` for how they are found. Axes: N images.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.data.label_columns import missing_rows
from discern.data.manifest import NO_SPLIT, SPLITS, Head

_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """How a number is spread over the images: least, 5 %, median, 95 %, largest, and the mean."""

    least: float
    low: float
    median: float
    high: float
    largest: float
    mean: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> Spread:
        """Of values [N], at least one."""
        least, low, median, high, largest = np.quantile(
            values, [0.0, 0.05, 0.5, 0.95, 1.0]
        ).tolist()
        return cls(
            least=least, low=low, median=median, high=high, largest=largest,
            mean=round(float(np.mean(values)), 4),
        )  # fmt: skip

    def text(self, unit: str = "") -> str:
        """Least, median and largest for the terminal."""
        low, middle, high = map(_number, (self.least, self.median, self.largest))
        return f"{low} to {high}{unit}, median {middle}{unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadStatistics:
    """Images per class of one label column, by split (or "none"). `imbalance`: most / fewest."""

    name: str
    kind: str
    classes: dict[str, int]
    splits: dict[str, dict[str, int]]
    unlabeled: int
    empty: tuple[str, ...]
    imbalance: float | None

    @classmethod
    def of(cls, head: Head, split: NDArray[np.int8]) -> HeadStatistics:
        """Count a head's labels."""
        classes = head.counts()
        used = [count for count in classes.values() if count]
        return cls(
            name=head.name,
            kind=head.kind,
            classes=classes,
            splits={name: head.counts(rows) for name, rows in split_rows(split).items()},
            unlabeled=int(missing_rows(head.kind, head.targets).sum()),
            empty=tuple(name for name, count in classes.items() if not count),
            imbalance=round(max(used) / min(used), 4) if used else None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Mean and std per channel on 0..1 values, of so many images at that size."""

    images: int
    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DataStatistics:
    """A data set in numbers. Sizes are in pixels, upright; `aspect` is width / height.

    `copies`: images whose bytes are there already. `unreadable`: paths and why. Spreads are None
    if no image can be read.
    """

    layout: str
    images: int
    splits: dict[str, int]
    heads: tuple[HeadStatistics, ...]
    groups: int | None
    folds: int | None
    copies: int
    total_bytes: int
    bytes: Spread | None
    width: Spread | None
    height: Spread | None
    short_side: Spread | None
    aspect: Spread | None
    shapes: dict[str, int]
    modes: dict[str, int]
    formats: dict[str, int]
    grey: int
    measured: Measured | None
    unreadable: tuple[tuple[str, str], ...]

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        values = asdict(self)
        values["heads"] = [head | {"empty": list(head["empty"])} for head in values["heads"]]
        values["unreadable"] = [{"path": path, "text": text} for path, text in self.unreadable]
        if self.measured is not None:
            for name in ("mean", "std"):
                values["measured"][name] = list(values["measured"][name])
        return values

    def lines(self) -> list[str]:
        """For the terminal."""
        lines = [
            f"images   {self.images:,} ({self.layout})",
            "splits   " + (_listed(self.splits) or "none"),
        ]
        for head in self.heads:
            lines += _head_lines(head)
        if self.groups is not None:
            lines.append(f"groups   {self.groups:,}")
        if self.folds is not None:
            lines.append(f"folds    {self.folds}")
        if self.copies:
            lines.append(f"copies   {self.copies:,} images whose bytes are there already")
        if self.bytes and self.width and self.height and self.aspect:
            lines += [
                f"bytes    {self.total_bytes / 1e6:,.1f} MB; {self.bytes.text()} an image",
                f"width    {self.width.text(' px')}",
                f"height   {self.height.text(' px')}",
                f"aspect   {self.aspect.text()} ({_listed(self.shapes)})",
                f"formats  {_listed(self.formats)}",
                f"modes    {_listed(self.modes)}",
            ]
        if self.measured:
            mean, std = (
                ", ".join(f"{value:.4f}" for value in values)
                for values in (self.measured.mean, self.measured.std)
            )
            size = f"{self.measured.height} x {self.measured.width}"
            of = f"of {self.measured.images:,} images at {size}"
            lines += [f"mean     {mean}", f"std      {std} ({of})"]
        shown = [f"{path} ({text})" for path, text in self.unreadable[:_SHOWN]]
        if shown:
            lines.append(f"unreadable {len(self.unreadable):,}: {'; '.join(shown)}")
        return lines


def split_rows(split: NDArray[np.int8]) -> dict[str, NDArray[np.int64]]:
    """The rows of each split that has any, and of "none", ascending."""
    names = {**dict(enumerate(SPLITS)), NO_SPLIT: "none"}
    found = {name: np.flatnonzero(split == code) for code, name in names.items()}
    return {name: rows.astype(np.int64) for name, rows in found.items() if len(rows)}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def _listed(numbers: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in numbers.items())


def _head_lines(head: HeadStatistics) -> list[str]:
    """The largest and smallest classes of a head."""
    order = sorted(head.classes.items(), key=lambda item: (-item[1], item[0]))
    shown = order if len(order) <= _SHOWN else [*order[: _SHOWN // 2], *order[-_SHOWN // 2 :]]
    gap = "" if len(order) <= _SHOWN else f" (of {len(order)}: the largest and the smallest)"
    listed = f": {_listed(dict(shown))}{gap}" if order else ""
    lines = [f"{head.name:<8} {len(order)} classes{listed}"]
    notes = []
    if head.imbalance is not None and head.imbalance > 1:
        notes.append(f"the largest class has {head.imbalance:,.3g} times the smallest")
    if head.unlabeled:
        notes.append(f"{head.unlabeled:,} unlabeled")
    if head.empty:
        notes.append(f"{len(head.empty)} classes without images")
    return lines + ([f"         {'; '.join(notes)}"] if notes else [])
