"""A stage that trains nothing: what the network says of each image, as arrays beside a table.

`<split>.<key>.npy` holds one row an image, in the order of the manifest; `<split>.csv` tells which
image each row is. `record.json` comes last, split by split: what it lists is whole.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.files import write_bytes, write_json, write_text
from discern.compute.memory import scoring_passes
from discern.compute.world import World
from discern.feed.batch import Feed
from discern.models.classifier import Classifier, Output
from discern.training.material import Material

RECORD_FILE: Final = "record.json"
FORMAT_VERSION: Final = 1


def outputs_by_key(output: Output) -> dict[str, torch.Tensor]:
    """What a network gives for a batch: `logits`, `features`, `embeddings`; several heads by name.

    Without an embedding block the features are the embeddings.
    """
    logits: Any = output.logits
    heads = dict(logits) if isinstance(logits, Mapping) else {"logits": logits}
    features = output.features if output.encoded is None else output.encoded
    return {**heads, "features": features, "embeddings": output.features}


def predict_outputs(model: Classifier, feed: Feed, world: World) -> dict[str, NDArray[Any]]:
    """Each output of every image in `feed`, float32 [N, ...], in its order, and `positions` [N].

    In full precision and evaluation mode; the model's mode is put back. All ranks get all rows.
    """
    training = model.training
    model.eval()
    parts: dict[str, list[NDArray[Any]]] = {"positions": []}
    try:
        epoch = contextlib.closing(feed.epoch(0))  # type: ignore[type-var]
        with scoring_passes(), torch.inference_mode(), epoch as batches:
            for batch in batches:
                parts["positions"].append(batch.positions.cpu().numpy().copy())
                for key, tensor in outputs_by_key(model(batch.images)).items():
                    parts.setdefault(key, []).append(tensor.float().cpu().numpy())
    finally:
        model.train(training)
    keys = world.tell(list(parts))
    empty = [np.empty(0)]
    return {key: world.join(np.concatenate(parts.get(key) or empty)) for key in keys}


def write_predictions(
    model: Classifier,
    material: Material,
    splits: Mapping[str, str],
    folder: Path,
    *,
    batch_size: int,
    weights: Mapping[str, Any],
    world: World,
) -> list[str]:
    """Write the outputs of each split into `folder`; gives the names of those written now.

    `splits`: name in the files -> split of the material. `weights` says which ones they are: what
    was written with the same ones is not made again.
    """
    done = world.tell(_done(folder, weights))
    written = []
    for name, split in splits.items():
        if name in done:
            continue
        with material.evaluation_feed(split, batch_size) as feed:
            arrays = predict_outputs(model, feed, world)
        if world.leads:
            folder.mkdir(parents=True, exist_ok=True)
            done[name] = _write_split(folder, name, arrays, material)
            write_json(
                folder / RECORD_FILE,
                {"version": FORMAT_VERSION, "weights": dict(weights), "splits": done},
            )
        written.append(name)
    return written


def _done(folder: Path, weights: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    same = record.get("version") == FORMAT_VERSION and record.get("weights") == dict(weights)
    return dict(record["splits"]) if same else {}


def _write_split(
    folder: Path, name: str, arrays: dict[str, NDArray[Any]], material: Material
) -> dict[str, Any]:
    positions = arrays.pop("positions")
    stream = io.StringIO()
    table = csv.writer(stream, lineterminator="\n")
    table.writerow(["row", "id", "path"])
    manifest = material.manifest
    for row, position in enumerate(positions.tolist()):
        table.writerow([row, manifest.ids[position], material.source.name(position)])
    write_text(folder / f"{name}.csv", stream.getvalue())
    for key, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        write_bytes(folder / f"{name}.{key}.npy", buffer.getvalue())
    return {
        "rows": len(positions),
        "arrays": {
            key: {"shape": list(a.shape), "dtype": str(a.dtype)} for key, a in arrays.items()
        },
    }
