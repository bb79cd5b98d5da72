"""The wrapper: routes, freezing by name, training mode with frozen parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError, ModelError
from discern.models.classifier import Route, set_trainable, train_mode, wrap_network
from discern.models.nets.fast_net import fast_net


class Plain(nn.Module):
    """A module of a user: no features, no head by name."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
        self.last = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.body(images).mean((2, 3)))


class Split(nn.Module):
    """Speaks timm's protocol; `broken` makes its pre-logits lie."""

    num_features = 4

    def __init__(self, *, broken: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, 2)
        self.broken = broken

    def get_classifier(self) -> nn.Module:
        return self.fc

    def forward_features(self, images: Tensor) -> Tensor:
        return self.conv(images)

    def forward_head(self, maps: Tensor, *, pre_logits: bool = False) -> Tensor:
        pooled = maps.mean((2, 3))
        if pre_logits:
            return pooled * 2 if self.broken else pooled
        return self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).view(2, 3, 8, 8) / 100


@pytest.mark.parametrize(
    ("network", "route", "width"),
    [
        (fast_net(5, 3, (8, 8)), Route.OWN, 128),
        (Split(), Route.SPLIT, 4),
        (Split(broken=True), Route.POOLED, 4),
        (Plain(), Route.PLAIN, 2),
    ],
)
def test_route_is_the_best_that_gives_the_networks_own_logits(
    network: nn.Module, route: Route, width: int
) -> None:
    model = wrap_network(network, IMAGES).eval()
    assert route is model.route
    logits, features, encoded = model(IMAGES)
    assert encoded is None
    assert torch.equal(network(IMAGES), logits)
    assert (2, width) == tuple(features.shape)


def test_pooled_features_are_the_mean_of_the_maps() -> None:
    network = Split(broken=True)
    features = wrap_network(network, IMAGES)(IMAGES).features
    assert torch.equal(network.conv(IMAGES).mean((2, 3)), features)


def test_wrapping_keeps_the_mode_and_the_statistics() -> None:
    network = Plain().train()
    before = network.body[1].running_mean.clone()
    wrap_network(network, IMAGES)
    assert network.training
    assert torch.equal(before, network.body[1].running_mean)


def test_a_network_that_cannot_take_the_images_is_an_error() -> None:
    with pytest.raises(ModelError, match="cannot take images"):
        wrap_network(Plain(), torch.zeros(1, 1, 8, 8))


def test_a_network_of_another_number_of_logits_is_an_error() -> None:
    width = Plain()(IMAGES).shape[1]
    wrap_network(Plain(), IMAGES, width)
    with pytest.raises(ModelError, match=f"a logit for each class(.|\n)*{width} logits"):
        wrap_network(Plain(), IMAGES, width + 1)


def test_a_network_without_rows_of_logits_is_an_error() -> None:
    with pytest.raises(ModelError, match="one row of logits"):
        wrap_network(nn.Conv2d(3, 4, 3), IMAGES)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ("head", {"network.last.weight", "network.last.bias"}),
        ("body.0", {"network.body.0.weight", "network.body.0.bias"}),
        (["body.1.*"], {"network.body.1.weight", "network.body.1.bias"}),
        (["re:.*bias"], {"network.body.0.bias", "network.body.1.bias", "network.last.bias"}),
        (
            ["head", "body.0.weight"],
            {"network.last.weight", "network.last.bias", "network.body.0.weight"},
        ),
    ],
)
def test_only_the_named_parameters_learn(patterns: str | list[str], expected: set[str]) -> None:
    model = wrap_network(Plain(), IMAGES)
    chosen = set_trainable(model, patterns)
    assert expected == set(chosen)
    assert expected == {name for name, p in model.named_parameters() if p.requires_grad}


def test_all_lets_everything_learn_again() -> None:
    model = wrap_network(Plain(), IMAGES)
    set_trainable(model, "head")
    set_trainable(model, "all")
    assert all(p.requires_grad for p in model.parameters())


def test_a_pattern_that_matches_nothing_names_the_nearest() -> None:
    model = wrap_network(Plain(), IMAGES)
    with pytest.raises(ConfigError) as caught:
        set_trainable(model, ["boddy"])
    assert "did you mean 'body'" in str(caught.value)


def test_a_bad_expression_is_named() -> None:
    with pytest.raises(ConfigError, match="not a regular expression"):
        set_trainable(wrap_network(Plain(), IMAGES), "re:(")


def test_frozen_batch_norm_keeps_its_statistics_in_training() -> None:
    model = wrap_network(Plain(), IMAGES)
    norm = model.network.get_submodule("body.1")
    set_trainable(model, "head")
    train_mode(model)
    before = norm.running_mean.clone()
    first, second = model(IMAGES).features, model(IMAGES).features
    assert torch.equal(before, norm.running_mean)
    assert torch.equal(first, second)  # the frozen part's dropout is off as well
    set_trainable(model, "all")
    train_mode(model)
    model(IMAGES)
    assert not torch.equal(before, norm.running_mean)
