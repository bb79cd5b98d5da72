"""Values and figures by keys, and the three forms of a chart."""

from __future__ import annotations

import math
import time

import pytest

from discern.base.errors import RunError
from discern.lab.track_client import init
from discern.track.curves import draw_picture, draw_text
from discern.track.run import read_run


@pytest.mark.feature("ML-30")
def test_three_chart_forms_become_series_that_can_be_drawn(tmp_path):
    with init("own", "one", tmp_path) as track:
        for number in range(3):
            track["a.chart"].log(number / 2)
            track["b.chart"].log(f"{number}, {number + 1}, {-number}")
            track["c.chart"].log(f'{{"loss": {number}, "acc": 0.5}}')
            track["d.chart"].log({"x": number})
    run = read_run(tmp_path / "own" / "one")
    series = run.read_all()
    assert {
        "a.chart": [0.0, 0.5, 1.0],
        "b.chart/y1": [0.0, 1.0, 2.0],
        "b.chart/y2": [1.0, 2.0, 3.0],
        "b.chart/y3": [0.0, -1.0, -2.0],
        "c.chart/loss": [0.0, 1.0, 2.0],
        "c.chart/acc": [0.5, 0.5, 0.5],
        "d.chart/x": [0.0, 1.0, 2.0],
    } == {name: found.values.tolist() for name, found in series.items()}
    assert "finished" == run.status
    charts = {name: {"own/one": found} for name, found in series.items()}
    assert draw_picture(charts).startswith(b"\x89PNG")
    lines = draw_text({name: found for name, found in series.items() if name.startswith("b.")})
    assert ["o b.chart/y1", "x b.chart/y2", "+ b.chart/y3"] == [line.strip() for line in lines[-3:]]


@pytest.mark.feature("ML-30")
def test_points_carry_their_moment_and_the_last_epoch(tmp_path):
    began = time.time()
    with init("own", "one", tmp_path) as track:
        track["loss"].log(1.0)
        track["loss"].log(0.5)
        track["epoch"].log(7)
        track["loss"].log(math.nan)
    found = read_run(tmp_path / "own" / "one").read_series("loss")
    assert [0, 1, 7] == found.steps.tolist()
    assert "[1.0, 0.5, nan]" == str(found.values.tolist())
    assert all(began <= moment <= time.time() for moment in found.times)


def test_values_stand_in_the_record(tmp_path):
    with init("own", "one", tmp_path) as track:
        track["config/rate"] = 0.1
        track["note"].assign("größe")
        assert (0.1, "größe", None) == (
            track["config/rate"].get(), track["note"].get(), track["other"].get(),
        )  # fmt: skip
        record = read_run(track.path).record
    assert {"config/rate": 0.1, "note": "größe"} == record["values"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("a", "x"), ("a", "1, 2"), ("a.chart", "{"), ("a.chart", "1, x"), ("a.chart", {}), ("", 1)],
)
def test_what_is_no_figure_is_refused_at_the_call(tmp_path, key, value):
    with init("own", "one", tmp_path) as track, pytest.raises(RunError):
        track[key].log(value)


def test_error_ends_the_run_as_failed(tmp_path):
    def work():
        with init("own", "one", tmp_path) as track:
            track["a"].log(1)
            raise KeyError("own")

    with pytest.raises(KeyError):
        work()
    assert "failed" == read_run(tmp_path / "own" / "one").status
