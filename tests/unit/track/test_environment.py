from __future__ import annotations

import io
import json
import os
import platform
import stat
from pathlib import Path

import psutil
from PIL import Image

from discern.track.environment import cores_allowed, environment_record, nvidia_gpus
from discern.track.machine_checks import jpeg_decoders, photo_jpeg, torch_devices, write_speed


def fake_program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_record_is_strict_json_and_tells_the_machine(tmp_path):
    record = environment_record(tmp_path / "not" / "there")
    assert record == json.loads(json.dumps(record, allow_nan=False))
    assert platform.python_version() == record["versions"]["python"]
    assert psutil.virtual_memory().total == record["memory"]["total"]
    assert 0 < record["disk"]["free"] <= record["disk"]["total"]
    assert 0 < cores_allowed() <= os.cpu_count()
    assert not (tmp_path / "not").exists()


def test_gpus_are_read_from_the_driver_tool(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert [] == nvidia_gpus()
    fake_program(tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 143771, 570.10'; echo 'X, [N/A], 1'")
    assert nvidia_gpus() == [
        {"name": "NVIDIA H200", "memory_mb": 143771, "driver": "570.10"},
        {"name": "X", "memory_mb": None, "driver": "1"},
    ]
    fake_program(tmp_path, "nvidia-smi", "echo 'driver/library mismatch'; exit 18")
    assert [{"name": None, "problem": "nvidia-smi: driver/library mismatch"}] == nvidia_gpus()


def test_photo_is_a_jpeg_with_a_photos_weight():
    data = photo_jpeg()
    image = Image.open(io.BytesIO(data))
    assert ("JPEG", (500, 375), "RGB") == (image.format, image.size, image.mode)
    assert 25_000 < len(data) < 150_000
    assert data == photo_jpeg()


def test_each_decoder_is_measured():
    found = {entry["name"]: entry for entry in jpeg_decoders()}
    assert {"simplejpeg", "opencv", "pillow"} == set(found)
    for entry in found.values():
        assert entry["images_per_s"] > 1


def test_write_speed_is_measured_and_leaves_nothing(tmp_path):
    assert write_speed(tmp_path)["bytes_per_s"] > 0
    assert [] == list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    assert "File exists" in write_speed(tmp_path / "file")["problem"]


def test_missing_torch_is_told(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = torch_devices()
    assert found["version"] is None
    assert "No module named 'torch'" in found["problem"]
