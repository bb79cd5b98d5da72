"""The tracker of this process: `tracker.add("loss", 0.25)`, then `tracker.save(step)`.

Its figures go to the run that `experiment` started, or that `open_run` was given. Without a run
they are shown and not kept, which is said once.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Final

from discern.base.console import Console
from discern.track import indicators as kinds
from discern.track.indicators import IndicatorKind
from discern.track.run import RunWriter
from discern.track.tracker import Tracker
from discern.track.tracker_outlet import AddPoint, Nowhere
from discern.track.writers.names import open_outlet

__all__ = [
    "add",
    "add_global_step",
    "close_run",
    "get_global_step",
    "namespace",
    "open_run",
    "reset",
    "save",
    "set_global_step",
    "set_histogram",
    "set_image",
    "set_indexed_scalar",
    "set_indexed_text",
    "set_queue",
    "set_scalar",
    "set_tensor",
    "set_text",
]


class _Unkept(Nowhere):
    """Says, at the first figure, that no run is open."""

    def __init__(self) -> None:
        self._said = False

    def series(self, name: str) -> AddPoint:
        """Forgets points."""
        if not self._said:
            self._said = True
            Console().warn("no run is open: the figures of this tracker are shown, but not kept")
        return super().series(name)


tracker: Final = Tracker()
tracker.write_to(_Unkept())

add = tracker.add
save = tracker.save
namespace = tracker.namespace
add_global_step = tracker.add_global_step
set_global_step = tracker.set_global_step
get_global_step = tracker.get_global_step


def open_run(run: RunWriter, writers: Iterable[str] = ("native",), start_step: int = 0) -> None:
    """Write figures into `run` from now on, through `writers` (names, or import paths).

    The run's own log is always written. With `start_step` above 0 (a run that goes on from a
    checkpoint) points of later steps do not count any more. The run closes what is opened here.
    Raises ConfigError for a writer that is not known or not installed.
    """
    outlet = open_outlet(run, writers)
    if start_step or run.attempt > 1:
        outlet.rewind(start_step or -1)
    tracker.write_to(outlet, start_step)


def close_run() -> None:
    """Write no more into the run; figures that were not saved are forgotten."""
    tracker.write_to(_Unkept())


def reset() -> None:
    """Forget kinds, figures and steps, as at the start of the process."""
    tracker.reset()
    tracker.write_to(_Unkept())


def set_scalar(name: str, is_print: bool = False) -> None:  # noqa: FBT001, FBT002
    """`name` (or pattern) is the mean since the last save, under its plain name."""
    tracker.declare(name, IndicatorKind(type=kinds.SCALAR, is_print=is_print))


def set_histogram(
    name: str,
    is_print: bool | int = False,  # noqa: FBT001, FBT002
    _queue_print: bool | None = None,  # noqa: FBT001
) -> None:
    """`name` keeps all values since the last save: mean under NAME.mean, and the distribution.

    `set_histogram(name, 20, True)`, the arguments of a queue, is accepted with a warning: the size
    is ignored, as a histogram keeps everything.
    """
    if _queue_print is not None or not isinstance(is_print, bool):
        warnings.warn(
            f"set_histogram('{name}', {is_print!r}, ...) has the arguments of set_queue: "
            "a histogram keeps all values since the last save, the size is ignored",
            stacklevel=2,
        )
        is_print = bool(_queue_print)
    tracker.declare(name, IndicatorKind(type=kinds.HISTOGRAM, is_print=is_print))


def set_queue(name: str, queue_size: int = kinds.QUEUE_SIZE, is_print: bool = False) -> None:  # noqa: FBT001, FBT002
    """`name` is a window over the newest values, kept across saves; its mean under NAME.mean."""
    kind = IndicatorKind(type=kinds.QUEUE, is_print=is_print, queue_size=queue_size)
    tracker.declare(name, kind)


def set_indexed_scalar(name: str) -> None:
    """`name` takes pairs (sample ids, values): a mean for each id, and NAME.mean of all."""
    tracker.declare(name, IndicatorKind(type=kinds.INDEXED_SCALAR))


def set_image(name: str, is_print: bool = False, density: float | None = None) -> None:  # noqa: FBT001, FBT002
    """`name` takes images: [H, W], [C, H, W], [H, W, C] or [N, C, H, W] for a grid."""
    _declare_artifact(name, kinds.IMAGE, density, is_print=is_print)


def set_text(name: str, is_print: bool = False, density: float | None = None) -> None:  # noqa: FBT001, FBT002
    """`name` takes text. `density`: the share of saves that write it, all by default."""
    _declare_artifact(name, kinds.TEXT, density, is_print=is_print)


def set_indexed_text(name: str, is_print: bool = False, density: float | None = None) -> None:  # noqa: FBT001, FBT002
    """`name` takes pairs (sample ids, texts)."""
    _declare_artifact(name, kinds.INDEXED_TEXT, density, is_print=is_print)


def set_tensor(name: str, is_once: bool = False, density: float | None = None) -> None:  # noqa: FBT001, FBT002
    """`name` takes arrays and tensors of any shape; with `is_once` only the first is written."""
    _declare_artifact(name, kinds.TENSOR, density, is_once=is_once)


def _declare_artifact(name: str, kind: str, density: float | None, **options: Any) -> None:
    share = 1.0 if density is None else float(density)
    tracker.declare(name, IndicatorKind(type=kind, density=share, **options))
