from __future__ import annotations

import pytest
import torch

from discern.models.classifier import Output
from discern.training.objectives import cross_entropy, likeliest


def test_soft_targets_give_the_mixed_loss_and_missing_rows_none():
    logits = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    soft = torch.tensor([[0.25, 0.75, 0, 0], [float("nan")] * 4, [0, 0, 1, 0]])
    logs = -torch.log_softmax(logits, 1)
    expected = (0.25 * logs[0, 0] + 0.75 * logs[0, 1] + logs[2, 2]) / 2
    loss = cross_entropy()(Output(logits, logits), soft)
    assert expected.item() == pytest.approx(loss.item())
    assert [1, -1, 2] == likeliest(soft).tolist()
    hard = torch.tensor([1, -1, 2])
    assert hard is likeliest(hard)


def test_soft_targets_of_one_class_are_as_hard_ones():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    hard = torch.tensor([0, 2, 1, 1, 0])
    soft = torch.nn.functional.one_hot(hard, 3).float()
    for smoothing in (0.0, 0.1):
        expected = cross_entropy(smoothing)(Output(logits, logits), hard)
        made = cross_entropy(smoothing)(Output(logits, logits), soft)
        assert expected.item() == pytest.approx(made.item())
