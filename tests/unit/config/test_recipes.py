"""Which recipe is proposed, by sizes and counts alone."""

from __future__ import annotations

import pytest

from discern.config.layers import Layer, resolve
from discern.config.recipes import (
    COUNTING_IMAGES,
    JUDGING_IMAGES,
    MANY_IMAGES,
    RecipeFacts,
    choose_by_figures,
    choose_recipe,
    recipe_reason,
    shorten_warmups,
)
from discern.config.schema import StageConfig
from discern.config.stage_lengths import length_in_epochs


def facts(**given) -> RecipeFacts:
    usual = {
        "side": 224, "train_count": 648, "val_count": 72, "classes": 12, "model": "mobilenetv2_100",
        "own_network": False, "pretrained": True,
    }  # fmt: skip
    return RecipeFacts(**{**usual, **given})


def stages(**given):
    data = Layer("flag", "DATA", {"data": {"source": "images"}})
    return resolve([choose_recipe(facts(**given)), data]).config.stages


def reason(val_count, changes=None, **given):
    """What is told of the recipe for `val_count` images, its stages `changes`d by people."""
    given = {"val_count": val_count, **given}
    recipe = choose_recipe(facts(**given))
    layers = [recipe, Layer("flag", "DATA", {"data": {"source": "images"}})]
    layers += [] if changes is None else [Layer("flag", "--set", changes)]
    return recipe_reason(recipe.origin, resolve(layers).config.stages, val_count)


def test_few_photos_on_pretrained_weights_train_the_head_and_then_all_layers():
    found = stages()
    assert ["head", "all"] == list(found)
    head, whole = found.values()
    assert ("head", "flip_random") == (head.trainable, head.augment.name)
    assert "auto" == head.cache_features
    assert head.epochs == head.evaluate_every  # its last epoch is its best
    assert ("all", "auto", 0.9) == (whole.trainable, whole.augment.name, whole.layer_decay)
    assert "adamw" == whole.optimizer.name
    assert "cosine" == whole.schedule.name
    assert whole.warmup_epochs > 0
    assert whole.lr < head.lr
    assert whole.soup == 3
    told = reason(72)
    assert "best loss on 72 validation images" in str(told)


@pytest.mark.parametrize(
    ("val_count", "figure"), [(COUNTING_IMAGES - 1, "loss"), (COUNTING_IMAGES, "accuracy")]
)
def test_few_validation_images_choose_by_their_loss(val_count, figure):
    assert [figure, figure] == [stage.monitor for stage in stages(val_count=val_count).values()]
    told = reason(val_count)
    assert f"best {figure} on {val_count} validation images" in str(told)


@pytest.mark.parametrize(
    ("val_count", "names"), [(JUDGING_IMAGES - 1, ["head"]), (JUDGING_IMAGES, ["head", "all"])]
)
def test_too_few_validation_images_leave_it_at_the_head(val_count, names):
    assert names == list(stages(val_count=val_count))
    told = reason(val_count)
    assert ("head alone" in str(told)) == (names == ["head"])


def test_reason_is_that_of_the_stages_there_are():
    assert None is reason(72, {"stages": {"all": None}})
    assert None is reason(72, {"stages": {"head": None}})
    assert None is reason(72, {"stages": {"head": {"trainable": "all"}}})
    assert None is reason(JUDGING_IMAGES - 1, {"stages": {"more": {}}})
    assert "the best accuracy on 72 " in str(
        reason(72, {"stages": {"all": {"monitor": "accuracy"}}})
    )
    last = {"stages": {"all": {"monitor": "last", "soup": None, "patience": None}}}
    assert "the head, then all layers: the last epoch is kept" == reason(72, last)


def test_images_whose_features_would_not_fit_see_random_crops():
    head = stages(train_count=MANY_IMAGES)["head"]
    assert ("auto", 2, 1) == (head.augment.name, head.epochs, head.evaluate_every)


@pytest.mark.parametrize("given", [{"pretrained": False}, {"own_network": True}])
def test_networks_without_weights_train_in_one_stage(given):
    assert ["train"] == list(stages(**given))
    told = reason(72, **given)
    assert "the last epoch is kept: 72 validation images cannot tell the best one" in str(told)


@pytest.mark.parametrize(
    ("val_count", "monitor"), [(COUNTING_IMAGES - 1, "last"), (COUNTING_IMAGES, "accuracy")]
)
@pytest.mark.parametrize("model", ["fast_net", "lenet", "resnet18"])
def test_what_few_validation_images_cannot_tell_they_do_not_choose(val_count, monitor, model):
    given = {"model": model, "own_network": model != "resnet18", "pretrained": False}
    (stage,) = stages(val_count=val_count, **given).values()
    assert monitor == stage.monitor
    told = reason(val_count, **given)
    assert (monitor == "last") == (told is not None)


@pytest.mark.parametrize(
    ("count", "epochs"), [(20, 120), (90, 107), (1000, 30), (4000, 13), (54_000, 8)]
)
def test_a_hundred_images_are_seen_often_enough(count, epochs):
    given = {"model": "fast_net", "own_network": True, "pretrained": False}
    assert epochs == stages(train_count=count, **given)["train"].epochs


def test_who_asks_for_patience_has_a_figure_to_go_by() -> None:
    recipe = choose_recipe(facts(model="fast_net", own_network=True, pretrained=False))
    assert not choose_by_figures(recipe, [])
    assert not choose_by_figures(recipe, ["other"])
    assert choose_by_figures(recipe, ["train"])
    assert "monitor" not in recipe.value["stages"]["train"]


def test_a_recipes_warm_up_takes_half_of_a_short_stage_at_most() -> None:
    recipe = Layer("recipe", "recipe x", {"stages": {"a": {"warmup_epochs": 2.0}, "b": {}}})
    assert not shorten_warmups(recipe, {"a": 4, "b": 1})
    assert shorten_warmups(recipe, {"a": 1, "b": 1})
    assert {"a": {"warmup_epochs": 0.5}, "b": {}} == recipe.value["stages"]
    assert not shorten_warmups(recipe, {"a": None})


@pytest.mark.parametrize(
    ("length", "epochs"),
    [
        ({"epochs": 3}, 3),
        ({"steps": 5, "batch_size": 20}, 0.5),
        ({"steps": 5, "batch_size": "auto"}, 0.025),  # of one image at least
        ({"examples": 300}, 1.5),
        ({"examples": 300, "epoch_size": 100}, 3.0),
        ({"minutes": 2}, None),
    ],
)
def test_lengths_in_other_units_are_told_in_epochs(length, epochs) -> None:
    assert epochs == length_in_epochs(StageConfig(**length), images=200)
