"""Muon: orthogonal steps for matrices and kernels, AdamW for the rest."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from discern.optim.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6), (16, 8, 3, 3)])
def test_orthogonalized_singular_values_are_near_one(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    direction = orthogonalize(torch.randn(shape))
    assert shape == tuple(direction.shape)
    values = torch.linalg.svdvals(direction.reshape(shape[0], -1))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_first_step_has_the_size_of_an_adamw_step() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 64))
    weight.grad = torch.randn(64, 64)
    Muon([{"params": [weight], "muon": True}], lr=0.1).step()
    assert 0.1 * 0.2 == pytest.approx(weight.detach().pow(2).mean().sqrt().item(), rel=0.25)


def test_decay_is_decoupled() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    weight.grad = torch.zeros(4, 4)
    Muon([{"params": [weight], "muon": True}], lr=0.1, weight_decay=0.5).step()
    assert torch.full((4, 4), 0.95).equal(weight.detach())


def test_other_groups_are_updated_as_by_adamw() -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(7))
    theirs = nn.Parameter(ours.detach().clone())
    muon = Muon([{"params": [ours]}], lr=0.01, weight_decay=0.1)
    adamw = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, fused=True)
    for _ in range(5):
        ours.grad = torch.randn(7)
        theirs.grad = ours.grad.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(theirs.detach(), ours.detach(), rtol=0, atol=0)


def test_state_dict_round_trip_goes_on_bit_identically() -> None:
    torch.manual_seed(0)
    first = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2))

    def groups(model: nn.Module) -> list[dict[str, object]]:
        matrices = [p for p in model.parameters() if p.ndim > 1]
        return [
            {"params": matrices, "muon": True},
            {"params": [p for p in model.parameters() if p.ndim < 2]},
        ]

    def advance(model: nn.Module, optimizer: Muon, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()

    optimizer = Muon(groups(first), lr=0.01)
    advance(first, optimizer, 1)
    second = copy.deepcopy(first)
    resumed = Muon(groups(second), lr=0.01)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    advance(first, optimizer, 2)
    advance(second, resumed, 2)
    for expected, got in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, got)


def test_vectors_are_refused_in_an_orthogonal_group() -> None:
    with pytest.raises(ValueError, match="matrices and kernels only"):
        Muon([{"params": [nn.Parameter(torch.zeros(3))], "muon": True}])


def test_step_gives_the_loss_of_its_closure() -> None:
    weight = nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([{"params": [weight], "muon": True}], lr=0.1)

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return loss.item()

    assert 4.0 == optimizer.step(closure)
    assert weight.sum() < 4.0


def both_parts(kind: str = "cpu") -> tuple[Muon, list[nn.Parameter]]:
    """A matrix, updated orthogonally, and a bias, updated as by AdamW; gradients are there."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(6, 4, device=kind)),
                  nn.Parameter(torch.randn(6, device=kind))]  # fmt: skip
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, device=kind)
    groups = [{"params": parameters[:1], "muon": True}, {"params": parameters[1:]}]
    return Muon(groups, lr=0.1, weight_decay=0.5), parameters


def test_a_scaled_update_is_the_plain_one() -> None:
    (plain, expected), (scaled, got) = both_parts(), both_parts()
    for parameter in got:
        assert parameter.grad is not None
        parameter.grad *= 1024.0
    scaled.grad_scale, scaled.found_inf = torch.tensor(1024.0), torch.tensor(0.0)  # type: ignore[attr-defined]
    plain.step()
    scaled.step()
    torch.testing.assert_close(expected, got)


@pytest.mark.parametrize("before", [0, 2])
def test_an_update_is_left_out_on_the_device(before: int) -> None:
    """As torch's fused optimizers do it: weights and momentum stay, bit for bit."""
    optimizer, parameters = both_parts()
    for _ in range(before):
        optimizer.step()
    weights = copy.deepcopy(parameters)
    state = copy.deepcopy(optimizer.state_dict()["state"])
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizer.grad_scale, optimizer.found_inf = None, torch.tensor(1.0)  # type: ignore[attr-defined]
    optimizer.step()
    assert all(torch.equal(one, other) for one, other in zip(weights, parameters, strict=True))
    for number, own in optimizer.state_dict()["state"].items():
        for name, value in own.items():
            assert torch.equal(state[number][name] if before else torch.zeros_like(value), value)


def test_counts_of_steps_come_to_the_device_of_the_weights() -> None:
    """Torch leaves them on the CPU, where the fused kernel of a GPU cannot read them."""
    optimizer, _ = both_parts()
    optimizer.step()
    elsewhere, _ = both_parts("meta")
    elsewhere.load_state_dict(optimizer.state_dict())
    kept = [value for own in elsewhere.state.values() for value in own.values()]
    assert 4 == len(kept)
    assert {"meta"} == {value.device.type for value in kept}
