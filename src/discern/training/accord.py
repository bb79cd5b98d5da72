"""What the ranks decide together: stop, save, end, roll back, and what time it is.

A signal reaches one rank, a callback answers on rank 0, clocks differ: yet all ranks must do the
same after the same step. Between steps their wishes travel one step late, so that no rank waits
for another; at the ends of epochs they are settled at once.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from discern.compute.world import World
from discern.training.callbacks import Signal


class StopRequest:
    """Set by a signal handler, seen by the trainer after the step in progress."""

    def __init__(self) -> None:
        self.requested = False


class Accord:
    """The ranks' agreement. `asked` is set on any rank; `stop` is set on all after one step.

    Every rank must call `settle`, `conclude` and `begin` equally often, in the same order.
    """

    def __init__(self, world: World, asked: StopRequest, stop: StopRequest) -> None:
        self._world = world
        self._asked = asked
        self._stop = stop
        self._pending: tuple[Any, torch.Tensor] | None = None
        self._time = 0.0
        self.conclude(Signal.GO_ON)

    def now(self) -> float:
        """Seconds on a clock that is the same on every rank: that of the last agreement."""
        return self._time

    def begin(self) -> None:
        """Forget wishes that were not settled: another stretch of steps begins."""
        self._take()

    def settle(self, signal: Signal) -> Signal:
        """Send this step's wish; gives what all wished after the step before."""
        agreed = self._take()
        self._send(signal)
        return agreed

    def conclude(self, signal: Signal) -> Signal:
        """Wait for all ranks, and give the strongest signal that is not settled yet."""
        before = self._take()
        self._send(max(signal, before))
        return self._take()

    def _send(self, signal: Signal) -> None:
        clock = time.monotonic() if self._world.leads else 0.0
        wish = torch.tensor(
            [float(signal), float(self._asked.requested), clock], dtype=torch.float64
        )
        self._pending = (self._world.start_max(wish), wish)

    def _take(self) -> Signal:
        """The strongest signal of what was sent last; takes over its stop and its time."""
        if self._pending is None:
            return Signal.GO_ON
        work, wish = self._pending
        self._pending = None
        self._world.finish(work)
        signal, stop, self._time = wish.tolist()
        self._stop.requested = bool(stop)
        return Signal(int(signal))
