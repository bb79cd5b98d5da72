"""Batches of several images of each of several classes, for objectives that compare images.

A batch is P classes times K images, class after class, so that an even part of it (of a rank, of an
accumulated pass) holds whole classes where P divides by the parts. All of it is keyed by (seed,
epoch). Axes: N samples, C classes, B batches.
"""

from __future__ import annotations

import numpy as np
import torch

from discern.base.errors import ConfigError, DataError
from discern.feed.draws import Draws, Operation
from discern.feed.samplers import Samples


class ClassBatches:
    """`classes` classes of `images` images each in every batch; about as many images as there are.

    Over an epoch each class comes as often as any other, but for one visit, and never twice in a
    batch. Its images take turns: all are shown before one is shown again. A class with fewer images
    than asked for shows some of them twice in a batch, each time augmented anew.

    `targets`: int64 [N]; unlabeled samples (-1) are not shown. Raises ConfigError, DataError.
    """

    def __init__(self, targets: Samples, classes: int, images: int) -> None:
        for name, value, least in (("classes", classes, 2), ("images", images, 2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ConfigError(
                    "a batch to compare images in has two classes and two images each at least",
                    where=f"sampler 'classes_images', {name}",
                    got=value,
                    expected=f"a whole number from {least}",
                )
        if targets.dtype.kind != "i" or targets.ndim != 1:
            raise ConfigError(
                "classes are chosen by one label per image only", where="sampler 'classes_images'"
            )
        self._rows = np.flatnonzero(targets >= 0).astype(np.int64)
        if not len(self._rows):
            raise DataError("there is no labeled image to choose")
        found, self._inverse, self._counts = np.unique(
            targets[self._rows], return_inverse=True, return_counts=True
        )
        if classes > len(found):
            raise ConfigError(
                "a batch cannot have more classes than there are",
                where="sampler 'classes_images'",
                got=classes,
                expected=f"at most {len(found)}",
            )
        self.batch_size = classes * images
        self._classes, self._images = classes, images
        self._batches = max(1, len(self._rows) // self.batch_size)

    @property
    def length(self) -> int:
        """Batches times images of a batch."""
        return self._batches * self.batch_size

    def draw(self, seed: int, epoch: int) -> Samples:
        """Sample numbers int64 [B * P * K]: batch after batch, class after class in each."""
        draws = Draws(seed, epoch)
        visits = self._visits(draws)
        keys = draws.bits(torch.from_numpy(self._rows), Operation.CLASS_ORDER).numpy()
        grouped = self._rows[np.lexsort((keys, self._inverse))]
        starts = np.cumsum(self._counts) - self._counts
        # How often each visited class was visited before in this epoch.
        order = np.argsort(visits, kind="stable")
        ordered = visits[order]
        first = np.searchsorted(ordered, ordered)
        before = np.empty(len(visits), dtype=np.int64)
        before[order] = np.arange(len(visits)) - first
        turns = before[:, None] * self._images + np.arange(self._images)
        chosen: Samples = grouped[starts[visits][:, None] + turns % self._counts[visits][:, None]]
        return chosen.ravel()

    def _visits(self, draws: Draws) -> Samples:
        """Class numbers int64 [B * P]: rounds through all classes, none twice in a batch."""
        wanted, count = self._batches * self._classes, len(self._counts)
        numbers = torch.arange(count, dtype=torch.int64)
        row: list[int] = []
        turn = 0
        while len(row) < wanted:
            order = np.argsort(draws.bits(numbers, Operation.CLASS_ROUND, turn).numpy()).tolist()
            open_part = set(row[len(row) - len(row) % self._classes :])
            free = [c for c in order if c not in open_part][: self._classes - len(open_part)]
            row += free + [c for c in order if c not in set(free)]
            turn += 1
        return np.array(row[:wanted], dtype=np.int64)
