"""A training that does not fit into memory says so, and goes on by the command that it prints."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest
from discern_process import discern, make_images

# The limits count address space: what is freed must be given back, which glibc does by its own
# settings, and a thread must not reserve 64 MB for itself.
PLAIN_MEMORY = "glibc.malloc.tcache_count=7:glibc.malloc.arena_max=1"

# A network that, from its fifth training pass on, may take so many more bytes of address space than
# are used by then. Forward and backward hold five tensors of 16 MB an image: 320 MB of four images,
# 640 of eight, and the room is enough for the former. A tensor of four images is above the 32 MB
# from which glibc maps each block by itself, so that what is freed is given back.
HUNGRY = '''
import os
import resource

import torch
from torch import nn


class Hungry(nn.Module):
    """Linear, with a large tensor kept for the backward pass."""

    passes, limit = 0, -1

    def __init__(self, pixels, classes, room):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.Linear(pixels, classes)
        self.room = room

    def forward(self, images):
        values = images.flatten(1)
        if self.training:
            Hungry.passes += 1
            if Hungry.passes == 5:
                pages = int(open("/proc/self/statm").read().split()[0])
                Hungry.limit = pages * os.sysconf("SC_PAGE_SIZE") + self.room
            resource.setrlimit(resource.RLIMIT_AS, (Hungry.limit, -1))
            large = self.scale * torch.ones(len(images), 4_000_000)
            values = values + large.square().mean(1, keepdim=True)
        else:
            resource.setrlimit(resource.RLIMIT_AS, (-1, -1))  # scores and report are not held to it
        return self.last(values)


def build(num_classes, channels, image_size, room=600_000_000):
    return Hungry(channels * image_size[0] * image_size[1], num_classes, room)
'''


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GLIBC_TUNABLES", PLAIN_MEMORY)
    (tmp_path / "hungry.py").write_text(HUNGRY)
    return tmp_path


def test_out_of_memory_names_the_plan_and_its_smaller_one_goes_on(
    network: Path, tmp_path: Path
) -> None:
    data = make_images(tmp_path / "pets", each=20)
    words = (
        "train", data, "--model", "./hungry.py:build", "--batch-size", "8", "--epochs", "3",
        "--device", "cpu", "--precision", "fp32", "--lr", "0.0001", "--json",
    )  # fmt: skip
    ended = discern(*words, cwd=network, timeout=200)
    assert 1 == ended.code, ended.stderr
    told = ended.error
    assert "run" == told["kind"]
    assert "memory does not suffice" in (told["what"] or "")
    for part in ("hungry.py:build", "batch 8 on the device", "fp32", "a peak of"):
        assert part in (told["got"] or "")
    run = (told["where"] or "").partition(",")[0]
    command = told["hint"] or ""
    start, passes = command.rsplit(maxsplit=1)
    assert f"discern train --resume {run} --grad-accum-steps" == start
    # Four images a pass, or two where the machine's own libraries leave less room.
    assert passes in ("2", "4")
    assert f"tried: {8 // int(passes)} images a pass take " in (told["expected"] or "")
    folder = Path(os.environ["DISCERN_RUNS"]) / run
    assert "failed" == json.loads((folder / "run.json").read_text())["status"]
    saved = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert "step-4" in saved

    again = discern(*shlex.split(command)[1:], "--json", cwd=network, timeout=200)
    assert 0 == again.code, again.stderr
    assert run == again.object["run"]
    record = json.loads((folder / "run.json").read_text())
    assert int(passes) == record["config"]["stages"]["train"]["grad_accum_steps"]


# From its making on the process may take a gigabyte more; a pass holds tensors of 8 MB an image.
LIMITED = """
import os
import resource

import torch
from torch import nn


class Limited(nn.Module):
    def __init__(self, pixels, classes):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.last = nn.Linear(pixels, classes)

    def forward(self, images):
        values = images.flatten(1)
        if self.training:
            large = self.scale * torch.ones(len(images), 2_000_000)
            values = values + large.square().mean(1, keepdim=True)
        return self.last(values)


def build(num_classes, channels, image_size):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + 1_000_000_000
    if resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_AS, (limit, -1))
    return Limited(channels * image_size[0] * image_size[1], num_classes)
"""


def test_the_largest_batch_under_a_memory_limit_is_found_and_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLIBC_TUNABLES", PLAIN_MEMORY)
    (tmp_path / "limited.py").write_text(LIMITED)
    data = make_images(tmp_path / "pets", each=250)
    ended = discern(
        "train", data, "--model", "./limited.py:build", "--batch-size", "auto", "--steps", "3",
        "--device", "cpu", "--precision", "fp32", "--img-size", "16", "--lr", "0.0001", "--json",
        cwd=tmp_path, timeout=200,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    record = json.loads((Path(ended.object["path"]) / "run.json").read_text())
    choice = record["choices"]["batch_size"]["train"]
    assert 2 <= choice["value"] <= 40  # of 70, a fifth of the training images
    assert choice["room"] <= 800_000_000
    assert choice["value"] == record["config"]["stages"]["train"]["batch_size"]
    assert "batch    train: " in ended.stderr
