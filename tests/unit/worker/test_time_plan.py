"""The plan of a training before it runs, and the budget that it is fitted to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from discern_process import make_images

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.config.schema import RunConfig
from discern.training.stages import Training
from discern.worker.stage_probe import StageNeed, probe_stages
from discern.worker.time_plan import (
    TimePlan,
    budget_seconds,
    duration,
    fit_epochs,
    fitted,
    shortened,
)
from discern.worker.train import train


def need(name: str, epochs: int, step_s: float = 0.1, **changes: float) -> StageNeed:
    """Ten batches an epoch, an evaluation of one second after each second epoch."""
    values = {
        "batches": 10, "evaluate_every": 2, "evaluation_s": 1.0, "peak_bytes": 10**9,
        "checkpoint_bytes": 10**6, "kept": 5, **changes,
    }  # fmt: skip
    return StageNeed(name=name, epochs=epochs, steps=10 * epochs, step_s=step_s, **values)  # type: ignore[arg-type]


def test_stage_needs_its_steps_and_evaluations() -> None:
    assert 40 == need("a", 4).steps
    assert 4 * (10 * 0.1 + 0.5) == pytest.approx(need("a", 4).seconds)


def test_plan_sums_stages_and_disk() -> None:
    plan = TimePlan((need("head", 2), need("all", 4, 0.2)), weights_bytes=10**7, budget_s=60.0)
    assert 2 * 1.5 + 4 * 2.5 == pytest.approx(plan.seconds)
    assert 5 * 10**6 + 10**7 + 5 * 10**6 == plan.disk_bytes
    record = plan.record()
    assert ("planned", None, 60.0) == (record["status"], record["run"], record["budget_seconds"])
    assert [20, 40] == [stage["steps"] for stage in record["stages"]]
    assert "head: 2 epochs, 20 steps, 3 s, peak memory 1.0 GB" in plan.lines()[0]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1.5h", 5400), ("45", 45), ("3 min", 180)]
)
def test_budgets_are_written_as_people_do(text: str, seconds: float) -> None:
    assert seconds == budget_seconds(text)


@pytest.mark.parametrize("text", ["", "soon", "0m", "-3s", "2d"])
def test_other_budgets_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="not a length of time"):
        budget_seconds(text)


def test_stages_are_shortened_by_one_share_to_what_fits() -> None:
    needs = [need("head", 10), need("all", 40)]
    chosen = fit_epochs(needs, 37.5)  # half of 75 s
    assert {"head": 5, "all": 20} == chosen
    assert 37.5 >= sum(one.of_epochs(chosen[one.name]).seconds for one in needs)


def test_plan_that_fits_stays_as_it_is() -> None:
    assert {"a": 4} == fit_epochs([need("a", 4)], 6.0)


def test_no_stage_gets_less_than_an_epoch() -> None:
    assert {"head": 1, "all": 2} == fit_epochs([need("head", 2), need("all", 40)], 5.0)


def test_budget_under_one_epoch_is_refused() -> None:
    with pytest.raises(ConfigError, match="too small for one epoch") as raised:
        fit_epochs([need("a", 4)], 1.0)
    assert "1.5 s" in str(raised.value.expected)


def test_shorter_stages_warm_up_for_less() -> None:
    stage = {"epochs": 10, "warmup_epochs": 2.0, "close_aug": 4}
    stages = {"a": stage, "b": {"epochs": 3}}
    config = RunConfig.model_validate({"data": {"source": "x"}, "stages": stages})
    now = shortened(config, {"a": 5}).stages
    assert (5, 1.0, 2) == (now["a"].epochs, now["a"].warmup_epochs, now["a"].close_aug)
    assert config.stages["b"] == now["b"]


def test_durations_in_words() -> None:
    assert ["42 s", "12 min", "3.5 h"] == [duration(s) for s in (42.0, 720.0, 12600.0)]


def test_stage_with_a_time_of_its_own_is_left_as_it_is() -> None:
    timed = need("timed", 5, time_s=30.0, in_epochs=False)
    assert {"a": 2} == fit_epochs([timed, need("a", 4)], 33.5)


def _probed(training: Training) -> list[StageNeed]:
    """Steps that are said to take a second each."""
    real = probe_stages(training)
    return [dataclasses.replace(one, step_s=1.0, evaluation_s=0.0) for one in real]


def test_dry_run_trains_nothing_and_a_budget_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = make_images(tmp_path / "pets", each=20)
    monkeypatch.setattr("discern.worker.time_plan.probe_stages", _probed)
    pairs = {
        "data.source": str(data), "model.name": "mlp", "stages.*.epochs": 1000,
        "stages.*.batch_size": 7, "compute.device": "cpu", "compute.precision": "fp32",
        "compute.budget": "2m",
    }  # fmt: skip
    given = [("flag", key, value) for key, value in pairs.items()]
    arguments = {"runs": str(tmp_path / "runs"), "resume": None, "fresh": False}
    dry = Request(verb="train", arguments={**arguments, "dry_run": True}, pairs=given)
    plan = train(dry, Console(quiet=True))
    assert plan is not None
    (stage,) = plan["stages"]
    # 28 images in 4 batches; 85 % of two minutes, less what has passed, at 4 s an epoch.
    assert 12 <= stage["epochs"] <= 25
    assert (4 * stage["epochs"], 120.0) == (stage["steps"], plan["budget_seconds"])
    assert plan["memory_bytes"] > 10_000_000
    assert plan["disk_bytes"] > 3 * stage["checkpoint_bytes"] > 0
    assert not (tmp_path / "runs").exists()

    done = train(dataclasses.replace(dry, arguments=arguments), Console(quiet=True))
    assert done is not None
    record = json.loads((Path(done["path"]) / "run.json").read_text())
    epochs = record["config"]["stages"]["train"]["epochs"]
    assert 12 <= epochs <= 25
    chosen = {"seconds": 120.0, "epochs": {"train": epochs}, "asked": {"train": 1000}}
    assert chosen == record["choices"]["budget"]


@pytest.mark.parametrize(
    ("epochs", "kept"), [(1000, 12), (12, 12), (1200, None)], ids=["asked", "stored", "others"]
)
def test_a_run_fitted_to_a_budget_keeps_its_length(epochs: int, kept: int | None) -> None:
    config = RunConfig.model_validate(
        {"data": {"source": "digits"}, "stages": {"train": {"epochs": epochs}}}
    )
    chosen = {"seconds": 120.0, "epochs": {"train": 12}, "asked": {"train": 1000}}
    if kept is None:
        with pytest.raises(ConfigError, match="keeps its length"):
            fitted(config, chosen)
    else:
        assert kept == fitted(config, chosen).stages["train"].epochs
