"""What a request's flags say about the model to open, for the verbs `eval` and `predict`."""

from __future__ import annotations

from typing import Any

import torch

from discern.base.errors import ConfigError
from discern.compute.device import AMP_TYPES
from discern.config.request import Request
from discern.worker.open_model import OpenRequest

_KEYS = {
    "model.weights": "weights",
    "data.image_size": "image_size",
    "data.interpolation": "interpolation",
    "data.crop_pct": "crop_pct",
    "data.fit": "fit",
    "compute.device": "device",
}


def open_request(request: Request) -> OpenRequest:
    """What `eval` and `predict` say about their model."""
    given = request.arguments
    fields: dict[str, Any] = {
        "model": given["model"],
        "classes": given.get("classes"),
        "mean": given.get("mean"),
        "std": given.get("std"),
        "runs": given.get("runs"),
        "arguments": named_pairs(request, "model.args"),
    }
    for _, key, value in request.pairs:
        if key in _KEYS:
            fields[_KEYS[key]] = value
    return OpenRequest(**fields)


def named_pairs(request: Request, key: str) -> dict[str, Any]:
    """What flags such as `--model-arg NAME=VALUE` gave below `key`, by name."""
    begin = f"{key}."
    return {
        name.removeprefix(begin): value
        for _, name, value in request.pairs
        if name.startswith(begin)
    }


def pair_value(request: Request, key: str, default: Any = None) -> Any:
    """The last value that a flag gave to `key`."""
    return next((value for _, name, value in reversed(request.pairs) if name == key), default)


def scoring_precision(request: Request) -> torch.dtype | None:
    """What autocast casts to for `--precision`; None for full precision.

    `auto` is full precision: it is what final scores are taken in, so that the same images give
    the same answers everywhere.
    """
    wanted = pair_value(request, "compute.precision", "auto")
    if wanted == "auto":
        return None
    if wanted not in AMP_TYPES:
        raise ConfigError(
            "no such precision", where="--precision", got=wanted,
            expected=", ".join(["auto", *AMP_TYPES]),
        )  # fmt: skip
    return AMP_TYPES[wanted]


def set_threads(request: Request) -> None:
    """Give torch the arithmetic threads that `--threads` asks for."""
    threads = pair_value(request, "compute.threads")
    if threads is None:
        return
    if threads < 1:
        raise ConfigError(
            "not a number of threads", where="--threads", got=threads, expected=">= 1"
        )
    torch.set_num_threads(threads)
