"""Evaluation in full of several heads and labels an image; reports of several sources."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.metrics import f1_score

import discern
from discern.base.console import Console
from discern.base.errors import ConfigError, DataError
from discern.config.request import Request
from discern.worker.answer_fitting import thresholds_request
from discern.worker.evaluation import evaluate_request
from discern.worker.run_report import report_request

QUIET = Console(quiet=True)
SETTINGS: dict[str, Any] = {
    "model": "mlp", "epochs": 3, "batch_size": 32, "device": "cpu", "threads": 1,
    "precision": "fp32",
}  # fmt: skip
HEADS = ["digit", {"tags": {"kind": "multi", "delimiter": ";"}}]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two tables of digits with a class, several tags and a camera each: 400 and 100 images."""
    root = tmp_path_factory.mktemp("heads")
    found = load_digits()
    rows = []
    for number in range(500):
        digit = int(found.target[number])
        Image.fromarray((found.images[number] * 15).astype(np.uint8)).save(root / f"{number}.png")
        tags = ["odd" if digit % 2 else "even", *(["big"] if digit > 6 else [])]
        rows.append([f"{number}.png", str(digit), ";".join(tags), f"c{number % 2}"])
    rows[400][0] = rows[0][0]  # a training image among the others, by its bytes
    for name, part in (("train", rows[:400]), ("test", rows[400:])):
        with (root / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["path", "digit", "tags", "camera"], *part])
    return root / "train.csv", root / "test.csv"


@pytest.fixture(scope="module")
def run(tables: tuple[Path, Path]) -> Path:
    train, test = tables
    done = discern.train(
        train, test=test, runs=train.parent / "runs", data={"labels": HEADS}, **SETTINGS
    )
    return done.path


def evaluated(verb: Any, **arguments: Any) -> dict[str, Any]:
    pairs = [
        ("--device", "compute.device", "cpu"),
        ("--set", "data.labels", arguments.get("labels")),
    ]
    found: dict[str, Any] = verb(Request(verb="eval", arguments=arguments, pairs=pairs), QUIET)
    return found


def test_report_of_separate_sources_has_every_part_by_head(
    run: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    groups = tmp_path / "groups.csv"
    lines = [f"{digit},{'low' if digit < 5 else 'high'}\n" for digit in range(10)]
    groups.write_text("class,group\n" + "".join(lines))
    found = evaluated(
        report_request, run=str(run), groups=str(groups), slice_by=["camera"], stress=True, tta=True
    )
    assert found["metrics"]["heads"]["digit"]["count"] == 100
    digit, tags = found["head_parts"]["digit"], found["head_parts"]["tags"]
    for own in (digit, tags):
        assert (own["leak_free"]["count"], own["leak_free"]["exact"]) == (99, 1)
        assert {"camera", "brightness"} <= {part["fact"] for part in own["slices"]}
    heads = found["metrics"]["heads"]
    for name, own in found["head_parts"].items():
        assert own["stress"]["accuracy"] == heads[name]["accuracy"]
        assert len(own["stress"]["kinds"]["blur"]) == 3
        changed = own["tta"]["mended"] - own["tta"]["spoiled"]
        assert changed == round(100 * (own["tta"]["accuracy"] - heads[name]["accuracy"]))
    assert digit["groups"]["classes"] == ["low", "high"]
    assert (tags["groups"], tags["calibration"], tags["coverage"]) == (None, None, None)
    joint = (digit["leak_free"]["accuracy"] + tags["leak_free"]["accuracy"]) / 2
    assert found["leak_free"]["accuracy"] == joint
    report = run / "report"
    page = (report / "index.html").read_text()
    for words in ("leak-free", "Training", "Configuration", "discern predict"):
        assert words in page
    for name, title in (("digit", "Groups of classes"), ("tags", "Several views of each image")):
        own_page = (report / "heads" / name / "index.html").read_text()
        assert "Under stress" in own_page
        assert "Weakest slices" in own_page
        assert title in own_page


def test_labels_are_scored_at_the_bundles_thresholds(
    run: Path, tables: tuple[Path, Path], tmp_path: Path
) -> None:
    train, test = tables
    before = evaluated(evaluate_request, model=str(run), data=str(test), split="all")
    bundle = str(tmp_path / "bundle")
    fitted = evaluated(thresholds_request, model=str(run), data=str(train), out=bundle)
    least = fitted["heads"]["tags"]["thresholds"]
    assert set(least.values()) != {0.5}
    out = tmp_path / "out"
    after = evaluated(evaluate_request, model=bundle, data=str(test), labels=HEADS, out=str(out))
    scores, usual = (found["metrics"]["heads"]["tags"] for found in (after, before))
    with (out / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    truth = np.array([[name in row["tags.true"].split(";") for name in least] for row in rows])
    stated = [[float(row[f"tags.probability.{name}"]) for name in least] for row in rows]
    named = np.array(stated) >= np.array(list(least.values()))
    assert scores["macro_f1"] == pytest.approx(f1_score(truth, named, average="macro"))
    assert scores["accuracy"] == pytest.approx((named == truth).all(axis=1).mean())
    for key in ("accuracy", "macro_f1", "micro_f1"):
        assert scores[f"{key}_at_half"] == usual[key]
    assert "macro_f1_at_half" not in usual
    images = [test.parent / row["image"] for row in rows]
    answers = discern.predict(bundle, images, device="cpu").heads["tags"]
    assert [set(own) for own in answers.labels] == [
        {name for name, there in zip(least, row, strict=True) if there} for row in named
    ]
    assert after["head_parts"]["digit"]["answers"]["unknown"] == 0
    assert "At the bundle's own thresholds" in (out / "index.html").read_text()


def test_groups_of_a_model_of_labels_alone_are_refused(
    tables: tuple[Path, Path], tmp_path: Path
) -> None:
    train, test = tables
    settings = {**SETTINGS, "epochs": 1}
    labels = {"labels": [HEADS[1]]}
    done = discern.train(train, test=test, runs=tmp_path / "runs", data=labels, **settings)
    found = evaluated(report_request, run=str(done.path), slice_by=["camera"])
    assert found["slices"][0]["fact"] in ("camera", "brightness")
    assert found["leak_free"]["removed"] == 1
    assert "Weakest slices" in (done.path / "report" / "index.html").read_text()
    with pytest.raises(ConfigError, match="one label an image"):
        evaluated(report_request, run=str(done.path), groups=str(train))


def test_a_bundle_is_scored_on_the_columns_that_are_named(
    tables: tuple[Path, Path], run: Path
) -> None:
    """A bundle does not know the columns of its training: the error says how to name them."""
    given = {"model": str(run / "model"), "data": str(tables[1])}

    def scored(columns: Any) -> dict[str, Any]:
        pairs = [("--label", "data.labels", columns), ("--device", "compute.device", "cpu")]
        request = Request(verb="eval", arguments=given, pairs=pairs)
        return evaluate_request(request, QUIET)["metrics"]

    with pytest.raises(DataError, match="no label column") as caught:
        scored(None)
    assert "--label '{color: {}, tags: {kind: multi, delimiter: ;}}'" in str(caught.value.hint)
    both = scored(HEADS)
    assert {"digit", "tags"} == set(both["heads"])
    assert both["heads"]["digit"]["accuracy"] == scored("digit")["accuracy"]
