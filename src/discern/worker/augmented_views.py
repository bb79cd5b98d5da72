"""Test-time augmentation: the mean answer to several views of an image.

Views are the image, the image shifted by a sixteenth of its side in four directions, and, for a
network that learned mirrored images, all of these mirrored.
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from discern.models.classifier import Output

# The shift of small images in training (see `training.material`).
_SHIFT: Final = 1 / 16


class AugmentedViews(nn.Module):
    """`model`, of one head of one label an image, asked about each view.

    logits: logs of the sums of the views' probabilities. features: those of the image itself.
    """

    def __init__(self, model: nn.Module, *, mirror: bool) -> None:
        super().__init__()
        self.model = model
        self.mirror = mirror

    @property
    def views(self) -> int:
        """How many views an image has."""
        return 10 if self.mirror else 5

    def forward(self, images: Tensor) -> Output:
        """Mean answer and features [N, D] of normalized `images` [N, C, H, W]."""
        outputs: list[Output] = [self.model(view) for view in self._views(images)]
        stated = torch.stack([output.logits for output in outputs]).float().log_softmax(-1)
        return outputs[0]._replace(logits=torch.logsumexp(stated, 0))

    def _views(self, images: Tensor) -> list[Tensor]:
        height, width = images.shape[-2:]
        down, right = max(1, round(height * _SHIFT)), max(1, round(width * _SHIFT))
        padded = F.pad(images, (right, right, down, down), mode="replicate")
        corners = ((down, right), (0, right), (2 * down, right), (down, 0), (down, 2 * right))
        views = [padded[..., top : top + height, left : left + width] for top, left in corners]
        return views + [view.flip(-1) for view in views] if self.mirror else views
