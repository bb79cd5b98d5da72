"""Once: finish the step, save, stop. Twice: stop now."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from discern.base.console import Console
from discern.base.errors import INTERRUPTED
from discern.training.accord import StopRequest


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest, console: Console) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `stop` inside the block; a second one ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python hands signals to the main thread alone
        return

    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        if stop.requested:
            os._exit(INTERRUPTED)
        stop.requested = True
        console.warn("stopping after this step; once more to stop at once")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
