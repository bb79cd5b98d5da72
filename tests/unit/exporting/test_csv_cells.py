"""CSV cells: spreadsheets run none of them; everything else stays as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.exporting.csv_cells import csv_cell


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-x", "@SUM(A1)", "\tx", "\r=x"])
def test_formula_gets_an_apostrophe(text):
    assert "'" + text == csv_cell(text)


@pytest.mark.parametrize("text", ["cat", "", "-1", "+2.5", "-1e-3", "a=b", "ant & bee"])
def test_other_text_stays(text):
    assert text == csv_cell(text)


@given(st.text())
def test_no_cell_starts_a_formula_unless_it_is_a_number(text):
    cell = csv_cell(text)
    assert cell[:1] not in {"=", "+", "-", "@", "\t", "\r"} or float(cell) == float(text)
