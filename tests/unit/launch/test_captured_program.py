"""What a foreign command is called, and the settings that stand on it."""

from __future__ import annotations

import pytest

from discern.launch.captured_program import program_name, program_settings


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python -u src/train.py --model net.py", "train"),
        ("python -m package.module x", "module"),
        ("./run.sh", "run"),
        ("/usr/bin/make all", "make"),
    ],
)
def test_runs_are_called_by_their_script(command, name):
    assert name == program_name(command.split())


def test_settings_of_every_usual_form():
    command = (
        "python t.py data/x --lr 0.1 --epochs=5 --amp optimizer.name=adam -x=1 --shift -2 --no"
    )
    expected = {
        "lr": 0.1,
        "epochs": 5,
        "amp": True,
        "optimizer.name": "adam",
        "x": 1,
        "shift": -2,
        "no": True,
    }
    assert expected == program_settings(command.split())
