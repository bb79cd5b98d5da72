"""Several heads, several labels an image and side heads, as people train, score and ask them."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from discern_process import QUICK, discern, write_table
from PIL import Image

from discern.base.names import counted

COLORS, SHAPES = ("red", "green", "blue"), ("bar", "box")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """72 images of a color and a shape; some have no label of one; tags tell both."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(72):
        color, shape = number % 3, number // 3 % 2
        image = rng.integers(0, 60, (16, 16, 3))
        rows_, columns = (slice(4, 12), slice(4, 12)) if shape else (slice(None), slice(6, 10))
        image[rows_, columns, color] += 180
        Image.fromarray(image.astype(np.uint8)).save(root / f"{number:02d}.png")
        tags = [COLORS[color], *(["square"] if shape else [])]
        rows.append(
            {
                "image": f"{number:02d}.png",
                "color": "" if number % 7 == 3 else COLORS[color],
                "shape": "" if number % 7 == 5 else SHAPES[shape],
                "tags": ";".join(tags),
            }
        )
    return write_table(root / "table.csv", rows)


@pytest.mark.feature("CA-27")
@pytest.mark.feature("CA-39")
def test_two_label_columns_train_score_and_answer_head_by_head(table, tmp_path):
    arguments = ("--set", "data.labels=[color, shape]", "--set",
                 "stages.train.heads={shape: {objective: focal, weight: 0.5}}")  # fmt: skip
    trained = discern("train", table, *QUICK, *arguments, "--runs", tmp_path, "--json").object
    heads = trained["metrics"]["heads"]
    assert list(heads) == ["color", "shape"]
    means = np.mean([heads[name]["accuracy"] for name in heads])
    assert trained["metrics"]["accuracy"] == pytest.approx(means)
    assert heads["color"]["confusion"]["classes"] == ["blue", "green", "red"]
    counts = np.array(heads["color"]["confusion"]["counts"])
    assert counts.sum() == heads["color"]["count"]
    assert np.trace(counts) / counts.sum() == pytest.approx(heads["color"]["accuracy"])
    normalized = np.array(heads["color"]["confusion"]["normalized"])
    np.testing.assert_allclose(normalized, counts / counts.sum(1, keepdims=True), atol=1e-6)

    report = Path(trained["report"])
    assert (report / "heads" / "shape" / "confusion.png").is_file()
    assert "color" in (report / "index.html").read_text(encoding="utf-8")
    image = table.parent / "01.png"
    asked = discern("predict", trained["path"] + "/model", image, "--json").object
    row = asked["predictions"][0]
    assert list(row["heads"]) == ["color", "shape"]
    for answer in row["heads"].values():
        assert sum(entry["probability"] for entry in answer["top"]) == pytest.approx(1, abs=1e-5)

    scored = discern("eval", trained["path"], table, "--split", "test", "--metric", "macro_f1",
                     "--runs", tmp_path, "--json").object["metrics"]  # fmt: skip
    assert scored["accuracy"] == pytest.approx(trained["metrics"]["accuracy"])
    assert set(scored["heads"]["shape"]) >= {"macro_f1", "accuracy_low", "loss"}


@pytest.mark.feature("CA-39")
def test_several_labels_an_image_train_score_and_answer(table, tmp_path):
    labels = "data.labels={tags: {kind: multi, delimiter: ';'}}"
    quick = [*QUICK]
    quick[quick.index("1")] = "8"
    trained = discern("train", table, *quick, "--set", labels, "--runs", tmp_path, "--json").object
    metrics = trained["metrics"]
    assert set(metrics) >= {"macro_f1", "micro_f1", "map", "accuracy", "accuracy_low", "loss"}
    assert metrics["top5"] is None
    report = json.loads((Path(trained["report"]) / "report.json").read_text(encoding="utf-8"))
    labels_there = [row["class"] for row in report["heads"]["tags"]["per_label"]]
    assert labels_there == ["blue", "green", "red", "square"]
    asked = discern("predict", trained["path"] + "/model", table.parent / "03.png", "--json")
    row = asked.object["predictions"][0]
    over = [e["class"] for e in row["top"] if e["probability"] >= 0.5]
    assert [entry["class"] for entry in row["labels"]] == over
    scored = discern(
        "eval", trained["path"], table, "--split", "test", "--runs", tmp_path, "--json"
    )
    assert scored.object["metrics"]["map"] == pytest.approx(metrics["map"])


@pytest.mark.parametrize("labels", ["color", "[color, shape]"])
def test_images_without_any_label_are_refused_or_left_out_and_counted(labels, table, tmp_path):
    lacking = 10 if labels == "color" else 1  # of 72: every 7th of one column, some of both
    rows = list(csv.DictReader(table.open()))
    if lacking == 1:
        rows[3]["shape"] = ""  # it has no color either
    own = write_table(table.parent / f"own-{lacking}.csv", rows)
    asked = (own, *QUICK, "--set", f"data.labels={labels}", "--runs", tmp_path, "--json")
    refused = discern("train", *asked)
    assert 1 == refused.code
    assert f"{lacking} images have no class" in refused.error["what"]
    assert "--set data.on_missing_label=skip" in refused.error["hint"]

    ended = discern("train", *asked, "--set", "data.on_missing_label=skip")
    assert 0 == ended.code, ended.stderr
    assert "left out: 03.png: it has no label" in ended.stderr
    assert f"left out in all: {counted(lacking, 'unlabeled image')}" in ended.stderr
    record = json.loads((Path(ended.object["path"]) / "run.json").read_text())
    assert lacking == len(record["left_out"])
    (counts,) = re.findall(r"train (\d+), val (\d+), test (\d+)", ended.stderr)
    assert 72 - lacking == sum(map(int, counts))
    page = json.loads((Path(ended.object["report"]) / "report.json").read_text())
    assert f"Left out: {counted(lacking, 'unlabeled image')}." in page["warnings"]


SIDE_CLASSES = {"rotation": 8, "class_rotation": 80, "blur": 8, "flare": 2}


def train_side_heads(runs, *flags):
    return discern(
        "train", "digits", *flags, "--device", "cpu", "--precision", "fp32", "--set",
        "data.side_heads=[rotation, class_rotation, blur, flare]", "--runs", runs, "--json",
        timeout=300,
    ).object  # fmt: skip


def test_side_heads_are_scored_and_answer_nothing(tmp_path):
    trained = train_side_heads(tmp_path, "--model", "mlp", "--epochs", "1")
    heads = trained["metrics"]["heads"]
    assert {name for name, own in heads.items() if own.get("side")} == set(SIDE_CLASSES)
    for name, count in SIDE_CLASSES.items():
        assert len(heads[name]["confusion"]["classes"]) == count
    (main,) = set(heads) - set(SIDE_CLASSES)
    assert trained["metrics"]["accuracy"] == heads[main]["accuracy"]
    asked = discern("predict", trained["path"] + "/model", _digit(tmp_path), "--json").object
    row = asked["predictions"][0]
    assert set(row) == {"image", "class", "probability", "top"}
    assert row["class"] in set("0123456789")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.feature("CA-32")
@pytest.mark.feature("CA-33")
@pytest.mark.feature("CA-34")
def test_side_heads_learn_what_was_done_to_digits(tmp_path):
    heads = train_side_heads(tmp_path, "--model", "lenet", "--epochs", "6")["metrics"]["heads"]
    for name, count in SIDE_CLASSES.items():
        assert heads[name]["accuracy_low"] > 1 / count, name


def test_centers_of_arcface_learn_beside_the_head(tmp_path):
    terms = "[{name: cross_entropy}, {name: arcface, weight: 0.1, args: {scale: 8.0}}]"
    objective = f"stages.train.objective={{name: weighted_sum, args: {{terms: {terms}}}}}"
    trained = discern("train", "digits", *QUICK, "--set", objective, "--runs", tmp_path, "--json")
    assert trained.code == 0, trained.stderr
    assert trained.object["metrics"]["count"] == 269
    assert trained.object["metrics"]["accuracy_low"] > 0.1
    last = sorted(Path(trained.object["path"]).glob("checkpoints/step-*"))[-1]
    assert (last / "objective.safetensors").is_file()


@pytest.mark.timeout(600)
@pytest.mark.feature("CA-47")
def test_folds_of_several_columns_are_joined_head_by_head(table, tmp_path):
    joined = discern(
        "kfold", table, *QUICK, "--folds", "2", "--set", "data.labels=[color, shape]",
        "--runs", tmp_path, "--json", timeout=400,
    )  # fmt: skip
    assert joined.code == 0, joined.stderr
    outcome = joined.object
    with open(outcome["csv"], newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 72
    for name, head in outcome["out_of_fold"]["heads"].items():
        labeled = [row for row in rows if row[f"{name}.target"]]
        assert len(labeled) == head["count"]
        right = [row[f"{name}.target"] == row[f"{name}.predicted"] for row in labeled]
        assert np.mean(right) == pytest.approx(head["accuracy"])
        folds = [fold["metrics"]["heads"][name]["accuracy"] for fold in outcome["folds"]]
        assert np.mean(folds) == pytest.approx(outcome["mean"][f"{name}/accuracy"])
    assert "color/accuracy" in Path(outcome["report"]).read_text()


def _digit(folder: Path) -> Path:
    path = folder / "digit.png"
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(path)
    return path


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (["data.labels=[color, shape]", "stages.train.heads={colour: {weight: 2.0}}"], "did you"),
        (["data.labels=[color, shape]", "stages.train.monitor=hue/accuracy"], "hue"),
        (["data.labels={tags: {kind: multi, delimiter: ';'}}",
          "stages.train.objective=cross_entropy"], "one label an image"),
        (["data.labels=[color, shape]",
          "stages.train.heads={color: {weight: 0.0}, shape: {weight: 0.0}}"], "nothing"),
    ],
)  # fmt: skip
def test_heads_named_in_vain_stop_before_training(table, tmp_path, settings, text):
    flags = [part for setting in settings for part in ("--set", setting)]
    ended = discern("train", table, *QUICK, *flags, "--runs", tmp_path, "--json")
    assert ended.code == 2
    told = ended.error
    assert text in " ".join(str(value) for value in told.values())
    assert not list(tmp_path.iterdir())
