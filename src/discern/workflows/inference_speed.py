"""How fast a network answers on this machine, and the memory that it takes: forward passes only.

Images are random and stand on the device before the clock starts: decoding and copying are what
`discern bench io` measures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import nn

from discern.base.errors import ConfigError, RunError
from discern.compute.device import AMP_TYPES, DeviceChoice
from discern.compute.memory import is_out_of_memory, peak_meter
from discern.models.known_facts import InferenceSpeed

# As many as MXNet's benchmark_score.py: 5 to warm up, 10 timed.
WARM_UP: Final = 5
TIMED: Final = 10
# Quick networks get more batches, until so much time is measured: a median of 10 short ones jumps.
LEAST_SECONDS: Final = 1.0
_MOST_TIMED: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeedTest:
    """What is measured: a network's name and input [C, H, W], on a device, in a precision."""

    network: str
    channels: int
    height: int
    width: int
    device: DeviceChoice
    precision: str = "fp32"
    channels_last: bool = True


def measure_speed(model: nn.Module, test: SpeedTest, batch_size: int) -> InferenceSpeed:
    """Time forward passes of `batch_size` random images; `model` stands on the device.

    Raises ConfigError for an unknown precision, RunError when the memory does not suffice.
    """
    if test.precision not in AMP_TYPES:
        raise ConfigError(
            "no such precision",
            where="--precision",
            got=test.precision,
            expected=", ".join(AMP_TYPES),
        )
    device = test.device.torch_device
    layout = torch.channels_last if test.channels_last else torch.contiguous_format
    model = model.eval().to(memory_format=layout)
    amp = AMP_TYPES[test.precision]
    shape = (batch_size, test.channels, test.height, test.width)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(device.type, amp, enabled=amp is not None):
            model(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    try:
        with peak_meter(device) as peak:
            images = torch.rand(shape, device=device).to(memory_format=layout)
            seconds = _time(forward)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise RunError(
            "the memory does not suffice for this batch",
            where="--batch-size",
            got=f"{batch_size} images of {test.height}x{test.width}",
            hint="a smaller --batch-size",
        ) from error
    p50, p90, p99 = (float(value) * 1e3 for value in np.percentile(seconds, (50, 90, 99)))
    return InferenceSpeed(
        network=test.network,
        batch_size=batch_size,
        image_size=(test.height, test.width),
        precision=test.precision,
        device=test.device.device,
        device_name=test.device.name,
        threads=torch.get_num_threads(),
        images_per_s=batch_size / (p50 / 1e3),
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        peak_mb=peak() / 1e6,
        torch=torch.__version__,
    )


def _time(forward: Callable[[], None]) -> list[float]:
    """Seconds of each timed pass."""
    for _ in range(WARM_UP):
        forward()
    seconds: list[float] = []
    while len(seconds) < TIMED or (sum(seconds) < LEAST_SECONDS and len(seconds) < _MOST_TIMED):
        started = time.perf_counter()
        forward()
        seconds.append(time.perf_counter() - started)
    return seconds
