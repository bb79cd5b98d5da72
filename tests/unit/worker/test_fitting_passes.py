"""Memory that runs out in training: the smaller passes that are named have been tried."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from discern_process import make_images

from discern.base.console import Console
from discern.base.errors import RunError
from discern.config.request import Request
from discern.worker.train import train

QUIET = Console(quiet=True)
# In training a pass of more images than `most` does not fit.
GREEDY = """
import torch


class Greedy(torch.nn.Module):
    def __init__(self, pixels, classes, most, broken):
        super().__init__()
        self.last = torch.nn.Linear(pixels, classes)
        self.most, self.broken = most, broken

    def forward(self, images):
        if self.training and len(images) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        if self.training and self.broken:
            raise ValueError("of another kind")
        return self.last(images.flatten(1))


def build(num_classes, channels, image_size, most=3, broken=False):
    return Greedy(channels * image_size[0] * image_size[1], num_classes, most, broken)
"""


@pytest.fixture
def failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The error of a training in updates of 16 images, of which only passes of `most` fit."""
    monkeypatch.chdir(tmp_path)
    Path("greedy.py").write_text(GREEDY)
    data = make_images(tmp_path / "pets", each=20)

    def run(**arguments) -> RunError:
        pairs = {
            "data.source": str(data), "model.name": "./greedy.py:build", "model.args": arguments,
            "stages.*.epochs": 1, "stages.*.batch_size": 16, "compute.device": "cpu",
            "compute.precision": "fp32", "data.image_size": 16,
        }  # fmt: skip
        given = [("flag", key, value) for key, value in pairs.items()]
        asked = {"runs": "runs", "resume": None, "fresh": False}
        with pytest.raises(RunError, match="memory does not suffice") as raised:
            train(Request(verb="train", arguments=asked, pairs=given), QUIET)
        return raised.value

    return run


def test_the_first_printed_plan_fits(failed):
    told = failed(most=3)
    run = str(told.where).partition(",")[0]
    assert f"discern train --resume {run} --grad-accum-steps 8" == told.hint
    assert str(told.expected).startswith("tried: 2 images a pass take ")
    words = shlex.split(str(told.hint))
    again = Request(
        verb="train",
        arguments={"runs": "runs", "resume": run, "fresh": False},
        pairs=[("flag", "stages.*.grad_accum_steps", int(words[-1]))],
    )
    result = train(again, QUIET)
    assert result is not None
    assert ("finished", run) == (result["status"], result["run"])


def test_no_plan_is_named_where_none_fits(failed):
    told = failed(most=1)
    assert "choose a smaller image size (--img-size) or network, with --fresh" == told.hint
    assert "tried: passes of two images do not fit either" == told.expected


def test_what_was_not_tried_is_told(failed):
    told = failed(most=8, broken=True)
    assert str(told.hint).endswith("--grad-accum-steps 2")
    assert "how much is not known: trying ended in ValueError: of another kind" in str(
        told.expected
    )
