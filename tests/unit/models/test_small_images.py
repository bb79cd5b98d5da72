"""Networks for photographs on 28 and 32 pixels: the small stem, and when it is taken."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.nn import functional

from discern.base.errors import ModelError
from discern.models.aliases import ALIASES
from discern.models.catalogue import BuiltModel, ModelRequest, build_model
from discern.models.changes import ModelChanges
from discern.models.nets.builders import own_names
from discern.models.small_stem import CPU_MACS
from discern.worker.network import default_weights


def build(name: str, side: int, channels: int = 3, **options: object) -> BuiltModel:
    torch.manual_seed(0)
    return build_model(
        ModelRequest(  # type: ignore[arg-type]
            name=name, num_classes=10, channels=channels, image_size=(side, side),
            enlarge=True, **options,
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", ["resnet18", "resnetv2_50", "resnet26d", "densenet121"])
def test_the_small_stem_keeps_the_first_maps_whole(name: str) -> None:
    built = build(name, 32, changes=ModelChanges(stem="small"))
    network = built.model.network
    first = network.get_submodule(network.pretrained_cfg["first_conv"])
    assert ((3, 3), (1, 1)) == (first.kernel_size, first.stride)
    shapes: list[tuple[int, ...]] = []
    body = {"resnetv2_50": "stages", "densenet121": "features.denseblock1"}.get(name, "layer1")
    network.get_submodule(body).register_forward_pre_hook(
        lambda _, inputs: shapes.append(tuple(inputs[0].shape[-2:]))
    )
    output = built.model.eval()(torch.zeros(2, 3, 32, 32))
    assert ((32, 32), (2, 10)) == (shapes[0], tuple(output.logits.shape))


def test_auto_takes_the_small_stem_where_it_is_affordable_and_says_so() -> None:
    small = build("resnet18", 32, auto_stem_macs=CPU_MACS)
    assert "small" == small.changes.stem
    assert "0.56 G multiply-adds" in str(small.stem_note)
    deep = build("resnet50", 32, auto_stem_macs=CPU_MACS)
    assert "plain" == deep.changes.stem
    assert "model.stem=small" in str(deep.stem_note)
    assert "small" == build("resnet50", 32, auto_stem_macs=math.inf).changes.stem
    photo = build("resnet18", 64, auto_stem_macs=math.inf)
    assert ("plain", None) == (photo.changes.stem, photo.stem_note)
    own = build("fast_net", 32, auto_stem_macs=math.inf)
    assert ("plain", None) == (own.changes.stem, own.stem_note)


def test_weights_default_to_none_on_small_images_and_to_published_ones_on_photos() -> None:
    assert "none" == default_weights("resnet50", 28)
    assert "none" == default_weights("resnet50", 64)
    assert "pretrained" == default_weights("resnet50", 65)
    assert "none" == default_weights("fast_net", 500)


def test_enlarging_is_stated() -> None:
    built = build("vgg11", 28, 1)
    assert "images of 28x28 are enlarged to 32x32" in str(built.size_note)


def learn_one_step(built: BuiltModel, channels: int) -> None:
    size = built.preprocess
    images = torch.randn(2, channels, size.height, size.width)
    model = built.model.train()
    functional.cross_entropy(model(images).logits, torch.tensor([0, 1])).backward()
    before = [p.detach().clone() for p in model.parameters()][-1]
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert not torch.equal(before, list(model.parameters())[-1])


HANDFUL = ["lenet_stn", "resnet-v1", "resnet18_v2", "mobilenet0.25", "squeezenet1.1"]


@pytest.mark.feature("MX-62")
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
@pytest.mark.parametrize("name", HANDFUL)
def test_a_handful_of_names_trains_on_digits_and_thumbnails(
    name: str, side: int, channels: int
) -> None:
    learn_one_step(build(name, side, channels, auto_stem_macs=CPU_MACS), channels)


NAMES = sorted(
    {name for name, alias in ALIASES.items() if alias.target is not None} | set(own_names())
)


@pytest.mark.slow
@pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
@pytest.mark.parametrize("name", NAMES)
def test_every_name_trains_on_digits_and_thumbnails_or_names_its_smallest(
    name: str, side: int, channels: int
) -> None:
    told = None
    try:
        built = build(name, side, channels, auto_stem_macs=CPU_MACS)
    except ModelError as error:
        told = error.expected
    if told is not None:
        assert re.fullmatch(r"at least \d+ pixels a side", told), told
        return
    if built.preprocess.height != side:
        assert "are enlarged to" in str(built.size_note)
    learn_one_step(built, channels)
