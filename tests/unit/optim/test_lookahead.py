"""Lookahead against the paper's recursion, and through a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from discern.optim.lookahead import Lookahead


def test_slow_weights_begin_at_the_start_and_follow_every_k_steps() -> None:
    weight = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=0.1), k=3, alpha=0.5)
    fast = slow = 1.0
    for step in range(1, 8):
        weight.grad = torch.full_like(weight, float(step))
        optimizer.step()
        fast -= 0.1 * step
        if step % 3 == 0:
            slow += 0.5 * (fast - slow)
            fast = slow
        assert fast == pytest.approx(weight.item())


@pytest.mark.parametrize("base", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("stop", [2, 5, 6])
def test_resumed_between_exchanges_it_goes_on_bit_identically(
    base: type[torch.optim.Optimizer], stop: int
) -> None:
    def advance(weight: nn.Parameter, optimizer: torch.optim.Optimizer, seed: int) -> None:
        weight.grad = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))
        optimizer.step()

    first = nn.Parameter(torch.ones(3, 3))
    straight = Lookahead(base([first], lr=0.05), k=5)  # type: ignore[call-arg]
    for seed in range(stop):
        advance(first, straight, seed)
    second = nn.Parameter(first.detach().clone())
    resumed = Lookahead(base([second], lr=0.05), k=5)  # type: ignore[call-arg]
    resumed.load_state_dict(copy.deepcopy(straight.state_dict()))
    for seed in range(stop, 12):
        advance(first, straight, seed)
        advance(second, resumed, seed)
    assert torch.equal(first, second)


def test_rates_set_in_its_groups_reach_the_base() -> None:
    weight = nn.Parameter(torch.ones(1))
    optimizer = Lookahead(torch.optim.SGD([weight], lr=0.1), k=2)
    optimizer.param_groups[0]["lr"] = 0.5
    weight.grad = torch.ones(1)
    optimizer.step()
    assert 0.5 == pytest.approx(weight.item())


def test_parameters_that_get_no_gradient_at_first_join_later() -> None:
    early, late = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))
    optimizer = Lookahead(torch.optim.Adam([early, late], lr=0.1), k=2)
    early.grad = torch.ones(1)
    optimizer.step()
    late.grad = torch.ones(1)
    optimizer.step()
    assert 1.0 - 0.5 * 0.1 == pytest.approx(late.item(), abs=1e-6)
    assert 1.0 - 0.5 * 0.2 == pytest.approx(early.item(), abs=1e-6)
