"""The meter of a run: CPU, memory, disk and GPUs, once a second, in the run's folder `system/`.

A metrics log of its own, with the format of the run's: its steps are whole seconds since the run
began, so they neither mix with the run's steps nor are rewound with them. Series:

    cpu/percent          of all the machine's cores
    cpu/process_percent  of the run's processes together: 100 is one core
    memory/used_mb       of the machine
    memory/process_mb    resident, of the run's processes together (shared pages count in each)
    disk/read_mb_s, disk/write_mb_s   of the run's processes, where the system tells
    disk/free_mb         where the run's folder is
    gpuN/percent, gpuN/memory_mb, gpuN/temperature_c, gpuN/power_w   of each NVIDIA GPU in use

A megabyte (mb) is 10**6 bytes.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from discern.base.errors import RunError
from discern.track.meter.nvidia import NvidiaGpus, open_gpus
from discern.track.metrics_log import MetricsLog
from discern.track.run_writer import RunWriter

if TYPE_CHECKING:
    from discern.track.meter.processes import Taken

SYSTEM: Final = "system"
_EVERY_S: Final = 1.0
# Figures of the machine may wait: a block of ten points takes 29 bytes a point, one of one 72.
_WRITTEN_WITHIN_S: Final = 10.0
_MB: Final = 1e6


class SystemMeter:
    """Measures in a thread of its own until `close`; a part of a run (`RunWriter.join`).

    `pid`: the process whose tree is measured. `since`: when the run began, in seconds since 1970.
    What goes wrong ends the meter, never the run, and is told by `problems`. `cpu_s`: the CPU time
    that measuring took.
    """

    def __init__(
        self, folder: Path, attempt: int, *, since: float, pid: int, every_s: float = _EVERY_S
    ) -> None:
        self._folder = folder
        self._since = since
        self._pid = pid
        self._every_s = every_s
        self._problem: str | None = None
        self._step = 0
        self.cpu_s = 0.0
        self._log = MetricsLog(folder / SYSTEM, attempt, within_s=_WRITTEN_WITHIN_S)
        self._log.drops_when_full = True
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="system meter", daemon=True)
        self._thread.start()

    def flush(self) -> None:
        """Its figures are written when they are ten seconds old, and at the end."""

    def problems(self) -> list[str]:
        """Why nothing is measured any more, or figures wait in memory."""
        told = [self._problem, self._log.failure]
        return [f"the system meter: {problem}" for problem in told if problem is not None]

    def close(self) -> None:
        """Measure no more, and write what was measured."""
        self._stop.set()
        self._thread.join()
        try:
            self._log.close()
        except RunError as error:
            self._problem = self._problem or error.what

    def _run(self) -> None:
        try:
            self._measure()
        except Exception as error:  # noqa: BLE001 - told by `problems`; a run does not end by it
            self._problem = f"stopped: {type(error).__name__}: {error}"
        self.cpu_s = time.thread_time()

    def _measure(self) -> None:
        import psutil

        from discern.track.meter.processes import ProcessTree

        tree, gpus = ProcessTree(self._pid), open_gpus()
        psutil.cpu_percent(None)  # the first answer has nothing to compare with
        before = due = time.monotonic()
        while True:
            due = max(due + self._every_s, time.monotonic())
            if self._stop.wait(due - time.monotonic()):
                return
            now = time.monotonic()
            self._sample(psutil.cpu_percent(None), tree.sample(), gpus, now - before)
            before = now
            self.cpu_s = time.thread_time()

    def _sample(
        self, cpu_percent: float, taken: Taken, gpus: NvidiaGpus | None, seconds: float
    ) -> None:
        import psutil

        memory = psutil.virtual_memory()
        figures: dict[str, float | None] = {
            "cpu/percent": cpu_percent,
            "cpu/process_percent": 100 * taken.cpu_s / seconds,
            "memory/used_mb": (memory.total - memory.available) / _MB,
            "memory/process_mb": taken.memory_bytes / _MB,
            "disk/free_mb": shutil.disk_usage(self._folder).free / _MB,
        }
        if taken.read_bytes is not None and taken.written_bytes is not None:
            figures["disk/read_mb_s"] = taken.read_bytes / _MB / seconds
            figures["disk/write_mb_s"] = taken.written_bytes / _MB / seconds
        for gpu in gpus.read() if gpus is not None else ():
            figures[f"gpu{gpu.index}/percent"] = gpu.busy_percent
            figures[f"gpu{gpu.index}/memory_mb"] = (
                None if gpu.memory_bytes is None else gpu.memory_bytes / _MB
            )
            figures[f"gpu{gpu.index}/temperature_c"] = gpu.temperature_c
            figures[f"gpu{gpu.index}/power_w"] = gpu.power_w
        moment = time.time()
        # A clock that is set back must not make the seconds go back.
        self._step = max(self._step, int(moment - self._since))
        for name, value in figures.items():
            if value is not None:
                self._log.add(name, self._step, value, moment)


def meter_run(writer: RunWriter, pid: int | None = None) -> SystemMeter:
    """Measure for the run of `writer` until it ends; of this process's tree unless told another."""
    since = datetime.fromisoformat(writer.run.created).timestamp()
    meter = SystemMeter(
        writer.path, writer.attempt, since=since, pid=os.getpid() if pid is None else pid
    )
    writer.join(meter)
    return meter
