from __future__ import annotations

import io
import math
import os
import sqlite3
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import ConfigError, RunError
from discern.lab import analytics, tracker
from discern.track.run import create_run

RATES = {"slow": 0.001, "quick": 0.1, "odd": math.inf}
LOSSES = {"slow": [4.0, 2.0, 1.0], "quick": [1.0, math.nan, 0.25], "odd": [8.0]}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three runs with two series, of which `sqlite.db` has the points, too; artifacts in one."""
    root = tmp_path_factory.mktemp("runs")
    for name, losses in LOSSES.items():
        config = {"lr": RATES[name], "epochs": len(losses), "model": {"name": "lenet"}}
        with create_run(root, "digits", name=name, record={"config": config}) as writer:
            tracker.open_run(writer, ("native", "sqlite"))
            if name == "slow":
                tracker.set_image("picture")
                tracker.set_text("words")
                tracker.set_tensor("weights")
                tracker.add("picture", np.full((4, 6), 0.5))
                tracker.add("words", "two words")
                tracker.add("weights", np.arange(6.0).reshape(2, 3))
            for step, loss in enumerate(losses, 1):
                tracker.save(step, {"val/loss": loss, "val/accuracy": 1 / step})
            tracker.close_run()
            writer.update(metrics={"loss": losses[-1]} if name != "odd" else {})
    with create_run(root, "flowers", name="empty"):
        pass
    return root


def chosen(root, *names, **words):
    return analytics.runs(*names, root=root, **words)


@pytest.mark.feature("LB-50")
def test_arrays_are_those_of_the_database(root):
    for run in chosen(root, "digits/*"):
        connection = sqlite3.connect(run.path / "sqlite.db")
        rows = connection.execute(
            "SELECT step, value FROM scalars WHERE indicator = 'val/accuracy' ORDER BY step"
        ).fetchall()
        connection.close()
        assert len(LOSSES[run.row.name]) == len(rows)
        ((_, name, series),) = analytics.indicator_data(run, "val/accuracy")
        assert "val/accuracy" == name
        assert [step for step, _ in rows] == series.steps.tolist()
        assert [value for _, value in rows] == series.values.tolist()


def test_runs_are_chosen_as_in_the_list(root):
    assert ["digits/quick"] == chosen(root, where="loss<0.5").ids
    assert ["digits/quick", "digits/slow"] == chosen(root, "digits/*", sort="loss").ids[:2]
    assert ["digits/slow", "digits/quick"] == chosen(root, "slow", "quick").ids
    assert ["digits/slow"] == chosen(root, "slow", "quick", limit=1).ids
    assert 4 == len(chosen(root, status="finished"))
    assert ["flowers/empty"] == chosen(root, project="flowers").ids
    assert "digits/slow" == analytics.get_run("slow", root).id
    with pytest.raises(ConfigError, match="no run has 'los'"):
        chosen(root, where="los<1")
    with pytest.raises(ConfigError, match="there is no run 'slo'"):
        analytics.get_run("slo", root)
    with pytest.raises(ConfigError, match="means 3 runs"):
        analytics.get_run("digits/*", root)


def test_columns_have_one_value_a_run(root):
    runs = chosen(root, "slow", "quick", "odd")
    assert [0.001, 0.1, math.inf] == runs.column("lr").tolist()
    assert (np.int64, [3, 3, 1]) == (runs.column("epochs").dtype, runs.column("epochs").tolist())
    loss = runs.column("loss")
    assert [1.0, 0.25] == loss[:2].tolist()
    assert np.isnan(loss[2])
    assert ["lenet"] * 3 == runs.column("model.name").tolist()
    assert [1.0, 0.25, 8.0] == runs.column("best(val/loss)").tolist()
    assert 1.0 == runs[0].metrics["loss"]
    assert 0.1 == runs[1].facts["config.lr"]
    assert ["digits/quick", "digits/odd"] == runs[1:].ids


def test_series_of_many_runs(root):
    runs = chosen(root, "slow", "quick", "odd")
    losses = runs.series("val/loss")
    assert {f"digits/{name}": values for name, values in LOSSES.items() if name != "quick"} == {
        run: series.values.tolist() for run, series in losses.items() if run != "digits/quick"
    }
    points = runs.points("val/*")
    assert 14 == len(points["value"])
    mine = (points["run"] == "digits/quick") & (points["series"] == "val/loss")
    assert [1, 2, 3] == points["step"][mine].tolist()
    assert (np.int64, np.float64) == (points["step"].dtype, points["time"].dtype)
    with pytest.raises(RunError, match="none of these runs has the series 'val/los'") as told:
        runs.series("val/los")
    assert "'val/loss'" in told.value.hint
    with pytest.raises(RunError, match=r"'test/\*'"):
        runs.select("val/loss", "test/*")
    assert (1, 4.0) == (
        runs[0].summaries["val/loss"].highest_step,
        runs[0].summaries["val/loss"].highest,
    )
    assert [4.0, 2.0, 1.0] == runs[0].buckets("val/loss").highest.tolist()


def test_arrow_tables_tell_missing_from_not_a_number(root):
    pa = pytest.importorskip("pyarrow")
    runs = chosen(root, "slow", "quick", "odd")
    table = runs.to_arrow("loss", "epochs", "model.name", "last(val/loss)")
    assert ["digits/slow", "digits/quick", "digits/odd"] == table["run"].to_pylist()
    assert [1.0, 0.25, None] == table["loss"].to_pylist()
    assert pa.int64() == table["epochs"].type
    assert ["lenet"] * 3 == table["model.name"].to_pylist()
    points = runs.points_to_arrow("val/loss")
    assert 7 == points.num_rows
    values = points["value"].to_pylist()
    assert math.isnan(values[4])
    assert 0 == points["value"].null_count
    assert ["digits/slow"] * 3 == points["run"].to_pylist()[:3]
    assert 0 == chosen(root, "empty").points_to_arrow().num_rows


def test_without_pyarrow_the_error_says_so(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RunError, match="pyarrow, which is not installed") as told:
        chosen(root, "slow").to_arrow("loss")
    assert "pip install pyarrow" in told.value.hint


def test_artifacts_come_back(root):
    run = analytics.get_run("slow", root)
    ((step, weights),) = analytics.artifact_data(run, "weights")
    assert (1, [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]) == (step, weights.tolist())
    assert [(1, "two words")] == analytics.artifact_data(run, "words")
    ((_, picture),) = analytics.artifact_data(run, "picture")
    assert (4, 6) == picture.shape[:2]
    with pytest.raises(RunError, match="no image, text or tensor 'weigths'") as told:
        analytics.artifact_data(run, "weigths")
    assert "'weights'" in told.value.hint


def test_charts_hold_the_numbers_that_they_show(root):
    runs = chosen(root, "slow", "quick", "odd")
    counts = analytics.histogram(runs, "val/loss", bins=4)
    assert ([0.25, 8.0], 6) == (counts.data["edges"][[0, -1]].tolist(), counts.data["counts"].sum())
    spread = analytics.distribution(runs, "val/loss", bins=3)
    assert [[1.0, 4.0, 8.0], [2.0, 2.0, 2.0], [0.25, 0.625, 1.0]] == spread.data["quantiles"][
        :, [0, 3, 6]
    ].tolist()
    assert ([3, 1, 2], [0, 1, 0]) == (
        spread.data["counts"].tolist(),
        spread.data["not_finite"].tolist(),
    )
    pairs = analytics.scatter(runs, "epochs", "loss")
    assert ([3.0, 3.0], [1.0, 0.25]) == (pairs.data["x"].tolist(), pairs.data["y"].tolist())
    steps = analytics.scatter(runs[0], "val/accuracy", "val/loss", by="step")
    assert [1.0, 0.5, 1 / 3] == steps.data["x"].tolist()
    assert [4.0, 2.0, 1.0] == steps.data["y"].tolist()
    fields = analytics.binned_heatmap(runs, "val/accuracy", "val/loss", bins=2)
    assert ((2, 2), 6) == (fields.data["counts"].shape, fields.data["counts"].sum())
    assert "PNG" == Image.open(io.BytesIO(fields._repr_png_())).format


@pytest.mark.parametrize(
    "draw",
    [
        lambda runs: analytics.scatter(runs, "model.name", "loss"),
        lambda runs: analytics.scatter(runs, "epochs", "loss", by="epoch"),
        lambda runs: analytics.histogram(runs, "val/loss", bins=0),
        lambda runs: analytics.histogram(runs, "val/los"),
    ],
)
def test_charts_that_cannot_be_drawn_are_refused(root, draw):
    with pytest.raises((ConfigError, RunError)):
        draw(chosen(root, "digits/*"))


def test_analytics_loads_no_torch(root):
    code = (
        "import sys; from discern.lab import analytics\n"
        "runs = analytics.runs(root=sys.argv[1])\n"
        "runs.points(); print([n for n in ('torch', 'matplotlib', 'pyarrow') if n in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(root)],
        capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert "[]\n" == done.stdout
