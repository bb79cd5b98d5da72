"""The Python API as a user's script uses it, from a folder of images to named images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import discern
from discern.base.errors import ConfigError, DataError, DiscernError, ModelError, RunError

CLASSES = ("bright", "dark")
PER_CLASS = 24
SIDE = 16
SETTINGS: dict[str, Any] = {
    "epochs": 1,
    "batch_size": 8,
    "model": "mlp",
    "threads": 1,
    "precision": "fp32",
    "device": "cpu",
    "log_every": 1,
}


def pixels(label: str, number: int) -> NDArray[np.uint8]:
    """One gray photo; the classes differ in brightness, so that they can be learned at once."""
    draws = np.random.default_rng([CLASSES.index(label), number])
    low = 150 if label == "bright" else 0
    return draws.integers(low, low + 100, (SIDE, SIDE), dtype=np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of images, one folder per class."""
    folder = tmp_path_factory.mktemp("api") / "photos"
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        for number in range(PER_CLASS):
            Image.fromarray(pixels(label, number)).save(folder / label / f"{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path) -> Iterator[discern.TrainedRun]:
    """A run trained by the API in this process; the process keeps its own thread count."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield discern.train(photos, runs=photos.parent / "runs", **SETTINGS)
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def test_train_gives_the_finished_run(trained: discern.TrainedRun, photos: Path) -> None:
    assert ("photos/mlp-1", "finished") == (trained.id, trained.status)
    assert photos.parent / "runs" / "photos" / "mlp-1" == trained.path
    record = json.loads((trained.path / "run.json").read_text())
    assert record["metrics"] == trained.metrics()
    assert "test" == trained.metrics()["split"]
    assert record["split"]["counts"]["test"] == {"bright": 4, "dark": 4}
    assert 8 == trained.metrics()["count"]
    assert record["best"] == trained.best
    assert (4, "train", 1) == tuple(trained.best[key] for key in ("step", "stage", "epoch"))


def test_curves_are_the_readings_of_every_step(trained: discern.TrainedRun) -> None:
    curves = trained.curves()
    steps = 4  # 32 training images in batches of 8
    assert list(range(1, steps + 1)) == curves["train/loss"].steps.tolist()
    assert np.isfinite(curves["train/loss"].values).all()
    assert [trained.best["accuracy"]] == curves["val/accuracy"].values.tolist()
    assert [trained.best["loss"]] == curves["val/loss"].values.tolist()


def test_every_form_of_an_image_gets_the_same_prediction(
    trained: discern.TrainedRun, photos: Path
) -> None:
    paths = [photos / "bright" / "00.png", photos / "dark" / "00.png"]
    model = discern.load(trained.path)
    assert CLASSES == model.classes

    expected = model.predict(paths)
    assert (2, 2) == expected.probabilities.shape
    assert 2 == len(expected)
    assert np.allclose(1.0, expected.probabilities.sum(1), atol=1e-6)
    assert [CLASSES[number] for number in expected.top[:, 0]] == list(expected.classes)
    assert tuple(map(str, paths)) == expected.names

    arrays = [pixels("bright", 0), pixels("dark", 0)]
    stacked = np.stack(arrays)[:, :, :, None]
    texts = [str(path) for path in paths]
    contents = [path.read_bytes() for path in paths]
    for form in (arrays, stacked, texts, contents):
        assert np.array_equal(expected.probabilities, model.predict(form).probabilities)
    for single in (arrays[0], paths[0], contents[0]):
        alone = model.predict(single, top_k=1)
        assert (1, 1) == alone.probabilities.shape
        assert expected.classes[0] == alone.classes[0]
        assert float(expected.probabilities[0, 0]) == pytest.approx(
            float(alone.probabilities[0, 0]), abs=1e-6
        )


def test_run_model_and_predict_give_what_load_gives(
    trained: discern.TrainedRun, photos: Path
) -> None:
    folder = photos / "dark"
    expected = discern.load(trained.path).predict(folder)
    assert PER_CLASS == len(expected)
    assert sorted(str(path) for path in folder.iterdir()) == sorted(expected.names)
    for given in (
        trained.model().predict(folder),
        discern.predict(trained, folder),
        discern.predict(trained.path / "model", folder),
    ):
        assert expected.names == given.names
        assert np.array_equal(expected.probabilities, given.probabilities)


def test_evaluate_counts_what_predict_names(trained: discern.TrainedRun, photos: Path) -> None:
    right = sum(
        sum(found == label for found in discern.predict(trained, photos / label).classes)
        for label in CLASSES
    )
    metrics = discern.evaluate(trained, photos)["metrics"]
    assert 2 * PER_CLASS == metrics["count"]
    assert right / (2 * PER_CLASS) == metrics["accuracy"]


def test_evaluate_of_the_reported_split_gives_the_run_s_scores(
    trained: discern.TrainedRun, photos: Path
) -> None:
    metrics = discern.evaluate(trained, photos, split="test")["metrics"]
    assert trained.metrics() == metrics


def test_scan_tells_classes_and_sizes(photos: Path) -> None:
    scanned = discern.scan(photos)
    assert CLASSES == scanned.manifest.classes
    assert 2 * PER_CLASS == len(scanned.manifest.ids)
    assert (SIDE, SIDE, 1) == (
        scanned.facts.median_height,
        scanned.facts.median_width,
        scanned.facts.channels,
    )
    assert [] == list(scanned.problems)


def test_two_equal_trainings_give_equal_bits(trained: discern.TrainedRun, photos: Path) -> None:
    again = discern.train(photos, runs=photos.parent / "runs", **SETTINGS)
    assert "photos/mlp-2" == again.id
    hashes = [
        json.loads((run.path / "run.json").read_text())["weights_hash"] for run in (trained, again)
    ]
    assert hashes[0] == hashes[1]
    assert trained.metrics() == again.metrics()
    assert trained.curves()["train/loss"].values.tolist() == (
        again.curves()["train/loss"].values.tolist()
    )


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"epoch": 1}, "epochs"),
        ({"batchsize": 8}, "batch_size"),
        ({"compute": {"treads": 1}}, "threads"),
    ],
)
def test_unknown_setting_offers_the_nearest(
    settings: dict[str, Any], told: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        discern.train(photos, runs=tmp_path / "runs", **settings)
    assert told in str(caught.value.hint)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"epochs": 0},
        {"epochs": "many"},
        {"lr": -1.0},
        {"precision": "fp8"},
        {"opt": "adamm"},
        {"sched": "cosin"},
        {"augment": "smal"},
        {"trainable": "hed"},
    ],
)
def test_value_out_of_range_is_told_with_its_key(
    settings: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        discern.train(photos, runs=tmp_path / "runs", **{**SETTINGS, **settings})
    setting = next(iter(settings))
    assert {"opt": "optimizer", "sched": "schedule"}.get(setting, setting) in str(caught.value)
    assert not list((tmp_path / "runs").glob("*/*"))


def test_failures_are_discern_errors_that_name_what_failed(
    trained: discern.TrainedRun, photos: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "no-such-folder"
    with pytest.raises(DiscernError, match="no-such-folder"):
        discern.train(missing, runs=tmp_path / "runs", **SETTINGS)
    with pytest.raises(DiscernError, match="no-such-folder"):
        discern.scan(missing)
    with pytest.raises(DataError, match="no-such-folder"):
        discern.evaluate(trained, missing)
    with pytest.raises(DataError, match=r"missing\.png"):
        discern.predict(trained, [photos / "missing.png"])
    with pytest.raises(DataError, match="image 1"):
        discern.predict(trained, [pixels("dark", 0), b"not an image"])
    with pytest.raises(DiscernError, match="no-such-model"):
        discern.load(tmp_path / "no-such-model")


def test_model_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model"):
        discern.load(tmp_path / "no-such-model")


def test_a_checkpoint_of_a_run_is_a_model_by_its_name(trained: discern.TrainedRun) -> None:
    kept = sorted(int(p.name[5:]) for p in (trained.path / "checkpoints").glob("step-*"))
    images = [pixels(label, 0) for label in CLASSES]
    for wish, step in (("last", kept[-1]), (f"step:{kept[0]}", kept[0])):
        named = discern.load(f"{trained.path}@{wish}").predict(images)
        by_path = discern.load(trained.path / "checkpoints" / f"step-{step}").predict(images)
        assert by_path.probabilities.tolist() == named.probabilities.tolist()


def test_a_checkpoint_that_was_not_kept_is_never_replaced_by_another(
    trained: discern.TrainedRun,
) -> None:
    last = max(int(p.name[5:]) for p in (trained.path / "checkpoints").glob("step-*"))
    with pytest.raises(ModelError, match=f"step {last + 1} was not kept") as caught:
        discern.load(f"{trained.path}@step:{last + 1}")
    assert f"@step:{last}" in str(caught.value.hint)


def test_data_section_can_be_given_beside_the_data(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        discern.train(photos, runs=tmp_path / "runs", data={"chanels": 1})
    assert "channels" in str(caught.value.hint)


def unfinished_run(trained: discern.TrainedRun, tmp_path: Path) -> discern.TrainedRun:
    """What an interrupted training leaves: a record without scores."""
    record = json.loads((trained.path / "run.json").read_text())
    unfinished = {**record, "status": "interrupted", "metrics": {}}
    for field in ("best", "weights_hash", "val_metrics"):
        del unfinished[field]
    path = tmp_path / "runs" / "photos" / "mlp-1"
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(unfinished))
    return discern.TrainedRun(path)


def test_unfinished_run_has_no_scores(trained: discern.TrainedRun, tmp_path: Path) -> None:
    run = unfinished_run(trained, tmp_path)
    assert "interrupted" == run.status
    with pytest.raises(RunError, match="no final scores"):
        run.metrics()
    with pytest.raises(DiscernError, match="model"):
        run.model()


def test_unfinished_run_has_no_best_checkpoint(trained: discern.TrainedRun, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        unfinished_run(trained, tmp_path).best  # noqa: B018
