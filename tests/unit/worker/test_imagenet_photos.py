"""Published ImageNet networks on real photos: the figures that their makers' own code gives."""

from __future__ import annotations

import csv
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from discern.base.console import Console
from discern.base.errors import DataError
from discern.config.request import Request
from discern.exporting.forward import forward, normalized
from discern.models.listing import imagenet_classes
from discern.worker.evaluation import evaluate_request
from discern.worker.open_model import OpenRequest, open_model
from discern.worker.prediction import prediction_verb

FILES = {
    "mobilenetv2_100": "mobilenetv2_100.safetensors",
    "mobilenetv1_100": "mobilenetv1_100.fp16.safetensors",
}
RIGHT = {"mobilenetv2_100": (334, 388), "mobilenetv1_100": (343, 380)}
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def photos(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    with tarfile.open(shared_data / "imagenet_samples" / "imagenet_samples_400.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def classes(shared_data: Path) -> list[dict[str, str]]:
    with open(shared_data / "imagenet_samples" / "imagenet_classes.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def reference(shared_data: Path, name: str) -> list[dict[str, str]]:
    with open(shared_data / "weights" / f"reference_top5_{name}.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def write_table(
    folder: Path, name: str, rows: list[dict[str, str]], label: str, spelled: Any
) -> str:
    path = folder / name
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["filename", label])
        writer.writerows([row["file"], spelled(int(row["label"]))] for row in rows)
    return str(path)


def eval_request(shared_data: Path, name: str, table: str, label: str, **more: Any) -> Request:
    weights = str(shared_data / "weights" / FILES[name])
    return Request(
        verb="eval",
        arguments={"model": name, "data": table, **more},
        pairs=[
            ("--weights", "model.weights", weights),
            ("--label", "data.labels", label),
            ("--interpolation", "data.interpolation", "bilinear"),
        ],
    )


def opened(shared_data: Path, name: str) -> Any:
    weights = str(shared_data / "weights" / FILES[name])
    return open_model(OpenRequest(model=name, weights=weights, interpolation="bilinear"))


@pytest.mark.slow
@pytest.mark.feature("MX-71")
@pytest.mark.parametrize("name", list(RIGHT))
def test_all_photos_give_the_stated_counts(
    shared_data: Path,
    photos: Path,
    classes: list[dict[str, str]],
    tmp_path: Path,
    name: str,
) -> None:
    rows = reference(shared_data, name)
    table = write_table(photos, f"{name}.csv", rows, "wnid", lambda k: classes[k]["wnid"])
    out = tmp_path / "report"
    request = eval_request(shared_data, name, table, "wnid", out=str(out))
    metrics = evaluate_request(request, QUIET)["metrics"]
    assert 400 == metrics["count"]
    top1, top5 = RIGHT[name]
    assert top1 == pytest.approx(400 * metrics["accuracy"], abs=2)
    assert top5 == pytest.approx(400 * metrics["top5"], abs=1)
    with open(out / "predictions.csv", newline="") as stream:
        found = {row["image"]: row for row in csv.DictReader(stream)}
    names = [text for _, text in imagenet_classes()]
    other = [row for row in rows if found[row["file"]]["predicted"] != names[int(row["top1"])]]
    near_ties = [
        row
        for row in other
        if float(found[row["file"]]["probability"])
        - float(found[row["file"]]["probability2"]) < 0.01
    ]  # fmt: skip
    assert near_ties == other
    assert len(other) <= 2


@pytest.mark.feature("MX-31")
@pytest.mark.parametrize("name", list(RIGHT))
def test_logits_are_those_of_the_reference(shared_data: Path, photos: Path, name: str) -> None:
    rows = reference(shared_data, name)[::25]
    model = opened(shared_data, name)
    pixels = [model.preprocess.apply((photos / row["file"]).read_bytes()) for row in rows]
    with torch.inference_mode():
        logits, _ = forward(model.model, normalized(pixels, model.preprocess, torch.device("cpu")))
    assert [int(row["top1"]) for row in rows] == logits.argmax(1).tolist()
    wanted = [float(row["logit1"]) for row in rows]
    np.testing.assert_allclose(logits.max(1).values.numpy(), wanted, atol=2e-3)


@pytest.mark.feature("MX-75")
@pytest.mark.feature("PP-25")
@pytest.mark.parametrize("name", list(RIGHT))
def test_prediction_of_a_file_equals_its_evaluation(
    shared_data: Path, photos: Path, tmp_path: Path, name: str
) -> None:
    rows = reference(shared_data, name)[::40]
    table = write_table(photos, f"few-{name}.csv", rows, "label", str)
    request = eval_request(
        shared_data, name, table, "label", out=str(tmp_path / "report"), batch_size=7
    )
    metrics = evaluate_request(request, QUIET)["metrics"]
    right = sum(row["label"] == row["top1"] for row in rows)
    assert (10, right / 10) == (metrics["count"], metrics["accuracy"])
    with open(tmp_path / "report" / "predictions.csv", newline="") as stream:
        evaluated = {row["image"]: row for row in csv.DictReader(stream)}
    found = opened(shared_data, name).predictor().predict([photos / row["file"] for row in rows])
    for row, guess, probabilities in zip(
        rows, found.classes, found.probabilities.tolist(), strict=True
    ):
        line = evaluated[row["file"]]
        assert (guess, float(row["p1"])) == (
            line["predicted"],
            pytest.approx(probabilities[0], abs=1e-3),
        )
        assert float(line["probability5"]) == pytest.approx(probabilities[4], abs=2e-6)


@pytest.mark.parametrize("spelling", ["number", "wnid", "name", "full name"])
def test_labels_may_be_numbers_wnids_or_names(
    shared_data: Path, photos: Path, classes: list[dict[str, str]], spelling: str
) -> None:
    rows = reference(shared_data, "mobilenetv2_100")[:8]
    spelled = {
        "number": str,
        "wnid": lambda k: classes[k]["wnid"],
        "name": lambda k: classes[k]["name"],
        "full name": lambda k: classes[k]["lemmas"],
    }[spelling]
    table = write_table(photos, f"{spelling}.csv", rows, "label", spelled)
    request = eval_request(shared_data, "mobilenetv2_100", table, "label")
    right = sum(row["label"] == row["top1"] for row in rows)
    assert right / 8 == evaluate_request(request, QUIET)["metrics"]["accuracy"]


def test_name_of_two_classes_is_refused(shared_data: Path, photos: Path) -> None:
    rows = reference(shared_data, "mobilenetv2_100")[:2]
    table = write_table(photos, "crane.csv", rows, "label", lambda k: "crane" if k else "tench")
    with pytest.raises(DataError, match="several classes"):
        evaluate_request(eval_request(shared_data, "mobilenetv2_100", table, "label"), QUIET)


@pytest.mark.feature("PP-03")
def test_class_that_the_model_does_not_know_is_named(shared_data: Path, photos: Path) -> None:
    rows = reference(shared_data, "mobilenetv2_100")[:2]
    table = write_table(photos, "odd.csv", rows, "label", lambda k: "tenchh" if k else "tench")
    with pytest.raises(DataError, match="does not know") as caught:
        evaluate_request(eval_request(shared_data, "mobilenetv2_100", table, "label"), QUIET)
    assert "tenchh" == caught.value.got
    assert "tench" in caught.value.hint


@pytest.mark.feature("MX-75")
@pytest.mark.feature("LA-07")
@pytest.mark.feature("LA-30")
def test_predict_prints_five_names_with_probabilities(
    shared_data: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = reference(shared_data, "mobilenetv2_100")[1]
    weights = str(shared_data / "weights" / FILES["mobilenetv2_100"])
    request = Request(
        verb="predict",
        arguments={
            "model": "mobilenetv2_100",
            "images": [str(photos / row["file"])],
            "top_k": 5,
            "batch_size": 64,
            "format": "text",
            "out": None,
        },
        pairs=[
            ("--weights", "model.weights", weights),
            ("--interpolation", "data.interpolation", "bilinear"),
        ],
    )
    assert 0 == prediction_verb(request, Console())
    lines = capsys.readouterr().out.splitlines()
    assert str(photos / row["file"]) == lines[0]
    names = [text for _, text in imagenet_classes()]
    wanted = [names[int(row[f"top{place}"])] for place in range(1, 6)]
    assert wanted == [line.split(maxsplit=1)[1] for line in lines[1:]]
    shown = [float(line.split(maxsplit=1)[0]) for line in lines[1:]]
    assert float(row["p1"]) == pytest.approx(shown[0], abs=2e-4)
    assert sorted(shown, reverse=True) == shown
