"""The tracker through its public calls, read back from the run's own log."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from discern.base.errors import RunError
from discern.track.artifact_files import list_artifacts
from discern.track.indicators import HISTOGRAM, IMAGE, INDEXED_SCALAR, QUEUE, TENSOR, TEXT
from discern.track.indicators import IndicatorKind as Kind
from discern.track.metrics_log import MetricsLog, list_series, read_all, read_series
from discern.track.tracker import Tracker
from discern.track.tracker_outlet import RunOutlet


class Kept:
    """A writer that keeps its records, and may be told to fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self.records = []
        self.calls = []
        self._fails = fails

    def write(self, records):
        if self._fails:
            raise OSError("no space left")
        self.records += records

    def rewind(self, step):
        self.calls.append(("rewind", step))

    def flush(self):
        self.calls.append("flush")

    def close(self):
        self.calls.append("close")


class Tracked:
    """A tracker that writes into a folder, and what came to be in it."""

    def __init__(self, folder, **writers) -> None:
        self.folder = folder
        self.warnings = []
        self.log = MetricsLog(folder, 1)
        self.outlet = RunOutlet(folder, self.log, writers, self.warnings.append)
        self.tracker = Tracker()
        self.tracker.write_to(self.outlet)

    def series(self):
        self.outlet.flush()
        self.log.flush()
        return {
            name: list(zip(found.steps.tolist(), found.values.tolist(), strict=True))
            for name, found in read_all(self.folder).items()
        }


@pytest.fixture
def tracked(tmp_path):
    made = Tracked(tmp_path)
    yield made
    made.outlet.close()
    made.log.close()


@pytest.mark.feature("LB-22")
def test_add_has_three_forms(tracked):
    tracked.tracker.add("a", 1.0)
    tracked.tracker.add({"b": 2, "c": np.float32(3)})
    tracked.tracker.add(d=4, e=[[5.0], [6, 7]])
    tracked.tracker.save(9)
    expected = {"a": [(9, 1.0)], "b": [(9, 2.0)], "c": [(9, 3.0)], "d": [(9, 4.0)], "e": [(9, 6.0)]}
    assert expected == tracked.series()


@pytest.mark.feature("LB-23")
def test_mean_of_three_adds_is_written_once(tracked):
    for value in (1.0, 2.0, 6.0):
        tracked.tracker.add("loss", value)
    tracked.tracker.save(7)
    tracked.tracker.save(8)
    assert {"loss": [(7, 3.0)]} == tracked.series()


@pytest.mark.feature("LB-23")
def test_save_has_all_its_forms(tracked):
    tracker = tracked.tracker
    tracker.add("a", 1.0)
    tracker.save()
    tracker.save(2, {"a": 2.0})
    tracker.save(3, a=3.0)
    tracker.save({"a": 4.0})
    tracker.save("a", 5.0)
    tracker.save(np.int64(6), a=6)
    assert {"a": [(0, 1.0), (2, 2.0), (3, 3.0), (3, 4.0), (3, 5.0), (6, 6.0)]} == tracked.series()


@pytest.mark.parametrize("step", [-1, 1.5, float("nan"), float("inf"), np.array([1, 2])])
def test_what_is_no_step_is_refused(tracked, step):
    with pytest.raises(RunError, match="no step"):
        tracked.tracker.save(step, a=1.0)


@pytest.mark.feature("LB-24")
def test_scalar_is_stored_under_its_plain_name_without_histogram(tmp_path):
    kept = Kept()
    tracked = Tracked(tmp_path, kept=kept)
    tracked.tracker.add("loss", [1.0, 2.0])
    tracked.tracker.save(1)
    assert {"loss": [(1, 1.5)]} == tracked.series()
    assert ["Point"] == [type(record).__name__ for record in kept.records]
    tracked.outlet.close()
    tracked.log.close()


@pytest.mark.feature("LB-25")
def test_histogram_keeps_all_values_since_the_last_save(tmp_path):
    kept = Kept()
    tracked = Tracked(tmp_path, kept=kept)
    tracked.tracker.declare("h", Kind(type=HISTOGRAM))
    tracked.tracker.add("h", 1.0)
    tracked.tracker.add("h", np.array([2.0, 6.0]))
    tracked.tracker.save(1)
    tracked.tracker.add("h", 10)
    tracked.tracker.save(2)
    assert {"h.mean": [(1, 3.0), (2, 10.0)]} == tracked.series()
    values = [r.values.tolist() for r in kept.records if type(r).__name__ == "Distribution"]
    assert [[1.0, 2.0, 6.0], [10.0]] == values
    tracked.outlet.close()
    tracked.log.close()


@pytest.mark.feature("LB-26")
def test_queue_is_a_window_kept_across_saves(tracked):
    tracked.tracker.declare("q", Kind(type=QUEUE, queue_size=3))
    for step, value in enumerate((1.0, 2.0, 3.0, 7.0)):
        tracked.tracker.add("q", value)
        tracked.tracker.save(step)
    tracked.tracker.save(9)
    assert {"q.mean": [(0, 1.0), (1, 1.5), (2, 2.0), (3, 4.0)]} == tracked.series()


def test_queue_window_is_ten_by_default(tracked):
    tracked.tracker.declare("q", Kind(type=QUEUE))
    tracked.tracker.add("q", np.arange(20))
    tracked.tracker.save(1)
    assert {"q.mean": [(1, 14.5)]} == tracked.series()


@pytest.mark.feature("LB-28")
@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("loss", True),
        ("param.conv.weight", False),
        ("grad.x", False),
        ("module.x", False),
        ("optim.x", False),
        ("time.step", False),
        ("parameter", True),
    ],
)
def test_default_patterns(tracked, name, printed):
    tracked.tracker.add(name, 1.0)
    tracked.tracker.save(1)
    assert ([(name, 1.0)] if printed else []) == tracked.tracker.shown()


@pytest.mark.feature("LB-28")
def test_pattern_with_most_literal_characters_wins_and_a_name_beats_all(tracked):
    tracker = tracked.tracker
    tracker.declare("loss.*", Kind(type=QUEUE))
    tracker.declare("loss.trai?", Kind(type=HISTOGRAM, is_print=True))
    tracker.declare("loss.t*", Kind())
    tracker.declare("loss.valid", Kind(is_print=True))
    for name in ("loss.test", "loss.train", "loss.valid", "loss.x", "other"):
        tracker.add(name, 1.0)
    tracker.save(1)
    assert sorted(tracked.series()) == [
        "loss.test",
        "loss.train.mean",
        "loss.valid",
        "loss.x.mean",
        "other",
    ]
    assert [name for name, _ in tracker.shown()] == ["loss.train", "loss.valid", "other"]


def test_of_equal_patterns_the_last_declared_wins(tracked):
    tracked.tracker.declare("*ab", Kind(type=QUEUE))
    tracked.tracker.declare("ab*", Kind())
    tracked.tracker.add("ab", 1.0)
    tracked.tracker.save(1)
    assert {"ab": [(1, 1.0)]} == tracked.series()


def test_brackets_are_no_pattern(tracked):
    tracked.tracker.declare("a[bc]", Kind(type=QUEUE))
    tracked.tracker.save(1, {"ab": 1.0, "a[bc]": 2.0})
    assert {"ab": [(1, 1.0)], "a[bc].mean": [(1, 2.0)]} == tracked.series()


def test_declaring_after_the_first_figure_takes_effect_and_loses_none(tracked):
    tracker = tracked.tracker
    tracker.add("a", 1.0)
    tracker.declare("a", Kind(type=QUEUE))
    tracker.add("a", 5.0)
    tracker.save(1)
    assert {"a": [(1, 1.0)], "a.mean": [(1, 5.0)]} == tracked.series()


@pytest.mark.feature("LB-29")
def test_namespace_of_leading_and_trailing_dots(tracked):
    tracker = tracked.tracker
    tracker.add(".loss", 0.0)
    with tracker.namespace("train"):
        tracker.add(".loss", 1.0)
        tracker.add("loss.", 2.0)
        tracker.add("plain", 3.0)
        with tracker.namespace("inner"):
            tracker.add(".loss", 4.0)
            tracker.add("loss.", 5.0)
    with tracker.namespace("valid"):
        tracker.add(".loss", 6.0)
    tracker.save(1)
    assert tracked.series() == {
        "loss": [(1, 0.0)],
        "train.loss": [(1, 1.0)],
        "loss.train": [(1, 2.0)],
        "plain": [(1, 3.0)],
        "train.inner.loss": [(1, 4.0)],
        "loss.train.inner": [(1, 5.0)],
        "valid.loss": [(1, 6.0)],
    }


@pytest.mark.feature("LB-30")
def test_global_step_falls_back_to_start_step_and_loop_counter(tracked):
    tracker = tracked.tracker
    assert 0 == tracker.get_global_step()
    tracker.write_to(tracked.outlet, start_step=100)
    assert 100 == tracker.get_global_step()
    tracker.loop_step = lambda: 7
    assert 107 == tracker.get_global_step()
    tracker.add_global_step(64)
    tracker.add_global_step()
    assert 172 == tracker.get_global_step()
    tracker.set_global_step(3)
    tracker.save(a=1.0)
    assert {"a": [(3, 1.0)]} == tracked.series()


@pytest.mark.feature("LB-27")
def test_indexed_scalars_give_a_mean_for_each_sample(tmp_path):
    kept = Kept()
    tracked = Tracked(tmp_path, kept=kept)
    tracked.tracker.declare("loss", Kind(type=INDEXED_SCALAR))
    tracked.tracker.add("loss", ([5, 2], np.array([1.0, 2.0])))
    tracked.tracker.add("loss", (5, 6.0))
    tracked.tracker.save(1)
    assert {"loss.mean": [(1, 3.0)]} == tracked.series()
    (record,) = [r for r in kept.records if type(r).__name__ == "SampleValues"]
    assert ([2, 5], [2.0, 3.5]) == (record.indices.tolist(), record.values.tolist())
    tracked.tracker.add("loss", 1.0)
    with pytest.raises(RunError, match="pairs"):
        tracked.tracker.save(2)
    with pytest.raises(RunError, match="different lengths"):
        tracked.tracker.add("loss", ([1], [1.0, 2.0]))
    tracked.outlet.close()
    tracked.log.close()


@pytest.mark.feature("LB-27")
def test_images_texts_and_tensors_become_files(tracked):
    from PIL import Image

    tracker = tracked.tracker
    tracker.declare("pic", Kind(type=IMAGE))
    tracker.declare("note", Kind(type=TEXT))
    tracker.declare("w", Kind(type=TENSOR, is_once=True))
    tracker.add("pic", np.stack([np.zeros((3, 4, 6)), np.ones((3, 4, 6))]))
    tracker.add("note", "one")
    tracker.add("note", "two")
    tracker.add("w", np.arange(6).reshape(2, 3))
    tracker.save(1)
    tracker.add("w", np.zeros(3))
    tracker.save(2)
    found = {
        entry["name"]: tracked.folder / entry["file"] for entry in list_artifacts(tracked.folder)
    }
    assert {"pic", "note", "w"} == set(found)
    with Image.open(found["pic"]) as image:
        assert (12, 4) == image.size
        assert [(0, 0, 0), (255, 255, 255)] == [image.getpixel((0, 0)), image.getpixel((11, 3))]
    assert "one\ntwo" == found["note"].read_text()
    assert [[0, 1, 2], [3, 4, 5]] == np.load(found["w"]).tolist()


@pytest.mark.parametrize(
    "pixels", [np.zeros(3), np.zeros((5, 6, 7)), np.zeros((0, 4)), np.array([["a"]])]
)
def test_what_is_no_image_is_refused_at_the_call_and_costs_no_other_figure(tracked, pixels):
    tracker = tracked.tracker
    tracker.declare("pic", Kind(type=IMAGE))
    with pytest.raises(RunError, match="'pic' takes images"):
        tracker.add("pic", pixels)
    tracker.save(1, loss=0.5)
    assert {"loss": [(1, 0.5)]} == tracked.series()


def test_density_is_the_share_of_saves_kept(tracked):
    tracked.tracker.declare("t", Kind(type=TEXT, density=0.25))
    for step in range(8):
        tracked.tracker.save(step, t=f"step {step}")
    assert [0, 4] == [entry["step"] for entry in list_artifacts(tracked.folder)]


def test_array_changed_after_the_add_does_not_change_the_figure(tracked):
    numbers = np.array([1.0, 3.0])
    tracked.tracker.declare("w", Kind(type=TENSOR))
    tracked.tracker.add("a", numbers)
    tracked.tracker.add("w", numbers)
    numbers[:] = 100.0
    tracked.tracker.save(1)
    assert {"a": [(1, 2.0)]} == tracked.series()
    assert [1.0, 3.0] == np.load(tracked.folder / "artifacts" / "w" / "1.npy").tolist()


def test_tensors_of_torch_are_read_whatever_their_type(tracked):
    import torch

    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool):
        tracked.tracker.add(str(dtype), torch.ones(2, 3, dtype=dtype))
    tracked.tracker.add("grad", torch.tensor(0.5, requires_grad=True))
    tracked.tracker.save(1)
    values = [points[0][1] for points in tracked.series().values()]
    assert [1.0, 1.0, 1.0, 1.0, 1.0, 0.5] == values


def test_not_finite_values_are_kept(tracked):
    for step, value in enumerate((math.nan, math.inf, -math.inf, np.array([math.inf, 1.0]))):
        tracked.tracker.save(step, a=value)
    assert ["nan", "inf", "-inf", "inf"] == [repr(value) for _, value in tracked.series()["a"]]


def test_steps_may_go_back_and_are_kept_as_they_came(tracked):
    for step in (5, 3, 5):
        tracked.tracker.save(step, a=float(step))
    assert {"a": [(5, 5.0), (3, 3.0), (5, 5.0)]} == tracked.series()


@pytest.mark.parametrize(
    "name", ["größe ✓", "a/b\\c", 'quo"te\n', "\udcff", "x" * 300, "up/../../../x"]
)
def test_any_name_can_be_a_series_and_a_file(tracked, name):
    tracked.tracker.declare(name, Kind())
    tracked.tracker.declare("t" + name, Kind(type=TENSOR))
    tracked.tracker.save(1, {name: 1.0, "t" + name: np.ones(2)})
    assert {name: [(1, 1.0)]} == tracked.series()
    (entry,) = list_artifacts(tracked.folder)
    assert "t" + name == entry["name"]
    path = (tracked.folder / entry["file"]).resolve()
    assert path.is_relative_to((tracked.folder / "artifacts").resolve())
    assert [1.0, 1.0] == np.load(path).tolist()


def test_hundred_thousand_names(tracked):
    for number in range(100_000):
        tracked.tracker.add(f"n{number}", float(number))
    tracked.tracker.save(1)
    tracked.log.flush()
    assert 100_000 == len(list_series(tracked.folder))
    assert [99_999.0] == read_series(tracked.folder, "n99999").values.tolist()


@pytest.mark.parametrize(
    "call",
    [
        lambda t: t.add("a", "text"),
        lambda t: t.add("a", None),
        lambda t: t.add("a", 1j),
        lambda t: t.add("a", object()),
        lambda t: t.add("", 1.0),
        lambda t: t.add(".", 1.0),
        lambda t: t.add(3, 1.0),
        lambda t: t.add({"a": 1.0}, 2.0),
        lambda t: t.save(-1),
        lambda t: t.save(1.5),
        lambda t: t.save(1, 2.0),
        lambda t: t.set_global_step(-1),
    ],
)
def test_what_cannot_be_logged_is_refused_at_the_call(tracked, call):
    with pytest.raises(RunError):
        call(tracked.tracker)
    tracked.tracker.save(1)
    assert {} == tracked.series()


def test_broken_writer_is_told_once_and_the_others_go_on(tmp_path):
    kept = Kept()
    tracked = Tracked(tmp_path, broken=Kept(fails=True), kept=kept)
    for step in range(3):
        tracked.tracker.save(step, a=float(step))
        tracked.outlet.flush()
    assert ["the writer 'broken': stopped by OSError: no space left; training goes on"] == (
        tracked.warnings
    )
    assert ["broken: stopped by OSError: no space left"] == tracked.outlet.problems()
    assert [0, 1, 2] == [record.step for record in kept.records]
    assert [(0, 0.0), (1, 1.0), (2, 2.0)] == tracked.series()["a"]
    tracked.outlet.close()
    assert "close" == kept.calls[-1]
    tracked.log.close()


def test_rewind_reaches_the_log_and_every_writer(tmp_path):
    kept = Kept()
    tracked = Tracked(tmp_path, kept=kept)
    tracked.tracker.declare("t", Kind(type=TEXT))
    for step in (1, 2, 3):
        tracked.tracker.save(step, a=float(step), t="x")
    tracked.outlet.rewind(1)
    tracked.tracker.save(2, a=20.0)
    assert {"a": [(1, 1.0), (2, 20.0)]} == tracked.series()
    assert ("rewind", 1) in kept.calls
    assert [1] == [entry["step"] for entry in list_artifacts(tmp_path)]
    tracked.outlet.close()
    tracked.log.close()


def test_threads_add_to_one_name_and_none_is_lost(tracked):
    tracked.tracker.declare("n", Kind(type=HISTOGRAM))

    def work() -> None:
        for _ in range(2000):
            tracked.tracker.add("s", 1.0)
            tracked.tracker.add("n", 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tracked.tracker.add("s", 8001.0)
    tracked.tracker.save(1)
    assert (8000 + 8001.0) / 8001 == tracked.series()["s"][0][1]


def test_mean_of_large_values_is_finite(tracked):
    tracked.tracker.declare("h", Kind(type=QUEUE))
    tracked.tracker.save(1, h=[1.5e308, 1.5e308])
    assert {"h.mean": [(1, 1.5e308)]} == tracked.series()


def test_only_the_first_wait_for_a_type_costs(tracked):
    # Once resolved, a name keeps its indicator: declaring another name does not disturb a window.
    tracked.tracker.declare("q", Kind(type=QUEUE, queue_size=2))
    tracked.tracker.save(1, q=1.0)
    tracked.tracker.declare("other", Kind(type=QUEUE))
    tracked.tracker.save(2, q=3.0)
    assert [(1, 1.0), (2, 2.0)] == tracked.series()["q.mean"]


def test_read_series_of_the_tracker(tracked):
    tracked.tracker.save(4, a=1.0)
    tracked.log.flush()
    assert [4] == read_series(tracked.folder, "a").steps.tolist()
