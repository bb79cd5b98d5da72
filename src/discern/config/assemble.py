"""From a request to a checked config: recipe, files, flags and `--set`, in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from discern.config.layers import Layer, Resolved, file_layer, pair_layer, resolve, set_layer
from discern.config.request import Request
from discern.config.yaml_text import read_document


def request_layers(request: Request) -> list[Layer]:
    """The layers that the user gave, lowest first."""
    layers = [file_layer(read_document(Path(name))) for name in request.files]
    layers += [pair_layer("flag", origin, key, value) for origin, key, value in request.pairs]
    layers += [set_layer(text) for text in request.sets]
    return layers


def given_value(layers: list[Layer], key: str) -> Any:
    """The last value that any layer gives to the dotted `key`; None if none does."""
    found: Any = None
    for layer in layers:
        value: Any = layer.value
        for part in key.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found = value
    return found


def resolve_request(request: Request, recipe: Layer | None = None) -> Resolved:
    """The checked config of `request` over `recipe`. Raises ConfigError."""
    layers = request_layers(request)
    return resolve([recipe, *layers] if recipe is not None else layers)
