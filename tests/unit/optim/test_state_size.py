"""The size of an optimizer's state, told without a step, beside that after one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.optim.optimizers import build_optimizer
from discern.optim.state_size import optimizer_state_bytes


def build(name, arguments):
    return lambda named: build_optimizer(name, named, lr=0.01, arguments=arguments)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("sgd", {}),
        ("sgd", {"momentum": 0.0}),
        ("adamw", {}),
        ("adam", {"amsgrad": True}),
        ("rmsprop", {}),
        ("muon", {}),
        ("lookahead_adamw", {}),
        ("nadam", {}),
    ],
)
def test_told_size_is_that_after_a_step(name, arguments):
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 10))
    named = [*net.named_parameters()]
    told = optimizer_state_bytes(build(name, arguments), named)
    optimizer = build(name, arguments)(named)
    for _, parameter in named:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    held = sum(
        value.numel() * value.element_size()
        for state in optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )
    assert held == told


def test_frozen_parameters_have_no_state_and_factored_ones_no_answer():
    net = nn.Linear(4, 3)
    net.weight.requires_grad = False
    assert 2 * 3 * 4 + 4 == optimizer_state_bytes(build("adamw", {}), net.named_parameters())
    net.bias.requires_grad = False
    assert 0 == optimizer_state_bytes(build("adamw", {}), net.named_parameters())
    net.weight.requires_grad = True
    assert None is optimizer_state_bytes(build("timm:adafactor", {}), net.named_parameters())
