"""Proposed settings by what the images and the network are: the layer below files and flags.

Chosen by sizes and counts alone, never by a data set's name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from discern.config.layers import Layer
from discern.config.schema import StageConfig

DEFAULT_SMALL = "fast_net"
# 5.5 M parameters, 0.2 GMACs, Apache-2.0 weights: fine-tunes in minutes on a laptop.
DEFAULT_PHOTO = "mobilenetv3_large_100"
SMALL_SIDE = 64
CLASSIC_NETS = ("mlp", "lenet")
# With fewer validation images two stages cannot be told apart: at an accuracy of 0.95 the standard
# error of 40 is 3.4 points, and one image is 2.5.
JUDGING_IMAGES = 40
# With fewer, their mean loss chooses among epochs and stages: at an accuracy of 0.95 the standard
# error of 500 is 1 point, what fine-tuning gains; the loss also counts how sure each answer was.
# A network trained from nothing keeps its last epoch, whose rate has come down to nothing: with 10
# to 100 validation images the best by accuracy was 0 to 13 points lower on the test images and
# never more than 2 higher (docs/lab-log.md).
COUNTING_IMAGES = 500
# From nothing, a hundred images in batches of 32 want more than 30 epochs of 3 updates: 107 gave
# 1 to 9 points more (docs/lab-log.md).
LEAST_UPDATES = 320
MOST_EPOCHS = 120
# Beyond this the features of every image and its mirror image may not fit (training.
# frozen_features): 100,000 images of 2,048 numbers take 1.6 GB.
MANY_IMAGES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeFacts:
    """What a recipe is chosen by. `side`: the images' typical shorter side in pixels.

    `val_count`: images that the kept model is chosen on.
    """

    side: int
    train_count: int
    val_count: int
    classes: int
    model: str
    own_network: bool
    pretrained: bool


def default_model(side: int) -> str:
    """The network for images of a typical shorter side, in pixels."""
    return DEFAULT_SMALL if side <= SMALL_SIDE else DEFAULT_PHOTO


def choose_recipe(facts: RecipeFacts) -> Layer:
    """The recipe's layer; its origin names it."""
    if facts.own_network and facts.model in CLASSIC_NETS:
        name, value = "classic", _classic(facts)
    elif facts.own_network:
        name, value = "small", _small(facts)
    elif facts.pretrained and facts.val_count < JUDGING_IMAGES:
        name, value = "head", _head_alone(facts)
    elif facts.pretrained:
        name, value = "fine-tune", _fine_tune(facts)
    else:
        name, value = "from-scratch", _from_scratch(facts)
    return Layer("recipe", f"recipe {name}", value)


def shorten_warmups(recipe: Layer, epochs: Mapping[str, float | None]) -> bool:
    """Let the recipe's warm-ups take half of a stage at most, of these lengths; True if one did.

    For people who ask for a shorter training than the recipe has: its warm-up is no wish of theirs.
    """
    changed = False
    for name, stage in recipe.value.get("stages", {}).items():
        length, warmup = epochs.get(name), stage.get("warmup_epochs", 0.0)
        if length is not None and warmup > length / 2:
            stage["warmup_epochs"] = length / 2
            changed = True
    return changed


def choose_by_figures(recipe: Layer, stages: Iterable[str]) -> bool:
    """Let the accuracy choose the kept epoch of these stages after all; True if it did not.

    For people who ask for what goes by a figure, such as patience.
    """
    found = [recipe.value.get("stages", {}).get(name, {}) for name in stages]
    changed = [stage for stage in found if stage.pop("monitor", None) == "last"]
    return bool(changed)


def recipe_reason(recipe: str, stages: Mapping[str, StageConfig], val_count: int) -> str | None:
    """What people should know of a recipe, by its origin; None for those without a choice.

    `stages`: those that train, as they were resolved; None where they are the user's own. The
    kept model is chosen on `val_count` images.
    """
    learns = [(name, stage.trainable) for name, stage in stages.items()]
    monitor = [stage.monitor for stage in stages.values()][-1]
    if recipe == "recipe head" and learns == [("head", "head")]:
        return (
            f"the head alone: {val_count} validation images cannot tell whether fine-tuning "
            f"all layers is better ({JUDGING_IMAGES} could)"
        )
    if recipe == "recipe fine-tune" and learns == [("head", "head"), ("all", "all")]:
        best = f"the best {monitor} on {val_count} validation images"
        return (
            f"the head, then all layers: {'the last epoch' if monitor == 'last' else best} is kept"
        )
    if learns == [("train", "all")] and monitor == "last" and val_count < COUNTING_IMAGES:
        return (
            f"the last epoch is kept: {val_count} validation images cannot tell the best one "
            f"({COUNTING_IMAGES} could); --monitor accuracy or loss lets them"
        )
    return None


def _epochs(updates: int, count: int, batch: int, low: int, high: int) -> int:
    """Epochs that give about `updates` updates, within bounds."""
    return max(low, min(high, round(updates * batch / max(1, count))))


def _most_epochs(high: int, count: int, batch: int) -> int:
    """`high`, or more where so many give fewer than `LEAST_UPDATES`."""
    updates_of_one = -(-max(1, count) // batch)
    return max(high, min(MOST_EPOCHS, -(-LEAST_UPDATES // updates_of_one)))


def _kept_epoch(facts: RecipeFacts) -> dict[str, Any]:
    return {"monitor": "last"} if facts.val_count < COUNTING_IMAGES else {}


def _small(facts: RecipeFacts) -> dict[str, Any]:
    """Muon over a triangular rate: the best of about 115 settings on held-out training images.

    Measured with the default network (docs/lab-log.md): SGD 1 to 6 points lower, AdamW 0.5 to 1.5.
    """
    count = facts.train_count
    batch = 256 if count >= 20_000 else 128 if count >= 5_000 else 32
    return {
        "stages": {
            "train": {
                "epochs": _epochs(1600, count, batch, 8, _most_epochs(30, count, batch)),
                "batch_size": batch,
                "optimizer": "muon",
                "lr": 0.02,
                "weight_decay": 0.1,
                "schedule": "triangular",
                "smoothing": 0.1,
                **_kept_epoch(facts),
            }
        }
    }


def _classic(facts: RecipeFacts) -> dict[str, Any]:
    most = _most_epochs(60, facts.train_count, 64)
    return {
        "stages": {
            "train": {
                "epochs": _epochs(4000, facts.train_count, 64, 8, most),
                "batch_size": 64,
                "optimizer": "adamw",
                "lr": 2e-3,
                "weight_decay": 0.01,
                "schedule": "cosine",
                "warmup_epochs": 0.5,
                **_kept_epoch(facts),
            }
        }
    }


def _fine_tune(facts: RecipeFacts) -> dict[str, Any]:
    """The head on kept features, then all layers with a layer decay as AutoGluon has it.

    The rate: three times AutoGluon's 1e-4 lowers the held-out loss of the head by 31 %, where 1e-4
    lowers it by 8 % (docs/lab-log.md).
    The weights that are kept are the best on the validation images over both stages, so fine-tuned
    ones only where they beat the head there; so for the mean of the three best epochs.
    """
    value = _head_alone(facts)
    if facts.val_count < COUNTING_IMAGES:
        value["defaults"]["monitor"] = "loss"
    batch = value["defaults"]["batch_size"]
    value["stages"]["all"] = {
        "epochs": _epochs(120, facts.train_count, batch, 3, 20),
        "lr": 3e-4,
        "layer_decay": 0.9,
        "warmup_epochs": 0.5,
        "patience": 10,
        "soup": 3,
    }
    return value


def _head_alone(facts: RecipeFacts) -> dict[str, Any]:
    """Only the classifying layer, on features computed once of each image and its mirror image.

    40 epochs, a rate of 1e-3 and no look at the validation images on the way (the head's problem
    is convex: its last epoch is its best) gave the accuracy of logistic regression in five folds
    of the training images of two sets (docs/lab-log.md). Where the images are too many for their
    features to be kept, two epochs of random crops.
    """
    count = facts.train_count
    batch = 32 if count < 5000 else 64
    head: dict[str, Any] = {"trainable": "head", "lr": 3e-3, "epochs": 2}
    if count < MANY_IMAGES:
        epochs = _epochs(800, count, batch, 10, 40)
        head |= {"lr": 1e-3, "epochs": epochs, "evaluate_every": epochs, "augment": "flip_random"}
    return {
        "defaults": {
            "batch_size": batch,
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "schedule": "cosine",
            "smoothing": 0.1,
            "clip_grad": 1.0,
        },
        "stages": {"head": head},
    }


def _from_scratch(facts: RecipeFacts) -> dict[str, Any]:
    batch = 64 if facts.train_count < 20000 else 128
    return {
        "stages": {
            "train": {
                "epochs": _epochs(8000, facts.train_count, batch, 15, 100),
                "batch_size": batch,
                "optimizer": "adamw",
                "lr": 1e-3,
                "weight_decay": 0.05,
                "schedule": "cosine",
                "warmup_epochs": 2.0,
                "smoothing": 0.1,
                "clip_grad": 1.0,
                **_kept_epoch(facts),
            }
        }
    }
