"""A network as encoder, with pooling and embedding block: forms, gradients, bundles' rebuild."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.models.catalogue import BuiltModel, ModelRequest, build_model
from discern.models.changes import ModelChanges, embedding_block
from discern.models.classifier import set_trainable, train_mode

NETS = ["fast_net", "resnet18", "mobilenetv3_small_050", "vit_tiny_patch16_224", "lenet"]


def build(name: str, changes: ModelChanges, **options: object) -> BuiltModel:
    torch.manual_seed(0)
    settings: dict[str, object] = {"num_classes": 5, "image_size": (32, 32), **options}
    return build_model(ModelRequest(name=name, changes=changes, **settings))  # type: ignore[arg-type]


@pytest.mark.feature("CA-27")
@pytest.mark.parametrize("hiddens", [[256], [2048, 256], [512]])
def test_the_block_is_linear_norm_relu_and_half_dropout(hiddens: list[int]) -> None:
    built = build("fast_net", ModelChanges(embedding=embedding_block(hiddens)))
    layers = list(built.model.network.embedding)
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Dropout] * len(hiddens)
    assert kinds == [type(layer) for layer in layers]
    assert hiddens == [layer.out_features for layer in layers if isinstance(layer, nn.Linear)]
    assert {0.5} == {layer.p for layer in layers if isinstance(layer, nn.Dropout)}


@pytest.mark.feature("CA-27")
@pytest.mark.feature("CA-28")
@pytest.mark.parametrize("name", NETS)
def test_features_embeddings_and_logits_come_from_one_pass(name: str) -> None:
    built = build(name, ModelChanges(embedding=embedding_block([64])))
    output = built.model.eval()(torch.randn(2, 3, 32, 32))
    assert output.encoded is not None
    network = built.model.network
    assert ((2, 5), (2, 64)) == (tuple(output.logits.shape), tuple(output.features.shape))
    assert torch.equal(network.embedding(output.encoded), output.features)
    assert torch.equal(network.head(output.features), output.logits)


@pytest.mark.feature("CA-28")
@pytest.mark.parametrize("name", [n for n in NETS if n != "lenet"])
@pytest.mark.parametrize("pooling", ["concat", "concat_attn"])
def test_every_parameter_learns_under_any_pooling(name: str, pooling: str) -> None:
    built = build(name, ModelChanges(pooling=pooling, embedding=embedding_block([16])))
    built.model.train()(torch.randn(4, 3, 32, 32)).logits.sum().backward()
    assert [] == [key for key, p in built.model.named_parameters() if p.grad is None]


def test_pooling_needs_maps_and_an_embedding_needs_features() -> None:
    with pytest.raises(ModelError, match="no feature maps to pool"):
        build("lenet", ModelChanges(pooling="max"))
    with pytest.raises(ConfigError, match="at least one layer"):
        embedding_block([])
    with pytest.raises(ConfigError, match="did you mean 'batch'"):
        embedding_block([8], norm="bach")


def test_the_encoder_without_block_keeps_the_plain_networks_values() -> None:
    plain = build("resnet18", ModelChanges())
    changed = build("resnet18", ModelChanges(pooling="avg"))
    expected = {
        f"encoder.{name}": value
        for name, value in plain.model.network.state_dict().items()
        if not name.startswith("fc.")
    }
    own = changed.model.network.state_dict()
    assert {*expected, "head.weight", "head.bias"} == set(own)
    assert all(torch.equal(value, own[name]) for name, value in expected.items())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(
        plain.model.eval()(images).features, changed.model.eval()(images).features
    )


@pytest.mark.feature("CA-28")
def test_head_trains_the_block_too_and_the_frozen_encoder_gets_no_gradient() -> None:
    built = build("resnet18", ModelChanges(pooling="attn", embedding=embedding_block([16])))
    names = set_trainable(built.model, "head")
    assert {"pooling", "embedding", "head"} == {name.split(".")[1] for name in names}
    train_mode(built.model)
    built.model(torch.randn(4, 3, 32, 32)).logits.sum().backward()
    encoder = built.model.network.encoder
    assert {None} == {p.grad for p in encoder.parameters()}
    assert not encoder.training


def test_the_record_builds_the_same_network_again() -> None:
    changes = ModelChanges(
        stem="small",
        pooling="max_pool",
        pooling_args={"kernel_size": 2},
        embedding=embedding_block([8, 4], dropout=0.1, norm="layer", activation="gelu"),
    )
    assert changes == ModelChanges.from_record(changes.record())
    assert ModelChanges() == ModelChanges.from_record({})
    first = build("resnet18", changes)
    again = build(
        first.architecture,
        ModelChanges.from_record(first.changes.record()),
        arguments=first.arguments,
    )
    again.model.load_state_dict(first.model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(first.model.eval()(images).logits, again.model.eval()(images).logits)
