"""Heads that no stage trains: found and told before a training, filled after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from torch import nn

from discern.base.errors import ConfigError
from discern.base.plugins import is_import_path
from discern.config.schema import RunConfig, StageConfig
from discern.data.head_spec import HeadSpec
from discern.models.classifier import Classifier
from discern.training.class_centers import fill_heads_, head_layers
from discern.training.evaluate import Table
from discern.training.neighbors import NEIGHBOR_FIGURES, only_embeddings
from discern.training.stages import Training
from discern.training.validation import HeadFeeds, score_heads

CHOICE: Final = "untrained_heads"
_HINT: Final = "let the head learn too, by a weighted_sum of cross_entropy and this objective"


def untrained_heads(config: RunConfig, heads: Sequence[HeadSpec]) -> tuple[HeadSpec, ...]:
    """The heads whose embeddings some stage learns while no stage trains their own layers."""
    stages = list(config.training_stages.values())
    found = []
    for head in (head for head in heads if head.kind == "single"):
        wishes = [_wish(stage, head) for stage in stages]
        if any(embeds for embeds, _ in wishes) and not any(trains for _, trains in wishes):
            found.append(head)
    return tuple(found)


def _wish(stage: StageConfig, head: HeadSpec) -> tuple[bool, bool]:
    """Whether a stage learns embeddings alone by this head's labels, and whether it trains it."""
    own = stage.heads.get(head.name)
    if own is not None and not own.weight:
        return False, False
    chosen = stage.objective if not head.side else None
    if own is not None and own.objective is not None:
        chosen = own.objective
    if chosen is not None and only_embeddings(chosen.name, chosen.args):
        return True, False
    return False, True


def check_untrained(config: RunConfig, heads: Sequence[HeadSpec], model: Classifier) -> list[str]:
    """What people should know of heads that no stage trains; nothing where there is none.

    Raises ConfigError where such a head cannot be filled, and for a stage whose model is chosen by
    what such a head says.
    """
    untrained = untrained_heads(config, heads)
    if not untrained:
        return []
    names = [head.name for head in untrained]
    layers = head_layers(model, heads)
    for name in names:
        if not isinstance(layers.get(name), nn.Linear):
            raise ConfigError(
                f"no stage trains the head '{name}', and this network's head is no linear layer "
                "on the embeddings: it could not answer",
                where="stages.*.objective", got=type(model.network).__name__, hint=_HINT,
            )  # fmt: skip
    for name, stage in config.training_stages.items():
        head, _, figure = stage.monitor.rpartition("/")
        says = figure in NEIGHBOR_FIGURES or is_import_path(stage.monitor)
        if not says and (not head or head in names):
            raise ConfigError(
                f"no stage trains the head, so that '{stage.monitor}' chooses no model",
                where=f"stages.{name}.monitor", got=stage.monitor,
                expected=", ".join(NEIGHBOR_FIGURES),
                hint=f"--set stages.{name}.monitor=recall@1; or {_HINT}",
            )  # fmt: skip
    told = (
        f"{', '.join(names)}: no stage trains the head; in the end it answers by the nearest class "
        f"center of the training embeddings. Until then only {' and '.join(NEIGHBOR_FIGURES)} count"
    )
    return [told]


def answer_untrained(training: Training, batch_size: int) -> dict[str, Any]:
    """Fill the heads that no stage trained, of the model as it is; gives what was done, by head.

    By the training images as evaluation sees them, and those that the model is chosen by. All ranks
    do it, each with its part of the images, and have the same heads then.
    """
    heads = training.material.heads
    untrained = untrained_heads(training.config, heads)
    if not untrained:
        return {}
    splits = ("train", training.material.settings.val_split)
    train, val = (_with_features(training, split, batch_size) for split in splits)
    return fill_heads_(training.model, heads, untrained, train, val)


def _with_features(training: Training, split: str, batch_size: int) -> dict[str, Table]:
    material = training.material
    feed = material.evaluation_feed(split, material.evaluation_batch(batch_size))
    with HeadFeeds(feed=feed) as feeds:
        return score_heads(
            training.model,
            feeds,
            training.material.heads,
            training.device,
            world=training.world,
            keep_features=True,
        )


def untrained_lines(done: dict[str, Any]) -> list[str]:
    """What the terminal and the report say of heads that were filled."""
    return [
        f"no stage trained the head{'' if len(done) == 1 else f' {name}'}: it answers by the "
        f"{one['answers']} of the training embeddings"
        for name, one in done.items()
    ]
