"""When a stage may train on features computed once, and that they are what evaluation sees."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.feed.augment import PhotoAugment, Policy, Step
from discern.feed.batch import FeedOptions
from discern.feed.operations import Mirror
from discern.feed.resident import ResidentFeed
from discern.models.classifier import Classifier, Route, set_trainable, train_mode, wrap_network
from discern.models.head_part import HeadPart
from discern.models.nets.fast_net import fast_net
from discern.training.frozen_features import (
    FeaturePlan,
    choose_features,
    extract_features,
    same_in_training,
    trial_images,
)

SHAPE = (3, 8, 8)
CPU = torch.device("cpu")
SAMPLE = trial_images(SHAPE, CPU)
MIRROR = Policy(name="mirror", steps=(Step(operation=Mirror(), probability=0.5),))


class Headed(nn.Module):
    """`features` and `head`, with a layer between that has no weights."""

    def __init__(self, between: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.between = between
        self.head = nn.Linear(4, 2)

    def features(self, images: Tensor) -> Tensor:
        """[N, 4]."""
        return self.between(self.conv(images)).mean((2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        return self.head(self.features(images))


def headed(between: nn.Module) -> Classifier:
    model = wrap_network(Headed(between), SAMPLE)
    set_trainable(model, "head")
    return model


def plan(**given) -> FeaturePlan:
    usual = {"augment": None, "mixed": False, "images": 100, "scored": 10, "epochs": 5}
    return FeaturePlan(**{**usual, **given})


def choose(model, wanted="auto", **given):
    return choose_features(wanted, model, plan(**given), SAMPLE, where="stages.head")


@pytest.fixture
def model() -> Classifier:
    built = wrap_network(fast_net(5, 3, (8, 8)), SAMPLE)
    set_trainable(built, "head")
    return built


def test_frozen_network_without_chance_is_taken_and_its_size_told(model):
    choice = choose(model, augment=MIRROR)
    assert choice.cached
    # 128 numbers of 4 bytes: twice 100 training images and 10 to score.
    assert f"{128 * 4 * 210 / 1e6:.1f} MB" in choice.reason
    assert "mirror image" in choice.reason


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"augment": PhotoAugment()}, "new pictures: crop 35% to 100%"),
        ({"mixed": True}, "mixed"),
        ({"images": 5_000_000}, "2.6 GB, more than 2.1"),
    ],
)
def test_stages_that_cannot_say_why(model, given, text):
    choice = choose(model, **given)
    assert not choice.cached
    assert text in choice.reason
    with pytest.raises(ConfigError) as caught:
        choose(model, "on", **given)
    assert text in str(caught.value.got)
    assert "stages.head.cache_features" == caught.value.where


def test_few_epochs_gain_nothing_unless_asked_for(model):
    assert not choose(model, augment=MIRROR, epochs=2).cached
    assert choose(model, augment=MIRROR, epochs=3).cached
    assert choose(model, "on", augment=MIRROR, epochs=2).cached
    assert not choose(model, "off", epochs=50).cached


def test_learning_layers_below_the_head_are_named(model):
    set_trainable(model, ["head", "stem"])
    assert "below the head learn: network.stem" in choose(model).reason


def test_heads_that_cannot_run_alone_are_told(model):
    plain = Classifier(model.network, route=Route.PLAIN, head_names=model.head_names)
    assert "logits only: its head cannot run alone" in choose(plain).reason


@pytest.mark.parametrize(
    ("between", "same"),
    [
        (nn.ReLU(), True),
        (nn.Dropout(0.5), False),
        (nn.BatchNorm2d(4), True),  # frozen, so it stays in evaluation mode
        (nn.BatchNorm2d(4, affine=False), False),  # nothing to freeze: it goes on counting
    ],
)
def test_what_behaves_otherwise_in_training_is_noticed(between, same):
    model = headed(between)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    train_mode(model)
    modes = [module.training for module in model.modules()]
    assert same is same_in_training(model, SAMPLE)
    assert same is choose(model).cached
    assert torch.equal(expected, torch.rand(1))
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("views", [1, 2])
def test_extracted_features_are_those_of_evaluation(model, views):
    pixels = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3)).astype(np.uint8)
    preprocess = Preprocess(height=8, width=8, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    feed = ResidentFeed(
        pixels, np.zeros(7, int), np.arange(7), preprocess, FeedOptions(batch_size=3)
    )
    train_mode(model)
    given = extract_features(model, feed, views)
    assert (views, 7, 128) == tuple(given.shape)
    model.eval()
    with torch.no_grad():
        for view in range(views):
            for batch in feed.epoch(0):
                images = batch.images.flip(-1) if view else batch.images
                rows = given[view, batch.positions]
                expected = model(images)
                assert torch.equal(expected.features, rows)
                assert torch.equal(expected.logits, HeadPart(model)(rows).logits)


def test_features_that_are_the_images_are_copied():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(192, 2)

        def features(self, images):
            return images.flatten(1)

        def forward(self, images):
            return self.head(self.features(images))

    pixels = np.arange(6 * 192, dtype=np.uint8).reshape(6, 8, 8, 3)
    preprocess = Preprocess(height=8, width=8, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3)
    feed = ResidentFeed(
        pixels, np.zeros(6, int), np.arange(6), preprocess, FeedOptions(batch_size=2)
    )
    given = extract_features(wrap_network(Flat(), SAMPLE), feed, 1)[0]
    assert torch.equal(next(feed.epoch(0)).images.flatten(1), given[:2])
