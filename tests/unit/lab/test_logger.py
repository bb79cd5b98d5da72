from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.lab import logger
from discern.lab.logger import Color, Style, Text


@pytest.mark.feature("LB-52")
def test_no_ansi_codes_when_piped(capsys):
    logger.log("Saved ", Text.success, "to ", ("here", Style.bold, Color.cyan))
    logger.log([("a", Text.danger), "b", ["c"]], "d", is_new_line=False)
    logger.log(1, " ", 0.5)
    assert "Saved to here\nabcd1 0.5\n" == capsys.readouterr().out


@pytest.mark.feature("LB-52")
def test_styles_are_colors_on_a_terminal(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    logger.log("Saved", Text.success)
    assert "\x1b[32mSaved" in capsys.readouterr().out


@pytest.mark.feature("LB-52")
def test_inspect_shows_shape_type_and_range(capsys):
    logger.inspect(torch.tensor([[1.0, 3.0]]), array=np.array([1, 2, 3]))
    logger.inspect({"x": torch.zeros(2), "name": "n"})
    assert capsys.readouterr().out.splitlines() == [
        "Tensor [1, 2] float32 1 to 3, mean 2",
        "array: ndarray [3] int64 1 to 3, mean 2",
        "dict of 2",
        "  x: Tensor [2] float32 0 to 0, mean 0",
        "  name: 'n'",
    ]


def test_long_lines_are_not_broken(capsys):
    logger.log("x" * 500)
    assert "x" * 500 + "\n" == capsys.readouterr().out


def test_not_finite_values_are_counted(capsys):
    logger.inspect(np.array([np.nan, 1.0, np.inf]))
    assert "ndarray [3] float64 1 to 1, mean 1, 2 not finite\n" == capsys.readouterr().out
