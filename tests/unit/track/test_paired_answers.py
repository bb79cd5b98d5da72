"""Two runs image by image: cells, the exact test, and what cannot be compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import binomtest

from discern.base.errors import DataError, RunError
from discern.track.paired_answers import mcnemar, pair_answers


def stored(folder: Path, answers: dict[str, tuple[str, str]]) -> Path:
    """A run folder with predictions: id to (true, predicted)."""
    rows: list[dict[str, Any]] = [
        {
            "image": f"{name}.png", "id": name, "true": true, "predicted": said,
            "probability": 0.9, "correct": true == said,
        }
        for name, (true, said) in answers.items()
    ]  # fmt: skip
    (folder / "report").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "report" / "predictions.parquet")
    return folder


def test_each_image_is_in_its_cell_matched_by_content(tmp_path: Path) -> None:
    first = stored(
        tmp_path / "a",
        {"1": ("x", "y"), "2": ("x", "x"), "3": ("y", "x"), "4": ("y", "y"), "5": ("x", "x"),
         "7": ("x", "x")},
    )  # fmt: skip
    second = stored(
        tmp_path / "b",
        {"4": ("y", "y"), "3": ("y", "x"), "2": ("x", "y"), "1": ("x", "x"), "6": ("x", "x"),
         "7": ("y", "y")},
    )  # fmt: skip
    found = pair_answers(first, second)
    ids = {cell: [image.id for image in images] for cell, images in found.cells.items()}
    assert ids == {"fixed": ["1"], "broken": ["2"], "still_wrong": ["3"], "right": ["4"]}
    assert (found.only_first, found.only_second, found.other_labels) == (1, 1, 1)
    assert found.p_value == 1.0


@pytest.mark.parametrize(("fixed", "broken"), [(0, 0), (1, 0), (3, 12), (12, 3), (40, 20), (5, 5)])
def test_mcnemar_is_the_exact_binomial_test(fixed: int, broken: int) -> None:
    wanted = binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert mcnemar(fixed, broken) == pytest.approx(wanted)


def test_runs_without_predictions_or_common_images_are_refused(tmp_path: Path) -> None:
    one = stored(tmp_path / "a", {"1": ("x", "y")})
    with pytest.raises(DataError, match="no labeled image in common"):
        pair_answers(one, stored(tmp_path / "b", {"2": ("x", "y")}))
    with pytest.raises(RunError, match="no stored predictions"):
        pair_answers(one, tmp_path / "c")
