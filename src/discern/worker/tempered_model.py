"""A network whose logits are divided by temperatures: what a calibrated bundle is scored with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from discern.data.head_spec import HeadSpec
from discern.models.classifier import Output


class TemperedModel(nn.Module):
    """`model` with the logits of each head divided by its temperature; features stay as they are.

    `temperatures`: by head name; heads without one stay as they are.
    """

    def __init__(self, model: nn.Module, temperatures: Mapping[str, float]) -> None:
        super().__init__()
        self.model = model
        self.temperatures = dict(temperatures)

    def forward(self, images: Tensor) -> Output:
        """Logits [N, K], or by head name, and features [N, D] of `images` [N, C, H, W]."""
        output: Output = self.model(images)
        logits: Any = output.logits
        if isinstance(logits, dict):
            known = self.temperatures
            logits = {name: own.float() / known.get(name, 1.0) for name, own in logits.items()}
        else:
            logits = logits.float() / next(iter(self.temperatures.values()))
        return output._replace(logits=logits)


def tempered(
    model: nn.Module, heads: tuple[HeadSpec, ...], temperatures: Mapping[str, float]
) -> nn.Module:
    """`model` at its heads' temperatures; itself, where there are none."""
    known = {head.name: temperatures[head.name] for head in heads if head.name in temperatures}
    return TemperedModel(model, known) if known else model
