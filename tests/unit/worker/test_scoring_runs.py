"""A run's model is scored and asked again: the same images give the same figures."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, ModelError
from discern.config.request import Request
from discern.track.run import Run, open_run, runs_root
from discern.worker.evaluation import evaluate_request
from discern.worker.open_model import OpenRequest, open_model
from discern.worker.prediction import prediction_verb
from discern.worker.run_report import report_request
from discern.worker.train import train

QUIET = Console(quiet=True)
HUES = {"blue": (30, 60, 200), "green": (40, 180, 60), "red": (210, 50, 40)}


def write_images(root: Path, count: int = 14) -> Path:
    random = np.random.default_rng(0)
    for name, hue in HUES.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            noise = random.normal(0, 60, (24, 20, 3))
            pixels = np.clip(np.array(hue) + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}{number:02d}.jpg", quality=92)
    return root


def train_request(source: str, **config: Any) -> Request:
    pairs = [("flag", key, value) for key, value in config.items()]
    return Request(
        verb="train",
        arguments={},
        pairs=[("DATA", "data.source", source), *pairs],
        quiet=True,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Path]:
    """A run of one epoch on 42 tiny photos, with a split seed that is not the default."""
    folder = tmp_path_factory.mktemp("trained")
    data = write_images(folder / "hues")
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("DISCERN_CACHE", str(folder / "cache"))
        config = {
            "stages.*.epochs": 1,
            "data.split_seed": 3,
            "data.test_share": 0.3,
            "compute.device": "cpu",
        }
        request = train_request(str(data), **{"model.name": "lenet", **config})
        request.arguments["runs"] = str(folder / "runs")
        outcome = train(request, QUIET)
    return open_run(outcome["run"], runs_root(str(folder / "runs"))), data


def evaluation(run: Run, data: Path | str, **arguments: Any) -> dict[str, Any]:
    given = {"model": str(run.path), "data": str(data), **arguments}
    return evaluate_request(Request(verb="eval", arguments=given), QUIET)


@pytest.mark.feature("LA-06")
@pytest.mark.feature("MX-31")
@pytest.mark.parametrize(("split", "key"), [("test", "metrics"), ("val", "val_metrics")])
def test_run_scored_again_on_its_own_split_gives_its_metrics(
    trained: tuple[Run, Path], split: str, key: str
) -> None:
    run, data = trained
    assert run.record[key] == evaluation(run, data, split=split)["metrics"]


def test_checkpoint_of_a_run_is_scored_on_the_runs_split(trained: tuple[Run, Path]) -> None:
    run, data = trained
    checkpoint = run.path / "checkpoints" / f"step-{run.record['best']['step']}"
    given = {"model": str(checkpoint), "data": str(data), "split": "test"}
    found = evaluate_request(Request(verb="eval", arguments=given), QUIET)
    assert run.record["metrics"] == found["metrics"]


def test_drawn_split_is_that_of_training_even_for_renamed_files(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = trained
    for file in data.rglob("*.jpg"):
        target = tmp_path / "moved" / file.parent.name / f"{file.stem[::-1]}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    metrics = evaluation(run, tmp_path / "moved", split="test")["metrics"]
    wanted = run.record["metrics"]
    assert wanted["count"] == metrics["count"]
    assert wanted["accuracy"] == metrics["accuracy"]
    assert wanted["loss"] == pytest.approx(metrics["loss"], abs=1e-6)


def test_bundle_alone_draws_the_default_split(trained: tuple[Run, Path]) -> None:
    run, data = trained
    given = {"model": str(run.path / "model"), "data": str(data), "split": "test"}
    metrics = evaluate_request(Request(verb="eval", arguments=given), QUIET)["metrics"]
    assert 6 == metrics["count"]  # 15 % of 14 images a class, where the run held out 30 %


def test_without_a_split_all_images_are_scored(trained: tuple[Run, Path]) -> None:
    run, data = trained
    metrics = evaluation(run, data)["metrics"]
    assert ("all", 42) == (metrics["split"], metrics["count"])


def test_given_splits_are_never_drawn_anew(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, data = trained
    for split, numbers in (("train", range(10)), ("test", range(10, 14))):
        for name in HUES:
            (tmp_path / "given" / split / name).mkdir(parents=True)
            for number in numbers:
                file = data / name / f"{name}{number:02d}.jpg"
                (tmp_path / "given" / split / name / file.name).write_bytes(file.read_bytes())
    metrics = evaluation(run, tmp_path / "given")["metrics"]
    assert ("test", 12) == (metrics["split"], metrics["count"])
    assert 3 == evaluation(run, tmp_path / "given", split="val")["metrics"]["count"]


def test_split_that_is_neither_given_nor_drawn_is_an_error(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = trained
    for split in ("train", "val"):
        for name in HUES:
            (tmp_path / split / name).mkdir(parents=True)
            (tmp_path / split / name / "a.jpg").write_bytes(
                (data / name / f"{name}00.jpg").read_bytes()
            )
    with pytest.raises(ConfigError, match="no such split") as caught:
        evaluation(run, tmp_path, split="test")
    assert "train, val, all" == caught.value.expected


@pytest.mark.feature("MX-31")
@pytest.mark.feature("MX-75")
def test_prediction_of_files_equals_their_evaluation(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = trained
    evaluation(run, data, out=str(tmp_path / "report"))
    with open(tmp_path / "report" / "predictions.csv", newline="") as stream:
        evaluated = {row["image"]: row for row in csv.DictReader(stream)}
    predictor = open_model(OpenRequest(model=str(run.path))).predictor()
    found = predictor.predict(data)
    assert 42 == len(found)
    for name, guess, probability in zip(
        found.names, found.classes, found.probabilities[:, 0].tolist(), strict=True
    ):
        row = evaluated[str(Path(name).relative_to(data))]
        assert row["predicted"] == guess
        assert float(row["probability"]) == pytest.approx(probability, abs=2e-6)


@pytest.mark.feature("PP-03")
def test_subset_of_the_classes_keeps_the_models_numbers(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = trained
    for file in (data / "red").iterdir():
        (tmp_path / "few" / "red").mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / "red" / file.name).write_bytes(file.read_bytes())
    predictor = open_model(OpenRequest(model=str(run.path))).predictor()
    right = sum(guess == "red" for guess in predictor.predict(tmp_path / "few").classes)
    assert right / 14 == evaluation(run, tmp_path / "few")["metrics"]["accuracy"]


@pytest.mark.feature("PP-03")
def test_class_that_the_run_does_not_know_is_named(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    run, data = trained
    for name in ("red", "grene"):
        (tmp_path / "odd" / name).mkdir(parents=True)
        (tmp_path / "odd" / name / "a.jpg").write_bytes((data / "red" / "red00.jpg").read_bytes())
    with pytest.raises(DataError) as caught:
        evaluation(run, tmp_path / "odd")
    assert "grene" == caught.value.got
    assert "green" in caught.value.hint


@pytest.mark.feature("PP-26")
@pytest.mark.parametrize("weights", [None, "none", "missing.safetensors"])
def test_network_without_its_weights_is_an_error(weights: str | None) -> None:
    with pytest.raises(ModelError) as caught:
        open_model(OpenRequest(model="resnet18", weights=weights))
    assert "weights" in f"{caught.value}"


@pytest.mark.feature("PP-26")
def test_unfinished_run_without_a_model_is_an_error(trained: tuple[Run, Path]) -> None:
    run, data = trained
    (run.path / "model").rename(run.path / "away")
    try:
        with pytest.raises(ModelError, match="no finished model"):
            evaluation(run, data)
    finally:
        (run.path / "away").rename(run.path / "model")


def predict(run: Run, images: list[str], **arguments: Any) -> Request:
    given = {"model": str(run.path), "images": images, "top_k": 2, "batch_size": 4}
    return Request(verb="predict", arguments={**given, "format": "text", "out": None, **arguments})


@pytest.mark.feature("LA-07")
def test_predict_names_every_file_of_a_folder(
    trained: tuple[Run, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    assert 0 == prediction_verb(predict(run, [str(data / "red")]), Console(json=True))
    answer = json.loads(capsys.readouterr().out)
    files = sorted(str(file) for file in (data / "red").iterdir())
    assert files == [row["image"] for row in answer["predictions"]]
    first = answer["predictions"][0]
    assert set(HUES) >= {entry["class"] for entry in first["top"]}
    assert 2 == len(first["top"])
    assert 0 < first["probability"] <= 1


def test_predict_writes_csv(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, data = trained
    out = tmp_path / "p.csv"
    request = predict(run, [str(data / "red" / "red00.jpg")], out=str(out), top_k=9)
    assert 0 == prediction_verb(request, QUIET)
    rows = list(csv.DictReader(out.open(newline="")))
    assert [str(data / "red" / "red00.jpg")] == [row["image"] for row in rows]
    assert set(HUES) == {rows[0][f"class{place}"] for place in (1, 2, 3)}
    total = sum(float(rows[0][f"probability{place}"]) for place in (1, 2, 3))
    assert 1 == pytest.approx(total, abs=3e-6)


def test_predict_names_what_is_not_there(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, _ = trained
    with pytest.raises(DataError, match="no such image"):
        prediction_verb(predict(run, [str(tmp_path / "none.jpg")]), QUIET)
    with pytest.raises(DataError, match="no images"):
        prediction_verb(predict(run, [str(tmp_path)]), QUIET)


def test_score_on_training_images_is_said_to_be_too_good(
    trained: tuple[Run, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = trained
    evaluation(run, data, out=str(tmp_path / "report"))
    assert "too good" in capsys.readouterr().err
    record = json.loads((tmp_path / "report" / "report.json").read_text())
    assert any("trained on some of these images" in text for text in record["warnings"])
    evaluation(run, data, split="test")
    assert "too good" not in capsys.readouterr().err


@pytest.mark.feature("MX-71")
@pytest.mark.feature("LA-06")
@pytest.mark.feature("PP-25")
@pytest.mark.parametrize("batch_size", [5, 42, 64])
def test_report_of_an_evaluation_equals_scikit_learn(
    trained: tuple[Run, Path], tmp_path: Path, batch_size: int
) -> None:
    from sklearn import metrics

    run, data = trained
    found = evaluation(run, data, out=str(tmp_path / "report"), batch_size=batch_size)["metrics"]
    with open(tmp_path / "report" / "predictions.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert sorted(str(file.relative_to(data)) for file in data.rglob("*.jpg")) == sorted(
        row["image"] for row in rows
    )
    true, guessed = [row["true"] for row in rows], [row["predicted"] for row in rows]
    assert [Path(row["image"]).parent.name for row in rows] == true
    assert metrics.accuracy_score(true, guessed) == found["accuracy"]
    assert np.mean([float(row["loss"]) for row in rows]) == pytest.approx(found["loss"], abs=1e-6)
    expected = metrics.precision_recall_fscore_support(true, guessed, zero_division=np.nan)
    with open(tmp_path / "report" / "per_class.csv", newline="") as stream:
        table = list(csv.DictReader(stream))
    for place, key in enumerate(("precision", "recall", "f1", "support")):
        got = [float(row[key] or "nan") for row in table]
        np.testing.assert_allclose(got, expected[place], atol=1e-6)
    with open(tmp_path / "report" / "confusion.csv", newline="") as stream:
        matrix = [[int(cell) for cell in row[1:]] for row in list(csv.reader(stream))[1:]]
    assert metrics.confusion_matrix(true, guessed).tolist() == matrix


def test_bad_image_is_named_or_left_out_as_asked(trained: tuple[Run, Path], tmp_path: Path) -> None:
    run, data = trained
    good = data / "red" / "red00.jpg"
    for name in ("red", "blue"):
        (tmp_path / "some" / name).mkdir(parents=True)
        (tmp_path / "some" / name / "a.jpg").write_bytes(good.read_bytes())
    (tmp_path / "some" / "red" / "cut.jpg").write_bytes(good.read_bytes()[:300])
    with pytest.raises(DataError) as caught:
        evaluation(run, tmp_path / "some")
    assert "cut.jpg" in str(caught.value)
    given = {"model": str(run.path), "data": str(tmp_path / "some"), "out": str(tmp_path / "r")}
    pairs = [("--on-bad-image", "data.on_bad_image", "skip")]
    request = Request(verb="eval", arguments=given, pairs=pairs)
    assert 2 == evaluate_request(request, QUIET)["metrics"]["count"]
    record = json.loads((tmp_path / "r" / "report.json").read_text())
    assert "Left out: 1 unreadable image." in record["warnings"]


def test_run_of_a_network_in_the_users_file_is_scored_again(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    _, data = trained
    code = tmp_path / "my_net.py"
    code.write_text(
        "from torch import nn\n"
        "def build(num_classes, channels, image_size):\n"
        "    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveAvgPool2d(1),\n"
        "                         nn.Flatten(), nn.Linear(4, num_classes))\n"
    )
    config = {"model.name": f"{code}:build", "stages.*.epochs": 1, "compute.device": "cpu"}
    request = train_request(str(data), **config)
    request.arguments["runs"] = str(tmp_path / "runs")
    outcome = train(request, QUIET)
    run = open_run(outcome["run"], runs_root(str(tmp_path / "runs")))
    assert outcome["metrics"] == evaluation(run, data, split="test")["metrics"]
    with pytest.raises(ModelError, match="not run"):
        open_model(OpenRequest(model=str(run.path / "model")))


@pytest.mark.feature("MX-71")
@pytest.mark.feature("CA-39")
def test_evaluation_in_full_tells_leaks_slices_calibration_groups_stress_and_views(
    trained: tuple[Run, Path], tmp_path: Path
) -> None:
    """A copy and a shrunk copy of training images among the test images are found and left out."""
    run, data = trained
    rows = [["path", "label", "split", "camera"]]
    for name in HUES:
        for number in range(14):
            split = "train" if number < 6 else "test"
            rows.append(
                [str(data / name / f"{name}{number:02d}.jpg"), name, split, f"c{number % 2}"]
            )
    copy = tmp_path / "copy.jpg"
    copy.write_bytes((data / "red" / "red00.jpg").read_bytes())
    rows.append([str(copy), "red", "test", "c0"])
    table = tmp_path / "table.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows(rows)
    groups = tmp_path / "groups.csv"
    groups.write_text("class,group\nblue,cold\ngreen,cold\nred,warm\n")
    given = {
        "model": str(run.path), "data": str(table), "split": "test", "out": str(tmp_path / "out"),
        "groups": str(groups), "slice_by": ["camera"], "stress": True, "tta": True,
    }  # fmt: skip
    found = evaluate_request(Request(verb="eval", arguments=given), QUIET)
    assert 25 == found["metrics"]["count"]
    leak = found["leak_free"]
    assert (24, 1, 1) == (leak["count"], leak["removed"], leak["exact"])
    assert leak["images"][0].endswith("copy.jpg")
    assert {"camera", "brightness"} <= {part["fact"] for part in found["slices"]}
    accuracies = [part["accuracy"] for part in found["slices"]]
    assert sorted(accuracies) == accuracies
    assert ["cold", "warm"] == found["groups"]["classes"]
    assert 25 == sum(map(sum, found["groups"]["confusion"]))
    assert found["groups"]["accuracy"] >= found["metrics"]["accuracy"]
    assert 0 <= found["calibration"]["ece"] <= 1
    assert found["calibration"]["temperature"] > 0
    assert found["metrics"]["accuracy"] == found["coverage"][-1]["accuracy"]
    assert found["metrics"]["accuracy"] == found["stress"]["accuracy"]
    assert {"blur", "jpeg", "noise", "rotation", "brightness", "crop"} == set(
        found["stress"]["kinds"]
    )
    changed = found["tta"]["mended"] - found["tta"]["spoiled"]
    assert changed == round(25 * (found["tta"]["accuracy"] - found["metrics"]["accuracy"]))
    page = (tmp_path / "out" / "index.html").read_text()
    for title in ("Weakest slices", "Groups of classes", "Under stress", "leak-free"):
        assert title in page
    with pytest.raises(ConfigError, match="no such column"):
        evaluation(run, table, slice_by=["flash"])
    with pytest.raises(ConfigError, match="only a table"):
        evaluation(run, data, slice_by=["camera"])
    groups.write_text("class,group\nblue,cold\n")
    with pytest.raises(ConfigError, match="no group"):
        evaluation(run, data, groups=str(groups))


def test_report_of_a_run_is_written_anew_with_its_curves(trained: tuple[Run, Path]) -> None:
    run, _ = trained
    page = run.path / "report" / "index.html"
    page.unlink()
    request = Request(verb="report", arguments={"run": str(run.path)})
    found = report_request(request, QUIET)
    assert run.record["metrics"] == found["metrics"]
    assert found["leak_free"]["removed"] == 0
    text = page.read_text()
    assert "If it answers only what it is sure of" in text
    assert "Learning rate" in text
