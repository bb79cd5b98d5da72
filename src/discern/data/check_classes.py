"""Rules on the whole of a data set: its classes, its order, and images unlike all the others.

Owns the limits from which something is worth saying, and why they are where they are.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from discern.data.check_findings import Finding, ImageRows
from discern.data.inspection import GREY_SHARE
from discern.data.split import LEAST_PER_CLASS

# Under this many images a class has one image or none in val and in test of a 70/15/15 split.
SMALL_CLASS: Final = 10
# Largest class against smallest. Source: the least ratio that the benchmarks of long-tailed
# learning call imbalanced (Cui et al. 2019 and Cao et al. 2019: CIFAR at 10 and at 100).
IMBALANCE: Final = 10.0
# The smallest side that Discern trains at; and the shrink against the usual image from which an
# image enlarged to the common size is mostly blur (a quarter: 16 pixels made of one).
TINY_SIDE: Final = 16
TINY_SHARE: Final = 4
# Three times as long as the usual image: a crop of the usual shape keeps less than a third.
ASPECT: Final = 3.0
# A list has as many label runs as chance makes, give or take; half of that never comes by chance
# from this many images on (more than 3 standard deviations of the number of runs).
RUNS_SHARE: Final = 0.5
RUNS_IMAGES: Final = 30
# A class that is mostly grey while the others are not can be told by that alone.
_MOSTLY: Final = 0.5
_RARELY: Final = 0.1
_SHOWN: Final = 8

Counts = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class ColumnCounts:
    """Images per class, per split or "all", of one label column; `single`: one class an image."""

    splits: dict[str, dict[str, int]]
    single: bool = True


def class_findings(
    rows: ImageRows, columns: Sequence[ColumnCounts], *, ordered: bool
) -> list[Finding]:
    """What is wrong with classes and labels.

    `ordered`: the images come in the order of a list, whose runs of labels mean something.
    """
    if all(label is None for label in rows.labels):
        if not rows.labels:
            return []
        text = f"none of the {len(rows.labels):,} images has a class"
        return [Finding(kind="unlabeled", severity="note", text=text)]
    findings = []
    for column in columns:
        findings += [*_mismatches(column.splits), *_sizes(column), *_twins(column.splits)]
    unlabeled = [row for row, label in enumerate(rows.labels) if label is None]
    if unlabeled:
        text = f"no class, unlike {len(rows.labels) - len(unlabeled):,} other images"
        findings.append(several(rows, unlabeled, "unlabeled", "warning", text))
    if ordered:
        findings += _runs([label for label in rows.labels if label is not None])
    return findings


def several(
    rows: ImageRows, members: Sequence[int], kind: str, severity: str, text: str
) -> Finding:
    """A finding on several images."""
    paths = tuple(rows.paths[row] for row in members)
    return Finding(kind=kind, severity=severity, text=text, rows=tuple(members), paths=paths)


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _there(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}


def _mismatches(counts: Counts) -> list[Finding]:
    """Classes that are in one split and not in another."""
    found = []
    train = _there(counts.get("train", {}))
    for split in ("val", "test"):
        if not train or split not in counts:
            continue
        held = _there(counts[split])
        unknown = [name for name in held if name not in train]
        absent = [name for name in train if name not in held]
        if unknown:
            text = f"{split} has classes that train does not have: {_names(unknown)}"
            found.append(Finding(kind="class-mismatch", severity="error", text=text))
        if absent:
            text = f"{split} has no images of {_names(absent)}: they are not scored"
            found.append(Finding(kind="class-mismatch", severity="warning", text=text))
    return found


def _sizes(column: ColumnCounts) -> list[Finding]:
    """Too few classes, small classes, and classes of very different size, of what is trained on."""
    counts = column.splits
    if not counts:
        return []
    split = "train" if "train" in counts else next(iter(counts))
    numbers = _there(counts[split])
    where = "" if split == "all" else f" in {split}"
    if column.single and len(numbers) == 1:
        text = f"all labeled images{where} are of one class: {next(iter(numbers))}"
        return [Finding(kind="one-class", severity="warning", text=text)]
    found = []
    for name, number in numbers.items():
        if number < SMALL_CLASS:
            severe = split == "all" and number < LEAST_PER_CLASS
            images = "1 image" if number == 1 else f"{number} images"
            text = f"class {name} has {images}{where}" + (
                f": too few to be split into train, val and test (at least {LEAST_PER_CLASS})"
                if severe
                else ""
            )
            severity = "error" if severe else "warning"
            found.append(Finding(kind="small-class", severity=severity, text=text))
    most, least = max(numbers, key=numbers.__getitem__), min(numbers, key=numbers.__getitem__)
    if numbers[most] > IMBALANCE * numbers[least]:
        text = (
            f"{numbers[most]:,} images of {most}, {numbers[least]:,} of {least}{where}: "
            f"{numbers[most] / numbers[least]:.0f} to 1"
        )
        found.append(Finding(kind="class-imbalance", severity="warning", text=text))
    return found


def _twins(counts: Counts) -> list[Finding]:
    """Class names that a person would take for one."""
    alike: dict[str, list[str]] = {}
    for name in dict.fromkeys(name for row in counts.values() for name in row):
        folded = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault(re.sub(r"[\s_-]+", " ", folded).strip(), []).append(name)
    return [
        Finding(kind="case-twin", severity="warning", text=f"classes {' and '.join(names)}")
        for names in alike.values()
        if len(names) > 1
    ]


def _runs(labels: Sequence[str]) -> list[Finding]:
    """A list whose labels come in long runs: an unshuffled list trains badly elsewhere."""
    count = len(labels)
    numbers = Counter(labels)
    if count < RUNS_IMAGES or len(numbers) < 2:
        return []
    runs = 1 + sum(one != other for one, other in itertools.pairwise(labels))
    # Of a list in random order (Wald and Wolfowitz 1940, for any number of classes).
    expected = 1 + (count**2 - sum(number**2 for number in numbers.values())) / count
    if runs >= RUNS_SHARE * expected:
        return []
    text = f"{runs:,} runs of equal labels; a shuffled list would have about {expected:,.0f}"
    return [Finding(kind="label-runs", severity="warning", text=text)]


def color_findings(
    rows: ImageRows, grey: NDArray[np.bool_], looks_grey: NDArray[np.bool_]
) -> list[Finding]:
    """Grey images among colored ones, or the reverse. `grey`: stored so; `looks_grey`: no color."""
    read = np.flatnonzero(rows.sizes[:, 0] > 0)
    if not len(read):
        return []
    share = float(looks_grey[read].mean())
    if float(grey[read].mean()) >= GREY_SHARE:
        colored = read[~looks_grey[read]].tolist()
        if not colored:
            return []
        text = "color is lost: the other images are grey, so all are read as grey"
        return [several(rows, colored, "grey-among-color", "warning", text)]
    members = read[looks_grey[read]].tolist()
    if not members or share >= GREY_SHARE:
        return []
    text = f"no color, as in {100 * share:.2g}% of the images"
    found = [several(rows, members, "grey-among-color", "note", text)]
    total = Counter(rows.labels[row] for row in read.tolist())
    grey_ones = Counter(rows.labels[row] for row in members)
    for name, number in grey_ones.items():
        others = len(read) - total[name]
        inside = number / total[name]
        outside = (len(members) - number) / others if others else 1.0
        if total[name] >= SMALL_CLASS and inside >= _MOSTLY and outside <= _RARELY:
            text = (
                f"{100 * inside:.0f}% of class {name} have no color, {100 * outside:.2g}% of the "
                "rest: a network can learn that instead of the class"
            )
            found.append(Finding(kind="grey-among-color", severity="warning", text=text))
    return found


def shape_findings(rows: ImageRows) -> list[Finding]:
    """Images much smaller, or much longer or wider, than the others."""
    read = np.flatnonzero(rows.sizes[:, 0] > 0)
    if not len(read):
        return []
    height, width = rows.sizes[read, 0].astype(np.float64), rows.sizes[read, 1].astype(np.float64)
    short = np.minimum(height, width)
    usual = float(np.median(short))
    tiny = short * TINY_SHARE < usual
    if usual >= TINY_SIDE:
        tiny |= short < TINY_SIDE
    shape = np.log(width / height)
    odd = np.abs(shape - np.median(shape)) > np.log(ASPECT)
    found = []
    for kind, severity, chosen in (("tiny", "warning", tiny), ("aspect-outlier", "note", odd)):
        for place in np.flatnonzero(chosen).tolist():
            row = int(read[place])
            text = f"{int(width[place])} x {int(height[place])} pixels" + (
                f"; usual short side {usual:.0f}" if kind == "tiny" else ""
            )
            found.append(several(rows, [row], kind, severity, text))
    return found
