"""Memory that runs out where images are only scored: the way out is about those passes."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from discern_process import make_images

from discern.base.console import Console
from discern.base.errors import RunError
from discern.config.request import Request
from discern.worker.evaluation import evaluate_request
from discern.worker.prediction import prediction_verb
from discern.worker.train import train

# In evaluation a pass of more than 40 images does not fit.
GREEDY = """
import torch


class Greedy(torch.nn.Module):
    def __init__(self, pixels, classes):
        super().__init__()
        self.last = torch.nn.Linear(pixels, classes)

    def forward(self, images):
        if not self.training and len(images) > 40:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return self.last(images.flatten(1))


def build(num_classes, channels, image_size):
    return Greedy(channels * image_size[0] * image_size[1], num_classes)
"""


def test_out_of_memory_in_evaluation_is_about_the_evaluation_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("greedy.py").write_text(GREEDY)
    data, held = (make_images(tmp_path / name, each=40) for name in ("pets", "held"))
    pairs = {
        "data.source": str(data), "data.val": str(held), "model.name": "./greedy.py:build",
        "stages.*.epochs": 1, "stages.*.batch_size": 8, "compute.device": "cpu",
        "compute.precision": "fp32", "data.image_size": 16,
    }  # fmt: skip
    given = [("flag", key, value) for key, value in pairs.items()]
    arguments = {"runs": "runs", "resume": None, "fresh": False}
    with pytest.raises(RunError) as raised:
        train(Request(verb="train", arguments=arguments, pairs=given), Console(quiet=True))
    run = str(raised.value.where).partition(",")[0]
    assert "evaluation passes of 64, fp32" in str(raised.value.got)
    command = f"discern train --resume {run} --set compute.eval_batch_size=32"
    assert command == raised.value.hint

    words = shlex.split(command)
    again = Request(verb="train", arguments={**arguments, "resume": run}, sets=[words[-1]])
    done = train(again, Console(quiet=True))
    assert done is not None
    assert (run, 80) == (done["run"], done["metrics"]["count"])

    asked = {"model": run, "data": str(held), "runs": "runs", "split": None, "out": None}
    scored = evaluate_request(Request(verb="eval", arguments=asked), Console(quiet=True))
    assert done["metrics"]["accuracy"] == scored["metrics"]["accuracy"]  # in passes of 32 again
    asked |= {"batch_size": 80, "images": [str(held)], "top_k": 1, "out": None, "format": "text"}
    for work in (evaluate_request, prediction_verb):
        with pytest.raises(RunError) as raised:
            work(Request(verb="predict", arguments=asked), Console(quiet=True))
        assert "passes of 80 images" in str(raised.value.got)
        assert "--batch-size 40" == raised.value.hint
