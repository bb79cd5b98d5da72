"""Discern's own networks: sizes, depths and forms that are stated somewhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.models.arithmetic import count_macs, count_parameters
from discern.models.nets.builders import own_names, resolve_own
from discern.models.nets.fast_net import fast_net
from discern.models.nets.lenet import lenet
from discern.models.nets.mlp import mlp
from discern.models.nets.resnet_cifar import is_valid_depth, nearest_depths, resnet_cifar


@pytest.mark.feature("MX-60")
def test_mlp_has_109386_parameters_for_784_inputs_and_10_classes() -> None:
    assert 109_386 == count_parameters(mlp(10, 1, (28, 28)))


@pytest.mark.feature("MX-60")
def test_lenet_has_the_stated_layers() -> None:
    net = lenet(10, 1, (28, 28))
    convs = [m for m in net.modules() if isinstance(m, nn.Conv2d)]
    assert [(20, (5, 5)), (50, (5, 5))] == [(c.out_channels, c.kernel_size) for c in convs]
    assert 20 * 26 + 50 * 501 + 500 * 801 + 10 * 501 == count_parameters(net)
    assert not any(isinstance(m, nn.ReLU) for m in net.modules())


@pytest.mark.feature("MX-60")
def test_spatial_transformer_starts_as_the_identity() -> None:
    images = torch.rand(2, 1, 28, 28)
    net = lenet(10, 1, (28, 28), stn=True)
    torch.testing.assert_close(net.transformer(images), images, atol=1e-5, rtol=0)


def test_spatial_transformer_moves_the_image_it_is_told_to() -> None:
    images = torch.rand(1, 1, 28, 28)
    transformer = lenet(10, 1, (28, 28), stn=True).transformer
    with torch.no_grad():
        transformer.affine.bias[2] = 2 / 28  # one pixel of 28 in coordinates from -1 to 1
        moved = transformer(images)
    torch.testing.assert_close(moved[..., :-1], images[..., 1:], atol=1e-5, rtol=0)


@pytest.mark.feature("MX-62")
def test_depth_110_has_1_7_million_parameters() -> None:
    for version in (1, 2):
        parameters = count_parameters(resnet_cifar(10, 3, (32, 32), 110, version))
        assert 1.7 == round(parameters / 1e6, 1)


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize(("depth", "width"), [(20, 64), (164, 256)])
def test_channels_follow_the_depth_and_version_2_normalizes_its_data(
    depth: int, width: int
) -> None:
    net = resnet_cifar(10, 3, (32, 32), depth)
    assert width == net.head.in_features
    assert depth == 2 + sum(
        1
        for name, m in net.blocks.named_modules()
        if isinstance(m, nn.Conv2d) and ".convs." in name
    )
    assert isinstance(net.data_norm, nn.BatchNorm2d)
    assert isinstance(resnet_cifar(10, 3, (32, 32), depth, 1).data_norm, nn.Identity)


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize(
    ("depth", "near"),
    [(21, [20, 26]), (2, [8]), (160, [158, 164]), (165, [164, 173]), (170, [164, 173])],
)
def test_a_wrong_depth_is_refused_with_the_two_nearest(depth: int, near: list[int]) -> None:
    assert near == nearest_depths(depth)
    with pytest.raises(ConfigError) as caught:
        resnet_cifar(10, 3, (32, 32), depth)
    assert " and ".join(map(str, near)) in str(caught.value)


def test_valid_depths_are_those_of_the_rule() -> None:
    expected = [*range(8, 164, 6), *range(164, 300, 9)]
    assert expected == [depth for depth in range(300) if is_valid_depth(depth)]


def test_version_1_of_a_bottleneck_runs_and_version_3_is_refused() -> None:
    assert (2, 10) == tuple(resnet_cifar(10, 3, (8, 8), 164, 1)(torch.rand(2, 3, 8, 8)).shape)
    with pytest.raises(ConfigError, match="version 1 or 2"):
        resnet_cifar(10, 3, (32, 32), 20, 3)


@pytest.mark.parametrize("side", [8, 9, 16, 28, 32, 33, 48, 64, 100])
@pytest.mark.parametrize("channels", [1, 3])
def test_fast_net_takes_every_small_size(side: int, channels: int) -> None:
    net = fast_net(7, channels, (side, side))
    assert (2, 7) == tuple(net(torch.rand(2, channels, side, side)).shape)


def test_fast_net_takes_oblong_images() -> None:
    assert (1, 3) == tuple(fast_net(3, 1, (16, 64))(torch.rand(1, 1, 16, 64)).shape)


def test_fast_net_costs_at_64_pixels_what_it_costs_at_32() -> None:
    small, large = (
        count_macs(fast_net(10, 3, (side, side)), torch.zeros(1, 3, side, side))
        for side in (32, 64)
    )
    assert large < 1.1 * small


def test_fast_net_size_is_as_documented() -> None:
    net = fast_net(10, 1, (28, 28))
    assert 0.29 == round(count_parameters(net) / 1e6, 2)
    assert 16 == round(count_macs(net, torch.zeros(1, 1, 28, 28)) / 1e6)


def test_fast_net_takes_stages_of_any_width_and_a_stem_without_a_border() -> None:
    net = fast_net(10, 3, (32, 32), width=24, widths=[64, 256, 256], stem_kernel=2)
    maps: list[tuple[int, ...]] = []
    for stage in (net.stem, *net.stages):
        stage.register_forward_hook(lambda *given: maps.append(tuple(given[2].shape)))
    net(torch.rand(1, 3, 32, 32))
    assert [(1, 24, 31, 31), (1, 64, 15, 15), (1, 256, 7, 7), (1, 256, 3, 3)] == maps
    assert (1, 2) == tuple(
        fast_net(2, 1, (8, 8), widths=[4, 5], stem_kernel=2)(torch.rand(1, 1, 8, 8)).shape
    )


@pytest.mark.parametrize(
    "given",
    [{"widths": []}, {"widths": [8, 0]}, {"widths": [8, 8], "depth": 4}, {"stem_kernel": 0}],
)
def test_fast_net_refuses_stages_that_are_none(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="'fast_net' cannot"):
        fast_net(10, 3, (32, 32), **given)


@pytest.mark.parametrize(("build", "side"), [(lenet, 15), (fast_net, 7), (resnet_cifar, 7)])
def test_too_small_images_are_an_error(build: object, side: int) -> None:
    with pytest.raises(ModelError, match="too small"):
        build(10, 3, (side, side))  # type: ignore[operator]


def test_bad_widths_are_errors() -> None:
    with pytest.raises(ConfigError, match="hidden layer"):
        mlp(10, 1, (8, 8), hidden=())
    with pytest.raises(ConfigError, match="one channel"):
        fast_net(10, 1, (8, 8), width=0)


def test_names_of_depths_imply_their_argument() -> None:
    assert ("resnet_cifar", {"num_layers": 56}) == resolve_own("resnet56_cifar")
    assert ("mlp", {}) == resolve_own("mlp")
    assert resolve_own("resnet18") is None
    assert {"resnet20_cifar", "resnet110_cifar", "resnet164_cifar"} < set(own_names())
