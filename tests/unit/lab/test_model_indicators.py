"""Figures of parameters, gradients and optimizer state equal those computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from discern.lab import model_indicators, tracker
from discern.track.metrics_log import read_all
from discern.track.run import create_run


@pytest.fixture(autouse=True)
def _fresh_tracker():
    tracker.reset()
    model_indicators._declared.clear()
    yield
    tracker.reset()
    model_indicators._declared.clear()


@pytest.fixture
def trained():
    """A model after one backward pass, with a frozen and an unused part, and its optimizer."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {
            "used": torch.nn.Linear(3, 2),
            "unused": torch.nn.Linear(2, 2),
            "frozen": torch.nn.Linear(2, 2),
        }
    )
    model["frozen"].requires_grad_(False)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    model["used"](torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return model, optimizer


def stored(tmp_path, add):
    with create_run(tmp_path, "lab", name="one") as run:
        tracker.open_run(run)
        add()
        tracker.save(1)
    return {name: float(s.values[0]) for name, s in read_all(run.path).items()}


@pytest.mark.feature("LB-42")
def test_declared_indicators_are_histograms_of_parameters_and_gradients(tmp_path, trained):
    model, _ = trained

    def add():
        model_indicators.add_model_indicators(model, "net")
        model_indicators.store_model_indicators(model, "net")

    found = stored(tmp_path, add)
    weight = model["used"].weight
    assert float(weight.detach().double().mean()) == pytest.approx(found["net.used.weight.mean"])
    assert float(weight.grad.double().mean()) == pytest.approx(found["net.used.weight.grad.mean"])
    assert "net.unused.weight.mean" in found
    assert "net.unused.weight.grad.mean" not in found
    assert not [name for name in found if "frozen" in name]


@pytest.mark.feature("LB-42")
def test_means_and_norms_are_those_computed_by_hand(tmp_path, trained):
    model, _ = trained
    found = stored(tmp_path, lambda: model_indicators.store_model_indicators(model))
    values = model["used"].weight.detach().numpy().astype(np.float64)
    gradient = model["used"].weight.grad.numpy().astype(np.float64)
    for kind, array in (("param", values), ("grad", gradient)):
        name = f"{kind}.model.used.weight"
        assert array.mean() == pytest.approx(found[f"{name}.mean"])
        assert np.abs(array).mean() == pytest.approx(found[f"{name}.l1"])
        assert np.sqrt((array**2).mean()) == pytest.approx(found[f"{name}.l2"])
    assert [] == tracker.tracker.shown()


@pytest.mark.feature("LB-42")
def test_optimizer_state_is_stored_by_parameter_name(tmp_path, trained):
    model, optimizer = trained
    found = stored(
        tmp_path,
        lambda: model_indicators.store_optimizer_indicators(optimizer, models={"net": model}),
    )
    state = optimizer.state[model["used"].bias]
    name = "optim.optimizer.net.used.bias"
    assert 1.0 == found[f"{name}.step"]
    assert float(state["exp_avg"].double().mean()) == pytest.approx(found[f"{name}.exp_avg.mean"])
    assert float(state["exp_avg_sq"].double().abs().mean()) == (
        pytest.approx(found[f"{name}.exp_avg_sq.l1"])
    )
