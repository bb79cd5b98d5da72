"""Two runs image by image: what the second mended, what it broke, and whether that is chance.

Reads the predictions that each run's report stores; images are matched by content, not by name.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import DataError, RunError

CELLS: Final = ("fixed", "broken", "still_wrong", "right")
_COLUMNS: Final = ("id", "image", "true", "predicted", "probability", "correct")


@dataclass(frozen=True, slots=True)
class PairedImage:
    """One image that both runs were scored on, and their answers with stated probabilities."""

    id: str
    image: str
    true: str
    first: str
    second: str
    first_probability: float | None
    second_probability: float | None

    def record(self) -> dict[str, Any]:
        """The image as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class PairedAnswers:
    """The labeled images that both runs were scored on, by cell, in the first run's order.

    fixed: wrong in the first run, right in the second; broken: the other way; still_wrong; right:
    in both. only_first and only_second: images that one run alone was scored on; other_labels:
    images of another label in each run, left out.
    """

    cells: dict[str, list[PairedImage]]
    only_first: int
    only_second: int
    other_labels: int

    @property
    def count(self) -> int:
        """How many images are compared."""
        return sum(len(images) for images in self.cells.values())

    @property
    def p_value(self) -> float:
        """The exact two-sided McNemar test on fixed against broken."""
        return mcnemar(len(self.cells["fixed"]), len(self.cells["broken"]))


def mcnemar(fixed: int, broken: int) -> float:
    """How likely a difference this large is, if each changed answer is a fair coin: exact, 0..1.

    Two-sided binomial test with p = 1/2 on `fixed` of `fixed` + `broken`; 1 where nothing changed.
    Source: McNemar, Psychometrika 12 (1947), in its exact form.
    """
    total, fewer = fixed + broken, min(fixed, broken)
    ways = sum(math.comb(total, number) for number in range(fewer + 1))
    return min(1.0, 2 * ways / 2**total) if total else 1.0


def pair_answers(first: Path, second: Path) -> PairedAnswers:
    """Match the stored predictions of two run folders.

    Raises RunError for a run that stored none of one label an image, DataError when no labeled
    image is in both.
    """
    ours, theirs = _answers(first), _answers(second)
    cells: dict[str, list[PairedImage]] = {cell: [] for cell in CELLS}
    other_labels = 0
    for name, one in ours.items():
        other = theirs.get(name)
        if other is None or one["correct"] is None or other["correct"] is None:
            continue
        if one["true"] != other["true"]:
            other_labels += 1
            continue
        image = PairedImage(
            name, one["image"], one["true"], one["predicted"], other["predicted"],
            one["probability"], other["probability"],
        )  # fmt: skip
        cells[_cell(was=one["correct"], now=other["correct"])].append(image)
    both = ours.keys() & theirs.keys()
    found = PairedAnswers(cells, len(ours) - len(both), len(theirs) - len(both), other_labels)
    if not found.count:
        raise DataError(
            "the runs were scored on no labeled image in common",
            got=f"{len(ours)} and {len(theirs)} images",
            hint="runs of the same data and the same split seed share their test images",
        )
    return found


def _cell(*, was: bool, now: bool) -> str:
    if was:
        return "right" if now else "broken"
    return "fixed" if now else "still_wrong"


def _answers(run: Path) -> dict[str, dict[str, Any]]:
    """Each scored image's stored row by its id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = run / "report" / "predictions.parquet"
    try:
        names = pq.read_schema(file).names
        lacking = [name for name in _COLUMNS if name not in names]
        if lacking:
            raise RunError(
                "the run's stored predictions are not of one label an image", where=file,
                got=", ".join(names), expected=", ".join(_COLUMNS),
            )  # fmt: skip
        rows = pq.read_table(file, columns=list(_COLUMNS)).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            "the run has no stored predictions",
            where=file,
            hint="a finished run has them; `discern report RUN` writes them anew",
        ) from error
    return {row["id"]: row for row in rows}
