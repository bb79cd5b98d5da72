from __future__ import annotations

import json
from importlib.metadata import version

import pytest

from discern.base.console import Console
from discern.cli.doctor_command import doctor, findings


def machine(**changes):
    """The record of a machine on which all is well, with `changes`."""
    versions = dict.fromkeys(("python", "torch", "timm", "pillow", "pyarrow"), "1.0")
    record = {
        "versions": versions,
        "os": "Linux",
        "cpu": {"model": "X", "architecture": "x86_64", "cores": 8, "cores_allowed": 4.0},
        "memory": {"total": 32 << 30, "limit": None, "available": 16 << 30},
        "disk": {
            "folder": "runs",
            "total": 1 << 40,
            "free": 1 << 39,
            "write": {"bytes_per_s": 5e8},
        },
        "gpus": [{"name": "H200", "memory_mb": 143771, "driver": "570"}],
        "torch": {"version": "2", "devices": [{"name": "H200", "memory": 143771 << 20}]},
        "sqlite": "3.51.3",
        "weights_cache": "cache",
        "jpeg": [{"name": "pillow", "version": "12", "images_per_s": 900.0}],
        "network": {"host": "hub", "reachable": True},
    }
    return {**record, **changes}


def test_healthy_machine_is_all_ok():
    found = findings(machine())
    assert {"ok"} == {line.level for line in found}
    assert {""} == {line.remedy for line in found}


@pytest.mark.parametrize(
    ("changes", "level", "topic"),
    [
        ({"versions": {"torch": None}}, "fail", "torch"),
        ({"versions": {"torch": "2", "pyarrow": None}}, "warn", "pyarrow"),
        ({"torch": {"version": None, "problem": "libcudart"}}, "fail", "torch"),
        ({"torch": {"version": "2", "devices": []}}, "fail", "gpu"),
        ({"gpus": [{"name": None, "problem": "mismatch"}]}, "warn", "gpu"),
        ({"memory": {"total": 8 << 30, "limit": 1 << 30, "available": 4 << 30}}, "warn", "memory"),
        ({"sqlite": "3.40.1"}, "warn", "sqlite"),
        ({"network": {"host": "hub", "reachable": False}}, "warn", "network"),
        ({"jpeg": [{"name": "pillow", "problem": "gone"}]}, "fail", "jpeg"),
        ({"jpeg": [{"name": "opencv", "problem": "gone"}]}, "warn", "jpeg"),
        (
            {"disk": {"folder": "r", "free": 1 << 39, "write": {"problem": "read-only"}}},
            "fail",
            "disk",
        ),
        (
            {"disk": {"folder": "r", "free": 1 << 20, "write": {"bytes_per_s": 5e8}}},
            "warn",
            "disk",
        ),
    ],
)
def test_each_trouble_is_told_with_a_remedy(changes, level, topic):
    bad = [line for line in findings(machine(**changes)) if line.level != "ok"]
    assert [(level, topic)] == [(line.level, line.topic) for line in bad]
    assert all(line.remedy for line in bad)


@pytest.mark.feature("MX-58")
@pytest.mark.feature("CA-15")
def test_doctor_examines_this_machine_also_without_gpu_and_torch(tmp_path, capsys, monkeypatch):
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\")")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert doctor(Console(json=True), tmp_path / "runs") == 3
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert version("numpy") == record["versions"]["numpy"]
    assert [] == record["gpus"]
    assert record["disk"]["write"]["bytes_per_s"] > 0
    assert {"simplejpeg", "opencv", "pillow"} == {entry["name"] for entry in record["jpeg"]}
    assert "No module named 'torch'" in record["torch"]["problem"]
    assert "fail  torch" in captured.err
    assert not (tmp_path / "runs").exists()
