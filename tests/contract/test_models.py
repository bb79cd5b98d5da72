"""One suite over the networks: what every classifier promises to the trainer and to bundles."""

from __future__ import annotations

import pytest
import torch

from discern.models.catalogue import BuiltModel, ModelRequest, build_model
from discern.models.classifier import set_trainable, train_mode

CASES = [
    ("mlp", 28, {}),
    ("lenet", 28, {}),
    ("lenet", 28, {"stn": True}),
    ("fast_net", 28, {}),
    ("fast_net", 16, {"width": 8}),
    ("resnet20_cifar", 32, {}),
    ("resnet_cifar", 32, {"num_layers": 20, "version": 1}),
    ("resnet18", 64, {}),
    ("mobilenetv2_100", 64, {}),
    ("vit_tiny_patch16_224", 48, {}),
]
IDS = [f"{name}-{'-'.join(args) or size}" for name, size, args in CASES]


@pytest.fixture(params=CASES, ids=IDS)
def case(request: pytest.FixtureRequest) -> tuple[str, int, dict[str, object]]:
    return request.param  # type: ignore[no-any-return]


def make(case: tuple[str, int, dict[str, object]], channels: int = 3) -> BuiltModel:
    name, side, arguments = case
    torch.manual_seed(0)
    return build_model(
        ModelRequest(
            name=name,
            num_classes=6,
            channels=channels,
            image_size=(side, side),
            arguments=arguments,
        )
    )


def images_for(built: BuiltModel, count: int = 2) -> torch.Tensor:
    size = built.preprocess
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, size.channels, size.height, size.width, generator=generator)


@pytest.mark.parametrize("channels", [1, 3])
def test_logits_and_features_have_a_row_an_image(
    case: tuple[str, int, dict[str, object]], channels: int
) -> None:
    built = make(case, channels)
    output = built.model.eval()(images_for(built))
    assert (2, 6) == tuple(output.logits.shape)
    assert 2 == output.features.shape[0]
    assert torch.equal(built.model.network(images_for(built)), output.logits)


def test_logits_are_the_head_of_the_features(case: tuple[str, int, dict[str, object]]) -> None:
    built = make(case)
    (head_name,) = built.model.inner_head_names
    head = built.model.network.get_submodule(head_name)
    output = built.model.eval()(images_for(built))
    assert head.in_features == output.features.shape[1]
    assert torch.equal(head(output.features), output.logits)


def test_gradients_reach_every_parameter(case: tuple[str, int, dict[str, object]]) -> None:
    built = make(case)
    if case[2].get("stn"):
        # The transformer starts with zero weights, which hold back its first gradients.
        torch.nn.init.normal_(built.model.network.transformer.affine.weight, std=0.01)
    train_mode(built.model)
    torch.nn.functional.cross_entropy(
        built.model(images_for(built)).logits, torch.tensor([0, 1])
    ).backward()
    without = [n for n, p in built.model.named_parameters() if p.grad is None]
    assert [] == without
    assert all(torch.isfinite(p.grad).all() for p in built.model.parameters())


def test_head_only_training_leaves_the_features_alone(
    case: tuple[str, int, dict[str, object]],
) -> None:
    built = make(case)
    names = set_trainable(built.model, "head")
    assert all(built.model.is_head(name) for name in names)
    before = {k: v.clone() for k, v in built.model.state_dict().items()}
    train_mode(built.model)
    optimizer = torch.optim.SGD([p for p in built.model.parameters() if p.requires_grad], lr=0.1)
    torch.nn.functional.cross_entropy(
        built.model(images_for(built)).logits, torch.tensor([0, 1])
    ).backward()
    optimizer.step()
    changed = {k for k, v in built.model.state_dict().items() if not torch.equal(before[k], v)}
    assert set(names) == changed


def test_state_dict_round_trip_gives_the_same_logits(
    case: tuple[str, int, dict[str, object]],
) -> None:
    first = make(case)
    torch.manual_seed(99)
    second = make(case)
    torch.nn.init.normal_(
        second.model.network.get_submodule(first.model.inner_head_names[0]).weight
    )
    second.model.load_state_dict(first.model.state_dict())
    images = images_for(first)
    assert torch.equal(first.model.eval()(images).logits, second.model.eval()(images).logits)


def test_channels_last_agrees_with_contiguous(case: tuple[str, int, dict[str, object]]) -> None:
    built = make(case)
    images = images_for(built)
    expected = built.model.eval()(images).logits
    built.model.to(memory_format=torch.channels_last)
    got = built.model(images.to(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(expected, got, atol=1e-4, rtol=1e-4)
