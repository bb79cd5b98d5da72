"""The examples of `discern.lab` run: an own training, and a grid of four."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from discern.lab import experiment, tracker
from discern.track.run import list_runs, runs_root

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# The tutorial's own programs: 167 lines with its loop, some 150 with the grid.
MOST_LINES = 100


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    experiment.end()
    tracker.reset()


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["lab_mnist", "lab_grid"])
def test_example_is_shorter_than_the_tutorial(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < MOST_LINES


@pytest.mark.feature("LB-39")
def test_own_training_learns_digits() -> None:
    example("lab_mnist").main("digits", 1)
    (run,) = list_runs(runs_root())
    assert ("lab_mnist", "finished") == (run.project, run.status)
    assert run.metrics["valid.accuracy"] > 0.3
    assert (run.path / "checkpoints" / "step-1437" / "optimizer.safetensors").is_file()


@pytest.mark.feature("LB-43")
def test_grid_gives_four_runs_with_two_hyper_parameters() -> None:
    example("lab_grid").main("digits", 1)
    runs = list_runs(runs_root())
    assert {(3, 3), (3, 5), (5, 3), (5, 5)} == {
        (run.record["hparams"]["conv1_kernel"], run.record["hparams"]["conv2_kernel"])
        for run in runs
    }
    assert {("lab_grid", "finished", 2)} == {
        (run.project, run.status, len(run.record["hparams"])) for run in runs
    }
    # Each begins at step 0.
    assert {1437} == {int(run.read_series("valid.loss").steps[-1]) for run in runs}


@pytest.mark.slow
@pytest.mark.feature("LB-40")
def test_own_training_learns_mnist(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "data").symlink_to(shared_data)
    (tmp_path / ".discern.yaml").write_text("{}")
    example("lab_mnist").main("MNIST", 1)
    (run,) = list_runs(runs_root())
    assert run.metrics["valid.accuracy"] > 0.85
