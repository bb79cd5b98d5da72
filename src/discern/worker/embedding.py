"""The verb `embed`: features of every image of some data, in the order of its table.

Owns the extraction that review and autolabel use too: `embed_split`. Axes: N images, D features.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import ConfigError, ModelError
from discern.base.files import hash_json
from discern.base.names import counted
from discern.base.progress_bar import counting_bar
from discern.compute.device import autocast, usable_cores
from discern.compute.memory import scoring_passes
from discern.config.request import Request
from discern.data.feature_files import (
    FeatureOrigin,
    FeatureTable,
    check_feature_suffix,
    write_feature_table,
)
from discern.data.scan import DataRequest, ScannedData, scan_data
from discern.data.sources import open_source
from discern.models.layer_outputs import caught, channels_last, find_layer, one_row
from discern.training.material import FeedSettings, Material
from discern.training.prediction_stage import outputs_by_key
from discern.worker.data_scan import tell_problems
from discern.worker.finish import weights_hash
from discern.worker.open_model import OpenedModel, OpenRequest, open_model
from discern.worker.out_of_memory import scoring_memory_told
from discern.worker.request_values import (
    named_pairs,
    open_request,
    pair_value,
    scoring_precision,
    set_threads,
)
from discern.worker.scored_data import data_source, split_as_trained

POOLED: Final = "features"  # what the head reads
EVERY: Final = "all"


def embedding_verb(request: Request, console: Console) -> int:
    """Do one `embed` request."""
    console.emit(embed_request(request, console))
    return 0


def embed_request(request: Request, console: Console) -> dict[str, Any]:
    """Write the features; gives the object of `--json`. Raises DiscernError."""
    given, started = request.arguments, time.monotonic()
    out = Path(given["out"])
    check_feature_suffix(out)
    set_threads(request)
    amp_dtype = scoring_precision(request)
    asked = open_request(request)
    opened = open_model(asked)
    layer = given.get("layer")
    if layer is not None:
        find_layer(opened.model.network, layer)
    console.say(f"model    {opened.name}, on {opened.device}")
    scanned = scan_images(request, console)
    if any(head.classes for head in scanned.manifest.heads):  # else nothing to draw it by
        scanned = split_as_trained(
            scanned, given.get("split"), opened, console, data_source(request)
        )
    split = _split(given.get("split"), scanned)
    batch = int(given.get("batch_size") or 64)
    with scoring_memory_told(opened.name, opened.device, batch):
        table, _ = embed_split(
            opened,
            open_material(request, opened, scanned),
            split,
            batch,
            layer=layer,
            amp_dtype=amp_dtype,
        )
    table = replace(table, origin=replace(table.origin, opened=_opened_with(asked)))
    write_feature_table(out, table)
    seconds = time.monotonic() - started
    console.result(
        f"{counted(len(table), 'image')} as {table.features.shape[1]} numbers each in {out}"
    )
    return {
        "out": str(out),
        "rows": len(table),
        "width": int(table.features.shape[1]),
        "model": opened.name,
        "model_hash": table.origin.model_hash,
        "layer": table.origin.layer,
        "split": split,
        "left_out": len(scanned.problems),
        "seconds": round(seconds, 3),
    }


def scan_images(request: Request, console: Console) -> ScannedData:
    """The images of DATA, with labels where it has any, in the order of its table."""
    data = DataRequest(
        train=request.arguments["data"],
        root=pair_value(request, "data.root"),
        label=pair_value(request, "data.labels"),
        on_bad_image=pair_value(request, "data.on_bad_image", "error"),
        split=None,
        needs_labels=False,
        source_args=named_pairs(request, "data.source_args"),
        overlay=pair_value(request, "data.overlay"),
    )
    with counting_bar(console, "reading images") as progress:
        scanned = scan_data(data, progress)
    for note in scanned.notes:
        console.say(f"note: {note}")
    tell_problems(scanned, console)
    return scanned


def open_material(request: Request, opened: OpenedModel, scanned: ScannedData) -> Material:
    """The scanned images, as the model sees them."""
    workers = pair_value(request, "data.workers")
    settings = FeedSettings(
        device=opened.device.torch_device,
        workers=usable_cores() if workers is None else workers,
        seed=0,
        flip=False,
    )
    return Material(scanned.manifest, open_source(scanned.manifest), opened.preprocess, settings)


def embed_split(
    opened: OpenedModel,
    material: Material,
    split: str,
    batch_size: int,
    *,
    layer: str | None = None,
    amp_dtype: torch.dtype | None = None,
    logits: bool = False,
) -> tuple[FeatureTable, dict[str, NDArray[np.float32]]]:
    """Features of the images of `split` (or `all`) in manifest order, and logits by head if asked.

    `layer`: the module whose output they are, averaged over places or tokens; None: what the head
    reads. Raises ModelError when a feature is not finite, naming the first such image.
    """
    rows = material.positions(split)
    network = opened.model.network
    module = None if layer is None else find_layer(network, layer)
    last = channels_last(network)
    features = np.empty((0, 0), dtype=np.float32)
    stated: dict[str, list[NDArray[np.float32]]] = {}
    done = 0
    opened.model.eval()
    with contextlib.ExitStack() as stack:
        feed = stack.enter_context(material.evaluation_feed(split, batch_size))
        outputs = [] if module is None else stack.enter_context(caught(module))
        epoch = stack.enter_context(contextlib.closing(feed.epoch(0)))  # type: ignore[type-var]
        stack.enter_context(scoring_passes())
        stack.enter_context(torch.inference_mode())
        for batch in epoch:
            with autocast(batch.images.device, amp_dtype):
                answer = opened.model(batch.images)
            found = answer.features if module is None else _only(outputs, layer, last)
            part = found.float().cpu().numpy()
            if not done:
                features = np.empty((len(rows), part.shape[1]), dtype=np.float32)
            features[done : done + len(part)] = part
            done += len(part)
            if logits:
                for key, tensor in outputs_by_key(answer).items():
                    if key not in ("features", "embeddings"):
                        stated.setdefault(key, []).append(tensor.float().cpu().numpy())
    table = _table(opened, material, rows, features, layer)
    return table, {key: np.concatenate(parts) for key, parts in stated.items()}


def _only(outputs: list[torch.Tensor], layer: str | None, last: bool) -> torch.Tensor:  # noqa: FBT001
    """The one output that the pass gave; the list is emptied. Raises ModelError."""
    if len(outputs) != 1 or not isinstance(outputs[0], torch.Tensor):
        count = len(outputs)
        raise ModelError(
            "a pass does not run this layer once, for one tensor",
            where=f"--layer {layer}",
            got=counted(count, "call"),
        )
    return one_row(outputs.pop(), last=last)


def _table(
    opened: OpenedModel,
    material: Material,
    rows: NDArray[np.int64],
    features: NDArray[np.float32],
    layer: str | None,
) -> FeatureTable:
    manifest, source = material.manifest, material.source
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise ModelError(
            "the network gives features that are not finite",
            where=source.name(int(rows[bad[0]])),
            got=f"{len(bad)} of {counted(len(rows), 'image')}",
            hint="its weights are damaged or were saved after a diverged step",
        )
    # A folder without classes has a label column without any.
    labels = [head for head in manifest.heads if head.classes]
    heads = tuple(replace(head, targets=head.targets[rows]) for head in labels)
    origin = FeatureOrigin(
        model=opened.name,
        model_hash=model_hash(opened),
        layer=layer or POOLED,
        classes={head.name: list(head.classes) for head in opened.heads},
        root=str(manifest.root.absolute()),
    )
    return FeatureTable(
        features=features,
        ids=manifest.ids[rows],
        paths=np.array([source.name(int(row)) for row in rows], dtype=np.str_),
        split=manifest.split[rows],
        heads=heads,
        origin=origin,
    )


def model_hash(opened: OpenedModel) -> str:
    """SHA-256 over weights and preprocessing: the same for models that give the same features."""
    weights = weights_hash(opened.model.state_dict())
    return hash_json({"weights": weights, "preprocess": asdict_plain(opened)})


def asdict_plain(opened: OpenedModel) -> dict[str, Any]:
    """The preprocessing as plain values."""
    return {
        name: str(value) if isinstance(value, float) else value
        for name, value in asdict(opened.preprocess).items()
        if name != "threads"
    }


def _opened_with(request: OpenRequest) -> dict[str, Any]:
    """What opens the same model again: all that was asked for, but the device."""
    kept = {key: value for key, value in asdict(request).items() if value not in (None, {})}
    kept.pop("device", None)
    for key in ("model", "weights", "classes", "runs"):
        if key in kept and Path(kept[key]).exists():
            kept[key] = os.path.abspath(kept[key])  # noqa: PTH100 - links stay as they are
    return kept


def _split(wanted: str | None, scanned: ScannedData) -> str:
    if wanted in (None, EVERY):
        return EVERY
    there = list(scanned.manifest.sizes())
    if wanted not in there:
        raise ConfigError(
            "the data has no such split",
            where="--split",
            got=wanted,
            expected=", ".join([*there, EVERY]),
            hint="`discern data split` writes a manifest with splits",
        )
    return str(wanted)


def embed(model: OpenedModel, data: str, *, layer: str | None = None, batch_size: int = 64,
          split: str | None = None) -> FeatureTable:  # fmt: skip
    """The features of `data` as a table: what `discern.embed` gives. Raises DiscernError."""
    request = Request(verb="embed", arguments={"data": data})
    scanned = scan_images(request, Console(quiet=True))
    if any(head.classes for head in scanned.manifest.heads):
        scanned = split_as_trained(scanned, split, model, Console(quiet=True), data_source(request))
    material = open_material(request, model, scanned)
    return embed_split(model, material, _split(split, scanned), batch_size, layer=layer)[0]
