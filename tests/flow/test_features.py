"""What the old systems' users expect of a training, read off one real run of the command line."""

import csv
import io
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from discern_process import discern, make_images

from discern.feed.order import training_order
from discern.track.metrics_read import read_all
from discern.track.writers.event_writer import group_and_tag

ROOT = Path(__file__).resolve().parents[2]
COMMON = ("--model", "mlp", "--device", "cpu", "--precision", "fp32", "--threads", "1")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One run of digits with the old trainers' flags: (folder of runs, its object, its lines)."""
    runs = tmp_path_factory.mktemp("runs")
    ended = discern(
        "train", "digits", *COMMON, "--monitor", "accuracy", "--num-epochs", "3",
        "--batch-size", "64", "--log-every", "5", "--name", "one", "--runs", runs,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    return runs, json.loads((runs / "digits" / "one" / "run.json").read_text()), ended.stdout


@pytest.mark.feature("MX-07")
def test_epochs_and_batch_size_give_the_number_of_updates(trained):
    runs, _, text = trained
    steps = read_all(runs / "digits" / "one")["val/accuracy"].steps
    assert [20, 40, 60] == steps.tolist()  # 1,259 images in batches of at most 64
    assert "3 epochs of 20 steps" in text


@pytest.mark.feature("MX-18")
def test_printed_lines_read_back_as_the_stored_figures(trained):
    runs, _, text = trained
    lines = re.findall(r"val loss ([\d.]+)  val acc ([\d.]+)", text)
    exported = discern("runs", "export", "one", "--format", "csv", "--runs", runs)
    rows = list(csv.DictReader(io.StringIO(exported.stdout)))
    series = read_all(runs / "digits" / "one")
    stored = zip(series["val/loss"].values, series["val/accuracy"].values, strict=True)
    assert [(f"{loss:.4f}", f"{accuracy:.4f}") for loss, accuracy in stored] == lines
    assert sum(len(points.steps) for points in series.values()) == len(rows)


@pytest.mark.feature("CA-44")
def test_a_stage_ends_with_its_best_checkpoints_and_times_are_told_apart(trained):
    runs, _, text = trained
    series = read_all(runs / "digits" / "one")
    found = re.findall(
        r"epoch (\d), step (\d+)  val acc ([\d.]+)", text.split("best checkpoints")[1]
    )
    scores = zip(
        series["val/accuracy"].values, -series["val/loss"].values, (20, 40, 60), strict=True
    )
    ranked = [(str(step // 20), str(step), f"{acc:.4f}") for acc, _, step in sorted(scores)[::-1]]
    assert ranked == found
    parts = series["time/data_ms"].values + series["time/model_ms"].values
    assert np.allclose(parts, series["time/batch_ms"].values)
    steps, batch = series["time/batch_ms"].steps, series["time/batch_ms"].values
    assert 60 == steps[-1]
    assert (batch > 0).all()
    rate = 1e3 * 64 / series["time/images_per_s"].values
    assert np.allclose(rate, batch, rtol=0.05)  # batches of 62 or 63


@pytest.mark.feature("LA-29")
def test_evaluation_of_the_kept_model_gives_the_runs_own_scores(trained):
    runs, record, _ = trained
    ended = discern("eval", "digits/one", "digits", "--split", "test", "--json", "--runs", runs)
    assert record["metrics"] == ended.object["metrics"]


@pytest.mark.feature("LA-28")
def test_event_files_hold_every_figure_at_its_step(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    runs, _, _ = trained
    folder = runs / "digits" / "one"
    events = {}
    for group in ("", "train", "val"):
        place = str(folder / "events" / group)
        events[group] = EventAccumulator(place, size_guidance={"scalars": 0})
        events[group].Reload()
    for name, points in read_all(folder).items():
        group, tag = group_and_tag(name)
        found = events[group].Scalars(tag)
        assert points.steps.tolist() == [event.step for event in found]
        assert np.allclose(points.values, [event.value for event in found], rtol=1e-6)


@pytest.mark.feature("CA-41")
def test_a_run_without_any_callback_named_has_all_that_is_expected(trained):
    runs, record, text = trained
    folder = runs / "digits" / "one"
    for name in ("checkpoints", "config.yaml", "events", "log.txt", "metrics.bin", "model/golden",
                 "report/confusion.png", "report/curves.png", "report/index.html"):  # fmt: skip
        assert (folder / name).exists(), name
    assert {"train/loss", "train/accuracy", "train/lr", "val/loss", "val/accuracy"} <= set(
        read_all(folder)
    )
    assert [] == record["config"]["tracking"]["callbacks"]
    assert "most confused" in text


@pytest.mark.feature("CA-24")
@pytest.mark.parametrize("monitor", ["loss", "accuracy"])
def test_the_main_metric_chooses_the_kept_model(trained, tmp_path, monitor):
    ended = discern(
        "train", "digits", *COMMON, "--epochs", "4", "--lr", "0.05", "--name", monitor, "--runs",
        tmp_path, "--set", f"stages.train.monitor={monitor}",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    folder = tmp_path / "digits" / monitor
    values = read_all(folder)[f"val/{monitor}"]
    best = values.values.min() if monitor == "loss" else values.values.max()
    kept = json.loads((folder / "run.json").read_text())["best"]
    assert best == kept[monitor]
    assert best == values.values[values.steps.tolist().index(kept["step"])]


def test_few_validation_images_leave_the_last_epoch_unless_somebody_asks(tmp_path):
    data = make_images(tmp_path / "pets", each=10)
    words = (
        "train",
        data,
        "--model",
        "mlp",
        "--epochs",
        "6",
        "--device",
        "cpu",
        "--runs",
        tmp_path,
    )
    runs = {}
    for name, more in {
        "plain": (),
        "asked": ("--monitor", "loss"),
        "patient": ("--patience", "5"),
        "on-test": ("--val", "test"),
        "stopping": ("--set", "tracking.callbacks=[{name: EarlyStopping, args: {patience: 5}}]"),
    }.items():
        ended = discern(*words, "--name", name, *more)
        assert 0 == ended.code, ended.stderr
        runs[name] = json.loads((tmp_path / "pets" / name / "run.json").read_text()), ended.stdout
    record, text = runs["plain"]
    assert 6 == record["best"]["epoch"]
    assert "the last epoch is kept: " in text
    assert "last checkpoints" in text
    assert "  *" not in text
    for name in ("asked", "patient", "on-test", "stopping"):
        record, text = runs[name]
        monitor = "loss" if name == "asked" else "accuracy"
        assert monitor == record["config"]["stages"]["train"]["monitor"]
        assert "the last epoch is kept" not in text
    ended = discern(*words, "--monitor", "last", "--patience", "5", "--json")
    assert 2 == ended.code
    assert "patience goes by a figure, and 'last' is none" == ended.error["what"]
    ended = discern(*words, "--monitor", "last", "--set", "stages.train.monitor_mode=min", "--json")
    assert 2 == ended.code
    assert "monitor_mode goes by a figure, and 'last' is none" == ended.error["what"]


@pytest.mark.feature("LA-27")
def test_a_reading_is_the_mean_over_the_steps_since_the_last(trained, tmp_path):
    runs, _, _ = trained
    ended = discern(
        "train", "digits", *COMMON, "--epochs", "3", "--batch-size", "64", "--log-every", "1",
        "--name", "each", "--runs", tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    windows, single = read_all(runs / "digits" / "one"), read_all(tmp_path / "digits" / "each")
    order = training_order(1259, 64, seed=0, epoch=0)  # even batches: their sizes depend on neither
    sizes = np.array([len(order.batch(index)) for index in range(20)])
    for name in ("train/loss", "train/accuracy"):
        values = single[name].values[:20]
        expected = [
            np.average(values[i : i + 5], weights=sizes[i : i + 5]) for i in range(0, 20, 5)
        ]
        assert np.allclose(expected, windows[name].values[:4], rtol=1e-6)
    assert (windows["time/images_per_s"].values > 0).all()


@pytest.mark.feature("LA-04")
def test_classes_size_and_channels_need_no_flags(tmp_path):
    data = make_images(tmp_path / "photos", ("a", "b", "c"), each=8, size=(20, 20))
    ended = discern(
        "train", data, *COMMON, "--epochs", "1", "--name", "x", "--runs", tmp_path / "runs"
    )
    assert 0 == ended.code, ended.stderr
    record = json.loads((tmp_path / "runs" / "photos" / "x" / "run.json").read_text())
    assert ["a", "b", "c"] == record["classes"]
    assert ([20, 20], 3) == (
        record["config"]["data"]["image_size"],
        record["config"]["data"]["channels"],
    )


@pytest.mark.feature("PP-29")
def test_dependencies_are_ranges_not_pins():
    with open(ROOT / "pyproject.toml", "rb") as stream:
        project = tomllib.load(stream)["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    assert [] == [line for line in wanted if re.search(r"==|~=|<", line)]
