"""The record of the machine and the software that a run had. Owns its keys.

It is read from package metadata and the system, never by importing torch; nothing is measured and
the network is not touched (that is `machine_checks`), so every run can afford it.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Final

from discern.base.version import __version__

PACKAGES: Final = (
    "discern",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "safetensors",
    "huggingface-hub",
    "pyarrow",
    "scikit-learn",
    "tensorboard",
)
_DRIVER_TIMEOUT_S: Final = 10.0
_GPU_FIELDS: Final = ("name", "memory_mb", "driver")


def environment_record(folder: Path) -> dict[str, Any]:
    """Versions, system, processor, memory, disk under `folder`, GPUs, caches: plain JSON values.

    Sizes are in bytes. What cannot be found out is None. Takes some milliseconds, with NVIDIA
    drivers up to a second.
    """
    import sqlite3  # only its version: a start of 5 ms

    return {
        "versions": package_versions(),
        "os": platform.platform(),
        "host": socket.gethostname(),
        "cpu": {
            "model": _cpu_model(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
            "cores_allowed": cores_allowed(),
        },
        "memory": memory(),
        "disk": disk(folder),
        "gpus": nvidia_gpus(),
        "sqlite": sqlite3.sqlite_version,
        "weights_cache": str(weights_cache()),
    }


def package_versions() -> dict[str, str | None]:
    """Version of python and of each package of `PACKAGES`; None = not installed."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    if versions["discern"] is None:
        # Run from a source tree that is not installed.
        versions["discern"] = __version__
    return versions


def cores_allowed() -> float:
    """Processor cores that this process may use: affinity, and the quota of its control group."""
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    quota = _cgroup_number("cpu.max", 0)
    period = _cgroup_number("cpu.max", 1)
    if quota is None:
        quota = _cgroup_number("cpu/cpu.cfs_quota_us", 0)
        period = _cgroup_number("cpu/cpu.cfs_period_us", 0)
    if quota is not None and period and quota > 0:
        allowed = min(allowed, round(quota / period, 2))
    return allowed


def memory() -> dict[str, int | None]:
    """Bytes of memory: `total` of the machine, `limit` of the control group, `available` now."""
    import psutil

    found = psutil.virtual_memory()
    limit = _cgroup_number("memory.max", 0)
    if limit is None:
        limit = _cgroup_number("memory/memory.limit_in_bytes", 0)
    if limit is not None and limit >= found.total:
        limit = None  # control groups of version 1 write a huge number for "no limit"
    return {"total": int(found.total), "limit": limit, "available": int(found.available)}


def disk(folder: Path) -> dict[str, Any]:
    """Bytes `total` and `free` where `folder` is, or would be made."""
    there = folder.absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    usage = shutil.disk_usage(there)
    return {"folder": str(folder.absolute()), "total": usage.total, "free": usage.free}


def nvidia_gpus() -> list[dict[str, Any]]:
    """Name, memory (MB) and driver of each NVIDIA GPU, as `nvidia-smi` tells; empty without."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = "--query-gpu=name,memory.total,driver_version"
    try:
        out = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=_DRIVER_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [{"name": None, "problem": f"nvidia-smi: {error}"}]
    if out.returncode:
        text = (out.stderr or out.stdout).strip().splitlines()
        return [{"name": None, "problem": f"nvidia-smi: {text[0] if text else out.returncode}"}]
    gpus: list[dict[str, Any]] = []
    for line in out.stdout.splitlines():
        words = line.split(", ")
        if len(words) == len(_GPU_FIELDS):
            gpu: dict[str, Any] = dict(zip(_GPU_FIELDS, words, strict=True))
            gpu["memory_mb"] = int(words[1]) if words[1].isdecimal() else None
            gpus.append(gpu)
    return gpus


def weights_cache() -> Path:
    """The folder where pretrained weights are kept, as huggingface-hub resolves it."""
    own = os.environ.get("HF_HUB_CACHE")
    if own:
        return Path(own).expanduser()
    home = os.environ.get("HF_HOME")
    if home:
        return Path(home).expanduser() / "hub"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "huggingface" / "hub"


def _cpu_model() -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
    except OSError:
        return platform.processor() or None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model", "Hardware"):
            return value.strip()
    return platform.processor() or None


def _cgroup_number(name: str, place: int) -> int | None:
    """A whole number of this process's control group; None for "max", "-1" or no such file."""
    for folder in ("/sys/fs/cgroup" + _cgroup_path(), "/sys/fs/cgroup"):
        try:
            words = Path(folder, name).read_text().split()
        except OSError:
            continue
        if place < len(words) and words[place].isdecimal():
            return int(words[place])
    return None


def _cgroup_path() -> str:
    """This process's group of version 2; empty where it is the root, as inside of containers."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    paths = [line.removeprefix("0::") for line in lines if line.startswith("0::/")]
    return paths[0].rstrip("/") if paths else ""
