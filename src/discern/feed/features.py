"""Features that fit in memory in place of images: a frozen network sees every image once.

Owns the feed of a stage that trains nothing but heads. The features are computed when the first
batch is asked for, over the batches of other feeds, and epochs then run over them. An image may
be mirrored by chance: its features are then kept both ways, and the draws are those of the images'
own feed, so that the same stage without this feed sees the same pictures.

Axes: V views (the image, and its mirror image if there is one), N samples, D features.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from discern.feed.augment import Augment, Policy
from discern.feed.batch import Batch, Feed, FeedOptions, matched_samples
from discern.feed.draws import Draws
from discern.feed.operations import Mirror, Rows
from discern.feed.order import check_start

# Gives the feed of some of the samples, by their rows: each image once, untouched by chance.
OpenFeed: TypeAlias = Callable[[NDArray[np.int64]], Feed]
# Features [V, N, D], on the device, of the samples at these positions in the manifest, for each of
# the views asked for (1: as it is, 2: its mirror image too). Those that have to be computed pass
# the frozen part in a feed that is opened for them, and closed after its one epoch.
Extract: TypeAlias = Callable[[OpenFeed, NDArray[np.int64], int], Tensor]


def count_views(augment: Augment) -> int | None:
    """How many different pictures of an image `augment` makes: 1, 2 if it may be mirrored.

    None when chance has more to say: no features can then be kept.
    """
    if augment is None:
        return 1
    if not isinstance(augment, Policy) or augment.framing is not None:
        return None
    if not all(isinstance(step.operation, Mirror) for step in augment.steps):
        return None
    return 2 if augment.steps else 1


class FeatureFeed:
    """Batches of features: `Batch.images` is [n, D], in the type that `extract` gives.

    `open_images`: feeds of the images, in the order of `targets` (int64 [N] or float32 [N,K], or
    such by head name) and of `positions` (int64 [N], in the manifest). `options.augment` must have
    a number of views (`count_views`).
    """

    def __init__(
        self,
        open_images: OpenFeed,
        targets: NDArray[Any] | Mapping[str, NDArray[Any]],
        positions: NDArray[np.int64],
        options: FeedOptions,
        extract: Extract,
    ) -> None:
        self._open_images = open_images
        self._options = options
        self._extract = extract
        self._views = (count_views(options.augment) or 1) if options.training else 1
        self._count = len(positions)
        self.samples, self.batches, _ = options.epoch_size(self._count)
        self.wait_s = 0.0
        self._targets, self._positions = matched_samples(targets, positions)
        self._targets = self._targets.to(options.device)
        self._features: Tensor | None = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on; see `Feed.epoch`."""
        check_start(start, self.batches)
        return self._stream(epoch, start)

    def close(self) -> None:
        """Nothing stays open: the feeds of the images are closed as soon as they have ended."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stream(self, epoch: int, start: int) -> Iterator[Batch]:
        features = self._kept()
        began = time.perf_counter()
        options = self._options
        order = options.order(self._count, epoch)
        begin = int(order.bounds[start])
        samples = torch.from_numpy(order.samples[begin:])
        positions = self._positions[samples]
        rows = samples
        policy = options.policy(epoch)
        if policy is not None:
            keys = order.draw_keys(positions.numpy(), start, self.batches)
            table = policy.table(Draws(options.seed, epoch), torch.from_numpy(keys))
            rows = samples + torch.from_numpy(_mirrored(policy, table)) * self._count
        rows, samples = rows.to(options.device), samples.to(options.device)
        bounds = (order.bounds[start:] - begin).tolist()
        for number, (first, last) in enumerate(itertools.pairwise(bounds), start):
            batch = Batch(
                features.index_select(0, rows[first:last]),
                self._targets[samples[first:last]],
                positions[first:last],
                order.whole(number),
            )
            self.wait_s += time.perf_counter() - began
            yield batch
            began = time.perf_counter()

    def _kept(self) -> Tensor:
        """The features [V * N, D]: all images, then all mirror images."""
        if self._features is None:
            features = self._extract(self._open_images, self._positions.numpy(), self._views)
            self._features = features.flatten(0, 1)
        return self._features


def _mirrored(policy: Policy, rows: Rows) -> NDArray[np.bool_]:
    """Whether each image of `rows` [N, R] is mirrored in the end; two mirrors undo each other."""
    turned = np.zeros(len(rows), dtype=bool)
    for place, step in enumerate(policy.steps):
        turned ^= rows[:, place] < step.probability
    return turned
