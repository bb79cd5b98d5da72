"""What a request's flags say about the model to open, for the verbs `eval` and `predict`."""

from __future__ import annotations

from typing import Any

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
        "arguments": {},
    }
    for _, key, value in request.pairs:
        if key in _KEYS:
            fields[_KEYS[key]] = value
        elif key.startswith("model.args."):
            fields["arguments"][key.removeprefix("model.args.")] = value
    return OpenRequest(**fields)


def pair_value(request: Request, key: str, default: Any = None) -> Any:
    """The last value that a flag gave to `key`."""
    return next((value for _, name, value in reversed(request.pairs) if name == key), default)
