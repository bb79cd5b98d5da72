"""The feed's own work in seconds, part by part."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from discern.feed.batch import Feed


@dataclass(frozen=True, slots=True)
class FeedSeconds:
    """Seconds of all reading threads and of the consumer's together, since the feed was made.

    `decode`: images read, decoded, framed to the network's size; `augment`: changed by chance;
    `copy`: gathered, moved to the device, normalized.
    """

    decode: float = 0.0
    augment: float = 0.0
    copy: float = 0.0

    def __sub__(self, other: FeedSeconds) -> FeedSeconds:
        """What was spent since `other`."""
        return FeedSeconds(
            self.decode - other.decode, self.augment - other.augment, self.copy - other.copy
        )

    def record(self) -> dict[str, float]:
        """The parts by name."""
        return asdict(self)


def spent_seconds(feed: Feed) -> FeedSeconds:
    """What `feed` has spent so far; nothing for a feed that does not count it."""
    spent = getattr(feed, "spent", None)
    return spent if isinstance(spent, FeedSeconds) else FeedSeconds()
