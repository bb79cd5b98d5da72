"""How much memory a device has left, how much was used at most, and how its running out is told.

Bytes throughout. On the CPU the device's memory is the process's: its resident set, the machine's
free memory, and the limits that the process was started under.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import torch

# What torch's allocators say, where the error has no class of its own (CPU and MPS), and what
# CUDA's libraries say whose own workspaces find no room.
_TOLD = re.compile(
    r"not enough memory|can't allocate memory|out of memory|CU(BLAS|DNN)_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_CGROUP = Path("/sys/fs/cgroup")


def is_out_of_memory(error: BaseException) -> bool:
    """True for torch's, NumPy's and Python's ways to say that memory ran out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and _TOLD.search(str(error)) is not None


class ScoringMemoryError(MemoryError):
    """Memory ran out in passes that only score: fewer images a pass would need less."""


@contextlib.contextmanager
def scoring_passes() -> Iterator[None]:
    """Running out of memory inside is a ScoringMemoryError: nothing is kept for a backward pass."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, ScoringMemoryError) or not is_out_of_memory(error):
            raise
        raise ScoringMemoryError(str(error)) from error


def peak_bytes(device: torch.device) -> int:
    """The most that was held at once: by the allocator of a GPU, else by this process."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.driver_allocated_memory())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def peak_meter(device: torch.device) -> Iterator[Callable[[], int]]:
    """Gives a function that tells the most that was held at once since, see `peak_bytes`.

    Outside Linux, off a GPU, only the peak of the process's whole life is known.
    """
    status = Path("/proc/self/status")
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif device.type == "cpu" and status.is_file():
        # 5 sets the high-water mark back to what is used now (proc(5), clear_refs).
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        yield lambda: _high_water(status.read_text(encoding="ascii", errors="replace"))
        return
    yield lambda: peak_bytes(device)


def _high_water(status: str) -> int:
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def release_unused(device: torch.device) -> None:
    """Give memory that is free again back to the device, so that what is held can be measured."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "cpu" and sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone
        if trim is not None:
            trim(0)


def held_bytes(device: torch.device) -> int:
    """What is held now."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.current_allocated_memory())
    return int(psutil.Process().memory_info().rss)


def free_bytes(device: torch.device) -> int:
    """What can still be had: free on a GPU, or on the machine within this process's limits."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    rooms = [int(psutil.virtual_memory().available), _cgroup_room(), _address_room()]
    return max(0, min(room for room in rooms if room is not None))


def _cgroup_room() -> int | None:
    """What a container's limit leaves; None without one."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = (_CGROUP / "memory.current").read_text().strip()
    except OSError:
        return None  # no such limit on this system
    return int(limit) - int(used) if limit.isdigit() else None


def _address_room() -> int | None:
    """What `ulimit -v` leaves; None without one."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - int(psutil.Process().memory_info().vms)


def in_words(size: float) -> str:
    """`1.5 GB`, `320 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"
