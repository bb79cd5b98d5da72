from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from discern.track.curves import common_names, draw_picture, draw_text
from discern.track.metrics_read import Series


def series(values, steps=None):
    values = np.asarray(values, np.float64)
    steps = np.arange(len(values)) if steps is None else np.asarray(steps)
    return Series(steps.astype(np.int64), np.zeros(len(values)), values)


def chart(lines):
    return [line.partition("|")[2] for line in lines if "|" in line]


def test_rising_and_falling_curves_run_through_the_corners():
    lines = draw_text({"up": series([0, 1]), "down": series([1, 0])}, width=40, height=7)
    rows = chart(lines)
    assert 7 == len(rows)
    assert ("x", "o") == (rows[0][0], rows[0].rstrip()[-1])
    assert ("o", "x") == (rows[-1][0], rows[-1].rstrip()[-1])
    assert ["1", "0.5", "0"] == [line.split("|")[0].strip() for line in lines[:7:3]]
    assert ["o up", "x down"] == [line.strip() for line in lines[-2:]]
    assert max(map(len, lines[:8])) <= 40


def test_a_peak_of_one_point_in_a_million_is_drawn():
    values = np.zeros(1_000_000)
    values[700_123] = 5.0
    rows = chart(draw_text({"a": series(values)}, width=60, height=10))
    assert "o" in rows[0]
    assert 0.65 < rows[0].index("o") / len(rows[-1]) < 0.75


def test_values_that_are_not_finite_are_marked_and_counted():
    lines = draw_text({"a": series([1.0, math.nan, 2.0, math.inf, 1.5])}, width=40, height=8)
    assert 2 == chart(lines)[0].count("!")
    assert "a  (2 not finite)" in lines[-1]
    only = draw_text({"a": series([math.nan, math.inf])}, width=40, height=8)
    assert "!" in chart(only)[0]


@pytest.mark.parametrize("values", [[3.0], [3.0, 3.0], [0.0], [-1e308, 1e308], [0.0, 5e-324]])
def test_any_range_can_be_drawn(values):
    rows = chart(draw_text({"a": series(values)}, width=30, height=6))
    assert any("o" in row for row in rows)


def test_control_characters_of_names_do_not_reach_the_terminal():
    lines = draw_text({"\x1b[31mred\n": series([1, 2])})
    assert "\\x1b[31mred\\n" in lines[-1]
    assert not any("\x1b" in line for line in lines)


def test_curves_without_points_give_no_chart():
    assert [] == draw_text({"a": series([])})


def test_picture_is_a_png_with_a_chart_for_each_series():
    curves = {"a/$x_1": series([1, math.nan, 3]), "_b": series(np.sin(np.arange(5000) / 99))}
    one = Image.open(io.BytesIO(draw_picture({"val/loss": curves})))
    two = Image.open(io.BytesIO(draw_picture({"val/loss": curves, "\x00": {}})))
    assert ("PNG", (816, 480)) == (one.format, one.size)
    assert (2 * 816, 480) == two.size
    colors = {color for _, color in one.convert("RGB").getcolors(1 << 24)}
    assert (0, 0x72, 0xB2) in colors  # the first curve's blue


def test_names_that_most_runs_have_come_first():
    assert ["b", "a", "c"] == common_names([["a", "b"], ["b", "c"]])
