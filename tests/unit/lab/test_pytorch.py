"""The configs to mix in for torch: their defaults, loaders, devices, loops, and the grid."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from torch import nn

from discern.lab import experiment, tracker
from discern.lab.image_sets import PixelSet
from discern.lab.pytorch import (
    CIFAR10Configs,
    DeviceConfigs,
    MNISTConfigs,
    SeedConfigs,
    TrainingLoopConfigs,
    TrainValidConfigs,
    get_device,
)
from discern.track.run import list_runs, runs_root


@pytest.fixture(autouse=True)
def _fresh(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracker.reset()
    yield
    experiment.end()
    tracker.reset()


@pytest.mark.feature("LB-37")
def test_loop_has_the_stated_defaults():
    c = TrainingLoopConfigs()
    assert (10, 1, False, 1, 1, 1, True) == (
        c.loop_count,
        c.loop_step,
        c.is_save_models,
        c.log_new_line_interval,
        c.log_write_interval,
        c.save_models_interval,
        c.is_loop_on_interrupt,
    )
    assert list(range(10)) == list(c.training_loop)
    assert 10 == tracker.get_global_step()


@pytest.mark.feature("LB-37")
def test_loop_counts_in_strides_and_goes_on_from_the_global_step():
    c = TrainingLoopConfigs(loop_count=50, loop_step=10)
    tracker.set_global_step(20)
    assert [20, 30, 40] == list(c.training_loop)


def test_interval_counts_steps_and_the_last_round():
    loop = TrainingLoopConfigs(loop_count=50, loop_step=10).training_loop
    passed = [(loop.is_interval(20), loop.is_interval(0)) for _ in loop]
    assert [(False, False), (True, False), (False, False), (True, False), (True, False)] == passed


@pytest.mark.feature("LB-38")
def test_interrupt_finishes_the_round_saves_and_stops():
    experiment.create(name="stopped", disable_screen=True)
    model = nn.Linear(1, 1)
    experiment.add_pytorch_models(model=model)
    rounds = []
    before = signal.getsignal(signal.SIGINT)  # a shell's background jobs ignore it

    def work():
        for at in TrainingLoopConfigs(is_save_models=True, save_models_interval=5).training_loop:
            if at == 2:
                os.kill(os.getpid(), signal.SIGINT)
            tracker.add("loss", float(at))
            rounds.append(at)

    with pytest.raises(KeyboardInterrupt), experiment.start():
        work()
    (run,) = list_runs(runs_root())
    assert [0, 1, 2] == rounds
    assert ("interrupted", 2.0) == (run.status, run.read_series("loss").values[-1])
    assert (run.path / "checkpoints" / "step-3").is_dir()
    assert before is signal.getsignal(signal.SIGINT)


@pytest.mark.feature("LB-38")
def test_second_interrupt_stops_at_once():
    rounds = []

    def work():
        for at in TrainingLoopConfigs().training_loop:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            rounds.append(at)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert [] == rounds


@pytest.mark.feature("LB-41")
def test_device_without_cuda_is_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    c = DeviceConfigs()
    assert (True, 0, torch.device("cpu")) == (c.use_cuda, c.cuda_device, c.device)
    assert "CPU (no GPU here)" == c.device_info
    assert torch.device("cpu") == get_device(nn.Linear(1, 1))


@pytest.mark.feature("LB-41")
def test_index_beyond_the_last_gpu_takes_the_last(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert torch.device("cuda", 1) == get_device(True, 7)
    assert "none of index 7" in capsys.readouterr().err
    assert torch.device("cuda", 0) == DeviceConfigs().device
    assert torch.device("cpu") == DeviceConfigs(use_cuda=False).device


def test_seed_is_five_and_seeds():
    c = SeedConfigs()
    assert 5 == c.seed == c.set_seed
    first = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(1), first)


@pytest.mark.feature("LB-40")
def test_loaders_have_the_stated_defaults():
    c = MNISTConfigs(dataset_name="digits")
    assert (64, 1024, True, False) == (
        c.train_batch_size,
        c.valid_batch_size,
        c.train_loader_shuffle,
        c.valid_loader_shuffle,
    )
    images, targets = next(iter(c.train_loader))
    assert ((64, 1, 28, 28), (64,)) == (tuple(images.shape), tuple(targets.shape))
    assert (0.1307, 0.3081) == (c.dataset_transforms.mean, c.dataset_transforms.std)
    pixel = c.train_dataset.pixels[0, 0, 14, 14].item()
    assert c.train_dataset[0][0][0, 14, 14].item() == pytest.approx((pixel / 255 - 0.1307) / 0.3081)
    assert (1797, 0.5) == (
        len(c.train_dataset) + len(c.valid_dataset),
        CIFAR10Configs().dataset_transforms.mean,
    )


@pytest.mark.feature("LB-40")
def test_mnist_is_read_from_its_files(shared_data, tmp_path):
    (tmp_path / "data").symlink_to(shared_data)
    c = MNISTConfigs()
    assert (60000, 10000) == (len(c.train_dataset), len(c.valid_dataset))
    assert 5 == c.train_dataset[0][1]


def test_transforms_of_ones_own_get_pil_images():
    pixels = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 2, 2)
    kept = PixelSet(pixels, torch.tensor([1]), lambda image: torch.tensor(image.size))
    assert [2, 2] == kept[0][0].tolist()
    assert [[2, 2]] == kept.__getitems__([0])[0].tolist()


class Tiny(MNISTConfigs, DeviceConfigs, SeedConfigs, TrainValidConfigs):
    model: nn.Module


@Tiny.calc(Tiny.model)
def flat_linear(c: Tiny):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).to(c.device)


@Tiny.calc(Tiny.optimizer)
def sgd(c: Tiny):
    return torch.optim.SGD(c.model.parameters(), lr=0.01)


@pytest.mark.feature("LB-39")
def test_ready_trainer_tracks_loss_and_exact_accuracy():
    conf = Tiny(dataset_name="digits", epochs=2, use_cuda=False)
    assert (True, 10) == (conf.is_log_parameters, conf.train_log_interval)
    assert 10 == Tiny().epochs
    experiment.create(name="tiny", disable_screen=True)
    experiment.calculate_configs(conf, {}, ["set_seed", "run"])
    with experiment.start():
        conf.run()
    (run,) = list_runs(runs_root())
    with torch.no_grad():
        images, targets = conf.valid_dataset.__getitems__(range(len(conf.valid_dataset)))
        logits = conf.model(images)
    right = float((logits.argmax(1) == targets).float().mean())
    loss = float(nn.functional.cross_entropy(logits, targets))
    assert run.metrics["valid.accuracy"] == pytest.approx(right, abs=1e-6)
    assert run.read_series("valid.loss").values[-1] == pytest.approx(loss, rel=1e-4)
    train = run.read_series("train.loss.mean")
    assert [640, 1280, 1437] == train.steps[:3].tolist()  # steps are samples
    assert right > 0.5


@pytest.mark.feature("LB-39")
@pytest.mark.feature("LB-42")
def test_parameters_are_logged_unless_switched_off():
    for logged in (True, False):
        conf = Tiny(dataset_name="digits", epochs=1, use_cuda=False, is_log_parameters=logged)
        experiment.create(name=f"logged_{logged}", disable_screen=True)
        with experiment.start():
            conf.run()
        (run,) = [run for run in list_runs(runs_root()) if run.project == f"logged_{logged}"]
        found = {name for name in run.read_all() if name.startswith(("param.", "grad."))}
        parts = {f"{kind}.model.1.{name}.{figure}" for kind in ("param", "grad")
                 for name in ("weight", "bias") for figure in ("mean", "l1", "l2")}  # fmt: skip
        assert (parts if logged else set()) == found
        if logged:
            weight = conf.model[1].weight.detach().double()
            last = run.read_series("param.model.1.weight.l2").values[-1]
            assert float((weight * weight).mean().sqrt()) == pytest.approx(last, rel=1e-6)


@pytest.mark.feature("LB-37")
def test_training_loop_is_shown_on_the_loops_line(capsys):
    tracker.set_scalar("loss", is_print=True)
    c = TrainingLoopConfigs(loop_count=40, loop_step=10, log_new_line_interval=20)
    for at in c.training_loop:
        tracker.add("loss", at / 10)
    lines = capsys.readouterr().out.splitlines()
    assert ["20:  loss: 1", "40:  loss: 3"] == [line.strip().rpartition("  ")[0].rpartition("  ")[0]
                                              for line in lines]  # fmt: skip


def test_interrupt_is_left_alone_where_the_loop_does_not_wait():
    before = signal.getsignal(signal.SIGINT)
    for _ in TrainingLoopConfigs(loop_count=2, is_loop_on_interrupt=False).training_loop:
        assert before is signal.getsignal(signal.SIGINT)
