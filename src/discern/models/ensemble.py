"""Several networks as one: their probabilities averaged.

Owns `Ensemble` and its building again from a bundle's arguments. Each member may have been trained
under a normalization of its own; the ensemble takes images normalized as for the first and turns
them into each member's by a scale and a shift per channel, kept with the weights.

Axes: N images, C channels, H height, W width, K classes, M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.models.changes import ModelChanges
from discern.models.classifier import Route

if TYPE_CHECKING:
    from discern.models.catalogue import BuiltModel, ModelRequest

ENSEMBLE: Final = "ensemble"
_ARGUMENTS: Final = ("member", "count", "arguments", "changes")


class Ensemble(nn.Module):
    """Logits [N, K] whose softmax is the mean of the softmaxes of `members`, all classifiers."""

    scale: Tensor
    shift: Tensor

    def __init__(self, members: Sequence[nn.Module], channels: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("scale", torch.ones(len(members), channels))
        self.register_buffer("shift", torch.zeros(len(members), channels))

    def forward(self, images: Tensor) -> Tensor:
        """Logarithms of the mean probabilities, of `images` [N, C, H, W]."""
        answers = []
        for number, member in enumerate(self.members):
            scale, shift = self.scale[number, :, None, None], self.shift[number, :, None, None]
            answers.append(member(images * scale + shift).logits.float().log_softmax(1))
        return torch.stack(answers).logsumexp(0) - math.log(len(answers))

    def set_normalizations(self, preprocesses: Sequence[Preprocess]) -> None:
        """Take images normalized as for the first of `preprocesses`, one of each member."""
        first = preprocesses[0]
        for number, own in enumerate(preprocesses):
            pairs = zip(first.mean, first.std, own.mean, own.std, strict=True)
            for channel, (mean, std, own_mean, own_std) in enumerate(pairs):
                self.scale[number, channel] = std / own_std
                self.shift[number, channel] = (mean - own_mean) / own_std


def build_ensemble(
    request: ModelRequest, build: Callable[[ModelRequest], BuiltModel]
) -> BuiltModel:
    """The ensemble of `count` networks `member`, built with `arguments`; weights come later.

    Raises ConfigError for arguments that are none of these.
    """
    given = request.arguments
    unknown = sorted(set(given) ^ set(_ARGUMENTS))
    if unknown or not isinstance(given["count"], int) or given["count"] < 1:
        raise ConfigError(
            "an ensemble is made by `discern kfold --ensemble`",
            where="model", got=", ".join(unknown) or given["count"],
            expected=", ".join(_ARGUMENTS),
        )  # fmt: skip
    changes = ModelChanges.from_record(given["changes"])
    inner = replace(
        request, name=given["member"], arguments=dict(given["arguments"]), changes=changes
    )
    built = [build(inner) for _ in range(given["count"])]
    network = Ensemble([one.model for one in built], request.channels)
    return wrap_ensemble(network, built[0], dict(given))


def wrap_ensemble(network: Ensemble, first: BuiltModel, arguments: dict[str, Any]) -> BuiltModel:
    """`network` with the face of a classifier; `first`: its first member as it was built."""
    model = type(first.model)(network, route=Route.PLAIN, head_names=())
    return replace(
        first,
        model=model,
        name=ENSEMBLE,
        arguments=arguments,
        architecture=f"discern/{ENSEMBLE}",
        changes=ModelChanges(),
    )
