"""Test-time augmentation: the mean answer to several views of an image.

Views are the image, the image shifted by a sixteenth of its side in four directions, and, for a
network that learned mirrored images, all of these mirrored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.data.head_spec import HeadSpec
from discern.models.classifier import Output

# The shift of small images in training (see `training.material`).
_SHIFT: Final = 1 / 16


class AugmentedViews(nn.Module):
    """`model`, whose heads are `heads`, asked about each view.

    logits: logs of the sums of the views' probabilities; of several labels an image the logits of
    the means of the views' sigmoids. features: those of the image itself.
    """

    def __init__(self, model: nn.Module, heads: Sequence[HeadSpec], *, mirror: bool) -> None:
        super().__init__()
        self.model = model
        self.kinds = {head.name: head.kind for head in heads}
        self.mirror = mirror

    @property
    def views(self) -> int:
        """How many views an image has."""
        return 10 if self.mirror else 5

    def forward(self, images: Tensor) -> Output:
        """Mean answer and features [N, D] of normalized `images` [N, C, H, W]."""
        outputs: list[Output] = [self.model(view) for view in self._views(images)]
        first: Any = outputs[0].logits
        answers: list[Any] = [output.logits for output in outputs]
        if not isinstance(first, dict):
            kind = next(iter(self.kinds.values()))
            return outputs[0]._replace(logits=_mean_answer(answers, kind))
        joined: Any = {
            name: _mean_answer([own[name] for own in answers], self.kinds[name]) for name in first
        }
        return outputs[0]._replace(logits=joined)

    def _views(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        down, right = max(1, round(height * _SHIFT)), max(1, round(width * _SHIFT))
        padded = F.pad(images, (right, right, down, down), mode="replicate")
        corners = ((down, right), (0, right), (2 * down, right), (down, 0), (down, 2 * right))
        views = [padded[..., top : top + height, left : left + width] for top, left in corners]
        return views + [view.flip(-1) for view in views] if self.mirror else views


def _mean_answer(logits: list[Tensor], kind: str) -> Tensor:
    """The logits of the mean probabilities of views; `kind` as of a HeadSpec."""
    every = torch.stack(logits).float()
    if kind == "multi":
        return torch.logit(every.sigmoid().mean(0), eps=1e-7)
    return torch.logsumexp(every.log_softmax(-1), 0)
