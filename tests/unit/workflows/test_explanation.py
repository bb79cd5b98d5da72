"""Grad-CAM: where on an image a class was seen."""

import json

import numpy as np
import pytest
import torch

from discern.base.errors import ConfigError, DataError, ModelError
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.exporting.predictor import Predictor
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import wrap_network
from discern.workflows.class_activation import activation_maps, find_map_layer
from discern.workflows.explanation import explain_images
from discern.workflows.explanation_page import ExplanationFolder

CLASSES = ("bee", "wasp", "fly")


def network(name, size=64, channels=3, **arguments):
    torch.manual_seed(0)
    request = ModelRequest(
        name=name, num_classes=3, channels=channels, image_size=(size, size), weights="none",
        arguments=arguments,
    )  # fmt: skip
    return build_model(request).model.eval()


def preprocess(size=64, channels=3):
    mean, std = (0.5,) * channels, (0.25,) * channels
    return Preprocess(height=size, width=size, channels=channels, mean=mean, std=std)


def photos(count, size=64, channels=3):
    random = np.random.default_rng(1)
    return list(random.integers(0, 256, (count, size, size, channels), dtype=np.uint8))


class Pooled(torch.nn.Module):
    """A network whose map is known: averaged channels, then a linear layer (CAM of Zhou 2016)."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 3, stride=8), torch.nn.ReLU())
        self.fc = torch.nn.Linear(5, 3)

    def forward(self, images):
        return self.fc(self.body(images).mean((2, 3)))


def test_a_network_of_averages_and_a_linear_layer_gives_the_class_activation_map():
    torch.manual_seed(0)
    net = Pooled().eval()
    images = torch.randn(4, 3, 33, 49)
    model = wrap_network(net, images)
    layer = find_map_layer(model, images)
    places = torch.tensor([0, 1, 2, 1])
    with torch.no_grad():
        maps = net.body(images)
        by_hand = torch.einsum("nd,ndhw->nhw", net.fc.weight[places], maps).relu()
    found = activation_maps(model, layer, images, places)
    assert (4, 4, 6) == tuple(found.shape)
    # The gradient of the mean is one over the number of places; the map's scale, not its shape.
    torch.testing.assert_close(found * 24, by_hand)


@pytest.mark.parametrize(
    ("name", "arguments", "expected", "size"),
    [
        ("resnet18", {}, "layer4", (2, 2)),
        ("mobilenetv2_100", {}, "bn2", (2, 2)),
        ("vit_tiny_patch16_224", {"depth": 2}, "blocks.1.norm1", (4, 4)),
        ("deit_tiny_distilled_patch16_224", {"depth": 2}, "blocks.1.norm1", (4, 4)),
        ("swin_tiny_patch4_window7_224", {"depths": [1, 1, 1, 1], "window_size": 2}, None, (2, 2)),
        ("convnext_atto", {}, None, (2, 2)),
        ("fast_net", {}, None, None),
        ("lenet", {}, None, None),
    ],
)
def test_the_layer_is_found_and_its_map_has_the_grid_of_the_image(name, arguments, expected, size):
    model = network(name, **arguments)
    images = torch.randn(2, 3, 64, 64)
    layer = find_map_layer(model, images)
    maps = activation_maps(model, layer, images, torch.tensor([1, 2]))
    assert expected in (None, layer.name)
    assert size in (None, tuple(maps.shape[1:]))
    assert min(maps.shape[1:]) > 1
    assert (maps >= 0).all()
    assert maps.any()


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_maps_are_those_of_the_grad_cam_package(name):
    peer = pytest.importorskip("pytorch_grad_cam", reason="the grad-cam package is not installed")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    model = network(name)
    images = torch.randn(3, 3, 64, 64)
    layer = find_map_layer(model, images)
    with torch.no_grad():
        places = model(images).logits.argmax(1)
    found = activation_maps(model, layer, images, places).numpy()

    def placed(tokens):
        return tokens[:, 1:].transpose(1, 2).unflatten(2, (4, 4))

    cam = peer.GradCAM(
        model=model.network,
        target_layers=[model.network.get_submodule(layer.name)],
        reshape_transform=placed if name.startswith("vit") else None,
    )
    # At the layer's own size: what enlarges it is a matter of taste.
    wanted = [targets.ClassifierOutputTarget(place) for place in places.tolist()]
    cam.get_target_width_height = lambda _: None
    theirs = cam(images, targets=wanted)
    # The package stretches each map from its lowest to its highest value.
    scaled = found - found.min((1, 2), keepdims=True)
    assert (scaled.max((1, 2)) > 0).all()
    scaled /= scaled.max((1, 2), keepdims=True)
    np.testing.assert_allclose(theirs / theirs.max((1, 2), keepdims=True), scaled, atol=1e-5)


def test_the_likeliest_class_or_the_class_asked_for_is_explained():
    predictor = Predictor(network("lenet"), preprocess(), CLASSES)
    answers = predictor.predict(photos(3), top_k=3)
    found = list(explain_images(predictor, photos(3)))
    assert answers.classes == tuple(one.class_name for one in found)
    for row, one in enumerate(found):
        assert one.probability == pytest.approx(float(answers.probabilities[row, 0]), abs=1e-6)
        assert (64, 64, 3) == one.pixels.shape
        assert one.overlay().shape == (256, 256, 3)
    asked = list(explain_images(predictor, photos(3), class_name="wasp"))
    assert ["wasp"] * 3 == [one.class_name for one in asked]


def test_of_several_heads_the_one_asked_for_is_explained():
    model = network("lenet")
    heads = (HeadSpec("color", "single", ("red",)), HeadSpec("tags", "multi", ("wet", "old")))
    predictor = Predictor(model, preprocess(), heads)
    (found,) = explain_images(predictor, photos(1), head="tags", class_name="old")
    answers = predictor.predict(photos(1)).heads["tags"]
    at = [heads[1].classes[number] for number in answers.top[0]].index("old")
    assert ("tags", "old") == (found.head, found.class_name)
    assert found.probability == pytest.approx(float(answers.probabilities[0, at]), abs=1e-6)


def test_a_cold_map_leaves_the_photo_as_it_is(monkeypatch):
    predictor = Predictor(network("lenet"), preprocess(), CLASSES)
    monkeypatch.setattr(
        "discern.workflows.explanation.activation_maps",
        lambda model, layer, images, places: torch.zeros(len(images), 5, 5),
    )
    (found,) = explain_images(predictor, photos(1))
    assert found.empty
    assert np.array_equal(found.pixels, found.overlay()[::4, ::4])


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"class_name": "wasps"}, ConfigError, "wasp"),
        ({"layer": "body.99"}, ConfigError, "no such layer"),
        ({"head": "color"}, ConfigError, "no head 'color'"),
    ],
)
def test_what_is_not_there_is_refused_by_name(given, error, told):
    predictor = Predictor(network("lenet"), preprocess(), CLASSES)
    with pytest.raises(error, match=told):
        list(explain_images(predictor, photos(1), **given))


def test_a_network_without_maps_is_refused():
    predictor = Predictor(network("mlp"), preprocess(), CLASSES)
    with pytest.raises(ModelError, match="no layer of the network gives a map"):
        list(explain_images(predictor, photos(1)))


def test_unreadable_images_stop_it_or_are_listed(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    predictor = Predictor(network("lenet"), preprocess(), CLASSES)
    given = [tmp_path / "broken.jpg", *photos(1)]
    with pytest.raises(DataError, match=r"broken\.jpg"):
        list(explain_images(predictor, given))
    problems = []
    found = list(explain_images(predictor, given, on_bad_image="skip", problems=problems))
    assert ["image 1"] == [one.name for one in found]
    assert "broken.jpg" in problems[0]


def test_two_images_of_one_name_have_a_file_each_and_names_are_escaped(tmp_path):
    predictor = Predictor(network("lenet"), preprocess(), ("<b>bee", "wasp", "fly"))
    (found,) = explain_images(predictor, photos(1), class_name="<b>bee")
    folder = ExplanationFolder(tmp_path)
    first, second = folder.add(found), folder.add(found)
    folder.finish("net & co")
    assert first["overlay"] != second["overlay"]
    assert all((tmp_path / row["overlay"]).is_file() for row in (first, second))
    record = json.loads((tmp_path / "explanations.json").read_text())
    assert np.allclose(found.map, record["images"][0]["map"], atol=1e-6)
    page = (tmp_path / "index.html").read_text()
    assert "&lt;b&gt;bee" in page
    assert "<b>bee" not in page
