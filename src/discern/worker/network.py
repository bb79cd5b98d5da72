"""From the config's `model` section to a request for the network.

An assembler. Owns how the section's words become changes of a network, and its automatic choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch

from discern.config.recipes import SMALL_SIDE
from discern.config.schema.model import ModelConfig
from discern.models.catalogue import ModelRequest, is_own_network
from discern.models.changes import ModelChanges, Stem, embedding_block
from discern.models.small_stem import CPU_MACS


def default_weights(name: str, side: int) -> str:
    """Where weights come from when nobody says: published ones for photographs, else none.

    `side`: the images' typical shorter side in pixels. Weights of photographs do not suit digits
    and thumbnails, at the 224 pixels that they want.
    """
    return "none" if side <= SMALL_SIDE or is_own_network(name) else "pretrained"


def network_request(
    model: ModelConfig,
    *,
    num_classes: int,
    channels: int,
    device: torch.device | None = None,
    choices: Mapping[str, Any],
) -> ModelRequest:
    """The request of the `model` section, without an image size.

    `choices`: those of the run, if it has begun: what it decided about the stem stays. A run of
    before there was a choice has the plain one. Without a `device` nothing is decided anew.
    """
    chosen = choices.get("stem", {}).get("value")
    stem: str = "plain" if model.stem == "auto" else model.stem
    auto = None
    if model.stem == "auto" and chosen is not None:
        stem = chosen
    elif model.stem == "auto" and "normalization" not in choices and device is not None:
        auto = CPU_MACS if device.type == "cpu" else math.inf
    return ModelRequest(
        name=model.name or "",
        num_classes=num_classes,
        channels=channels,
        arguments=model.args,
        weights=model.weights or "none",
        changes=_changes(model, cast("Stem", stem)),
        skip=tuple(model.skip_weights),
        init=None if model.init is None else (model.init.name, model.init.args),
        auto_stem_macs=auto,
    )


def stored_request(
    record: Mapping[str, Any], choices: Mapping[str, Any], *, num_classes: int, channels: int
) -> ModelRequest:
    """The request behind a stored config's `model` section, to be filled from a checkpoint."""
    config = ModelConfig.model_validate({**record, "weights": "none", "skip_weights": []})
    return network_request(config, num_classes=num_classes, channels=channels, choices=choices)


def _changes(model: ModelConfig, stem: Stem) -> ModelChanges:
    block = model.embedding
    return ModelChanges(
        stem=stem,
        pooling=None if model.pooling is None else model.pooling.name,
        pooling_args={} if model.pooling is None else model.pooling.args,
        embedding=None if block is None else embedding_block(**block.model_dump()),
    )
