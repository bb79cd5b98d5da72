"""The averaged copy of a network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.models.ema import ModelEma


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_average_follows_the_formula_with_its_warmup() -> None:
    model = network()
    ema = ModelEma(model, decay=0.5)
    expected = model[0].weight.detach().clone()
    for k in range(12):
        with torch.no_grad():
            model[0].weight.add_(1.0)
        decay = min(0.5, (1 + k) / (10 + k))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
        ema.update(model)
    torch.testing.assert_close(ema.model[0].weight, expected)
    assert 0.5 == ema.decay_now()


def test_buffers_are_averaged_and_counts_copied() -> None:
    model = network()
    ema = ModelEma(model, decay=0.9)
    model(torch.randn(8, 3) + 5)
    ema.update(model)
    assert 1 == ema.model[1].num_batches_tracked
    torch.testing.assert_close(0.9 * model[1].running_mean, ema.model[1].running_mean)


def test_the_copy_is_apart_from_the_network_and_never_learns() -> None:
    model = network()
    ema = ModelEma(model)
    assert not any(p.requires_grad for p in ema.model.parameters())
    with torch.no_grad():
        model[0].weight.zero_()
    assert ema.model[0].weight.abs().sum() > 0
    assert not ema.model.training


def test_state_round_trip_goes_on_bit_identically() -> None:
    model = network()
    first = ModelEma(model)
    first.update(model)
    second = ModelEma(model)
    second.load_state_dict(
        {k: v.clone() for k, v in first.state_dict().items()}, updates=first.updates
    )
    with torch.no_grad():
        model[0].weight.mul_(3)
    first.update(model)
    second.update(model)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_wrong_decay_and_foreign_state_are_errors() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ModelEma(network(), decay=1.0)
    with pytest.raises(ModelError, match="does not fit"):
        ModelEma(network()).load_state_dict({"x": torch.zeros(1)}, updates=0)
