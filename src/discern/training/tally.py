"""What is counted in each step beside the loss: right answers of each head, parts of the loss.

Owns a vector of sums that only ever grows by addition, over steps and over processes alike, and the
readings made of it. Stays on the device: a step adds to it and waits for nothing.

N images, K classes, S sums.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from discern.data.head_spec import HeadSpec, main_heads
from discern.data.manifest import YES
from discern.models.classifier import Output
from discern.training.objective_terms import MISSING
from discern.training.objectives import likeliest


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Counts for `heads`, in the network's order, and for the loss's `parts` by name.

    The sums [S] are (right, labeled) of each head in turn, then each part times its images. An
    image of several labels is right if all its known labels are told right at 0.5.
    """

    heads: tuple[HeadSpec, ...]
    parts: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """S: how many sums there are."""
        return 2 * len(self.heads) + len(self.parts)

    @torch.no_grad()
    def sums(self, output: Output, targets: Tensor, parts: Sequence[Tensor], images: int) -> Tensor:
        """The sums [S], float, of one pass; each of `parts` [] is a mean over `images`."""
        logits: Any = output.logits
        labels: Any = targets
        found: list[Tensor] = []
        for head in self.heads:
            own = logits[head.name] if isinstance(logits, dict) else logits
            wanted = labels[head.name] if isinstance(labels, dict) else labels
            count = count_tags if head.kind == "multi" else count_classes
            found += count(own, wanted)
        return torch.stack([*(f.float() for f in found), *(part * images for part in parts)])

    def readings(self, sums: Sequence[float], images: int) -> dict[str, float]:
        """accuracy: the mean over the main heads; with several heads each's, as `HEAD/accuracy`.

        And each part of the loss, as `loss/PART`. A head without a labeled image has no accuracy.
        """
        shares = {
            head.name: sums[2 * place] / sums[2 * place + 1]
            for place, head in enumerate(self.heads)
            if sums[2 * place + 1]
        }
        main = [shares[head.name] for head in main_heads(self.heads) if head.name in shares]
        figures = {"accuracy": sum(main) / len(main) if main else math.nan}
        if len(self.heads) > 1:
            figures |= {f"{name}/accuracy": share for name, share in shares.items()}
        if images:
            of_parts = zip(self.parts, sums[2 * len(self.heads) :], strict=True)
            figures |= {f"loss/{name}": total / images for name, total in of_parts}
        return figures


def count_classes(logits: Tensor, targets: Tensor) -> list[Tensor]:
    """[right answers, labeled images], int64 [] each; `targets` int64 [N] or soft [N, K]."""
    classes = likeliest(targets)
    return [(logits.argmax(1) == classes).sum(), (classes != MISSING).sum()]


def count_tags(logits: Tensor, targets: Tensor) -> list[Tensor]:
    """[images with all known labels right, images with a known label]; `targets` float [N, K]."""
    known = ~targets.isnan()
    wrong = (known & ((logits >= 0) != (targets >= YES))).any(1)
    labeled = known.any(1)
    return [(labeled & ~wrong).sum(), labeled.sum()]
