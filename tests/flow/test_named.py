"""What the user may name on the command line, and what Discern then promises to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from discern_process import QUICK, discern, make_images, run_record, write_table


def _table(path: Path, folder: Path) -> Path:
    """A CSV of the images in CLASS folders below `folder`."""
    rows = [{"path": image, "label": image.parent.name} for image in sorted(folder.glob("*/*.jpg"))]
    return write_table(path, rows)


@pytest.fixture
def three(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A train folder of 6 images a class, a val folder of 3, a test folder of 4."""
    return (
        make_images(tmp_path / "pets", each=6),
        make_images(tmp_path / "checked", each=3, first=20),
        make_images(tmp_path / "later", each=4, first=40),
    )


def test_train_val_and_test_may_be_of_different_kinds(
    three: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, val, test = three
    table = _table(tmp_path / "later.csv", test)
    ended = discern("train", train, "--val", val, "--test", table, *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    record = run_record(ended)
    assert {"ant": 6, "bee": 6} == record["split"]["counts"]["train"]
    assert {"ant": 3, "bee": 3} == record["split"]["counts"]["val"]
    assert {"ant": 4, "bee": 4} == record["split"]["counts"]["test"]
    assert ("test", 8) == (ended.object["metrics"]["split"], ended.object["metrics"]["count"])
    assert 6 == ended.object["val_metrics"]["count"]
    assert not record["split"]["random"]
    assert not record["split"]["chosen_on_reported"]


def test_class_that_train_lacks_is_named(three: tuple[Path, Path, Path]) -> None:
    train, val, _ = three
    make_images(val, ("wasp",), each=2, first=60)
    ended = discern("train", train, "--val", val, *QUICK, "--json")
    assert 1 == ended.code
    assert "data" == ended.error["kind"]
    assert "wasp" == ended.error["got"]
    assert "ant, bee" == ended.error["expected"]
    assert ended.error["where"] is not None
    assert str(val) in ended.error["where"]


def test_unknown_class_is_placed_in_the_source_that_has_it(
    three: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    train, _, test = three
    make_images(test, ("wasp",), each=2, first=60)
    table = _table(tmp_path / "later.csv", test)
    ended = discern("train", train, "--test", table, *QUICK, "--json")
    assert str(table) == ended.error["where"]


def test_without_val_a_tenth_of_train_chooses_the_model(three: tuple[Path, Path, Path]) -> None:
    train, _, test = three
    make_images(train, each=20)
    ended = discern("train", train, "--test", test, *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    counts = run_record(ended)["split"]["counts"]
    assert {"ant": 18, "bee": 18} == counts["train"]
    assert {"ant": 2, "bee": 2} == counts["val"]
    assert {"ant": 4, "bee": 4} == counts["test"]


def test_choosing_on_the_test_images_is_said_everywhere(three: tuple[Path, Path, Path]) -> None:
    train, _, test = three
    ended = discern("train", train, "--test", test, "--val", "test", *QUICK, "--json")
    assert 0 == ended.code, ended.stderr
    record = run_record(ended)
    assert record["split"]["chosen_on_reported"] is True
    assert {"ant": 6, "bee": 6} == record["split"]["counts"]["train"]
    assert "chosen on the test images" in ended.stderr
    page = (Path(ended.object["report"]) / "index.html").read_text(encoding="utf-8")
    assert "chosen on the test images" in page.lower()
    card = (Path(ended.object["model"]) / "README.md").read_text(encoding="utf-8")
    assert "chosen on the test images" in card
    assert "chosen on the test images" in record["split"]["warnings"]


def test_images_both_in_train_and_test_are_told(three: tuple[Path, Path, Path]) -> None:
    train, _, _ = three
    ended = discern("train", train, "--test", train, *QUICK, "--json")
    assert "of 12 test images are in train" in ended.stderr


def test_numbered_labels_are_compared_by_count(tmp_path: Path) -> None:
    train = _table(tmp_path / "train.csv", make_images(tmp_path / "a", ("0", "1"), each=6))
    test = _table(tmp_path / "test.csv", make_images(tmp_path / "b", ("0", "1", "2"), first=30))
    ended = discern("train", train, "--test", test, *QUICK, "--json")
    assert 1 == ended.code
    assert "2" == ended.error["got"]
    assert "2 numbered classes" == ended.error["expected"]


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_device_that_is_not_there_is_refused_before_data_is_touched(
    command: str, tmp_path: Path
) -> None:
    """There is no data and no model either: only the order of the checks makes this error."""
    nowhere = str(tmp_path / "nowhere")
    places = [nowhere] if command == "train" else [nowhere, nowhere]
    ended = discern(command, *places, "--device", "99", "--json")
    assert 2 == ended.code
    assert "the device asked for is not there" == ended.error["what"]
    assert ("--device", "99") == (ended.error["where"], ended.error["got"])
    assert "cpu" in (ended.error["expected"] or "")
    assert "--device auto" in (ended.error["hint"] or "")


def test_empty_device_is_the_cpu_and_is_stored(three: tuple[Path, Path, Path]) -> None:
    ended = discern("train", three[0], "--model", "mlp", "--epochs", "1", "--device", "", "--json")
    assert 0 == ended.code, ended.stderr
    device = run_record(ended)["device"]
    assert "cpu" == device["device"]
    assert device["memory"] > 1 << 28
    assert f"cpu ({device['name']}" in ended.stderr


def test_model_is_a_run_its_folder_a_bundle_or_a_checkpoint(
    three: tuple[Path, Path, Path],
) -> None:
    train, _, test = three
    made = discern("train", train, "--test", test, *QUICK, "--json")
    run = Path(made.object["path"])
    (checkpoint,) = [path for path in (run / "checkpoints").iterdir() if path.name == "step-1"]
    scores = [
        discern("eval", model, test, "--json", "--device", "cpu").object["metrics"]
        for model in (made.object["run"], str(run), made.object["model"], str(checkpoint))
    ]
    assert made.object["metrics"]["accuracy"] == scores[0]["accuracy"]
    assert made.object["metrics"]["loss"] == pytest.approx(scores[0]["loss"], rel=1e-5)
    assert [scores[0]["count"]] * 4 == [score["count"] for score in scores]
    assert [scores[0]["loss"]] * 4 == pytest.approx([score["loss"] for score in scores], rel=1e-5)


def test_unknown_model_argument_names_the_nearest(three: tuple[Path, Path, Path]) -> None:
    ended = discern(
        "train", three[0], "--model", "resnet_cifar", "--model-arg", "num_layer=20", "--json"
    )
    assert 2 == ended.code
    assert "num_layers" in f"{ended.error['hint']} {ended.error['expected']}"


def test_impossible_depth_is_refused_with_the_two_nearest(
    three: tuple[Path, Path, Path],
) -> None:
    ended = discern(
        "train", three[0], "--model", "resnet_cifar", "--model-arg", "num_layers=21", "--json"
    )
    assert 2 == ended.code
    told = json.dumps(ended.error)
    assert "20" in told
    assert "26" in told
