"""Answers of a head that no stage trains, as after metric learning alone.

Owns the closed form that fills such a head once training is done: an image gets the class whose
center its embedding lies nearest to by angle. A center is the mean of the training
embeddings of a class, each of length 1; the one factor of all logits is chosen on the validation
images. So scores, bundle and predictions are those of a model that answers.

Axes: N images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from discern.base.errors import RunError
from discern.data.head_spec import HeadSpec
from discern.models.classifier import Classifier, Route
from discern.models.named_heads import NamedHeads, layer_names
from discern.training.scores import EvalTable

# Factors of the cosines that are tried: from nearly even probabilities to nearly certain ones.
_FACTORS: Final[tuple[float, ...]] = tuple(2.0 ** (power / 2) for power in range(15))


def fill_heads_(
    model: Classifier,
    heads: Sequence[HeadSpec],
    untrained: Sequence[HeadSpec],
    train: Mapping[str, Any],
    val: Mapping[str, Any],
) -> dict[str, Any]:
    """Fill the layers of the `untrained` heads in place; gives what was done, by head.

    `train`, `val`: tables by head with features, of images as evaluation sees them. Raises RunError
    for embeddings without any direction.
    """
    layers = head_layers(model, heads)
    done = {}
    for head in untrained:
        centers = class_centers(train[head.name], head.width)
        length = float(np.linalg.norm(_features(train[head.name]), axis=1).mean())
        factor = _best_factor(centers, val[head.name])
        with torch.no_grad():
            layer = cast("nn.Linear", layers[head.name])
            layer.weight.copy_(torch.from_numpy(centers * (factor / length)))
            if layer.bias is not None:
                layer.bias.zero_()
        done[head.name] = {"answers": "nearest class center", "factor": factor}
    return done


def class_centers(table: EvalTable, classes: int) -> NDArray[np.float64]:
    """The direction [K, D] of each class's mean embedding; zeros for a class without images."""
    points, labels = _directions(table), table.targets
    sums = np.zeros((classes, points.shape[1]))
    labeled = labels >= 0
    np.add.at(sums, labels[labeled], points[labeled])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.where(lengths > 0, lengths, 1.0)


def _best_factor(centers: NDArray[np.float64], table: EvalTable) -> float:
    """The factor of the cosines with the least cross entropy of the labeled images."""
    labeled = table.targets >= 0
    cosines = torch.from_numpy(_directions(table)[labeled] @ centers.T)
    labels = torch.from_numpy(table.targets[labeled])
    losses: list[Tensor] = [F.cross_entropy(factor * cosines, labels) for factor in _FACTORS]
    return _FACTORS[int(torch.stack(losses).argmin())]


def _features(table: EvalTable) -> NDArray[np.float64]:
    if table.features is None:
        raise TypeError("this table keeps no features")
    return table.features.astype(np.float64)


def _directions(table: EvalTable) -> NDArray[np.float64]:
    features = _features(table)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not (lengths > 0).any():
        raise RunError(
            "the embeddings are all zero: no image lies nearer to one class than to another",
            hint="lower --lr",
        )
    directions: NDArray[np.float64] = features / np.where(lengths > 0, lengths, 1.0)
    return directions


def head_layers(model: Classifier, heads: Sequence[HeadSpec]) -> dict[str, nn.Module]:
    """The layer of each head on the features, by name; empty if the network has none there."""
    network: Any = model.network
    if model.route is Route.SPLIT:
        layer: nn.Module = network.get_classifier()
    elif model.route in (Route.OWN, Route.EMBEDDED):
        layer = network.head
    else:
        return {}
    if isinstance(layer, NamedHeads):
        names = layer_names([head.name for head in heads])
        return {head.name: layer[name] for head, name in zip(heads, names, strict=True)}
    return {heads[0].name: layer}
