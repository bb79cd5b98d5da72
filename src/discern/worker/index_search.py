"""The verb `index-search`: the neighbors of image files, folders, or images of the index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from discern.base.console import Console
from discern.base.errors import ConfigError, ModelError
from discern.base.plugins import is_import_path
from discern.config.request import Request
from discern.data.feature_files import FeatureOrigin
from discern.worker.embedding import POOLED, model_hash
from discern.worker.index_verbs import image_record, image_words
from discern.worker.open_model import OpenedModel, open_model
from discern.worker.prediction import expand_images
from discern.worker.request_values import open_request, pair_value, set_threads
from discern.workflows.index.image_index import Index, Neighbors

# What the features were made with, besides model and weights: the index knows, not the caller.
_KEPT = ("arguments", "image_size", "interpolation", "crop_pct", "fit", "mean", "std")


def search_verb(request: Request, console: Console) -> int:
    """Do one `index search` request."""
    given = request.arguments
    set_threads(request)
    index = Index.open(given["index"])
    queries: list[dict[str, Any]] = []
    files = []
    for text in given["queries"]:
        if Path(text).exists():
            files.append(text)
        else:
            row = index.row_of(text)
            found = index.search_rows([row], given["k"])
            queries.append(_told(index, index.table.paths[row], found, 0))
    if files:
        model = open_for(index, request)
        predicted = model.predictor().predict(
            expand_images(files), on_bad_image=pair_value(request, "data.on_bad_image", "error")
        )
        for problem in predicted.problems:
            console.warn(f"left out: {problem}")
        found = index.search(np.asarray(predicted.features, dtype=np.float32), given["k"])
        queries += [_told(index, name, found, row) for row, name in enumerate(predicted.names)]
    for query in queries:
        console.result(str(query["query"]))
        for one in query["neighbors"]:
            console.result(f"  {one['distance']:.4f}  {image_words(one)}")
    console.emit({"index": given["index"], "metric": index.metric, "queries": queries})
    return 0


def _told(index: Index, name: str, found: Neighbors, row: int) -> dict[str, Any]:
    pairs = zip(found.rows[row].tolist(), found.distances[row].tolist(), strict=True)
    neighbors = [
        {"rank": rank, **image_record(index, place), "distance": distance}
        for rank, (place, distance) in enumerate(pairs, start=1)
        if place >= 0
    ]
    return {"query": str(name), "neighbors": neighbors}


def open_for(index: Index, request: Request) -> OpenedModel:
    """The model that the index was built with, opened again and compared by hash.

    `--model` names it where it has moved. Raises ModelError, DataError.
    """
    origin = index.origin
    if origin.layer != POOLED:
        raise ConfigError(
            "images cannot be asked with: the index is of another layer than the head reads",
            got=origin.layer or "a bare array",
            expected="rows or ids of the index",
            hint="embed the images with --layer, and take `discern index check`",
        )
    stored = dict(origin.opened)
    named = request.arguments.get("model")
    if named is not None:
        stored = {**stored, "model": named}
    elif is_import_path(str(stored.get("model"))):
        # An index alone never chooses what code runs.
        raise ModelError(
            "the index names code to run, and code that a file names is not run",
            where=request.arguments["index"],
            got=stored["model"],
            hint="name the model yourself: --model",
        )
    if "model" not in stored:
        raise ConfigError("the index does not say which model it is of: name it with --model")
    asked = open_request(Request(verb="predict", arguments=stored, pairs=request.pairs))
    if asked.weights is None:
        asked = replace(asked, weights=stored.get("weights"))
    kept = {key: stored[key] for key in _KEPT if key in stored}
    opened = open_model(replace(asked, **kept))
    index.check_origin(
        FeatureOrigin(
            model=opened.name,
            model_hash=model_hash(opened),
            layer=origin.layer,
            classes={head.name: list(head.classes) for head in opened.heads},
        )
    )
    return opened
