"""The comparison with FFCV: left out without it, safe from its writer, on its own bytes."""

from __future__ import annotations

import importlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]

# Starts a child, and hangs with it in the first try.
HANGS_ONCE = """
import pathlib, subprocess, sys
mark = pathlib.Path(sys.argv[1])
if not mark.exists():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    mark.write_text(str(child.pid))
    child.wait()
"""


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.photos_ffcv")


def still_runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_without_ffcv_it_is_left_out_in_one_line(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["photos_ffcv"])
    bench.main()
    printed = capsys.readouterr().out.splitlines()
    assert 1 == len(printed)
    assert "ffcv is not installed" in printed[0]


def test_a_writer_that_hangs_is_ended_with_its_children_and_started_again(
    bench: ModuleType, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    command = [sys.executable, "-c", HANGS_ONCE, str(mark)]
    assert 1 == bench.run_limited(command, seconds=2.0)
    assert not still_runs(int(mark.read_text()))
    assert 0 == bench.run_limited(command, seconds=20.0)


def test_a_writer_that_always_hangs_is_given_up(bench: ModuleType) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with pytest.raises(TimeoutError, match="2 times not done within 0 s"):
        bench.run_limited(command, seconds=0.2)


def test_a_writer_that_fails_is_not_started_again(bench: ModuleType) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        bench.run_limited([sys.executable, "-c", "raise SystemExit(4)"], seconds=20.0)
    assert 4 == failed.value.returncode


def test_what_a_loader_delivers_is_told_with_its_layout(bench: ModuleType) -> None:
    images = torch.full((2, 3, 4, 5), 0.25)
    text = "float32 [2, 3, 4, 5], stored NCHW, mean 0.25, deviation 0.00"
    assert text == bench.describe_batch(images)
    last = images.contiguous(memory_format=torch.channels_last)
    assert text.replace("NCHW", "NHWC") == bench.describe_batch(last)


def test_ffcv_and_our_feed_read_the_same_pictures(bench: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("ffcv")
    path = tmp_path / "photos.beton"
    command = [sys.executable, "-m", "benchmarks.photos_ffcv", "--write", str(path)]
    bench.run_limited([*command, "--long-side", "341"])
    source = bench.BetonSource(path)
    sizes = {Image.open(io.BytesIO(source.read(number))).size for number in range(len(source))}
    assert {(341, 255)} == sizes
    assert 2 > bench.difference(source)["mean"] > 0
    given = bench.FeedInput(source, np.arange(len(source), dtype=np.int64))
    assert len(source) == bench.ffcv_peer(given, bench.TEST, 0)(0)
    path.write_bytes(path.read_bytes())
    others = bench.BetonSource(path)
    others._images.reverse()
    with pytest.raises(SystemExit, match="other pictures"):
        bench.difference(others)
