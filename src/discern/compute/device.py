"""Which device computes, in which precision, and how repeatably. Chosen once, before any data."""

from __future__ import annotations

import contextlib
import math
import os
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from discern.base.errors import ConfigError
from discern.base.names import counted
from discern.config.device_text import listed_devices

PROBE_STEPS = 3
# bf16 must win by this much to be worth its rounding: below it the probe's noise decides.
PROBE_GAIN = 1.1
_HOPELESS = 3.0  # a bf16 step this many times as long as fp32's is not tried again


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """A device with its name and memory in bytes, as printed and stored in run.json."""

    device: str
    name: str
    memory: int

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device(self.device)

    def record(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.device} ({self.name}, {self.memory / 2**30:.0f} GiB)"


def choose_rank_device(text: str, local_rank: int, ranks: int) -> DeviceChoice:
    """The device of one of several ranks on this machine: its own GPU, or the CPU that they share.

    `text`: auto, cpu, cuda, or as many ids as ranks. Raises ConfigError if one is not there.
    """
    if ranks == 1:
        return choose_device(text)
    wanted = text.strip().lower()
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted in ("", "cpu") or (wanted == "auto" and not there):
        return _cpu()
    if wanted in ("auto", "cuda"):
        ids: tuple[int, ...] = tuple(range(ranks))
    else:
        ids = listed_devices(text) or ()
    if len(ids) != ranks:
        raise ConfigError(
            "each rank has a device of its own",
            where="--device",
            got=f"{text}, {ranks} ranks",
            expected=f"cpu, auto, cuda or {ranks} ids",
        )
    if max(ids) >= there:
        raise _not_there(f"{text}, {ranks} ranks")
    return _cuda(ids[local_rank])


def choose_device(text: str) -> DeviceChoice:
    """The device that `text` asks for: auto, cpu, cuda, mps, an id, or ids; '' is cpu.

    Raises ConfigError if it is not there: a CPU never stands in for a GPU in silence.
    """
    wanted = text.strip().lower()
    if wanted == "auto":
        if torch.cuda.is_available():
            return _cuda(0)
        return _mps() if torch.backends.mps.is_available() else _cpu()
    if wanted in ("", "cpu"):
        return _cpu()
    if wanted == "mps":
        if not torch.backends.mps.is_available():
            raise _not_there(text)
        return _mps()
    ids = listed_devices(text) or ()
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if any(index >= there for index in ids):
        raise _not_there(text)
    if len(ids) > 1:
        raise ConfigError(
            "this computes in one process, on one device",
            where="--device",
            got=text,
            expected="one device",
            hint=f"give one of them, such as --device {ids[0]}; `discern train` takes several",
        )
    return _cuda(ids[0])


def _not_there(text: str) -> ConfigError:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    there = [f"cuda:{i}" for i in range(count)] + ["cpu"]
    if torch.backends.mps.is_available():
        there.insert(0, "mps")
    return ConfigError(
        "the device asked for is not there",
        where="--device",
        got=text,
        expected=" or ".join(there),
        hint="`discern doctor` tells what this machine has; --device auto takes the best",
    )


def _cpu() -> DeviceChoice:
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    name = torch.backends.cpu.get_cpu_capability() + f", {counted(usable_cores(), 'core')}"
    return DeviceChoice("cpu", name, pages * size)


def _cuda(index: int) -> DeviceChoice:
    properties = torch.cuda.get_device_properties(index)
    return DeviceChoice(f"cuda:{index}", properties.name, properties.total_memory)


def _mps() -> DeviceChoice:
    return DeviceChoice("mps", "Apple GPU", int(torch.mps.recommended_max_memory()))


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Arithmetic threads when none are asked for: $OMP_NUM_THREADS, else the cores usable."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(given)) if given.isdigit() else usable_cores()


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy's and Python's global generators."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def set_determinism(device: torch.device, *, deterministic: bool) -> None:
    """Allow only repeatable kernels, or let the libraries choose the fastest."""
    if deterministic and device.type == "cuda":
        # cuBLAS needs this workspace setting to be repeatable (its manual, section 2.1.4).
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic, warn_only=device.type != "cpu")
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.deterministic = deterministic


def autocast(
    device: torch.device, amp_dtype: torch.dtype | None
) -> contextlib.AbstractContextManager[object]:
    """Passes in `amp_dtype` where the network allows it; None: in full precision."""
    if amp_dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=amp_dtype)


AMP_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def cpu_has_bf16() -> bool:
    """Whether torch's kernels for bf16 stand on this processor's instructions; True if untold."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return True
    told: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return told


def choose_precision(
    wanted: str, device: torch.device, step: Callable[[torch.dtype | None], None]
) -> tuple[str, str]:
    """(precision, reason). `auto` times `step` (one training step on scratch weights) each way.

    `step` is called with the autocast type or None. On a GPU, bf16 where the chip has it; a CPU
    whose instructions do not know it is not asked, for one emulated step takes 5 to 25 others.
    """
    if wanted != "auto" and wanted not in AMP_TYPES:
        raise ConfigError(
            "no such precision", where="--precision", got=wanted, expected="auto, fp32, bf16, fp16"
        )
    if wanted != "auto":
        return wanted, "asked for"
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bf16", "the GPU has it"
        return "fp16", "the GPU has no bf16"
    if device.type != "cpu":
        return "fp32", f"auto on {device.type}"
    if not cpu_has_bf16():
        return "fp32", "this CPU has no bf16"
    seconds = {"fp32": math.inf, "bf16": math.inf}
    for name in seconds:
        step(AMP_TYPES[name])
    for _ in range(PROBE_STEPS):
        for name, least in seconds.items():
            if name == "bf16" and math.isfinite(least) and least > _HOPELESS * seconds["fp32"]:
                continue  # emulated bf16 takes ten times as long: a probe longer than a training
            # Turn by turn, and the processor's time: other work of the machine decides nothing.
            started = time.process_time()
            step(AMP_TYPES[name])
            seconds[name] = min(least, time.process_time() - started)
    gain = seconds["fp32"] / seconds["bf16"]
    return ("bf16" if gain >= PROBE_GAIN else "fp32"), f"bf16 measured {gain:.2f}x fp32's speed"
