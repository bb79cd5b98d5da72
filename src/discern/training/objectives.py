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
    """Mean cross entropy in float32; targets of -1 (missing) do not count."""

    def objective(output: Output, targets: Tensor) -> Tensor:
        logits = output.logits
        if logits.dtype is not torch.float32:
            logits = logits.float()
        return F.cross_entropy(logits, targets, ignore_index=MISSING, label_smoothing=smoothing)

    return objective
