"""A training whose network is compiled, beside the same one as it is."""

import json

import pytest
from discern_process import discern

from discern.track.metrics_read import read_all

# torch's compiler builds a C++ program of the network first: a minute and more on two cores.
pytestmark = pytest.mark.slow
COMMON = (
    "--model", "fast_net", "--device", "cpu", "--precision", "fp32", "--epochs", "3",
    "--batch-size", "64", "--seed", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, flags in (("eager", ()), ("compiled", ("--compile",))):
        ended = discern(
            "train", "digits", *COMMON, *flags, "--name", name, "--runs", folder, timeout=900
        )
        assert 0 == ended.code, ended.stderr
    return folder / "digits"


@pytest.mark.feature("MX-29")
def test_a_compiled_training_reaches_the_accuracy_of_the_same_one_not_compiled(runs):
    scores = {}
    for name in ("eager", "compiled"):
        record = json.loads((runs / name / "run.json").read_text())
        scores[name] = record["metrics"]["accuracy"]
    # 269 test images; sums in another order may move one or two of them.
    assert scores["eager"] == pytest.approx(scores["compiled"], abs=2.5 / 269)
    first = {name: read_all(runs / name)["train/loss"].values[0] for name in scores}
    assert first["eager"] == pytest.approx(first["compiled"], rel=1e-3)


@pytest.mark.feature("MX-29")
def test_the_best_weights_of_a_compiled_training_are_those_of_its_best_epoch(runs):
    best = json.loads((runs / "compiled" / "run.json").read_text())["best"]
    series = read_all(runs / "compiled")["val/accuracy"]
    assert series.values.max() == pytest.approx(best["accuracy"])
