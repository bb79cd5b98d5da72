"""Scores and predictions of folds joined."""

import csv
import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.base.console import Console
from discern.base.errors import ConfigError, RunError
from discern.config.request import Request
from discern.training.scores import table_from_logits
from discern.training.tag_scores import TagTable
from discern.worker.kfold import plan_folds
from discern.worker.kfold_join import join_tables, summarize_folds
from discern.workflows.fold_tables import FoldPredictions, fold_rows, write_predictions

CLASSES = ("=a", "b", "c")


def table(positions, seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(positions), 3)).astype(np.float32)
    targets = np.array(positions) % 3
    return table_from_logits(logits, targets, classes=CLASSES, positions=np.array(positions))


def test_mean_and_sample_deviation_of_every_figure():
    metrics = [
        {"split": "fold 0", "count": 3, "accuracy": 0.5, "accuracy_low": 0.1, "loss": 1.0, "f": 1},
        {"split": "fold 1", "count": 4, "accuracy": 0.7, "accuracy_low": 0.2, "loss": 2.0},
    ]
    mean, std, undefined = summarize_folds(metrics)
    assert {"accuracy": pytest.approx(0.6), "loss": 1.5} == mean
    assert {"accuracy": pytest.approx(0.1 * math.sqrt(2)), "loss": pytest.approx(0.5**0.5)} == std
    assert ["f"] == undefined


def test_rows_come_in_manifest_order_each_once():
    tables = {0: table([4, 0, 2], 0), 3: table([1, 5, 3], 1)}
    joined, folds = join_tables(tables, np.arange(6))
    assert list(range(6)) == joined.positions.tolist()
    assert [0, 3, 0, 3, 0, 3] == folds.tolist()
    assert np.array_equal(tables[3].logits[1], joined.logits[5])
    with pytest.raises(RunError, match="every image once"):
        join_tables(tables, np.arange(7))
    with pytest.raises(RunError, match="every image once"):
        join_tables({0: table([0, 1], 0), 1: table([1, 2], 1)}, np.arange(4))


def test_prediction_files_hold_ids_folds_targets_and_probabilities(tmp_path):
    joined, folds = join_tables({0: table([0, 2], 0), 1: table([1, 3], 1)}, np.arange(4))
    ids = np.array(["i0", "i1", "i2", "i3"])
    found = FoldPredictions(
        tables={"label": joined}, folds=folds, ids=ids, paths=np.array(["=p", "q", "r", "s"])
    )
    files = write_predictions(tmp_path, found)
    rows = pq.read_table(files["predictions"]).to_pylist()
    assert ["i0", "i1", "i2", "i3"] == [row["id"] for row in rows]
    assert ["=a", "b", "c", "=a"] == [row["target"] for row in rows]
    logits = np.load(files["logits"])
    assert np.float32 == logits.dtype
    for row, values in zip(rows, logits, strict=True):
        powers = np.exp(values.astype(np.float64))
        probabilities = [row[f"probability/{name}"] for name in CLASSES]
        assert probabilities == pytest.approx((powers / powers.sum()).tolist())
        assert CLASSES[int(values.argmax())] == row["predicted"]
        assert max(probabilities) == pytest.approx(row["probability"])
    with open(files["csv"], newline="") as stream:
        lines = list(csv.reader(stream))
    assert 5 == len(lines)
    assert not any(cell.startswith("=") for line in lines for cell in line)


def test_the_table_ends_with_mean_and_spread():
    outcome = {
        "folds": [{"fold": 0, "run": "p/r-0", "metrics": {"count": 2, "accuracy": 0.5}}],
        "mean": {"accuracy": 0.5},
        "std": {"accuracy": 0.1},
    }
    assert [
        ["fold", "run", "images", "accuracy"],
        [0, "p/r-0", 2, 0.5],
        ["mean", "", "", 0.5],
        ["std", "", "", 0.1],
    ] == fold_rows(outcome)


def test_one_model_of_several_label_columns_is_refused_before_anything_is_trained(tmp_path):
    rows = ["path,color,shape"]
    for number in range(12):
        pixels = np.full((8, 8, 3), 20 * number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,c{number % 2},s{number % 3}")
    (tmp_path / "data.csv").write_text("\n".join(rows) + "\n")
    pairs = [("DATA", "data.source", str(tmp_path / "data.csv")), ("--folds", "data.folds", 2)]
    labels = ("--label", "data.labels", ["color", "shape"])
    asked = Request(verb="kfold", pairs=[*pairs, labels])
    with pytest.raises(ConfigError, match="one label column") as refused:
        plan_folds(replace(asked, arguments={"bundle": "soup"}), Console(quiet=True))
    assert "leave --soup out" in str(refused.value.hint)
    several = plan_folds(asked, Console(quiet=True))
    assert (0, 1) == several.numbers
    first = several.scanned.manifest.heads[0]
    assert "color" == first.name
    for number in several.numbers:  # the folds are stratified by the first column
        assert [3, 3] == list(
            first.counts(np.flatnonzero(several.scanned.manifest.fold == number)).values()
        )


def test_predictions_of_several_heads_stand_under_their_names(tmp_path):
    def tags(positions):
        count = len(positions)
        targets = np.array([[1, 0], [np.nan, 1]], dtype=np.float32)[:count]
        return TagTable(
            np.array(positions), targets, np.full((count, 2), 0.25, dtype=np.float32),
            np.zeros(count, dtype=np.float32), ("new", "sale"),
        )  # fmt: skip

    whole, _ = join_tables({0: tags([0, 2]), 1: tags([1, 3])}, np.arange(4))
    classes, folds = join_tables({0: table([0, 2], 0), 1: table([1, 3], 1)}, np.arange(4))
    found = FoldPredictions(
        tables={"color": classes, "tags": whole}, folds=folds, ids=np.array(list("wxyz")),
        paths=np.array(list("pqrs")),
    )  # fmt: skip
    files = write_predictions(tmp_path, found)
    assert "logits" not in files
    rows = pq.read_table(files["predictions"]).to_pylist()
    assert [0, 1, 0, 1] == [row["fold"] for row in rows]
    assert ["=a", "b", "c", "=a"] == [row["color.target"] for row in rows]
    assert [1, 1, None, None] == [row["tags.target/new"] for row in rows]
    assert [0.25] * 4 == [row["tags.probability/sale"] for row in rows]


def test_figures_of_each_head_have_a_mean():
    runs = [
        {"accuracy": a, "heads": {"color": {"accuracy": 2 * a, "count": 3}}} for a in (0.2, 0.4)
    ]
    mean, _, undefined = summarize_folds(runs)
    assert {"accuracy": 0.3, "color/accuracy": 0.6} == pytest.approx(mean)
    assert [] == undefined
