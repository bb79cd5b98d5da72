"""Initial values by name: their mean and variance against theory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.models.catalogue import ModelRequest, build_model
from discern.models.initializers import initialize

# A layer of 256 inputs and 512 outputs; a kernel of 64 x 3 x 3 inputs, 128 x 3 x 3 outputs.
LINEAR_IN, LINEAR_OUT = 256, 512
CONV_IN, CONV_OUT = 64 * 9, 128 * 9


def variances(name: str, **arguments: object) -> tuple[float, float]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(64, 128, 3), nn.BatchNorm2d(128), nn.Linear(256, 512))
    assert 2 == initialize(net, name, arguments)
    assert [0.0, 0.0] == [net[0].bias.abs().max().item(), net[2].bias.abs().max().item()]
    assert [1.0] * 128 == net[1].weight.tolist()
    return net[0].weight.var().item(), net[2].weight.var().item()


@pytest.mark.feature("MX-11")
@pytest.mark.parametrize(
    ("name", "arguments", "conv", "linear"),
    [
        # Glorot: 2 / (fan in + fan out); MXNet's uniform of magnitude 3 has that variance.
        ("xavier", {}, 2 / (CONV_IN + CONV_OUT), 2 / (LINEAR_IN + LINEAR_OUT)),
        (
            "xavier",
            {"distribution": "normal", "fan": "in", "magnitude": 2.0},
            2 / CONV_IN,
            2 / LINEAR_IN,
        ),
        # He with slope 0.25: 2 / (1 + 1/16) / mean fan.
        ("msra", {}, 4 / 1.0625 / (CONV_IN + CONV_OUT), 4 / 1.0625 / (LINEAR_IN + LINEAR_OUT)),
        ("msra", {"fan": "in", "slope": 0.0}, 2 / CONV_IN, 2 / LINEAR_IN),
        ("normal", {}, 1e-4, 1e-4),
        ("uniform", {}, 0.07**2 / 3, 0.07**2 / 3),
        # 256 columns of length 1.414 in 512 rows; 128 rows of that length in 576 columns.
        ("orthogonal", {}, 1.414**2 / CONV_IN, 1.414**2 / LINEAR_OUT),
        ("default", {}, 2 / CONV_IN, 2 / LINEAR_IN),
    ],
)
def test_variances_match_theory(
    name: str, arguments: dict[str, object], conv: float, linear: float
) -> None:
    assert (conv, linear) == pytest.approx(variances(name, **arguments), rel=0.03)


@pytest.mark.feature("MX-11")
def test_one_and_zero_are_constants_and_orthogonal_rows_stand_at_right_angles() -> None:
    layer = nn.Linear(8, 4)
    initialize(layer, "one")
    assert [[1.0] * 8] * 4 == layer.weight.tolist()
    initialize(layer, "zero")
    assert [[0.0] * 8] * 4 == layer.weight.tolist()
    initialize(layer, "orthogonal", {"scale": 2.0})
    torch.testing.assert_close(layer.weight @ layer.weight.T, 4 * torch.eye(4))


@pytest.mark.feature("MX-11")
@pytest.mark.parametrize(
    ("name", "expected"), [("alexnet", 1e-4), ("vgg16", 2 / 768), ("resnet50", 2 / 256)]
)
def test_default_follows_the_network_as_mxnets_example(name: str, expected: float) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(LINEAR_IN, LINEAR_OUT)
    initialize(layer, "default", model_name=name)
    assert expected == pytest.approx(layer.weight.var().item(), rel=0.03)


def test_what_is_named_alone_changes_and_the_transformer_stays_the_identity() -> None:
    torch.manual_seed(0)
    request = ModelRequest(
        name="lenet_stn", num_classes=3, channels=1, image_size=(28, 28), init=("normal", {})
    )
    network = build_model(request).model.network
    assert 1e-4 == pytest.approx(network.head.weight.var().item(), rel=0.2)
    assert [0.0] * 36 * 10 == network.transformer.affine.weight.flatten().tolist()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    assert 1 == initialize(network, "one", only=["head.weight"])
    changed = [k for k, v in network.state_dict().items() if not torch.equal(v, before[k])]
    assert ["head.weight"] == changed


def test_unknown_names_and_arguments_are_errors() -> None:
    layer = nn.Linear(2, 2)
    with pytest.raises(ConfigError, match="did you mean 'xavier'"):
        initialize(layer, "xaver")
    with pytest.raises(ConfigError, match="unknown argument 'sgima'"):
        initialize(layer, "normal", {"sgima": 1.0})
    with pytest.raises(ConfigError, match="fan in, out or avg"):
        initialize(layer, "xavier", {"fan": "sideways"})
