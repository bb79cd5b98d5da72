"""Scripts that another program starts as runs, with settings of its own."""

from __future__ import annotations

import pytest

from discern.base.errors import ConfigError
from discern.lab import manage
from discern.track.run import list_runs

LAB = """
from discern.lab import Configs, experiment, tracker


class C(Configs):
    lr: float = 0.5
    epochs: int = 3


conf = C()
experiment.create(name="started", comment="COMMENT")
experiment.calculate_configs(conf, {"epochs": 2})
with experiment.start():
    tracker.save(1, loss=conf.lr * conf.epochs)
"""
FOREIGN = "import sys\nprint('step=1 loss=' + sys.argv[1].partition('=')[2])\nsys.exit(4)\n"


@pytest.fixture
def runs(tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.feature("LB-53")
def test_a_lab_script_runs_with_overrides_and_a_comment(tmp_path, runs):
    script = tmp_path / "train.py"
    script.write_text(LAB.replace(', comment="COMMENT"', ""))
    assert 0 == manage.new_run(script, {"lr": 0.25}, "a lower rate").wait(timeout=120)
    (run,) = list_runs(runs)
    assert [0.5] == run.read_series("loss").values.tolist()  # 0.25 x 2
    assert {"lr": 0.25, "epochs": 2} == run.record["hparams"]
    assert "a lower rate" == run.record["experiment"]["comment"]


@pytest.mark.feature("LB-53")
def test_a_foreign_script_is_captured_with_the_settings_as_arguments(tmp_path, runs):
    script = tmp_path / "other.py"
    script.write_text(FOREIGN)
    assert 4 == manage.new_run(script, {"lr": 0.25}, "of others").wait(timeout=120)
    (run,) = list_runs(runs)
    assert ("captured", {"lr": 0.25}, "of others") == (
        run.record["kind"],
        run.record["hparams"],
        run.record["experiment"]["comment"],
    )
    assert [0.25] == run.read_series("loss").values.tolist()


def test_what_cannot_be_started_is_told(tmp_path):
    with pytest.raises(ConfigError, match="no such script"):
        manage.new_run(tmp_path / "none.py")
    script = tmp_path / "train.py"
    script.write_text(LAB)
    with pytest.raises(ConfigError, match="cannot be handed"):
        manage.new_run(script, {"net": object()})
    with pytest.raises(ConfigError, match="name of a setting"):
        manage.new_run(script, {"a b": 1})
