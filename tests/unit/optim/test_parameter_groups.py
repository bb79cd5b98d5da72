"""Rules by name, layer-wise decay, and what weight decay spares."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.models.catalogue import ModelRequest, build_model
from discern.optim.layer_depth import layer_depths, layer_scales
from discern.optim.optimizers import build_optimizer
from discern.optim.parameter_groups import (
    Grouping,
    GroupRule,
    group_lines,
    group_rates,
    parameter_groups,
)


class Net(nn.Module):
    """Two numbered blocks between a stem and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.norm0 = nn.BatchNorm2d(4)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)) for _ in range(2)
        )
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


def named(model: nn.Module, prefix: str = "network.") -> list[tuple[str, nn.Parameter]]:
    return [(prefix + name, parameter) for name, parameter in model.named_parameters()]


def build(**options: object) -> torch.optim.Optimizer:
    settings: dict[str, object] = {"lr": 0.1, "weight_decay": 0.05, "head_names": ("network.head",)}
    return build_optimizer("sgd", named(Net()), **{**settings, **options})  # type: ignore[arg-type]


def settings_of(
    parameters: list[tuple[str, nn.Parameter]], optimizer: torch.optim.Optimizer, key: str
) -> dict[str, float]:
    names = {id(parameter): name.removeprefix("network.") for name, parameter in parameters}
    return {
        names[id(parameter)]: group[key]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@pytest.mark.feature("CA-38")
def test_first_rule_that_fits_sets_rate_and_decay() -> None:
    parameters = named(Net())
    optimizer = build_optimizer(
        "sgd",
        parameters,
        lr=0.1,
        weight_decay=0.05,
        head_names=("network.head",),
        groups=[
            {"match": r"head.*", "lr_scale": 10, "weight_decay": 0},
            {"match": r"blocks\.1\..*", "lr": 0.03, "args": {"momentum": 0.5}},
            {"match": r".*weight", "lr_scale": 0.5, "weight_decay": 0.2},
        ],
    )
    rates = settings_of(parameters, optimizer, "base_lr")
    decays = settings_of(parameters, optimizer, "weight_decay")
    momenta = settings_of(parameters, optimizer, "momentum")
    assert [1.0, 1.0] == pytest.approx([rates["head.weight"], rates["head.bias"]])
    assert 0.0 == decays["head.weight"]
    assert (0.03, 0.05, 0.5) == (
        rates["blocks.1.0.weight"],
        decays["blocks.1.0.weight"],
        momenta["blocks.1.0.weight"],
    )
    assert (0.05, 0.2, 0.9) == pytest.approx(
        (rates["stem.weight"], decays["stem.weight"], momenta["stem.weight"])
    )
    assert (0.1, 0.0) == (rates["stem.bias"], decays["stem.bias"])
    assert (0.05, 0.0) == (rates["norm.weight"], decays["norm.weight"])


@pytest.mark.feature("CA-38")
def test_biases_have_weight_decay_0_unless_told_otherwise() -> None:
    parameters = named(Net())
    spared = build_optimizer("adamw", parameters, lr=0.1, weight_decay=0.05)
    decays = settings_of(parameters, spared, "weight_decay")
    assert {0.0} == {value for name, value in decays.items() if name.endswith("bias")}
    assert 0.05 == decays["head.weight"]
    everything = build_optimizer("adamw", parameters, lr=0.1, weight_decay=0.05, decay_all=True)
    assert {0.05} == set(settings_of(parameters, everything, "weight_decay").values())


@pytest.mark.feature("LA-20")
def test_named_weights_and_batch_norm_are_excluded_from_decay() -> None:
    parameters = named(Net())
    optimizer = build_optimizer(
        "sgd", parameters, lr=0.1, weight_decay=2e-4, no_decay=["stem.*", r"blocks\.0\..*"]
    )
    decays = settings_of(parameters, optimizer, "weight_decay")
    assert {"blocks.1.0.weight": 2e-4, "head.weight": 2e-4} == {
        name: value for name, value in decays.items() if value
    }


def test_head_alone_means_the_classifying_layers() -> None:
    model = Net()
    model.fc = nn.Linear(2, 2)
    parameters = named(model)
    optimizer = build_optimizer(
        "sgd",
        parameters,
        lr=0.1,
        head_names=("network.fc",),
        groups=[{"match": "head", "lr_scale": 5}],
    )
    rates = settings_of(parameters, optimizer, "base_lr")
    assert (0.5, 0.1) == (rates["fc.weight"], rates["head.weight"])


def test_rate_of_a_parameter_multiplies_with_rule_and_layer() -> None:
    model = Net()
    model.stem.weight.lr_scale = 0.5  # type: ignore[assignment]
    parameters = named(model)
    optimizer = build_optimizer(
        "sgd",
        parameters,
        lr=0.1,
        head_names=("network.head",),
        layer_decay=0.5,
        groups=[{"match": "stem.*", "lr_scale": 3}, {"match": "norm.*", "lr": 0.7}],
    )
    rates = settings_of(parameters, optimizer, "base_lr")
    assert 0.1 * 0.5 * 3 * 0.5**3 == pytest.approx(rates["stem.weight"])
    assert 0.7 == rates["norm.weight"]


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        ({"groups": [{"match": "haed.*"}]}, ["did you mean 'head'", "haed"]),
        ({"groups": [{"match": "head"}], "head_names": ()}, ["no parameter's name fits"]),
        ({"groups": [{"match": "he(ad"}]}, ["not a regular expression"]),
        ({"groups": [{"match": "head.*", "lr_scal": 2}]}, ["did you mean 'lr_scale'"]),
        ({"groups": [{"lr_scale": 2}]}, ["no 'match'"]),
        ({"groups": [{"match": "head.*", "lr": 1, "lr_scale": 2}]}, ["either"]),
        ({"groups": [{"match": "head.*", "lr_scale": 0}]}, ["freeze with 'trainable'"]),
        ({"groups": [{"match": "head.*", "weight_decay": -1}]}, ["at least 0"]),
        ({"groups": [{"match": "head.*", "args": {"momentm": 0}}]}, ["did you mean 'momentum'"]),
        ({"no_decay": ["stme.*"]}, ["did you mean 'stem'"]),
        ({"layer_decay": 1.5}, ["at most 1"]),
        ({"layer_decay": 0.0}, ["above 0"]),
    ],
)
def test_wrong_rules_are_named(options: dict[str, object], texts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build(**options)
    for text in texts:
        assert text in str(caught.value)


def test_rule_for_frozen_parameters_only_is_no_error() -> None:
    model = Net()
    model.stem.requires_grad_(requires_grad=False)
    rule = GroupRule(match="stem.*", lr_scale=2.0)
    groups = parameter_groups(
        named(model), lr=0.1, weight_decay=0.0, grouping=Grouping(rules=(rule,))
    )
    assert {0.1} == {group["lr"] for group in groups}


def test_groups_are_told_in_a_line_each() -> None:
    lines = group_lines(build(groups=[{"match": "head.*", "lr_scale": 10}]))
    assert "decay: 3 tensors, 396 numbers, rate 0.1, weight decay 0.05" in lines
    assert "decay_x10: 1 tensor, 8 numbers, rate 1, weight decay 0.05" in lines


def test_every_group_has_a_name_of_its_own_and_tells_rate_and_momentum() -> None:
    optimizer = build(groups=[{"match": "head.*", "args": {"momentum": 0.5}}])
    optimizer.param_groups[0]["lr"] = 0.025
    assert {
        "decay": (0.025, 0.9),
        "no_decay": (0.1, 0.9),
        "decay_2": (0.1, 0.5),
        "no_decay_2": (0.1, 0.5),
    } == group_rates(optimizer)
    parameters = named(Net())
    adam = build_optimizer("adam", parameters, lr=0.1, arguments={"betas": (0.8, 0.99)})
    assert (0.1, 0.8) == group_rates(adam)["decay"]
    assert (0.1, None) == group_rates(build_optimizer("adagrad", parameters, lr=0.1))["decay"]


def test_depth_counts_from_stem_to_head() -> None:
    parameters = named(Net())
    depths = layer_depths(parameters, ("network.head",))
    assert {
        "network.stem.weight": 0,
        "network.norm0.bias": 0,
        "network.blocks.0.0.weight": 1,
        "network.blocks.0.1.bias": 1,
        "network.blocks.1.0.weight": 2,
        "network.norm.weight": 2,
        "network.head.bias": 3,
    } == {name: depths[name] for name in depths if name in _SHOWN}


_SHOWN = {
    "network.stem.weight",
    "network.norm0.bias",
    "network.blocks.0.0.weight",
    "network.blocks.0.1.bias",
    "network.blocks.1.0.weight",
    "network.norm.weight",
    "network.head.bias",
}


def test_each_layer_down_has_the_decay_once_more() -> None:
    parameters = named(Net())
    optimizer = build_optimizer(
        "adamw", parameters, lr=0.1, head_names=("network.head",), layer_decay=0.75
    )
    rates = settings_of(parameters, optimizer, "base_lr")
    expected = {"head.weight": 0, "blocks.1.0.weight": 1, "blocks.0.0.weight": 2, "stem.weight": 3}
    for name, layers in expected.items():
        assert 0.1 * 0.75**layers == pytest.approx(rates[name])


@pytest.mark.feature("CA-38")
@pytest.mark.parametrize(
    "name", ["vit_tiny_patch16_224", "resnet18", "convnext_atto", "efficientnet_b0"]
)
def test_layer_decay_of_a_timm_net_is_that_of_timm(name: str) -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=5)
    head = f"network.{model.get_classifier_name()}" if hasattr(model, "get_classifier_name") else ""
    head = head or f"network.{model.pretrained_cfg['classifier']}"
    scales = layer_scales(named(model), 0.8, (head,))
    from timm.optim import param_groups_layer_decay

    ids = {id(parameter): key for key, parameter in named(model)}
    theirs = {
        ids[id(parameter)]: group["lr_scale"]
        for group in param_groups_layer_decay(model, layer_decay=0.8)
        for parameter in group["params"]
    }
    assert set(theirs) == set(scales)
    different = {key for key in theirs if theirs[key] != pytest.approx(scales[key])}
    # timm counts convnext's last norm with the head, here it belongs to the layer before.
    assert different <= {"network.head.norm.weight", "network.head.norm.bias"}


def test_dense_layers_are_numbered_by_words() -> None:
    timm = pytest.importorskip("timm")
    with torch.device("meta"):
        model = timm.create_model("densenet121", num_classes=5)
    depths = layer_depths(named(model), ("network.classifier",))
    # 6 + 12 + 24 + 16 dense layers, three transitions, the stem and the head.
    assert set(range(58 + 3 + 2)) == set(depths.values())
    assert 0 == depths["network.features.norm0.weight"]
    assert 7 == depths["network.features.transition1.conv.weight"]
    assert 8 == depths["network.features.denseblock2.denselayer1.conv2.weight"]
    assert 61 == depths["network.features.norm5.weight"]


@pytest.mark.parametrize("name", ["lenet", "mlp", "resnet20", "resnet110", "fast_net"])
def test_own_networks_have_layers_of_falling_rates(name: str) -> None:
    model = build_model(ModelRequest(name=name, num_classes=10, image_size=(32, 32))).model
    parameters = list(model.named_parameters())
    depths = layer_depths(parameters, model.head_names)
    order = [depths[key] for key, p in parameters if p.ndim > 1]
    assert order == sorted(order)
    assert set(range(order[-1] + 1)) == set(order)
    assert len(set(order)) >= 3
    scales = layer_scales(parameters, 0.5, model.head_names)
    assert 1.0 == scales[parameters[-1][0]]
    assert 0.5 ** order[-1] == pytest.approx(scales[parameters[0][0]])
