"""Training steps on synthetic images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch

from discern.base.errors import ConfigError
from discern.workflows.training_speed import (
    TrainingTest,
    form_parts,
    measure_training,
    synthetic_batch,
)

TEST = TrainingTest(network="fast_net", batch_size=4, side=16, num_classes=5, steps=1, rounds=1)
CPU = torch.device("cpu")


@pytest.mark.feature("MX-22")
def test_synthetic_images_train_without_any_data() -> None:
    batch = synthetic_batch(TEST, CPU)
    assert (4, 3, 16, 16) == tuple(batch.images.shape)
    assert -1.0 <= float(batch.images.min()) < -0.9 < 0.9 < float(batch.images.max()) <= 1.0
    forms = ("plain", "channels_last", "channels_last+recompute")
    plain, layout, recomputed = (measure_training(TEST, form, CPU) for form in forms)
    assert 0 < plain.lowest <= plain.images_per_s <= plain.highest
    assert plain.loss == pytest.approx(layout.loss, rel=1e-3)
    assert layout.loss == recomputed.loss


def test_unknown_form_is_refused() -> None:
    assert ["channels_last", "bf16"] == form_parts("channels-last+bf16")
    with pytest.raises(ConfigError, match="no such form"):
        form_parts("turbo")


def test_benchmark_beside_timms_loop_runs_in_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3]))
    sys.modules.pop("benchmarks", None)
    from benchmarks.gpu_resnet50 import compare

    given = argparse.Namespace(
        model="resnet18", batch=2, side=32, steps=1, rounds=1, synchronized=False
    )
    result = compare(given, ("channels_last", "bf16"))
    assert "channels_last+bf16" == result["flags"]
    assert float(result["ours"]) > 0
    assert float(result["timm"]) > 0
