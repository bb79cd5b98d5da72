"""A trace of some steps: which operations ran when, and how long."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import torch
from torch.profiler import ProfilerActivity, profile

from discern.base.errors import ConfigError
from discern.training.callbacks import Callback, Place, Progress, Say, say_nothing

FOLDER: Final = "profile"
_SHOWN_OPERATIONS: Final = 30


def step_range(text: str) -> tuple[int, int]:
    """(first, last) of `10-14`, or of `10` alone. Raises ConfigError."""
    first, dash, last = text.partition("-")
    if first.strip().isdigit() and (last.strip().isdigit() or not dash):
        low, high = int(first), int(last or first)
        if 1 <= low <= high:
            return low, high
    raise ConfigError(
        "not a range of steps", where="profiler", got=text, expected="FIRST-LAST, such as 10-14"
    )


class Profiler(Callback):
    """Traces the updates `first` to `last`, counted over all stages from 1, with torch.profiler.

    Writes into `profile/` of the run a trace `rank0_steps-A-B.pt.trace.json`, for Chrome's
    chrome://tracing, Perfetto and TensorBoard's profile plugin, and the costliest operations as a
    table in `rank0_steps-A-B.txt`. Steps are slower while they are traced. `shapes` and `memory`
    record the tensors' shapes and the memory taken, too.
    """

    def __init__(
        self,
        steps: str = "10-14",
        *,
        shapes: bool = False,
        memory: bool = False,
        rank: int = 0,
    ) -> None:
        self.first, self.last = step_range(steps)
        self._shapes, self._memory, self._rank = shapes, memory, rank
        self._folder: Path | None = None
        self._say: Say = say_nothing
        self._running: profile | None = None
        self._began = 0

    def attach(self, place: Place) -> None:
        """Remember where the run is."""
        self._say = place.say
        self._folder = None if place.folder is None else place.folder / FOLDER

    def before_step(self, progress: Progress) -> None:
        """Start with the first step of the range that this attempt does."""
        if self._running is None and self.first <= progress.step + 1 <= self.last:
            activities = [ProfilerActivity.CPU]
            if torch.cuda.is_available():
                activities.append(ProfilerActivity.CUDA)
            self._began = progress.step + 1
            self._running = profile(
                activities=activities, record_shapes=self._shapes, profile_memory=self._memory
            )
            self._running.start()

    def after_step(self, progress: Progress) -> None:
        """Stop after the last step of the range."""
        if self._running is not None and progress.step >= self.last:
            self._finish(progress.step)

    def after_stage(self, progress: Progress) -> None:
        """A trace does not go on into another stage."""
        if self._running is not None:
            self._finish(progress.step)

    def _finish(self, step: int) -> None:
        running, self._running = self._running, None
        if running is None:
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        running.stop()
        if self._folder is None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"rank{self._rank}_steps-{self._began}-{step}"
        trace = self._folder / f"{stem}.pt.trace.json"
        running.export_chrome_trace(str(trace))
        table = running.key_averages().table(
            sort_by="self_cpu_time_total", row_limit=_SHOWN_OPERATIONS
        )
        (self._folder / f"{stem}.txt").write_text(table + "\n", encoding="utf-8")
        self._say(f"profile  steps {self._began} to {step}: {trace}")
