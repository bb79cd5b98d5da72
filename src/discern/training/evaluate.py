"""Scoring a model on every image of a feed, exactly: no image dropped, none counted twice."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from discern.compute.world import World
from discern.feed.batch import Feed
from discern.training.objectives import MISSING
from discern.training.scores import EvalTable

TOP = 5
# Beyond this many values the logits are not kept: 200 MB in float32.
MAX_LOGITS = 50_000_000


def evaluation_batch(batch_size: int) -> int:
    """Images per evaluation pass: at least 64, for evaluation holds no activations."""
    return max(64, batch_size)


def evaluate(
    model: nn.Module,
    feed: Feed,
    *,
    classes: tuple[str, ...],
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    world: World | None = None,
) -> EvalTable:
    """Predictions, losses and top classes of every image in `feed`, in its order.

    `model` gives `Output` for a batch of `feed`: a Classifier, or a HeadPart of features.

    Loss and probabilities are computed in float32 whatever the network's precision. The model's
    training mode is put back afterwards. Of several ranks in `world` each has a part of the images,
    in rank order, and all get the whole table.
    """
    world = world or World()
    training = model.training
    model.eval()
    keep = world.sum_values([feed.samples])[0] * len(classes) <= MAX_LOGITS
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("positions", "targets", "top", "probabilities", "losses", "logits")
    }
    cast = torch.autocast(device.type, dtype=amp_dtype) if amp_dtype else contextlib.nullcontext()
    try:
        with torch.inference_mode(), cast, contextlib.closing(feed.epoch(0)) as batches:  # type: ignore[type-var]
            for batch in batches:
                logits = model(batch.images).logits.float()
                losses = F.cross_entropy(
                    logits, batch.targets, ignore_index=MISSING, reduction="none"
                )
                top = logits.softmax(1).topk(min(TOP, logits.shape[1]), dim=1)
                columns["positions"].append(batch.positions.cpu().numpy().copy())
                columns["targets"].append(batch.targets.cpu().numpy().copy())
                columns["top"].append(top.indices.cpu().numpy())
                columns["probabilities"].append(top.values.cpu().numpy())
                columns["losses"].append(losses.cpu().numpy())
                if keep:
                    columns["logits"].append(logits.cpu().numpy())
    finally:
        model.train(training)
    if not keep:
        del columns["logits"]
    joined = {
        name: world.join(np.concatenate(parts) if parts else np.empty(0))
        for name, parts in columns.items()
    }
    return EvalTable(
        positions=joined["positions"],
        targets=joined["targets"],
        top_classes=joined["top"],
        top_probabilities=joined["probabilities"],
        losses=joined["losses"],
        logits=joined.get("logits"),
        classes=classes,
    )
