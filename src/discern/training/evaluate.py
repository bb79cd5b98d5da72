"""Scoring a model on every image of a feed, exactly: no image dropped, none counted twice."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from discern.compute.memory import scoring_passes
from discern.compute.world import World
from discern.data.head_spec import HeadSpec
from discern.feed.batch import Feed
from discern.training.objectives import MISSING
from discern.training.scores import EvalTable
from discern.training.tag_scores import TagTable

TOP = 5
# Beyond this many values the logits are not kept: 200 MB in float32.
MAX_LOGITS = 50_000_000

Table: TypeAlias = EvalTable | TagTable
# What was measured, by head: its columns, each an array with a row per image.
Columns: TypeAlias = dict[str, dict[str, NDArray[Any]]]


def evaluation_batch(batch_size: int, asked: int | None = None) -> int:
    """Images per evaluation pass of a stage with updates of `batch_size` images.

    As many as are `asked` for; else at least 64, for evaluation holds no activations.
    """
    return max(64, batch_size) if asked is None else asked


def evaluate(
    model: nn.Module,
    feed: Feed,
    *,
    classes: tuple[str, ...],
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    world: World | None = None,
) -> EvalTable:
    """Predictions, losses and top classes of every image in `feed`, in its order: of one head.

    See `evaluate_heads`.
    """
    head = HeadSpec("label", "single", classes)
    tables = evaluate_heads(
        model, feed, heads=(head,), device=device, amp_dtype=amp_dtype, world=world
    )
    return cast("EvalTable", tables[head.name])


def evaluate_heads(
    model: nn.Module,
    feed: Feed,
    *,
    heads: Sequence[HeadSpec],
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    world: World | None = None,
    keep_features: bool = False,
) -> dict[str, Table]:
    """What the network says of every image in `feed`, in its order, by head.

    `model` gives `Output` for a batch of `feed`: a Classifier, or a HeadPart of features. Only
    `heads` are scored; their targets must be in the batches. Loss (cross entropy, or binary
    cross entropy of several labels) and probabilities are computed in float32 whatever the
    network's precision. The model's training mode is put back afterwards. Of several ranks in
    `world` each has a part of the images, in rank order, and all get the whole tables.
    `keep_features` puts the embeddings into the tables of heads of one label an image.
    """
    columns = _measure(
        model, feed, heads, device, amp_dtype, world or World(), keep_features=keep_features
    )
    return {head.name: _table(head, columns[head.name]) for head in heads}


def _measure(
    model: nn.Module,
    feed: Feed,
    heads: Sequence[HeadSpec],
    device: torch.device,
    amp_dtype: torch.dtype | None,
    world: World,
    *,
    keep_features: bool,
) -> Columns:
    training = model.training
    model.eval()
    keep = world.sum_values([feed.samples])[0] * max(head.width for head in heads) <= MAX_LOGITS
    parts: dict[str, list[dict[str, Tensor]]] = {head.name: [] for head in heads}
    cast_to = (
        torch.autocast(device.type, dtype=amp_dtype) if amp_dtype else contextlib.nullcontext()
    )
    try:
        with (
            scoring_passes(),
            torch.inference_mode(),
            cast_to,
            contextlib.closing(feed.epoch(0)) as batches,  # type: ignore[type-var]
        ):
            for batch in batches:
                output = model(batch.images)
                answer: Any = output.logits
                wanted: Any = batch.targets
                for head in heads:
                    logits = answer[head.name] if isinstance(answer, dict) else answer
                    targets = wanted[head.name] if isinstance(wanted, dict) else wanted
                    measure = _tag_columns if head.kind == "multi" else _class_columns
                    found = measure(logits.float(), targets, keep=keep)
                    found["positions"] = batch.positions
                    if keep_features:
                        found["features"] = output.features.float()
                    parts[head.name].append({n: c.cpu().clone() for n, c in found.items()})
    finally:
        model.train(training)
    further = ("features",) if keep_features else ()
    return {
        head.name: _joined(parts[head.name], (*_names(head, keep=keep), *further), world)
        for head in heads
    }


def _names(head: HeadSpec, *, keep: bool) -> tuple[str, ...]:
    """The columns of a head's table: those that `_class_columns` and `_tag_columns` give."""
    if head.kind == "multi":
        return ("positions", "targets", "probabilities", "losses")
    return (
        "positions",
        "targets",
        "top",
        "probabilities",
        "losses",
        *(("logits",) if keep else ()),
    )


def _joined(
    parts: Sequence[Mapping[str, Tensor]], names: Sequence[str], world: World
) -> dict[str, NDArray[Any]]:
    """The columns of all ranks' images; a rank without images has empty ones."""
    columns = {name: [part[name].numpy() for part in parts] for name in names}
    return {
        name: world.join(np.concatenate(rows) if rows else np.empty(0))
        for name, rows in columns.items()
    }


def _class_columns(logits: Tensor, targets: Tensor, *, keep: bool) -> dict[str, Tensor]:
    losses = F.cross_entropy(logits, targets, ignore_index=MISSING, reduction="none")
    top = logits.softmax(1).topk(min(TOP, logits.shape[1]), dim=1)
    found = {
        "targets": targets,
        "top": top.indices,
        "probabilities": top.values,
        "losses": losses,
    }
    return found | ({"logits": logits} if keep else {})


def _tag_columns(logits: Tensor, targets: Tensor, *, keep: bool) -> dict[str, Tensor]:
    del keep  # the sigmoids are needed for every score of several labels
    known = ~targets.isnan()
    entries = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(0.0), reduction="none")
    losses = torch.where(known, entries, 0.0).sum(1) / known.sum(1)  # of no known label: NaN
    return {"targets": targets, "probabilities": logits.sigmoid(), "losses": losses}


def _table(head: HeadSpec, columns: Mapping[str, NDArray[Any]]) -> Table:
    if head.kind == "multi":
        return TagTable(
            positions=columns["positions"],
            targets=columns["targets"],
            probabilities=columns["probabilities"],
            losses=columns["losses"],
            classes=head.classes,
        )
    return EvalTable(
        positions=columns["positions"],
        targets=columns["targets"],
        top_classes=columns["top"],
        top_probabilities=columns["probabilities"],
        losses=columns["losses"],
        logits=columns.get("logits"),
        classes=head.classes,
        features=columns.get("features"),
    )
