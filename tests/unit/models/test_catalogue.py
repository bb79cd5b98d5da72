"""Names to networks: own, timm's, aliases, files of the user."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from discern.base.errors import ConfigError, DiscernError, ModelError
from discern.models.aliases import ALIASES, MXNET_ZOO_NAMES
from discern.models.catalogue import (
    BuiltModel,
    ModelRequest,
    build_model,
    is_own_network,
    resolve_name,
)
from discern.models.nets.builders import own_names
from discern.models.timm_nets import timm_names

FILE = """
from torch import nn

def build(num_classes, channels, image_size, width=4):
    pixels = channels * image_size[0] * image_size[1]
    return nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, num_classes))

def broken(num_classes, channels, image_size):
    return "a network"
"""


def build(name: str, **options: object) -> BuiltModel:
    settings: dict[str, object] = {"num_classes": 4, "image_size": (32, 32), **options}
    return build_model(ModelRequest(name=name, **settings))  # type: ignore[arg-type]


@pytest.mark.feature("MX-62")
def test_depth_is_an_argument_or_part_of_the_name() -> None:
    by_name = build("resnet20_cifar")
    by_argument = build("resnet_cifar", arguments={"num_layers": 20})
    assert by_name.arguments == by_argument.arguments == {"num_layers": 20}
    assert by_name.architecture == by_argument.architecture == "discern/resnet_cifar"
    with pytest.raises(ConfigError, match="already says num_layers=20"):
        build("resnet20_cifar", arguments={"num_layers": 32})


def test_architecture_and_arguments_build_the_same_network_again() -> None:
    first = build("resnet20_cifar")
    again = build(first.architecture, arguments=first.arguments)
    assert first.model.state_dict().keys() == again.model.state_dict().keys()


def test_bare_resnet18_is_timms() -> None:
    built = build("resnet18", image_size=(64, 64))
    assert ("resnet18", 512) == (built.architecture, built.model.network.num_features)
    assert not is_own_network("resnet18")
    assert is_own_network("resnet20_cifar")
    assert is_own_network("discern/mlp")
    assert is_own_network("imagenet1k-inception-bn")
    assert not is_own_network("imagenet1k-resnet-18")


def test_timm_networks_bring_their_own_input() -> None:
    expected = build("mobilenetv2_100", image_size=None, num_classes=1000).preprocess
    assert (224, 224, 3) == (expected.height, expected.width, expected.channels)
    assert ((0.485, 0.456, 0.406), "bicubic", 0.875) == (
        expected.mean,
        expected.interpolation,
        expected.crop_pct,
    )
    grey = build("mobilenetv2_100", channels=1).preprocess
    assert ((0.449,), 32) == (pytest.approx(grey.mean), grey.height)


def test_networks_bound_to_a_size_are_built_at_the_size_asked_for() -> None:
    built = build("vit_tiny_patch16_224", image_size=(48, 48))
    assert (2, 192) == tuple(built.model(torch.zeros(2, 3, 48, 48)).features.shape)


@pytest.mark.feature("MX-04")
def test_unknown_names_list_close_matches() -> None:
    for name, near in (("resnet81", "resnet18"), ("fast_nett", "fast_net"), ("lennet", "lenet")):
        with pytest.raises(ConfigError) as caught:
            build(name)
        assert f"'{near}'" in str(caught.value)


@pytest.mark.feature("MX-04")
def test_a_network_of_the_users_file_is_built_with_its_arguments(tmp_path: Path) -> None:
    file = tmp_path / "my_net.py"
    file.write_text(FILE)
    built = build(f"{file}:build", arguments={"width": 7}, image_size=(4, 4))
    assert 7 == built.model.network[1].out_features
    assert ("network.2",) == built.model.head_names
    with pytest.raises(ConfigError, match="unknown argument 'widht'"):
        build(f"{file}:build", arguments={"widht": 7})
    with pytest.raises(ModelError, match="did not give a network"):
        build(f"{file}:broken")
    assert is_own_network(f"{file}:build")


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("fast_net", {"widht": 8}, "did you mean 'width'"),
        ("fast_net", {"num_classes": 8}, "set by Discern"),
        ("resnet18", {"drop_rat": 0.1}, "did you mean 'drop_rate'"),
        ("resnet18", {"in_chans": 1}, "set by Discern"),
    ],
)
def test_builder_arguments_are_checked(name: str, arguments: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build(name, arguments=arguments)
    assert text in str(caught.value)


def test_timm_arguments_reach_the_network() -> None:
    assert 0.3 == build("resnet18", arguments={"drop_rate": 0.3}).model.network.drop_rate


@pytest.mark.feature("MX-66")
def test_every_name_of_the_old_zoo_is_an_alias_or_has_a_reason() -> None:
    assert 12 == len(MXNET_ZOO_NAMES)
    assert "resnet152" == resolve_name("imagenet1k-resnet-152")
    with pytest.raises(ConfigError, match="MXNet only") as caught:
        resolve_name("imagenet11k-resnet-152")
    assert "use 'resnet152'" in str(caught.value)


@pytest.mark.feature("MX-65")
def test_every_alias_leads_to_a_network() -> None:
    known = {*timm_names(), *own_names()}
    for name, alias in ALIASES.items():
        assert (alias.target is None) == (alias.reason is not None), name
        assert (alias.target or alias.near) in known, name
        assert name not in known, name
    assert "resnetv2_50" == resolve_name("resnet50_v2")
    assert "mobilenetv2_075" == resolve_name("mobilenetv2_0.75")


@pytest.mark.feature("MX-66")
def test_offline_pretrained_weights_stop_with_the_ways_out(tmp_path: Path) -> None:
    code = (
        "from discern.models.catalogue import ModelRequest, build_model\n"
        "build_model(ModelRequest(name='resnet18', num_classes=3, weights='pretrained'))"
    )
    environment = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path),
        "PYTHONPATH": ":".join(sys.path),
    }
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert answer.returncode != 0
    for part in ("HF_HUB_OFFLINE is set", "--weights FILE", "--weights none", "--model fast_net"):
        assert part in answer.stderr


def test_pretrained_weights_of_networks_without_any_are_refused() -> None:
    with pytest.raises(ModelError, match="'fast_net' are not here"):
        build("fast_net", weights="pretrained")


def test_own_networks_load_no_timm() -> None:
    code = (
        "import sys\n"
        "from discern.models.catalogue import ModelRequest, build_model, is_own_network\n"
        "is_own_network('resnet18')\n"
        "build_model(ModelRequest(name='fast_net', num_classes=3, image_size=(16, 16)))\n"
        "print([m for m in ('timm', 'torchvision', 'huggingface_hub') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "[]" == answer.stdout.strip()


def test_wrong_requests_are_errors() -> None:
    for options in ({"num_classes": 0}, {"channels": 0}, {"image_size": (0, 4)}):
        with pytest.raises(ConfigError):
            build("mlp", **options)
    with pytest.raises(ConfigError, match="needs an image size"):
        build("mlp", image_size=None)
    with pytest.raises(ConfigError, match="has no weights 'nope'"):
        build("resnet18.nope")
    with pytest.raises(DiscernError, match="cannot take images"):
        build("vgg11", image_size=(8, 8))


@pytest.mark.feature("MX-66")
def test_real_weights_load_strictly_and_a_new_head_is_reported(shared_data: Path) -> None:
    file = shared_data / "weights" / "mobilenetv2_100.safetensors"
    whole = build("mobilenetv2_100", num_classes=1000, weights=str(file))
    assert len(load_file(file)) == whole.weights_report.loaded
    assert ((), "apache-2.0", True) == (
        whole.weights_report.missing,
        whole.license,
        whole.pretrained,
    )
    tuned = build("mobilenetv2_100", num_classes=12, weights=str(file))
    assert ("classifier.bias", "classifier.weight") == tuple(sorted(tuned.weights_report.missing))
    assert "new head" in tuned.report_lines()[0]
    with pytest.raises(ModelError, match="do not fit"):
        build("resnet18", weights=str(file))


@pytest.mark.parametrize(
    ("name", "side", "least"),
    [("vgg11", 28, 32), ("densenet121", 28, 29), ("inceptionv3", 32, 75), ("alexnet", 32, 63)],
)
def test_too_small_images_are_refused_with_the_smallest_size(
    name: str, side: int, least: int
) -> None:
    with pytest.raises(ModelError) as caught:
        build(name, image_size=(side, side), channels=1)
    assert f"at least {least} pixels a side" == caught.value.expected


def test_digits_are_enlarged_for_vgg_if_asked_and_it_is_said() -> None:
    built = build("vgg11", image_size=(28, 30), channels=1, enlarge=True)
    assert ((28, 30), 32, 32) == (
        built.enlarged_from,
        built.preprocess.height,
        built.preprocess.width,
    )
    assert (
        "images of 28x30 are enlarged to 32x32: 'vgg11' takes no side under 32 pixels"
        == built.size_note
    )
    assert build("resnet18", image_size=(28, 28), enlarge=True).size_note is None
