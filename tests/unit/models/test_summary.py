"""Layers, sizes, costs and kept memory of networks, against counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.models.arithmetic import count_macs
from discern.models.listing import model_facts
from discern.models.summary import summarize

FLOAT = 4


def small_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10)
    )


@pytest.mark.feature("ML-11")
def test_totals_of_a_small_network_match_a_count_by_hand():
    found = summarize(small_net(), torch.zeros(1, 1, 8, 8))
    conv, norm, linear = 4 * 9 + 4, 4 + 4, 144 * 10 + 10
    assert conv + norm + linear == found["parameters"] == found["trainable"]
    assert 36 * 4 * 9 + 144 * 10 == found["macs"]
    assert [
        ("0", "Conv2d", [4, 6, 6], conv, 1296),
        ("1", "BatchNorm2d", [4, 6, 6], norm, 0),
        ("2", "ReLU", [4, 6, 6], 0, 0),
        ("3", "Flatten", [144], 0, 0),
        ("4", "Linear", [10], linear, 1440),
    ] == [
        (row["name"], row["kind"], row["output"], row["parameters"], row["macs"])
        for row in found["layers"]
    ]
    # Kept: the image (for the convolution), its output (for the norm), the ReLU's output, which is
    # what the linear layer reads.
    assert {
        "parameters": 1498 * FLOAT,
        "gradients": 1498 * FLOAT,
        "activations": (64 + 144 + 144) * FLOAT,
    } == found["memory"]


@pytest.mark.feature("ML-11")
def test_resnet50_has_its_known_size():
    facts = model_facts("resnet50")
    assert (25_557_032, 4.09) == (facts.parameters, round(facts.gmacs, 2))
    assert 25_557_032 == sum(layer["parameters"] for layer in facts.layers)
    assert 25_557_032 * FLOAT == facts.memory["parameters"]
    # Each convolution's input and output, each ReLU's output: 80 to 90 MB an image.
    assert 80e6 < facts.memory["activations"] < 90e6


def test_frozen_layers_learn_nothing_and_keep_less():
    net = small_net()
    whole = summarize(net, torch.zeros(1, 1, 8, 8))
    for parameter in [*net[0].parameters(), *net[1].parameters()]:
        parameter.requires_grad = False
    found = summarize(net, torch.zeros(1, 1, 8, 8))
    assert (1450, 1498) == (found["trainable"], found["parameters"])
    assert 1450 * FLOAT == found["memory"]["gradients"]
    assert 144 * FLOAT == found["memory"]["activations"]
    assert whole["macs"] == found["macs"]


class Odd(nn.Module):
    """A parameter of its own, one layer used twice, one not at all, and two outputs."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(5))
        self.twice = nn.Linear(5, 5, bias=False)
        self.unused = nn.Linear(3, 3)
        self.tied = self.twice.weight

    def forward(self, images):
        flat = images.flatten(1)
        return {"a": self.twice(self.twice(flat)) + self.bias, "b": flat}


def test_every_parameter_is_counted_once():
    net = Odd()
    sample = torch.zeros(1, 1, 1, 5)
    found = summarize(net, sample)
    rows = {row["name"]: row for row in found["layers"]}
    assert 5 + 25 + 12 == found["parameters"] == sum(p.numel() for p in net.parameters())
    assert (None, 12) == (rows["unused"]["output"], rows["unused"]["parameters"])
    assert (50, [5]) == (rows["twice"]["macs"], rows["twice"]["output"])
    assert count_macs(net, sample) == found["macs"]


def test_nothing_of_the_network_changes():
    net = small_net().train()
    net[2].eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    generator = torch.get_rng_state()
    summarize(net, torch.ones(1, 1, 8, 8))
    assert [True, True, True, False, True, True] == [m.training for m in net.modules()]
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert torch.equal(generator, torch.get_rng_state())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert not net[0]._forward_hooks
