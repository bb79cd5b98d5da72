"""The heads of a weights file beside those of a network: which rows may start which head.

Owns the decision. A classifier of K classes and several heads of K classes together have layers of
one shape, but their rows answer different questions: only a file of the same heads fills them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def fit_heads(
    own: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    head_names: tuple[str, ...],
    layers: Mapping[str, int],
) -> tuple[list[str], list[str]]:
    """Take the classifiers out of `tensors` that answer other questions than the network's.

    `own`: the tensors of the network, whose classifiers (`head_names`) are in one piece yet;
    `layers`: rows of each layer that they will be cut into, by its name; empty for one question.
    What a file of the same layers has is joined to one piece, in place. Gives the names in the
    network that are left without values, and those in the file that were left out.
    """
    fresh: list[str] = []
    left_out: list[str] = []
    for head in head_names:
        wanted = [name for name in own if name.startswith(f"{head}.")]
        stored = _stored_layers(own, tensors, head)
        if stored and {name: len(parts["weight"]) for name, parts in stored.items()} == layers:
            for kind in next(iter(stored.values())):
                tensors[f"{head}.{kind}"] = torch.cat([stored[name][kind] for name in layers])
        elif stored or (layers and any(name in tensors for name in wanted)):
            fresh += wanted
            left_out += [name for name in wanted if name in tensors]
            left_out += [f"{head}.{name}.{kind}" for name in stored for kind in stored[name]]
        for name in stored:
            for kind in stored[name]:
                del tensors[f"{head}.{name}.{kind}"]
        for name in wanted:
            if name in fresh:
                tensors.pop(name, None)
    return fresh, left_out


def _stored_layers(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], head: str
) -> dict[str, dict[str, Tensor]]:
    """The file's layers of several heads in place of the classifier `head`: {name: {kind: [K]}}."""
    found: dict[str, dict[str, Tensor]] = {}
    if f"{head}.weight" not in own:
        return found
    for name, value in tensors.items():
        layer, _, kind = name.removeprefix(f"{head}.").rpartition(".")
        plain = name.startswith(f"{head}.") and layer and "." not in layer
        if plain and kind in ("weight", "bias") and name not in own:
            found.setdefault(layer, {})[kind] = value
    return found if all("weight" in parts for parts in found.values()) else {}
