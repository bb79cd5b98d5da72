"""Flags that say how a model is scored."""

import pytest
import torch

from discern.base.errors import ConfigError
from discern.config.request import Request
from discern.worker.request_values import scoring_precision, set_threads


def asked(key, value):
    return Request(
        verb="predict", arguments={}, files=[], pairs=[("--flag", key, value)], sets=[],
        json=False, quiet=False, debug=False,
    )  # fmt: skip


def test_scores_are_taken_in_full_precision_unless_another_is_asked_for():
    assert scoring_precision(asked("data.fit", "crop")) is None
    assert scoring_precision(asked("compute.precision", "auto")) is None
    assert scoring_precision(asked("compute.precision", "fp32")) is None
    assert torch.bfloat16 == scoring_precision(asked("compute.precision", "bf16"))
    with pytest.raises(ConfigError, match="no such precision"):
        scoring_precision(asked("compute.precision", "int8"))


def test_threads_are_set_and_zero_is_refused():
    before = torch.get_num_threads()
    try:
        set_threads(asked("compute.threads", before + 1))
        assert before + 1 == torch.get_num_threads()
        with pytest.raises(ConfigError, match="threads"):
            set_threads(asked("compute.threads", 0))
    finally:
        torch.set_num_threads(before)
