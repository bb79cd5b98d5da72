"""Recomputed activations change nothing but the memory."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from discern.base.errors import ConfigError
from discern.models.catalogue import ModelRequest, build_model
from discern.models.changes import ModelChanges, embedding_block
from discern.models.classifier import Classifier, wrap_network
from discern.models.nets.headed import Row
from discern.models.recompute import RecomputedRow, can_recompute, recompute_activations

DROPS = {"drop_rate": 0.3, "drop_path_rate": 0.3}


def _built(name: str, arguments: dict[str, Any]) -> Classifier:
    torch.manual_seed(0)
    request = ModelRequest(
        name=name, num_classes=5, channels=3, image_size=(32, 32), arguments=arguments
    )
    return build_model(request).model


def _trained(model: Classifier, steps: int = 3) -> tuple[list[float], dict[str, Tensor]]:
    """Losses of some steps, and every parameter and buffer afterwards."""
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    torch.manual_seed(1)
    losses = []
    for _ in range(steps):
        images, targets = torch.randn(4, 3, 32, 32), torch.randint(0, 5, (4,))
        loss = functional.cross_entropy(model(images).logits, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, dict(model.state_dict())


@pytest.mark.feature("MX-27")
@pytest.mark.feature("ML-16")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("resnet_cifar", {"num_layers": 8}),
        ("fast_net", {}),
        ("squeezenet", {}),  # dropout in a row of layers
        ("resnet18", DROPS),
        ("efficientnet_b0", DROPS),  # norm and activation in one module
        ("vgg11_bn", {"mlp_ratio": 0.01}),  # timm's switch refuses: its row of layers is cut
        ("lenet", {}),  # no blocks either
        ("mlp", {}),
    ],
)
def test_loss_weights_and_batch_norm_statistics_are_identical(
    name: str, arguments: dict[str, Any]
) -> None:
    plain, recomputed = _built(name, arguments), _built(name, arguments)
    recompute_activations(recomputed)
    losses, tensors = _trained(plain)
    other_losses, other_tensors = _trained(recomputed)
    assert losses == other_losses
    assert list(tensors) == list(other_tensors)
    assert [] == [key for key in tensors if not torch.equal(tensors[key], other_tensors[key])]


def test_statistics_count_each_batch_once() -> None:
    model = _built("resnet_cifar", {"num_layers": 8})
    recompute_activations(model)
    _, tensors = _trained(model, steps=2)
    counts = {int(value) for key, value in tensors.items() if "num_batches" in key}
    assert {2} == counts


def test_fewer_activations_are_kept() -> None:
    def kept_bytes(*, recompute: bool) -> int:
        model = _built("resnet_cifar", {"num_layers": 20})
        if recompute:
            recompute_activations(model)
        model.train()
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(torch.randn(4, 3, 32, 32))
        return total

    assert 0.3 * kept_bytes(recompute=False) > kept_bytes(recompute=True)


def test_copy_keeps_its_own_blocks() -> None:
    model = _built("resnet_cifar", {"num_layers": 8})
    recompute_activations(model)
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    _trained(other, steps=1)
    assert model.network.blocks[0].convs[0].weight.abs().sum() > 0


def test_evaluation_is_not_cut() -> None:
    model = _built("squeezenet", {}).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = model(images).logits
        recompute_activations(model)
        assert torch.equal(expected, model(images).logits)


def test_network_without_blocks_is_refused() -> None:
    model = wrap_network(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), torch.zeros(1, 3, 4, 4))
    with pytest.raises(ConfigError, match="cannot compute its activations again"):
        recompute_activations(model)


def test_row_of_an_encoder_under_an_embedding_block_is_cut() -> None:
    changes = ModelChanges(embedding=embedding_block([8]))
    request = ModelRequest(name="lenet", num_classes=3, image_size=(28, 28), changes=changes)
    model = build_model(request).model
    assert can_recompute(model)
    recompute_activations(model)
    assert any(isinstance(row, RecomputedRow) for row in model.modules())


def test_what_can_recompute_is_told_as_it_is() -> None:
    refusing = build_model(ModelRequest(name="inception_v3", num_classes=3, image_size=(96, 96)))
    assert not can_recompute(refusing.model)
    able = _built("resnet_cifar", {"num_layers": 8})
    assert can_recompute(able)
    assert not any(row.recomputes for row in able.modules() if isinstance(row, Row))


def test_no_segment_begins_with_a_layer_that_may_work_in_place() -> None:
    layers = [module for _ in range(8) for module in (nn.Linear(4, 4), nn.ReLU(inplace=True))]
    model = wrap_network(nn.Sequential(*layers), torch.zeros(1, 4))
    recompute_activations(model)
    row = model.network
    assert isinstance(row, RecomputedRow)
    assert all(isinstance(row[place], nn.Linear) for place in row.bounds[:-1])
    assert (0, 4, 8, 12, 16) == row.bounds
