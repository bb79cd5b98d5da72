"""Experiments: the run folder around a loop of one's own, its record, its end, its checkpoints."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from discern.base.console import Console
from discern.base.errors import ConfigError, DataError, RunError
from discern.cli.runs_list_command import list_command
from discern.config.lazy import BaseConfigs
from discern.lab import experiment, tracker
from discern.track.run import list_runs, open_run, runs_root


class Configs(BaseConfigs):
    rate: float = 0.1
    width: int = 3
    seed = "seeded"
    model: nn.Module
    optimizer: torch.optim.Optimizer
    unused: int = 1


@Configs.calc(Configs.seed)
def seeded():
    torch.manual_seed(5)


@Configs.calc(Configs.model)
def linear(c: Configs):
    return nn.Linear(c.width, 2)


@Configs.calc(Configs.optimizer)
def adam(c: Configs):
    return torch.optim.Adam(c.model.parameters(), lr=c.rate)


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    experiment.end()
    tracker.reset()


def begin(hparams=None, **words):
    """A started experiment with its configs and model."""
    configs = Configs()
    experiment.create(name="own_loop", disable_screen=True, **words)
    experiment.calculate_configs(configs, hparams or {}, ["seed"])
    experiment.add_pytorch_models({"model": configs.model})
    return configs, experiment.start()


def train(configs, steps=1):
    for _ in range(steps):
        configs.optimizer.zero_grad()
        configs.model(torch.ones(1, configs.width)).sum().backward()
        configs.optimizer.step()


def weights(configs):
    return configs.model.weight.detach().clone()


def the_run():
    (run,) = list_runs(runs_root())
    return run


@pytest.mark.feature("LB-14")
def test_create_names_tags_and_identifies_the_run():
    made = experiment.create(name="mnist_conv_net", disable_screen=True)
    assert ("mnist", "conv", "net") == made.plan.tags
    assert 32 == len(made.plan.uuid) == len(bytes.fromhex(made.plan.uuid)) * 2
    assert made.plan.uuid == experiment.get_uuid()
    assert "test_experiment" == experiment.create(disable_screen=True).plan.name
    assert ("a",) == experiment.create(name="x_y", tags=["a"], disable_screen=True).plan.tags
    with pytest.raises(ConfigError):
        experiment.create(name="x", uuid="../up")


@pytest.mark.feature("LB-16")
def test_run_folder_is_one_of_discerns_own(capsys):
    configs, started = begin({"rate": 0.2}, comment="a try")
    with started:
        train(configs)
        tracker.save(1, accuracy=0.5)
        experiment.save_checkpoint()
        experiment.save_numpy("numbers", [1, 2])
    run = the_run()
    assert ("own_loop", started.plan.uuid, "finished") == (run.project, run.name, run.status)
    wanted = {"run.json", "configs.json", "config.yaml", "metrics.bin", "source.diff", "source"}
    assert wanted <= {path.name for path in run.path.iterdir()}
    assert [1, 2] == np.load(run.path / "numpy" / "numbers.npy").tolist()
    assert (run.path / "source" / "test_experiment.py").is_file()
    assert (run.path / "checkpoints" / "step-1" / "model.safetensors").is_file()
    assert {"accuracy": 0.5} == run.metrics
    assert [0.5] == run.read_series("accuracy").values.tolist()
    assert 0 == list_command(runs_root(), Console(json=True))
    listed = json.loads(capsys.readouterr().out.splitlines()[-1])["runs"]
    assert [(run.id, "finished", {"accuracy": 0.5})] == [
        (r["id"], r["status"], r["metrics"]) for r in listed
    ]


@pytest.mark.feature("LB-11", "LB-12")
def test_record_of_configs_follows_what_is_computed():
    configs, started = begin({"rate": 0.2})

    def record(name):
        items = json.loads((the_run().path / "configs.json").read_bytes())["configs"]
        return next(item for item in items if item["name"] == name)

    with started:
        assert not record("optimizer")["used"]
        train(configs)
        assert ("adam", ["model", "rate"]) == (
            record("optimizer")["option"],
            record("optimizer")["needs"],
        )
        assert not record("unused")["used"]
    assert {"rate": 0.2} == the_run().record["hparams"]
    assert 3 == the_run().record["config"]["width"]


@pytest.mark.feature("LB-13")
def test_dictionary_serves_as_configs():
    experiment.create(name="plain", disable_screen=True)
    experiment.configs({"rate": 0.1, "net": {"width": 3}}, {"rate": 0.2})
    with experiment.start():
        pass
    assert {"rate": 0.2, "net.width": 3} == the_run().record["config"]


def test_a_setting_is_told_on_one_line(capsys):
    experiment.create(name="net")
    experiment.calculate_configs({"net": "Net(\n  (conv): Conv2d(1, 4)\n)", "lr": 0.1})
    with experiment.start():
        pass
    told = capsys.readouterr().out.splitlines()
    assert ["  net = Net( (conv): Conv2d(1, 4) )", "  lr = 0.1"] == told[2:]


def git(*words):
    subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], check=True)


@pytest.fixture
def repository(tmp_path):
    """A repository with one commit and one change."""
    git("init", "-q", "-b", "main")
    (tmp_path / "a.py").write_text("a = 1\n")
    git("add", "a.py")
    git("commit", "-q", "-m", "first try")
    git("remote", "add", "origin", "https://me:secret@example.org/x.git")
    (tmp_path / "a.py").write_text("a = 2\n")


@pytest.mark.feature("LB-17", "LB-18")
def test_record_equals_the_state_of_git(repository):
    _, started = begin(comment="why", tags=["one"])
    with started:
        pass
    run = the_run()
    told = run.record["experiment"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    assert (head.stdout.strip(), True) == (run.record["git"]["commit"], run.record["git"]["dirty"])
    assert ("first try", ["https://example.org/x.git"]) == (
        told["commit_message"],
        told["repo_remotes"],
    )
    assert ("why", ["one"], 0, None) == (
        told["comment"],
        told["tags"],
        told["start_step"],
        told["load_run"],
    )
    assert "+a = 2" in (run.path / "source.diff").read_text()


@pytest.mark.feature("LB-18")
def test_dirty_tree_is_refused_if_asked_for(repository, tmp_path):
    (tmp_path / ".discern.yaml").write_text("check_repo_dirty: true\n")
    git("add", ".discern.yaml")
    experiment.create(name="own", python_file=str(tmp_path / "a.py"), disable_screen=True)
    with pytest.raises(RunError, match="not committed"):
        experiment.start()
    assert [] == list_runs(runs_root())
    git("commit", "-q", "-a", "-m", "second")
    with experiment.start():
        assert "running" == the_run().status


@pytest.mark.feature("LB-18")
def test_without_a_repository_the_commit_is_unknown():
    with begin()[1]:
        assert "unknown" == the_run().record["git"]["commit"]


@pytest.mark.feature("LB-19")
@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("the loss is odd"), "failed"), (KeyboardInterrupt("Ctrl-C"), "interrupted")],
)
def test_end_of_the_block_tells_how_it_ended(error, status):
    _, started = begin()
    tracker.add("loss", 3.0)
    with pytest.raises(type(error)), started:
        raise error
    assert (status, str(error)) == (the_run().status, the_run().exit_record()["reason"])
    assert [3.0] == the_run().read_series("loss").values.tolist()  # added, not saved, not lost


CHILD = """
import os, sys
from discern.lab import experiment, tracker
experiment.create(name="child", disable_screen=True)
experiment.start()
tracker.save(1, loss=2.0)
{end}
"""


@pytest.mark.feature("LB-19")
@pytest.mark.parametrize(
    ("end", "status"),
    [("raise ValueError('odd')", "failed"), ("os.kill(os.getpid(), 9)", "lost"), ("", "finished")],
)
def test_end_of_the_process_ends_the_run(tmp_path, end, status):
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(end=end))
    subprocess.run([sys.executable, str(script)], capture_output=True, check=False)
    assert status == the_run().status


def test_next_experiment_ends_the_one_before():
    _, first = begin()
    _, second = begin()
    statuses = {run.name: run.status for run in list_runs(runs_root())}
    assert {first.plan.uuid: "finished", second.plan.uuid: "running"} == statuses


@pytest.mark.feature("LB-20")
@pytest.mark.feature("PP-32")
def test_checkpoint_holds_models_and_optimizer():
    configs, started = begin()
    with started:
        train(configs, 3)
        tracker.set_global_step(30)
        experiment.save_checkpoint()
        after_three = weights(configs)
        train(configs, 2)
        after_five = weights(configs)
    again, restarted = Configs(), experiment.create(name="own_loop", disable_screen=True)
    experiment.calculate_configs(again)
    experiment.add_pytorch_models(model=again.model)
    experiment.load(started.plan.uuid)
    with experiment.start():
        assert torch.equal(after_three, weights(again))
        assert 30 == tracker.get_global_step() == restarted.start_step
        train(again, 2)  # Adam goes on with its moments: the same bits
        assert torch.equal(after_five, weights(again))
    run = open_run(restarted.plan.uuid, runs_root())
    assert (30, f"own_loop/{started.plan.uuid}") == (
        run.record["experiment"]["start_step"],
        run.record["experiment"]["load_run"],
    )


@pytest.mark.feature("LB-20")
@pytest.mark.feature("PP-32")
def test_a_step_saved_again_holds_the_newer_weights():
    configs, started = begin()
    with started:
        folder = experiment.save_checkpoint()
        train(configs)
        assert folder == experiment.save_checkpoint() == experiment.save_checkpoint()
        newer = weights(configs)
        with torch.no_grad():
            configs.model.weight.zero_()
        experiment.load_models(["model"], started.plan.uuid)
        assert torch.equal(newer, weights(configs))
        assert ["step-0"] == [path.name for path in folder.parent.iterdir()]


def test_tied_weights_are_saved():
    configs, started = begin()
    with started:
        configs.model.again = configs.model.weight
        experiment.save_checkpoint()
        experiment.load_models(["model"], started.plan.uuid)


@pytest.fixture
def saved_steps():
    """A run with checkpoints at 100 and 200; gives (its name, the weights by step)."""
    configs, started = begin()
    kept = {}
    with started:
        for step in (100, 200):
            train(configs)
            tracker.set_global_step(step)
            experiment.save_checkpoint()
            kept[step] = weights(configs)
    return started.plan.uuid, kept


@pytest.mark.feature("LB-21")
@pytest.mark.parametrize(
    ("wish", "found"), [(150, 100), (100, 100), (250, 200), (-1, 200), (-2, 100), (None, 200)]
)
def test_missing_step_falls_back_to_the_next_lower(saved_steps, wish, found, capsys):
    configs = Configs()
    experiment.create(name="own_loop", disable_screen=True)
    experiment.calculate_configs(configs)
    experiment.add_pytorch_models(model=configs.model, other=nn.Linear(1, 1))
    with experiment.start(saved_steps[0], wish) as started:
        assert found == tracker.get_global_step()
        assert torch.equal(saved_steps[1][found], weights(configs))
        assert started.writer is not None


@pytest.mark.feature("LB-21")
def test_models_of_one_side_are_told_and_not_fatal(saved_steps, capsys):
    configs = Configs()
    experiment.create(name="own_loop")
    experiment.calculate_configs(configs)
    experiment.add_pytorch_models(other=nn.Linear(1, 1))
    with experiment.start(saved_steps[0], 150):
        pass
    told = capsys.readouterr().err
    assert "no checkpoint at step 150: step 100 is taken" in " ".join(told.split()).replace(
        "there is ", ""
    )
    assert "'other' is not in the checkpoint" in told
    assert "'model' of the checkpoint of step 100 is not loaded" in told


@pytest.mark.feature("LB-21")
@pytest.mark.parametrize("wish", [50, -3])
def test_no_earlier_checkpoint_is_an_error(saved_steps, wish):
    experiment.create(name="own_loop", disable_screen=True)
    with pytest.raises(RunError, match="no checkpoint") as caught:
        experiment.start(saved_steps[0], wish)
    assert "100, 200" in (caught.value.expected or "") or wish == -3


@pytest.mark.feature("LB-15")
def test_evaluations_and_further_ranks_record_nothing():
    experiment.evaluate(name="look", disable_screen=True)
    with experiment.start():
        tracker.save(1, loss=1.0)
        assert experiment.save_checkpoint() is None
    experiment.distributed(1, 2)
    with experiment.record(name="second", exp_conf={"a": 1}, disable_screen=True):
        assert experiment.get_run() is None
    assert [] == list_runs(runs_root())
    experiment.distributed(0, 2)
    with experiment.record(name="first", exp_conf={"a": 1}, disable_screen=True):
        assert "first" == the_run().project


@pytest.mark.feature("LB-15")
def test_settings_of_an_earlier_run_are_given_again():
    configs, started = begin({"rate": 0.3})
    with started:
        train(configs)
    assert {"rate": 0.3} == experiment.load_configs(started.plan.uuid)


@pytest.mark.feature("LB-15")
def test_bundle_carries_a_checkpoint_elsewhere(tmp_path, monkeypatch):
    configs, started = begin()
    (tmp_path / "words.txt").write_text("a b")
    with started:
        train(configs)
        tracker.set_global_step(7)
        experiment.save_checkpoint()
        experiment.save_bundle(tmp_path / "b.tar.gz", data_files=["words.txt"])
        kept = weights(configs)
    monkeypatch.setenv("DISCERN_RUNS", str(tmp_path / "elsewhere"))
    there = Configs()
    experiment.create(name="there", disable_screen=True)
    experiment.calculate_configs(there)
    experiment.add_pytorch_models(model=there.model)
    experiment.load_bundle(tmp_path / "b.tar.gz")
    with experiment.start():
        assert torch.equal(kept, weights(there))
        assert 7 == tracker.get_global_step()
    assert "a b" == next((tmp_path / "elsewhere").rglob("data/words.txt")).read_text()
    (tmp_path / "no.tar.gz").write_bytes(b"no")
    with pytest.raises(DataError):
        experiment.load_bundle(tmp_path / "no.tar.gz")


@pytest.mark.feature("LB-15")
def test_fitted_scikit_learn_model_is_saved_and_loaded():
    from sklearn.linear_model import LinearRegression

    images, targets = np.arange(6.0).reshape(3, 2), np.array([1.0, 2.0, 4.0])
    fitted, fresh = LinearRegression().fit(images, targets), LinearRegression()
    experiment.create(name="lines", disable_screen=True)
    experiment.add_sklearn_models({"model": fitted})
    with experiment.start():
        experiment.save_checkpoint()
    kept = experiment.get_uuid()
    experiment.create(name="lines", disable_screen=True)
    experiment.add_sklearn_models({"model": fresh})
    experiment.load_models(["model"], kept)
    assert fitted.predict(images).tolist() == fresh.predict(images).tolist()


def test_calls_without_an_experiment_say_so(monkeypatch):
    monkeypatch.setattr(experiment, "_current", [])
    with pytest.raises(RunError, match="there is no experiment"):
        experiment.start()
