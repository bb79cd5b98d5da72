"""What is minimized: from logits [N, K] and targets [N] to a scalar.

N samples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from discern.models.classifier import Output

Objective = Callable[[Output, Tensor], Tensor]
MISSING = -1


def cross_entropy(smoothing: float = 0.0) -> Objective:
    """Mean cross entropy in float32; missing targets do not count.

    Targets are int64 [N], -1 where missing, or soft (mixup, CutMix): float [N, K], NaN.
    """

    def objective(output: Output, targets: Tensor) -> Tensor:
        logits = output.logits
        if logits.dtype is not torch.float32:
            logits = logits.float()
        if targets.is_floating_point():
            known = ~targets.isnan().any(1)
            losses = F.cross_entropy(
                logits, targets.nan_to_num(0.0), label_smoothing=smoothing, reduction="none"
            )
            return (losses * known).sum() / known.sum().clamp(min=1)
        return F.cross_entropy(logits, targets, ignore_index=MISSING, label_smoothing=smoothing)

    return objective


def likeliest(targets: Tensor) -> Tensor:
    """The class of each target, int64 [N]: of a soft one that of the largest share; -1 missing."""
    if not targets.is_floating_point():
        return targets
    return torch.where(targets.isnan().any(1), MISSING, targets.argmax(1))
