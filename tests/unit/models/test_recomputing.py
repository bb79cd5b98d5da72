"""Blocks computed again for the gradients: the same numbers, statistics counted once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from discern.base.errors import ModelError
from discern.models.catalogue import ModelRequest, build_model
from discern.models.changes import ModelChanges, embedding_block
from discern.models.nets.headed import Row

NETS = [
    "fast_net", "resnet20_cifar", "googlenet", "squeezenet", "mobilenet_v2", "inception_bn",
    "resnet_imagenet",
]  # fmt: skip


def step(name: str, *, again: bool, changes: ModelChanges | None = None) -> dict[str, Tensor]:
    torch.manual_seed(0)
    built = build_model(
        ModelRequest(
            name=name, num_classes=3, image_size=(32, 32), changes=changes or ModelChanges()
        )
    )
    network = built.model.network
    if again:
        network.set_grad_checkpointing(True)
        assert any(row.recomputes for row in network.modules() if isinstance(row, Row))
    model = built.model.train()
    torch.manual_seed(1)
    loss = model(torch.randn(4, 3, 32, 32)).logits.square().sum()
    loss.backward()
    found = {"loss": loss.detach(), **{k: v.clone() for k, v in model.state_dict().items()}}
    return found | {f"grad {k}": p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", NETS)
def test_loss_gradients_and_norm_statistics_are_the_same(name: str) -> None:
    expected, got = step(name, again=False), step(name, again=True)
    assert expected.keys() == got.keys()
    assert [] == [key for key in expected if not torch.equal(expected[key], got[key])]


def test_an_encoder_with_a_block_is_recomputed_too() -> None:
    changes = ModelChanges(embedding=embedding_block([8]))
    expected = step("fast_net", again=False, changes=changes)
    got = step("fast_net", again=True, changes=changes)
    assert [] == [key for key in expected if not torch.equal(expected[key], got[key])]


def test_a_network_without_blocks_says_so() -> None:
    network = build_model(ModelRequest(name="lenet", num_classes=3, image_size=(28, 28))).model
    with pytest.raises(ModelError, match="no blocks to compute again"):
        network.network.set_grad_checkpointing(True)
