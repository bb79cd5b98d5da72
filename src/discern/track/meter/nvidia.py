"""NVIDIA GPUs as their driver's own library (NVML) tells of them; no other package is needed."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any, Final

_LIBRARY: Final = "libnvidia-ml.so.1"
_TEMPERATURE_GPU: Final = 0


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU now; None for what it does not tell."""

    index: int
    busy_percent: float | None
    memory_bytes: int | None
    temperature_c: float | None
    power_w: float | None


class NvidiaGpus:
    """The GPUs that this process may use, by `CUDA_VISIBLE_DEVICES` if that lists numbers."""

    def __init__(self, library: Any) -> None:
        self._library = library
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        self._handles: dict[int, ctypes.c_void_p] = {}
        for index in _visible(count.value):
            handle = ctypes.c_void_p()
            if not library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
                self._handles[index] = handle

    def read(self) -> list[GpuReading]:
        """All of them, now."""
        return [self._one(index, handle) for index, handle in self._handles.items()]

    def _one(self, index: int, handle: ctypes.c_void_p) -> GpuReading:
        library = self._library
        busy, memory = _Utilization(), _Memory()
        heat, power = ctypes.c_uint(), ctypes.c_uint()
        # Each call gives 0 when it succeeds; a card may lack any of them.
        has_busy = not library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(busy))
        has_memory = not library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory))
        has_heat = not library.nvmlDeviceGetTemperature(
            handle, _TEMPERATURE_GPU, ctypes.byref(heat)
        )
        has_power = not library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(power))
        return GpuReading(
            index,
            float(busy.gpu) if has_busy else None,
            int(memory.used) if has_memory else None,
            float(heat.value) if has_heat else None,
            power.value / 1000 if has_power else None,
        )


def open_gpus() -> NvidiaGpus | None:
    """The machine's NVIDIA GPUs; None where there is no driver or it does not answer."""
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    if library.nvmlInit_v2():
        return None
    return NvidiaGpus(library)


def _visible(count: int) -> list[int]:
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    numbers = [word.strip() for word in (told or "").split(",")]
    if told is None or not all(number.isdecimal() for number in numbers if number):
        return list(range(count))  # names of cards, not numbers: all are shown
    return [int(number) for number in numbers if number and int(number) < count]
