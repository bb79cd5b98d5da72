"""Whole trainings on a GPU (`-m gpu`); the same tests try themselves on a CPU (`-m slow`)."""

from __future__ import annotations

import copy
import gc
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from discern_process import make_images
from torch import Tensor, nn

import discern
from discern.base.errors import RunError
from discern.compute.world import World
from discern.feed.batch import Batch
from discern.models.classifier import wrap_network
from discern.models.ema import ModelEma
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.objectives import cross_entropy
from discern.training.state_io import capture_state, restore_state
from discern.training.step import StepRules, TrainState, train_step
from discern.workflows.training_speed import TrainingTest, measure_training

DEVICES = [
    pytest.param("cpu", marks=pytest.mark.slow),
    pytest.param("cuda", marks=pytest.mark.gpu),
]
on_each = pytest.mark.parametrize("device", DEVICES)
TEST_IMAGES = 269  # of the digits


@pytest.fixture
def little_memory() -> Iterator[None]:
    """A GPU of 2 GB."""
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(2e9 / torch.cuda.mem_get_info()[1])
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    gc.collect()
    torch.cuda.empty_cache()


@pytest.fixture(autouse=True)
def _repeatable_convolutions() -> Iterator[None]:
    """What is compared bit by bit is not left to cuDNN's choice; trainings set it as asked."""
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    cudnn.deterministic, cudnn.benchmark = True, False
    yield
    cudnn.deterministic, cudnn.benchmark = before
    torch.use_deterministic_algorithms(False)


def record_of(run: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((Path(run.path) / "run.json").read_text())
    return record


def digits(folder: Path, device: str, **settings: Any) -> Any:
    """A short training on the digits, in full precision unless asked."""
    asked = {"model": "fast_net", "precision": "fp32", "seed": 3, **settings}
    return discern.train("digits", device=device, runs=folder / "runs", **asked)


@on_each
def test_the_accuracy_is_that_of_the_cpu_and_every_image_counts(
    tmp_path: Path, device: str
) -> None:
    scores = {}
    for name in dict.fromkeys(("cpu", device)):
        record = record_of(digits(tmp_path, name, epochs=3, name=name))
        assert TEST_IMAGES == record["metrics"]["count"]
        assert record["device"]["device"].startswith(name)
        scores[name] = record["metrics"]["accuracy"]
    assert 0.9 < min(scores.values())
    # Sums in another order move a few answers.
    assert scores["cpu"] == pytest.approx(scores[device], abs=0.025)


@on_each
@pytest.mark.parametrize(
    ("asked", "least"),
    [({"precision": "bf16"}, 0.8),
     ({"precision": "fp16", "opt": "adamw", "lr": 0.003}, 0.5),
     ({"precision": "fp16"}, 0.8),
     ({"compute": {"channels_last": False}}, 0.8),
     ({"grad_checkpointing": True, "grad_accum_steps": 2}, 0.8),
     ({"model_ema": 0.9, "mixup": 0.2, "clip_grad": 1.0}, 0.8),
     ({"precision": "bf16", "compile": True}, 0.8)],
)  # fmt: skip
def test_it_learns_in_each_way(
    tmp_path: Path, device: str, asked: dict[str, Any], least: float
) -> None:
    if device == "cpu" and "compile" in asked:
        pytest.skip("tests/flow/test_compiled.py does")
    record = record_of(digits(tmp_path, device, epochs=3, **asked))
    assert least < record["metrics"]["accuracy"]
    assert asked.get("precision", "fp32") == record["choices"]["precision"]["value"]


@on_each
@pytest.mark.parametrize(
    "asked", [{"model_ema": 0.9, "mixup": 0.2}, {"opt": "sgd", "precision": "fp16"}]
)
def test_a_resumed_training_is_the_undisturbed_one(
    tmp_path: Path, device: str, asked: dict[str, Any]
) -> None:
    plain = {"sched": "constant", "warmup_epochs": 0, "deterministic": True, **asked}
    whole = digits(tmp_path / "whole", device, steps=40, **plain)
    digits(tmp_path / "halves", device, steps=25, name="halves", **plain)  # within an epoch
    halves = digits(tmp_path / "halves", device, steps=40, resume="halves", **plain)
    assert 2 == len(record_of(halves)["attempts"])
    for part in ("model", "optimizer"):
        hashes = [
            hashlib.sha256(
                (Path(run.path) / "checkpoints" / "step-40" / f"{part}.safetensors").read_bytes()
            ).hexdigest()
            for run in (whole, halves)
        ]
        assert hashes[0] == hashes[1], part


@on_each
def test_photos_are_read_beside_the_training(tmp_path: Path, device: str) -> None:
    make_images(tmp_path / "pets", each=40)
    run = discern.train(
        tmp_path / "pets", model="resnet18", device=device, runs=tmp_path / "runs", img_size=72,
        steps=6, batch_size=8, workers=2, precision="fp32",
    )  # fmt: skip
    record = record_of(run)
    assert "finished" == record["status"]
    assert 0 < record["metrics"]["count"] < 80


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Dropout(0.5), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip


def state_of(optimizer: str, device: torch.device) -> TrainState:
    model = wrap_network(network(), torch.zeros(2, 3, 8, 8)).to(device).train()
    made = build_optimizer(
        optimizer, model.named_parameters(), lr=0.05, weight_decay=0.01, head_names=("network.5",)
    )
    return TrainState(model, model, made, Schedule("constant", {}, 9, 9), ModelEma(model), None)


def batch_on(device: torch.device) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(32, 3, 8, 8, generator=generator)
    targets = torch.randint(0, 5, (32,), generator=generator)
    return Batch(images.to(device), targets.to(device), torch.arange(32))


@on_each
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon", "adagrad", "lookahead_adamw"])
def test_a_bad_step_leaves_all_as_it_is(device: str, optimizer: str) -> None:
    where = torch.device(device)
    batch = batch_on(where)
    endless = batch._replace(images=batch.images * torch.inf)
    rules = StepRules(objective=cross_entropy(), device=where)
    expected, state = (state_of(optimizer, where) for _ in range(2))
    assert not train_step(state, endless, rules).finite.item()
    for _ in range(3):
        for one in (expected, state):
            torch.manual_seed(5)
            assert train_step(one, batch, rules).finite.item()
        train_step(state, endless, rules)
        for wanted, got in zip(expected.parameters, state.parameters, strict=True):
            torch.testing.assert_close(wanted, got, rtol=1e-6, atol=1e-7)


@on_each
@pytest.mark.parametrize("older", [False, True])
def test_what_a_checkpoint_holds_goes_on_the_same(device: str, older: bool) -> None:
    """Dropout's draws too, on the device; checkpoints once held those of every GPU there is."""
    where = torch.device(device)
    batch, rules = batch_on(where), StepRules(objective=cross_entropy(), device=where)
    state = state_of("muon", where)
    train_step(state, batch, rules)
    groups, values = copy.deepcopy(capture_state(state))
    if older and device == "cuda":
        ((name, _),) = [(n, t) for n, t in groups["random"].items() if n.endswith(".cuda")]
        pairs = values["random"]["__pairs__"]
        (place,) = [k for k, (key, _) in enumerate(pairs) if key == "cuda"]
        pairs[place][1] = [{"__tensor__": name}]
    expected = [train_step(state, batch, rules).loss.item() for _ in range(3)]
    other = state_of("muon", where)
    restore_state(other, groups, values)
    assert expected == [train_step(other, batch, rules).loss.item() for _ in range(3)]
    assert {where.type} == {
        value.device.type
        for own in other.optimizer.state.values()
        for value in own.values()
        if isinstance(value, Tensor)
    }


@pytest.mark.gpu
def test_a_step_does_not_wait_for_the_gpu() -> None:
    device = torch.device("cuda")
    batch, rules = batch_on(device), StepRules(objective=cross_entropy(), device=device)
    for optimizer in ("sgd", "adamw", "muon"):
        state = state_of(optimizer, device)
        train_step(state, batch, rules)  # before momentum is there, it does
        torch.cuda.set_sync_debug_mode("error")
        try:
            train_step(state, batch, rules)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.usefixtures("little_memory")
def test_too_large_a_batch_is_told_with_a_smaller_plan(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="memory does not suffice") as told:
        digits(tmp_path, "cuda", model="resnet18", img_size=128, batch_size=512, name="large")
    assert "resnet18, batch 512 on the device" in str(told.value.got)
    assert "fp32" in str(told.value.got)
    assert "--grad-accum-steps 2 --grad-checkpointing" in str(told.value.hint)
    assert "--resume" in str(told.value.hint)


@pytest.mark.gpu
def test_recomputed_activations_need_a_third_less_at_the_same_loss() -> None:
    test = TrainingTest(network="resnet50", batch_size=32, steps=2, rounds=1)
    found = {}
    for form in ("plain", "recompute"):
        gc.collect()
        torch.cuda.empty_cache()
        found[form] = measure_training(test, form, torch.device("cuda"))
    assert found["recompute"].peak_mb < 0.7 * found["plain"].peak_mb
    assert found["plain"].loss == pytest.approx(found["recompute"].loss, rel=1e-3)


class OneRank(World):
    """Its exchanges are done, though it is alone."""

    alone = False  # type: ignore[assignment]


@on_each
def test_one_rank_exchanges_by_the_devices_own_library(tmp_path: Path, device: str) -> None:
    where = torch.device(device, 0) if device == "cuda" else torch.device("cpu")
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(
        backend, init_method=f"file://{tmp_path}/store", rank=0, world_size=1,
        device_id=where if device == "cuda" else None,
    )  # fmt: skip
    try:
        control = dist.new_group(backend="gloo")
        world = OneRank(backend=backend, device=where, control=control)
        numbers = torch.arange(6.0, device=where).view(2, 3)
        transposed = numbers.T
        world.sum_(numbers)
        world.spread_([transposed, torch.zeros((), dtype=torch.int64, device=where)])
        assert torch.equal(numbers, world.gather_rows(numbers))
        assert [0.0, 1.0, 2.0, 3.0, 4.0, 5.0] == numbers.flatten().tolist()
        assert [1.5] == world.sum_values([1.5])
        assert {"a": 1} == world.tell({"a": 1})
        assert np.array_equal(np.arange(3), world.join(np.arange(3)))
    finally:
        dist.destroy_process_group()
