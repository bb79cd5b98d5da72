"""A run's model is calibrated, given thresholds, and learns to say unknown: each a new version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import discern
from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, ModelError
from discern.config.request import Request
from discern.exporting.answer_rules import read_rules
from discern.exporting.bundle import check_sums, open_bundle, replay_golden
from discern.worker.answer_fitting import calibrate_request, thresholds_request
from discern.worker.evaluation import evaluate_request
from discern.worker.open_model import OpenRequest, open_model

QUIET = Console(quiet=True)
NEVER_SEEN = (4, 9)


def write_digits(root: Path, digits: tuple[int, ...]) -> Path:
    found = load_digits()
    for number, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        if label in digits:
            (root / str(label)).mkdir(parents=True, exist_ok=True)
            pixels = (image * 15).astype(np.uint8)
            Image.fromarray(pixels).save(root / str(label) / f"{number:04d}.png")
    return root


def settings(**more: Any) -> dict[str, Any]:
    return {"device": "cpu", "threads": 1, "precision": "fp32", **more}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(a run's folder, the eight digits it learned, the two that it never saw)."""
    root = tmp_path_factory.mktemp("digits")
    known = write_digits(root / "known", tuple(n for n in range(10) if n not in NEVER_SEEN))
    new = write_digits(root / "new", NEVER_SEEN)
    patch = pytest.MonkeyPatch()
    with patch.context() as context:
        context.setenv("DISCERN_CACHE", str(root / "cache"))
        run = discern.train(
            known, runs=root / "runs", **settings(model="mlp", epochs=12, batch_size=32)
        )
    return run.path, known, new


def fit(verb: str, model: Path | str, data: Path, **arguments: Any) -> dict[str, Any]:
    given = {"model": str(model), "data": str(data), **arguments}
    request = Request(verb=verb, arguments=given, pairs=[("--device", "compute.device", "cpu")])
    do = {"calibrate": calibrate_request, "thresholds": thresholds_request}[verb]
    return do(request, QUIET)


def scored(model: Path | str, data: Path, split: str = "test") -> dict[str, Any]:
    given = {"model": str(model), "data": str(data), "split": split}
    return evaluate_request(
        Request(verb="eval", arguments=given, pairs=[("--device", "compute.device", "cpu")]), QUIET
    )["metrics"]


def test_calibration_gives_a_new_version_that_predict_eval_and_load_use(
    digits: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, known, _ = digits
    before = scored(run, known)
    found = fit("calibrate", run, known, out=str(tmp_path / "new"))
    bundle = tmp_path / "new"
    own = json.loads((bundle / "config.json").read_text())["discern"]
    assert own["temperature"] == found["temperature"] > 0
    assert (own["revision"], own["made_from"]["revision"]) == (2, 1)
    assert own["fitted"]["temperature"]["split"] == "val"
    assert found["after"]["loss"] < found["before"]["loss"]
    check_sums(bundle)
    assert replay_golden(bundle).max_gap == replay_golden(run / "model").max_gap
    after = scored(bundle, known)
    assert after["accuracy"] == before["accuracy"]
    assert after["loss"] != before["loss"]
    image = next(known.rglob("*.png"))
    plain, tempered = (discern.load(m, device="cpu").predict(image) for m in (run, bundle))
    logs = np.log(plain.probabilities) / found["temperature"]
    shares = np.exp(logs) / np.exp(logs).sum()
    assert tempered.classes == plain.classes
    assert np.allclose(tempered.probabilities, shares, atol=0.02)  # five of eight classes


def test_new_version_of_a_run_keeps_the_old_one_beside_it(
    digits: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, known, _ = digits
    bundle = tmp_path / "bundle"
    fit("calibrate", run, known, out=str(bundle))
    config = (bundle / "config.json").read_bytes()
    again = fit("thresholds", bundle, known, split="val")
    assert (str(bundle), 3) == (again["bundle"], again["revision"])
    assert (tmp_path / "bundle-2" / "config.json").read_bytes() == config
    for folder in (bundle, tmp_path / "bundle-2"):
        check_sums(folder)
    rules = open_bundle(bundle).rules.of("label")
    assert rules.temperature is not None
    assert rules.thresholds is not None
    assert again["f1"] >= again["f1_at_half"]
    assert again["held_out_f1"] >= again["held_out_f1_at_half"]
    assert "## How it answers" in (bundle / "README.md").read_text()


@pytest.mark.feature("CA-14")
def test_thresholds_are_of_the_softmax_that_predict_states(
    digits: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Catalyst's find-thresholds took sigmoids of what were sigmoids already."""
    run, known, _ = digits
    found = fit("thresholds", run, known, out=str(tmp_path / "b"))
    predictor = open_model(OpenRequest(model=str(tmp_path / "b"), device="cpu")).predictor()
    answers = predictor.predict(known, top_k=8).heads["label"]
    stated = np.zeros((len(answers.top), 8), dtype=np.float32)
    np.put_along_axis(stated, answers.top, answers.probabilities, axis=1)
    least = np.array([found["thresholds"][name] for name in predictor.classes])
    assert answers.answered is not None
    assert np.array_equal(answers.answered, (stated / least).argmax(axis=1))
    assert not answers.unknown.any()  # thresholds choose between classes, they reject no image
    scores = scored(tmp_path / "b", known, split="val")
    assert (scores["count"], scores["accuracy"]) == (215, found["accuracy_at_half"])


def test_python_names_do_what_the_commands_do(
    digits: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    run, known, _ = digits
    found = discern.calibrate(run, known, out=tmp_path / "c", device="cpu")
    assert (found["bundle"], found["revision"]) == (str(tmp_path / "c"), 2)
    chosen = discern.thresholds(tmp_path / "c", known, split="val", repeats=1, device="cpu")
    assert chosen["f1"] >= chosen["f1_at_half"]
    unknown = discern.thresholds(run, known, unknown="energy", out=tmp_path / "u", device="cpu")
    assert unknown["unknown"]["method"] == "energy"
    scores = discern.evaluate(
        run, known, split="test", out=tmp_path / "report", tta=True, leaks=False, device="cpu"
    )
    assert scores["metrics"]["accuracy"] == scored(run, known)["accuracy"]
    assert (scores["leak_free"], scores["tta"]["views"]) == (None, 5)
    assert (tmp_path / "report" / "index.html").is_file()


@pytest.mark.feature("CA-12")
@pytest.mark.parametrize(
    ("method", "least"), [("confidence", 0.15), ("energy", 0.15), ("distance", 0.5)]
)
def test_unseen_classes_are_rejected_at_the_coverage_asked_for(
    digits: tuple[Path, Path, Path], tmp_path: Path, method: str, least: float
) -> None:
    run, known, new = digits
    out = tmp_path / method
    found = fit("thresholds", run, known, out=str(out), unknown=method, coverage=0.95)["unknown"]
    assert 0.95 <= found["known"] <= 0.97
    predictions = discern.load(out, device="cpu").predict(new, top_k=1)
    assert predictions.unknown.mean() > least
    assert predictions.unknown.mean() > 3 * (1 - found["known"])
    row = predictions.rows()[int(predictions.unknown.argmax())]
    assert (row["class"], row["unknown"]) == ("unknown", True)
    assert discern.load(out, device="cpu").predict(known).unknown.mean() < 0.1


@pytest.mark.slow
@pytest.mark.feature("CA-12")
def test_a_trained_network_rejects_most_of_two_unseen_digits(
    digits: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    _, known, new = digits
    run = discern.train(known, runs=tmp_path / "runs", **settings(epochs=15))
    for method in ("confidence", "energy", "distance"):
        fit("thresholds", run.path, known, out=str(tmp_path / method), unknown=method)
        found = discern.load(tmp_path / method, device="cpu").predict(new, top_k=1)
        assert found.unknown.mean() > 0.75, method


def test_what_cannot_be_fitted_is_refused(digits: tuple[Path, Path, Path], tmp_path: Path) -> None:
    run, known, _ = digits
    with pytest.raises(ConfigError, match="no such way"):
        fit("thresholds", run, known, unknown="luck")
    with pytest.raises(ConfigError, match="coverage"):
        fit("thresholds", run, known, unknown="energy", coverage=1.5)
    checkpoint = next((run / "checkpoints").glob("step-*"))
    with pytest.raises(ModelError, match="kept in a bundle"):
        fit("calibrate", checkpoint, known)
    one = tmp_path / "one"
    (one / "3").mkdir(parents=True)
    image = next((known / "3").glob("*.png"))
    (one / "3" / "a.png").write_bytes(image.read_bytes())
    with pytest.raises(DataError, match="one image"):
        fit("calibrate", run, one, out=str(tmp_path / "x"))
    (one / "test").mkdir()
    (one / "3").rename(one / "test" / "3")
    with pytest.raises(ConfigError, match="only test images"):
        fit("calibrate", run, one)
    with pytest.raises(DataError, match="distance is measured"):
        fit("thresholds", run, one, unknown="distance", split="test", out=str(tmp_path / "y"))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": 0.0},
        {"temperature": "hot"},
        {"thresholds": {"0": 1.5}},
        {"unknown": {"method": "distance", "threshold": 0.5, "coverage": 0.9}},
        {"unknown": {"method": "luck", "threshold": 0.5, "coverage": 0.9}},
    ],
)
def test_rules_that_make_no_sense_are_refused(
    digits: tuple[Path, Path, Path], bad: dict[str, Any]
) -> None:
    heads = open_bundle(digits[0] / "model").heads
    with pytest.raises(ModelError, match="rules of answers"):
        read_rules(bad, heads, {}, Path("config.json"))
