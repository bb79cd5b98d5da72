"""What a measurement of the feed found: rates with their spread, as JSON and as a table.

Owns the records and their words; the measuring is in `throughput`.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Median and range over the rounds."""

    median: float
    low: float
    high: float

    def record(self) -> dict[str, float]:
        """The JSON object: median, min, max."""
        return {"median": self.median, "min": self.low, "max": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedRate:
    """The speed of one way to read one container with so many threads.

    `cpu_rounds`: images per CPU-second, round by round. `of_decode`: as a share of the bare decode
    of the same bytes in the same rounds. `scaling`: wall speed over that of the fewest threads.
    `binds`: read, decode, augment or copy, whichever takes most CPU time; "wait" where the threads
    stand still, for files, for the interpreter's lock or while other programs have the cores; None
    for peers, whose parts are not known.
    """

    container: str
    decoder: str
    workers: int
    images: int
    per_cpu_s: Spread
    per_wall_s: Spread
    cpu_rounds: tuple[float, ...]
    of_decode: Spread | None = None
    scaling: Spread | None = None
    binds: str | None = None

    def record(self) -> dict[str, Any]:
        """The JSON object of `results`; rates are images per second."""
        return {
            "container": self.container,
            "decoder": self.decoder,
            "workers": self.workers,
            "images": self.images,
            "images_per_cpu_s": self.per_cpu_s.record(),
            "images_per_s": self.per_wall_s.record(),
            "of_decode": None if self.of_decode is None else self.of_decode.record(),
            "scaling": None if self.scaling is None else self.scaling.record(),
            "binds": self.binds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedThroughput:
    """All rates, and the microseconds of CPU time of each part of the work, by container."""

    rates: tuple[FeedRate, ...]
    parts: Mapping[str, Mapping[str, float]]
    rounds: int

    def rate(self, container: str, decoder: str, workers: int) -> FeedRate:
        """One rate. Raises KeyError when it was not measured."""
        for one in self.rates:
            if (one.container, one.decoder, one.workers) == (container, decoder, workers):
                return one
        raise KeyError((container, decoder, workers))

    def ratio(self, ours: tuple[str, str, int], theirs: tuple[str, str, int]) -> Spread:
        """Images per CPU-second of one (container, decoder, workers) over another's, by round."""
        return ratio_of_rounds(self.rate(*ours).cpu_rounds, self.rate(*theirs).cpu_rounds)

    def record(self) -> dict[str, Any]:
        """The JSON object of `discern bench io`."""
        return {
            "results": [rate.record() for rate in self.rates],
            "parts_us": {name: dict(parts) for name, parts in self.parts.items()},
            "rounds": self.rounds,
        }


def describe_throughput(result: FeedThroughput) -> list[str]:
    """The table for a terminal: a line for each rate, then the parts of each container."""
    width = max(len(f"{rate.container}, {rate.decoder}") for rate in result.rates)
    head = f"{'images per second':<{width}}  threads   CPU s      (range)      wall s  of decode"
    lines = [f"{head}  scaling  binds"]
    for rate in result.rates:
        name, cpu = f"{rate.container}, {rate.decoder}", rate.per_cpu_s
        share = f"{rate.of_decode.median:.2f}" if rate.of_decode else ""
        scaling = f"{rate.scaling.median:.2f}" if rate.scaling else ""
        lines.append(
            f"{name:<{width}}  {rate.workers:>7} {cpu.median:7.0f} ({cpu.low:6.0f} to"
            f" {cpu.high:6.0f}) {rate.per_wall_s.median:8.0f}  {share:>9}  {scaling:>7}"
            f"  {rate.binds or ''}".rstrip()
        )
    for container, parts in result.parts.items():
        text = ", ".join(f"{name} {spent:.0f}" for name, spent in parts.items())
        lines.append(f"{container}: CPU microseconds an image: {text}")
    return lines


def spread_of_rounds(values: Sequence[float]) -> Spread:
    """Median and range of one value a round."""
    return Spread(statistics.median(values), min(values), max(values))


def ratio_of_rounds(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Taken round by round, so that a slow minute of the machine hits both."""
    return spread_of_rounds([a / b for a, b in zip(ours, theirs, strict=True)])
