from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.track.metrics_buckets import bucket_series, read_buckets
from discern.track.metrics_log import MetricsLog
from discern.track.metrics_read import Series, read_series


def series(steps, values):
    return Series(np.array(steps, np.int64), np.zeros(len(steps)), np.array(values, np.float64))


def test_lowest_and_highest_of_each_stretch():
    found = bucket_series(series(range(10), [5, 1, 2, 3, 4, 9, 8, 7, 6, 0]), 2)
    assert ([0, 5], [4, 9]) == (found.first_steps.tolist(), found.last_steps.tolist())
    assert ([1.0, 0.0], [5.0, 9.0]) == (found.lowest.tolist(), found.highest.tolist())
    assert [5, 5] == found.counts.tolist()


@settings(max_examples=100)
@given(
    points=st.lists(st.tuples(st.integers(0, 2**63 - 1), st.floats(width=64)), max_size=80),
    most=st.integers(1, 40),
)
def test_every_point_lies_in_the_stretch_of_its_step(points, most):
    found = bucket_series(series([p[0] for p in points], [p[1] for p in points]), most)
    assert len(found) <= most
    assert len(points) == found.counts.sum()
    if not points:
        return
    low, high = min(p[0] for p in points), max(p[0] for p in points)
    stretches: dict[int, list[float]] = {}
    for step, value in points:
        stretches.setdefault((step - low) * most // (high - low + 1), []).append(value)
    assert len(stretches) == len(found)
    for at, place in enumerate(sorted(stretches)):
        values = stretches[place]
        numbers = [value for value in values if not math.isnan(value)] or [math.nan]
        assert repr(float(min(numbers))) == repr(float(found.lowest[at])) or min(numbers) == 0
        assert repr(float(max(numbers))) == repr(float(found.highest[at])) or max(numbers) == 0
        assert sum(not math.isfinite(value) for value in values) == found.not_finite[at]


def test_long_series_of_a_run_in_a_thousand_stretches(tmp_path):
    with MetricsLog(tmp_path, 1) as log:
        for step in range(5000):
            log.add("a", step, math.nan if step == 7 else float(step % 5))
    found = read_buckets(tmp_path, "a")
    assert 1000 == len(found)
    assert {0.0} == set(found.lowest.tolist())
    assert {4.0} == set(found.highest.tolist())
    assert 1 == found.not_finite[1]


def test_no_points_and_no_stretches():
    assert 0 == len(bucket_series(series([], [])))
    with pytest.raises(ValueError, match="0 buckets"):
        bucket_series(series([1], [1.0]), 0)


def test_series_without_an_index_is_read_by_hops_up_to_a_torn_end(tmp_path):
    with MetricsLog(tmp_path, 1) as log:
        for step in range(2000):
            log.add("a", step, float(step))
            log.add("b", step, -1.0)
    (tmp_path / "metrics.idx").unlink()
    whole = read_series(tmp_path, "a")
    assert list(range(2000)) == whole.steps.tolist()
    path = tmp_path / "metrics.bin"
    data = path.read_bytes()
    path.write_bytes(data + data[16:1000])
    assert list(range(2000)) == read_series(tmp_path, "a").steps.tolist()
    broken = bytearray(data)
    broken[len(data) // 2] ^= 1
    path.write_bytes(bytes(broken))
    kept = read_series(tmp_path, "a")
    # Whichever series the broken block is of, no value is a wrong one.
    assert kept.steps.tolist() == kept.values.astype(int).tolist()
