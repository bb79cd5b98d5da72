"""A program in the style of LabML's tutorial: only its imports are changed."""

from __future__ import annotations

import runpy
import sqlite3
import sys
from pathlib import Path

import pytest

from discern.lab import experiment, tracker
from discern.track.run import list_runs, runs_root

# The tutorial imports these names from `labml` and its helpers.
_IMPORTS = """
from discern.lab import experiment, logger, loop, monit, tracker
from discern.lab import BaseConfigs
from discern.lab.logger import Text
from discern.lab.pytorch import add_model_indicators, get_device, store_model_indicators
"""

_PROGRAM = """
import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.optim as optim


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 4, 3, 1)
        self.fc = nn.Linear(4 * 6 * 6, 10)

    def forward(self, x):
        return self.fc(F.relu(self.conv1(x)).view(-1, 4 * 6 * 6))


class Configs(BaseConfigs):
    epochs: int = 2
    train_log_interval: int = 5
    learning_rate: float = 0.01
    seed: int = 5
    set_seed = 'set_seed'
    device: any
    model: any
    optimizer: any = 'adam_optimizer'
    train_loader: any
    valid_loader: any

    def train(self):
        self.model.train()
        for i, (data, target) in monit.enum("Train", self.train_loader):
            data, target = data.to(self.device), target.to(self.device)
            self.optimizer.zero_grad()
            output = self.model(data)
            loss = F.cross_entropy(output, target)
            loss.backward()
            self.optimizer.step()
            tracker.add({'train.loss': loss})
            tracker.add_global_step()
            if (i + 1) % self.train_log_interval == 0:
                store_model_indicators(self.model)
                tracker.save()

    def validate(self):
        self.model.eval()
        valid_loss, correct = 0, 0
        with torch.no_grad():
            for data, target in monit.iterate("Validate", self.valid_loader):
                data, target = data.to(self.device), target.to(self.device)
                output = self.model(data)
                valid_loss += F.cross_entropy(output, target, reduction='sum').item()
                pred = output.argmax(dim=1, keepdim=True)
                correct += pred.eq(target.view_as(pred)).sum().item()
        tracker.add({'valid.loss': valid_loss / 40})
        tracker.add({'valid.accuracy': correct / 40})

    def run(self):
        tracker.set_queue("train.loss", 20, True)
        tracker.set_histogram("valid.loss", 20, True)
        tracker.set_scalar("valid.accuracy", True)
        add_model_indicators(self.model)
        for epoch in loop.loop(range(1, self.epochs + 1)):
            self.train()
            self.validate()
            tracker.save()
            experiment.save_checkpoint()
            logger.log('Epoch: ', (epoch, Text.value))


def batches(count, seed):
    made = torch.Generator().manual_seed(seed)
    return [(torch.randn(8, 1, 8, 8, generator=made),
             torch.randint(0, 10, (8,), generator=made)) for _ in range(count)]


@Configs.calc(Configs.set_seed)
def set_seed(c: Configs):
    torch.manual_seed(c.seed)


@Configs.calc(Configs.device)
def device():
    return get_device(False, 0)


@Configs.calc(Configs.model)
def model(c: Configs):
    return Net().to(c.device)


@Configs.calc([Configs.train_loader, Configs.valid_loader])
def loaders():
    return batches(10, 0), batches(5, 1)


@Configs.calc(Configs.optimizer)
def sgd_optimizer(c: Configs):
    return optim.SGD(c.model.parameters(), lr=c.learning_rate)


@Configs.calc(Configs.optimizer)
def adam_optimizer(c: Configs):
    return optim.Adam(c.model.parameters(), lr=c.learning_rate)


def main():
    conf = Configs()
    experiment.create(name='tutorial_mnist', writers={'sqlite', 'tensorboard'})
    experiment.calculate_configs(conf, {'optimizer': 'sgd_optimizer'}, ['set_seed', 'run'])
    experiment.add_pytorch_models(dict(model=conf.model))
    experiment.start()
    conf.run()


if __name__ == '__main__':
    main()
"""


@pytest.mark.feature("LB-15")
def test_tutorial_program_runs_with_its_imports_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tracker.reset()
    (tmp_path / "train.py").write_text(_IMPORTS + _PROGRAM)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    try:
        with pytest.warns(UserWarning, match="has the arguments of set_queue"):
            runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    finally:
        experiment.end()
        tracker.reset()
    (run,) = list_runs(runs_root())
    assert ("tutorial_mnist", "finished", ["tutorial", "mnist"]) == (
        run.project, run.status, run.record["experiment"]["tags"],
    )  # fmt: skip
    assert {"optimizer": "sgd_optimizer"} == run.record["hparams"]
    series = run.read_all()
    assert [5, 10, 15, 20] == series["train.loss.mean"].steps.tolist()
    assert [10, 20] == series["valid.accuracy"].steps.tolist()
    assert {"model.conv1.weight.mean", "model.fc.bias.grad.mean"} <= set(series)
    assert (run.path / "checkpoints" / "step-20").is_dir()
    with sqlite3.connect(run.path / "sqlite.db") as database:
        rows = database.execute("select value from scalars where indicator = 'valid.accuracy'")
        assert series["valid.accuracy"].values.tolist() == [value for (value,) in rows]
    out = capsys.readouterr().out
    assert "Prepare model...[DONE]" in out
    assert "Epoch: 2" in out
    assert "valid.accuracy: " in out
