"""The largest batch that fits: doubled until it does not, then refined; each size measured once.

Knows no network and no device: what a size takes is told by a function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

# Batch norm cannot train on one image, so that the search begins with two.
FIRST = 2
# A size between two powers of two is found to an eighth: at most three measurements more.
_PARTS = 8


@dataclass(frozen=True, slots=True)
class BatchTrial:
    """What steps of `images` took: bytes at most, None where memory ran out; and their time."""

    images: int
    peak: int | None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class FoundBatch:
    """The largest batch, and what was tried in this order. `estimated`: by a line, not measured."""

    images: int
    tried: tuple[BatchTrial, ...]
    estimated: bool = False


def search_batch(
    measure: Callable[[int], BatchTrial], *, room: int, most: int, seconds: float, cautious: bool
) -> FoundBatch | None:
    """The largest batch of at most `most` images whose peak is within `room` bytes.

    None if not even one image is. `cautious`: a size whose expected peak is beyond `room` is not
    tried, for where memory is the machine's own, more than there is ends the process. A size that
    would make all measurements last longer than `seconds` is not tried: what fits is then told by
    the line through the last two peaks.
    """
    tried: list[BatchTrial] = []

    def fits(images: int) -> bool:
        trial = measure(images)
        tried.append(trial)
        return trial.peak is not None and trial.peak <= room

    def may_fit(images: int) -> bool:
        return not (cautious and expected_peak(tried, images) > room)

    size = min(FIRST, most)
    while not fits(size):
        if size == 1:
            return None
        size //= 2
    while size < most:
        larger = min(2 * size, most)
        if _time_is_up(tried, larger, seconds):
            return FoundBatch(_by_line(tried, size, room, most), tuple(tried), estimated=True)
        if larger in [trial.images for trial in tried] or not may_fit(larger) or not fits(larger):
            break
        size = larger
    if size == most:
        return FoundBatch(size, tuple(tried))
    low, high, part = 0, _PARTS, max(1, size // _PARTS)
    while high - low > 1:
        middle = (low + high) // 2
        images = size + middle * part
        known = min((t.images for t in tried if t.peak is None or t.peak > room), default=most + 1)
        if images >= known or not may_fit(images) or _time_is_up(tried, images, seconds):
            high = middle
        elif fits(images):
            low = middle
        else:
            high = middle
    return FoundBatch(size + low * part, tuple(tried))


def expected_peak(tried: Sequence[BatchTrial], images: int) -> float:
    """Bytes that `images` will take, by the line through the last two sizes that had room."""
    known = {trial.images: trial.peak for trial in tried if trial.peak is not None}
    below = sorted(size for size in known if size <= images)[-2:]
    if len(below) < 2:
        return float(known[below[0]]) if below else 0.0
    first, second = below
    slope = max(0.0, (known[second] - known[first]) / (second - first))
    return known[second] + slope * (images - second)


def _time_is_up(tried: Sequence[BatchTrial], images: int, seconds: float) -> bool:
    """Whether a step as long as its size says would be over the time."""
    last = tried[-1]
    return sum(t.seconds for t in tried) + last.seconds * images / last.images > seconds


def _by_line(tried: Sequence[BatchTrial], size: int, room: int, most: int) -> int:
    """The largest size in eighths of a power of two whose expected peak has room."""
    best = size
    while size < most:
        part = max(1, size // _PARTS)
        for images in range(size, min(2 * size, most) + 1, part):
            if expected_peak(tried, images) > room:
                return best
            best = images
        size *= 2
    return most
