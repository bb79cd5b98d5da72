"""Scores of parts of the images: by size, brightness, source, or any fact, weakest part first.

NumPy only.

Axes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.training.scores import wilson_interval

# Below this the interval of a part spans half the scale, and the weakest part is one of chance.
LEAST_IMAGES: Final = 10
_PARTS: Final = 4
# A fact of more texts than this is a name of each image, not a kind of them.
_MOST_VALUES: Final = 200


@dataclass(frozen=True, slots=True)
class Slice:
    """The labeled images that have one value of a fact, and how many are named right.

    low and high: the Wilson interval of the accuracy, 95 %. gap: accuracy minus that of all.
    """

    fact: str
    value: str
    count: int
    accuracy: float
    low: float
    high: float
    gap: float

    def record(self) -> dict[str, Any]:
        """The slice as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def find_slices(
    correct: NDArray[np.bool_],
    facts: Mapping[str, NDArray[Any]],
    least: int = LEAST_IMAGES,
) -> list[Slice]:
    """The slices of at least `least` images, weakest first; equal ones by size.

    `correct`: bool [N], labeled images alone. `facts`: name to values [N]. Numbers are cut into
    quarters of the images, or fewer parts of few images; texts stand as they are, unless there
    are more than 200 of them. A fact that all images share makes no slice.
    """
    overall = float(correct.mean()) if len(correct) else 0.0
    found = []
    for fact, values in facts.items():
        for value, mask in _parts(np.asarray(values), least):
            count = int(mask.sum())
            if count < least or count == len(correct):
                continue
            right = int(correct[mask].sum())
            low, high = wilson_interval(right, count)
            share = right / count
            found.append(Slice(fact, value, count, share, low, high, share - overall))
    return sorted(found, key=lambda part: (part.accuracy, -part.count))


def _parts(values: NDArray[Any], least: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if values.dtype.kind not in "iuf":
        texts = np.array([str(value) for value in values])
        names = np.unique(texts)
        return [(str(name), texts == name) for name in names] if len(names) <= _MOST_VALUES else []
    numbers = values.astype(np.float64)
    sound = numbers[np.isfinite(numbers)]
    if not len(sound):
        return []
    parts_wanted = max(2, min(_PARTS, len(sound) // least))
    edges = np.unique(np.quantile(sound, np.arange(1, parts_wanted) / parts_wanted))
    place = np.searchsorted(edges, numbers, side="right")
    parts = []
    for number in range(len(edges) + 1):
        mask = (place == number) & np.isfinite(numbers)
        if mask.any():
            low, high = numbers[mask].min(), numbers[mask].max()
            name = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
            parts.append((name, mask))
    return parts
