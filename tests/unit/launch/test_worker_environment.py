"""What a worker's environment does to the memory that it frees."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from discern.launch.worker_process import worker_environment

# Pages that the kernel had to clear while 20 blocks of 64 MB came and went, after the first.
COUNT_FAULTS = """
import resource
block = bytearray(64 << 20)
del block
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    block = bytearray(64 << 20)
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(environment: dict[str, str]) -> int:
    command = [sys.executable, "-c", COUNT_FAULTS]
    done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_is_used_again_without_the_kernel(monkeypatch):
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    assert faults(plain) > 20 * 16  # each block is cleared anew, in pages of at most 4 MB
    assert faults(worker_environment()) < 20


def test_settings_of_the_user_stay(monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=0")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    given = worker_environment()
    assert "glibc.malloc.check=0" == given["GLIBC_TUNABLES"]
    assert "7" == given["GOMP_SPINCOUNT"]
