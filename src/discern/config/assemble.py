"""From a request to a checked config: recipe, files, flags and `--set`, in their order."""

from __future__ import annotations

from pathlib import Path

from discern.config.layers import Layer, Resolved, file_layer, pair_layer, resolve, set_layer
from discern.config.request import Request
from discern.config.yaml_text import read_document


def request_layers(request: Request) -> list[Layer]:
    """The layers that the user gave, lowest first."""
    layers = [file_layer(read_document(Path(name))) for name in request.files]
    layers += [pair_layer("flag", origin, key, value) for origin, key, value in request.pairs]
    layers += [set_layer(text) for text in request.sets]
    return layers


def names_source(layers: list[Layer]) -> bool:
    """Whether any layer says which images are used."""
    parts = (layer.value.get("data") for layer in layers)
    return any(isinstance(part, dict) and part.get("source") is not None for part in parts)


def resolve_request(
    request: Request, recipe: Layer | None = None, choice: Layer | None = None
) -> Resolved:
    """The checked config of `request` over `recipe`; `choice` fills in what was found out last.

    Raises ConfigError.
    """
    below = [] if recipe is None else [recipe]
    above = [] if choice is None else [choice]
    return resolve([*below, *request_layers(request), *above])
