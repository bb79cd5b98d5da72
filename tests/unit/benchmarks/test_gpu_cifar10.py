"""The benchmark of CIFAR-10 on a GPU chooses nothing on the images that it is scored on."""

import importlib
from pathlib import Path

import pytest


def test_a_run_that_looked_at_the_test_images_more_than_once_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[3]))
    check_scored_once = importlib.import_module("benchmarks.gpu_cifar10").check_scored_once
    last = {"step": 490}
    check_scored_once({"epochs": [last], "last": "step-490"})
    for scored, end in (([{"step": 245}, last], "step-490"), ([{"step": 245}], "step-490")):
        with pytest.raises(RuntimeError, match="one may be chosen"):
            check_scored_once({"epochs": scored, "last": end})
