from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.models.forward_trace import trace_forward


class Block(nn.Module):
    """Two ways that are added, with functions in between."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        return torch.relu(self.conv(x)) + self.drop(x)


def test_nodes_are_named_by_module_and_linked_by_tensors():
    net = nn.Sequential(Block(), nn.Flatten(), nn.Linear(3 * 4 * 4, 5))
    nodes = {node.name: node for node in trace_forward(net, torch.zeros(2, 3, 4, 4))}
    assert ["input", "0/conv/conv2d", "0/relu", "0/drop/dropout", "0/add", "1/flatten", "2/linear",
            "output"] == list(nodes)  # fmt: skip
    assert ("0/relu", "0/drop/dropout") == nodes["0/add"].inputs
    assert ("input",) == nodes["0/conv/conv2d"].inputs == nodes["0/drop/dropout"].inputs
    assert ((2, 5), ("2/linear",)) == (nodes["output"].shape, nodes["output"].inputs)


def test_repeated_operations_are_numbered():
    class Twice(nn.Module):
        def forward(self, x):
            return ((x + 1) + 1).reshape(-1)

    names = [node.name for node in trace_forward(Twice(), torch.zeros(1, 1, 2, 2))]
    assert ["input", "add", "add_1", "reshape", "output"] == names


def test_tracing_changes_neither_mode_nor_statistics_nor_chance():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5)).train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    trace_forward(net, torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(1)))
    assert torch.equal(expected, torch.rand(3))
    assert net.training
    assert net[1].training
    for name, value in net.state_dict().items():
        assert torch.equal(before[name], value)
    assert not net[0]._forward_hooks


def test_what_the_network_raises_comes_through_and_its_mode_is_put_back():
    class Refuses(nn.Module):
        def forward(self, x):
            raise RuntimeError("no such image")

    net = Refuses().train()
    with pytest.raises(RuntimeError, match="no such image"):
        trace_forward(net, torch.zeros(1, 3, 4, 4))
    assert net.training
