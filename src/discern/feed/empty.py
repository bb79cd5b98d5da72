"""No images: the part of an evaluation that is left to a rank when there are more ranks."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Self

from discern.feed.batch import Batch


class EmptyFeed:
    """A feed without batches."""

    def __init__(self) -> None:
        self.samples = 0
        self.batches = 0
        self.wait_s = 0.0

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:  # noqa: ARG002
        """No batch."""
        yield from ()

    def close(self) -> None:
        """Nothing to end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
