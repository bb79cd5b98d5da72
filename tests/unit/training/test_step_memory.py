"""What saves memory leaves the numbers alone: accumulated passes, and half-precision passes."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from discern.feed.batch import Batch
from discern.models.classifier import Output, wrap_network
from discern.optim.optimizers import build_optimizer
from discern.optim.schedules import Schedule
from discern.training.objectives import cross_entropy
from discern.training.state_io import capture_state, restore_state
from discern.training.step import StepRules, TrainState, train_step

CPU = torch.device("cpu")


def _loss(output: Output, targets: Tensor) -> Tensor:
    return functional.cross_entropy(output.logits, targets)


def _network(*, norm: bool) -> nn.Sequential:
    torch.manual_seed(0)
    layer = nn.BatchNorm2d(8) if norm else nn.Identity()
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), layer, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(32, 5),
    )  # fmt: skip


def _state(network: nn.Module, kind: torch.dtype, *, scaled: bool = False) -> TrainState:
    model = wrap_network(network.to(kind), torch.zeros(2, 3, 8, 8, dtype=kind))
    optimizer = build_optimizer("sgd", model.named_parameters(), lr=0.1)
    schedule = Schedule("constant", {}, 10, 10)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2) if scaled else None
    return TrainState(model, model, optimizer, schedule, None, scaler)


def _batch(kind: torch.dtype) -> Batch:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(128, 3, 8, 8, generator=generator, dtype=kind)
    targets = torch.randint(0, 5, (128,), generator=generator)
    return Batch(images, targets, torch.arange(128))


def _gradients(passes: int, *, norm: bool) -> Tensor:
    """Those of one update of 128 images in so many passes, all parameters in a row, float64."""
    state = _state(_network(norm=norm), torch.float64)
    kept: list[Tensor] = []

    def keep(optimizer: torch.optim.Optimizer, *_: object) -> None:
        kept.extend(p.grad.flatten().clone() for g in optimizer.param_groups for p in g["params"])

    state.optimizer.register_step_pre_hook(keep)
    state.model.train()
    rules = StepRules(objective=_loss, device=CPU, grad_accum_steps=passes)
    train_step(state, _batch(torch.float64), rules)
    return torch.cat(kept)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / one.norm())


@pytest.mark.feature("ML-16")
def test_gradients_of_four_passes_of_32_are_those_of_128_images() -> None:
    assert 1e-6 > _difference(_gradients(1, norm=False), _gradients(4, norm=False))


def test_batch_norm_sees_each_pass_by_itself() -> None:
    """The documented difference (docs/memory.md): statistics are those of 32 images, not of 128."""
    assert 1e-3 < _difference(_gradients(1, norm=True), _gradients(4, norm=True)) < 1.0


def _half(state: TrainState, steps: int) -> list[float]:
    rules = StepRules(objective=cross_entropy(), device=CPU, amp_dtype=torch.float16)
    state.model.train()
    return [float(train_step(state, _batch(torch.float32), rules).loss) for _ in range(steps)]


@pytest.mark.feature("MX-14")
def test_half_precision_keeps_full_weights_and_saves_its_scaler() -> None:
    state = _state(_network(norm=True), torch.float32, scaled=True)
    losses = _half(state, 6)
    assert losses[-1] < losses[0]
    assert {torch.float32} == {p.dtype for p in state.model.parameters()}
    moments = [
        value
        for entry in state.optimizer.state.values()
        for value in entry.values()
        if isinstance(value, Tensor)
    ]
    assert moments
    assert {torch.float32} == {value.dtype for value in moments}
    _, values = capture_state(state)
    scaler: Mapping[str, float] = values["scaler"]
    assert 1024.0 * 2**3 == scaler["scale"]


def test_half_precision_goes_on_with_the_scale_it_had() -> None:
    undisturbed = _state(_network(norm=True), torch.float32, scaled=True)
    _half(undisturbed, 3)
    groups, values = copy.deepcopy(capture_state(undisturbed))
    expected = _half(undisturbed, 3)
    resumed = _state(_network(norm=True), torch.float32, scaled=True)
    restore_state(resumed, groups, values)
    assert expected == _half(resumed, 3)
    assert undisturbed.scaler is not None
    assert resumed.scaler is not None
    assert undisturbed.scaler.state_dict() == resumed.scaler.state_dict()


def test_a_training_on_the_cpu_asks_nothing_of_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would claim memory on each, and fail where one is in use."""
    state = _state(_network(norm=True), torch.float32)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for name in ("get_rng_state", "get_rng_state_all", "set_rng_state", "set_rng_state_all"):
        monkeypatch.setattr(torch.cuda, name, None)
    groups, values = capture_state(state)
    assert not [name for name in groups["random"] if "cuda" in name]
    values["random"]["__pairs__"].append(["cuda", []])  # of an earlier version
    restore_state(state, groups, values)


def test_a_first_update_that_is_left_out_leaves_no_momentum_behind() -> None:
    """Torch's fused SGD would go on from memory that was never written to."""
    batch = _batch(torch.float32)
    endless = batch._replace(images=batch.images * torch.inf)
    rules = StepRules(objective=_loss, device=CPU)
    expected, state = (_state(_network(norm=False), torch.float32, scaled=True) for _ in range(2))
    train_step(expected, batch, rules)
    torch.use_deterministic_algorithms(True)  # memory that is not written to is then not-a-number
    try:
        train_step(state, endless, rules)
    finally:
        torch.use_deterministic_algorithms(False)
    for _ in range(2):
        assert state.step < 3
        train_step(state, batch, rules)
        if state.step == 2:
            for wanted, got in zip(expected.parameters, state.parameters, strict=True):
                assert torch.equal(wanted, got)
    assert all(bool(torch.isfinite(p).all()) for p in state.parameters)


@pytest.mark.gpu
@pytest.mark.feature("MX-14")
def test_half_precision_trains_on_a_gpu() -> None:
    device = torch.device("cuda")
    state = _state(_network(norm=True), torch.float32)
    state.model.to(device)
    state.scaler = torch.amp.GradScaler("cuda")
    batch = _batch(torch.float32)
    batch = batch._replace(images=batch.images.to(device), targets=batch.targets.to(device))
    rules = StepRules(objective=cross_entropy(), device=device, amp_dtype=torch.float16)
    losses = [float(train_step(state, batch, rules).loss) for _ in range(10)]
    assert losses[-1] < losses[0]
    assert {torch.float32} == {p.dtype for p in state.model.parameters()}
