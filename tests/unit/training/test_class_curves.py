"""Learning curves by class, and what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.training.class_curves import ClassCurves, class_curves
from discern.training.linear_probe import probe_folds


def test_a_hard_class_rises_and_is_named_first_and_an_easy_one_is_flat():
    rng = np.random.default_rng(0)
    codes = np.arange(600) % 3
    features = rng.normal(size=(600, 40)).astype(np.float32)
    features[codes == 0, 0] += 12  # told by one feature
    # The other two differ by a little in each of forty.
    features[codes == 1] += 0.35
    features[codes == 2] -= 0.35
    fold = probe_folds(codes)
    found = class_curves(features, codes, fold, classes=3, shares=(0.05, 0.1, 0.3, 0.6, 1.0))
    assert (5, 5, 3) == found.accuracy.shape
    mean = found.mean()
    assert mean[-1, 0] > 0.98
    assert (mean[-1, 1:] - mean[0, 1:] > 0.05).all()
    assert [200, 200, 200] == found.counts.tolist()
    assert 0 == found.order()[-1] or found.gains()[0][0] < 0.02
    again = class_curves(features, codes, fold, classes=3, shares=(0.05, 0.1, 0.3, 0.6, 1.0))
    assert np.array_equal(found.accuracy, again.accuracy)


def test_the_gain_is_the_slope_over_the_logarithm_with_its_error():
    shares = (0.25, 0.5, 1.0)
    line = np.array([0.5, 0.6, 0.7])  # a tenth for each doubling
    steeper = np.array([0.4, 0.6, 0.8])
    accuracy = np.stack([line, steeper])[:, :, None].repeat(2, axis=2)
    accuracy[:, :, 1] = np.nan  # a class that was never held out
    found = ClassCurves(shares=shares, accuracy=accuracy, counts=np.array([40, 1]))
    gain, error = found.gains()
    np.testing.assert_allclose(gain[0], 0.15)
    np.testing.assert_allclose(error[0], 0.05 / np.sqrt(2))
    assert [0] == found.order()
    record = found.records(["cat", "dog"])[0]
    assert ("cat", 40, [0.45, 0.6, 0.75]) == (record["class"], record["images"], record["accuracy"])
    assert "  cat: +40 images, +15.0 +- 3.5 points" == found.lines(["cat", "dog"])[1]


def test_few_images_and_bad_shares_or_folds():
    rng = np.random.default_rng(0)
    codes = np.repeat([0, 1], 4)
    features = rng.normal(size=(8, 3)).astype(np.float32)
    fold = probe_folds(codes, folds=4)
    found = class_curves(features, codes, fold, classes=3)
    assert np.isnan(found.accuracy[:, :, 2]).all()
    assert np.isfinite(found.accuracy[:, :, :2]).all()
    with pytest.raises(ConfigError, match="not shares"):
        class_curves(features, codes, fold, classes=2, shares=(0.5, 1.0))
    with pytest.raises(ConfigError, match="too few folds"):
        class_curves(features, codes, fold % 2, classes=2)
