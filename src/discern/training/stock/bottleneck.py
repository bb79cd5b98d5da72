"""What a stage's time was spent on, and what would make it faster, in one line."""

from __future__ import annotations

import math
from typing import Any, Final

from discern.training.callbacks import Callback, Place, Progress, Say, say_nothing

# Waiting for less than a tenth of the time, a run gains less than 1.11 from free data.
WAITING_IS_LITTLE: Final = 0.1
_PARTS: Final = ("decode", "augment", "copy")
_ADVICE: Final = {
    "decode": "reading and decoding are the limit: more --workers, or smaller images once and for "
    "all with `discern data pack`; `discern bench io` measures it alone",
    "augment": "augmentation is the limit: more --workers, or a lighter --augment",
    "copy": "bringing images to the network is the limit: a smaller --img-size, or more --threads",
    "step": "the network is the limit, not the data: --precision, --compile, a larger --batch-size "
    "on a GPU, or a smaller --model",
    "wait": "the loop waits for images: more --workers",
}


class Bottleneck(Callback):
    """Says at a stage's end which share of its time went into steps, which into waiting for data.

    Beside the waiting stand the feed's own parts (decode, augment, copy) as shares of its work,
    and the speed beside the speed with data that costs nothing. `quiet` only keeps the figures, in
    `shares`.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._say: Say = say_nothing
        self._sums = self._nothing()
        self._step = 0

    @staticmethod
    def _nothing() -> dict[str, float]:
        return {"seconds": 0.0, "wait": 0.0, "images": 0.0, **dict.fromkeys(_PARTS, 0.0)}

    def attach(self, place: Place) -> None:
        """Remember how to say it."""
        if not self._quiet:
            self._say = place.say

    def before_stage(self, progress: Progress) -> None:
        """A new stage is counted by itself; a resumed one goes on with what was restored."""
        if progress.stage_step == 0:
            self._sums = self._nothing()
        self._step = progress.step

    def reading(self, progress: Progress) -> None:
        """Add the steps since the last reading."""
        readings, steps = progress.readings, progress.step - self._step
        self._step = progress.step
        if steps <= 0 or "time/batch_ms" not in readings:
            return  # of steps before this attempt, or of a trainer that keeps no time
        seconds = 1e-3 * steps * readings["time/batch_ms"]
        self._sums["seconds"] += seconds
        self._sums["wait"] += 1e-3 * steps * readings["time/data_ms"]
        self._sums["images"] += seconds * readings["time/images_per_s"]
        for part in _PARTS:
            self._sums[part] += 1e-3 * steps * readings.get(f"time/{part}_ms", 0.0)

    def shares(self) -> dict[str, float]:
        """`step` and `wait` of the loop's time, together 1; the feed's parts of its own work.

        Also `images_per_s`, and `free_data`: how many times as fast the loop would be without
        waiting. NaN before the first reading.
        """
        sums = self._sums
        seconds, work = sums["seconds"], sum(sums[part] for part in _PARTS)
        wait = sums["wait"] / seconds if seconds else math.nan
        return {
            "step": 1.0 - wait,
            "wait": wait,
            **{part: sums[part] / work if work else math.nan for part in _PARTS},
            "images_per_s": sums["images"] / seconds if seconds else math.nan,
            "free_data": 1.0 / (1.0 - wait) if wait < 1.0 else math.inf,
        }

    def limit(self) -> str:
        """What binds: step, decode, augment, copy, or wait where the feed tells no parts."""
        shares = self.shares()
        if not shares["wait"] >= WAITING_IS_LITTLE:
            return "step"
        if math.isnan(shares["decode"]):
            return "wait"
        return max(_PARTS, key=lambda part: shares[part])

    def after_stage(self, progress: Progress) -> None:  # noqa: ARG002
        """One line of shares and one of advice."""
        shares = self.shares()
        if math.isnan(shares["wait"]):
            return
        parts = [
            f"{part} {100 * shares[part]:.0f}%" for part in _PARTS if not math.isnan(shares[part])
        ]
        told = f" (of the feed's work: {', '.join(parts)})" if parts else ""
        self._say(
            f"time     step {100 * shares['step']:.0f}%, wait {100 * shares['wait']:.0f}%{told}; "
            f"{shares['images_per_s']:.0f} img/s, {shares['free_data']:.2f}x that if data cost "
            "nothing"
        )
        self._say(f"advice   {_ADVICE[self.limit()]}")

    def state(self) -> dict[str, Any]:
        """The sums of this stage."""
        return {"sums": self._sums, "step": self._step}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""
        self._sums, self._step = dict(state["sums"]), int(state["step"])
