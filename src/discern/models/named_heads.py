"""Several heads on one network: a linear layer for each, and their logits by name.

Owns the exchange of a network's classifying layer for one layer a head. A network is built with as
many outputs as its heads have together; its layer is then cut into theirs, so that a head starts
with the weights that the network's own builder gave it, and whatever stands between features and
classifier (pooling, an embedding block) stays as it is.

Axes: N images, D features, K classes of all heads together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from discern.base.errors import ModelError
from discern.models.classifier import Classifier, Output, Route


class NamedHeads(nn.ModuleDict):
    """One layer a head over the same features; its output is all their logits, head after head."""

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, K] of `features` [N, D]; [N, K, 1, 1] of maps, where the layers convolve."""
        return torch.cat([layer(features) for layer in self.values()], 1)


class HeadsClassifier(Classifier):
    """A classifier whose logits are a mapping: head name to [N, K of the head].

    `widths`: classes of each head by name, in the order of the network's outputs.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        route: Route,
        head_names: tuple[str, ...],
        widths: Mapping[str, int],
    ) -> None:
        super().__init__(network, route=route, head_names=head_names)
        self.widths = dict(widths)

    def forward(self, images: Tensor) -> Output:
        """Logits by head name and features [N, D] of normalized `images` [N, C, H, W]."""
        output = super().forward(images)
        return output if self.splits else self._by_name(output)

    def classify(self, features: Tensor) -> Output:
        """The heads alone: logits by head name of `features` [N, D] that `embed` gave."""
        return self._by_name(super().classify(features))

    def _by_name(self, output: Output) -> Output:
        parts = torch.split(output.logits, list(self.widths.values()), 1)
        named = dict(zip(self.widths, parts, strict=True))
        return output._replace(logits=named)  # type: ignore[arg-type]


def head_logits(output: Output) -> dict[str, Tensor]:
    """The logits of each head, by name, of a network with several."""
    logits: Any = output.logits
    if not isinstance(logits, dict):
        raise TypeError("this network has one head")
    return logits


def packed_logits(output: Output) -> Tensor:
    """The logits of all heads side by side, [N, K]; those of the only head as they are."""
    logits: Any = output.logits
    packed: Tensor = torch.cat(list(logits.values()), 1) if isinstance(logits, dict) else logits
    return packed


def with_heads(model: Classifier, widths: Mapping[str, int] | None) -> Classifier:
    """`model`, of K outputs, cut into heads of `widths` [sum K] by name; as it is without them.

    The classifying layer is exchanged in place. Raises ModelError for a classifier that is no
    linear layer and no convolution of one pixel.
    """
    if not widths:
        return model
    total, cut = sum(widths.values()), 0
    for name in model.inner_head_names:
        parent, _, last = name.rpartition(".")
        layer = model.network.get_submodule(name)
        if total in (getattr(layer, "out_features", 0), getattr(layer, "out_channels", 0)):
            setattr(model.network.get_submodule(parent), last, _cut_layer(layer, widths, name))
            cut += 1
    if not cut:
        raise _not_linear(", ".join(model.inner_head_names) or type(model.network).__name__)
    heads = HeadsClassifier(
        model.network, route=model.route, head_names=model.head_names, widths=widths
    )
    heads.feature_width = model.feature_width
    return heads


def _not_linear(where: str) -> ModelError:
    return ModelError(
        "this network cannot have several heads: its classifier is no linear layer",
        where=where,
        expected="a torch.nn.Linear with an output for each class of all heads",
        hint="take another network, or one label column",
    )


def _cut_layer(layer: nn.Module, widths: Mapping[str, int], where: str) -> NamedHeads:
    sizes = list(widths.values())
    pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1)
    if not isinstance(layer, nn.Linear) and not pointwise:
        raise _not_linear(where)
    heads = NamedHeads()
    weights = torch.split(layer.weight.detach(), sizes)  # type: ignore[operator]
    biases: Sequence[Tensor | None] = [None] * len(sizes)
    if layer.bias is not None:
        biases = torch.split(layer.bias.detach(), sizes)  # type: ignore[operator]
    names = layer_names(tuple(widths))
    for name, width, weight, bias in zip(names, sizes, weights, biases, strict=True):
        heads[name] = _part(layer, width, weight, bias)
    return heads


def layer_names(heads: Sequence[str]) -> list[str]:
    """What the heads' layers are called inside the network: their names, fit for a module."""
    taken = set(dir(nn.ModuleDict()))
    names = []
    for head in heads:
        name = re.sub(r"\W", "_", head) or "_"
        while name in taken:
            name += "_"
        taken.add(name)
        names.append(name)
    return names


def layer_rows(heads: Mapping[str, int]) -> dict[str, int]:
    """Rows of each head's layer by the layer's name; `heads`: classes of each by the head's."""
    return dict(zip(layer_names(tuple(heads)), heads.values(), strict=True))


def cut_names(
    names: Sequence[str], *, classifiers: Sequence[str], heads: Mapping[str, int]
) -> tuple[str, ...]:
    """Names of tensors, those of the `classifiers` as they are called once these are cut."""
    found: list[str] = []
    for name in names:
        inside = next((head for head in classifiers if name.startswith(f"{head}.")), None)
        kind = "" if inside is None else name.removeprefix(f"{inside}.")
        if inside is None or "." in kind:
            found.append(name)
        else:
            found += [f"{inside}.{layer}.{kind}" for layer in layer_rows(heads)]
    return tuple(found)


def _part(layer: nn.Module, width: int, weight: Tensor, bias: Tensor | None) -> nn.Module:
    part: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Linear):
        part = nn.Linear(layer.in_features, width, bias=bias is not None)
    else:
        part = nn.Conv2d(int(weight.shape[1]), width, 1, bias=bias is not None)
    with torch.no_grad():
        part.weight.copy_(weight)
        if bias is not None and part.bias is not None:
            part.bias.copy_(bias)
    return part
