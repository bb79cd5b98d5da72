"""A bundle written by an earlier version: it opens and answers as it did then."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from discern.data.images import Preprocess
from discern.exporting.bundle import open_bundle, replay_golden
from discern.exporting.predictor import Predictor

GOLDEN = Path(__file__).parents[2] / "golden" / "bundle_v1"


def test_stored_bundle_still_gives_its_logits() -> None:
    result = replay_golden(GOLDEN)
    assert result.ok
    assert (3, 1.0) == (result.count, result.top1_agreement)


def test_stored_bundle_says_what_it_said() -> None:
    bundle = open_bundle(GOLDEN)
    expected = Preprocess(height=16, width=16, channels=1, mean=(0.3,), std=(0.25,), crop_pct=0.95)
    assert expected == bundle.preprocess
    assert ("disc", "line", "square") == bundle.classes
    assert "shapes/mlp-1" == bundle.config["discern"]["run"]


@pytest.mark.feature("MX-75")
def test_stored_bundle_names_its_pictures() -> None:
    bundle = open_bundle(GOLDEN)
    predictor = Predictor(bundle.model, bundle.preprocess, bundle.classes)
    files = sorted((GOLDEN / "golden").glob("*.jpg"))
    found = predictor.predict(files, top_k=3)
    assert ("disc", "line", "square") == found.classes
    logits = load_file(GOLDEN / "golden" / "expected.safetensors")["logits"].astype(np.float64)
    wide = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    wanted = np.sort(wide, axis=1)[:, ::-1]
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
