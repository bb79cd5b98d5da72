"""Tracked figures as TensorBoard events, in the run's `events/` folder."""

from __future__ import annotations

from typing import Final

from discern.base.errors import RunError
from discern.track.event_files import EventFiles
from discern.track.tracked_records import Artifact, Distribution, Point, Record

# Of these TensorBoard draws one chart with a line for each, where a figure is of several.
SPLITS: Final = ("train", "val", "test")


def group_and_tag(name: str) -> tuple[str, str]:
    """Where a figure goes: `val/accuracy` is `accuracy` of the group `val`, others have none."""
    split, slash, rest = name.partition("/")
    return (split, rest) if slash and rest and split in SPLITS else ("", name)


class EventWriter:
    """Scalars, histograms, images and texts; tensors and values of samples have no place there.

    Figures of a split are a group of their own: see `group_and_tag`.

    `events` may be the run's, which closes them, too, and tells their `problem`.
    """

    def __init__(self, events: EventFiles) -> None:
        self._events = events

    def write(self, records: list[Record]) -> None:
        """One event a record. Raises RunError once events cannot be written."""
        for record in records:
            if isinstance(record, Point):
                group, tag = group_and_tag(record.name)
                self._events.add_scalar(tag, record.value, record.step, group, record.time)
            elif isinstance(record, Distribution):
                name, values = record.name, record.values
                self._events.add_histogram(name, values, record.step, time=record.time)
            elif isinstance(record, Artifact) and record.kind == "image":
                self._events.add_image(record.name, record.content, record.step, time=record.time)
            elif isinstance(record, Artifact) and record.kind != "tensor":
                self._events.add_text(record.name, record.content, record.step, time=record.time)

        if self._events.problem is not None:
            raise RunError(self._events.problem)

    def rewind(self, step: int) -> None:
        """TensorBoard forgets what it showed of later steps."""
        self._events.rewind(step)

    def flush(self) -> None:
        """Bring all events into their files."""
        self._events.flush()

    def close(self) -> None:
        """Flush and close; the run's own are opened again if it writes more of them."""
        self._events.close()
