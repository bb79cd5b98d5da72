"""Mixup and CutMix: images and targets of a batch mixed with those of their neighbors.

Owns the mixing, soft targets, and the feed that wraps another to mix its batches. All chance is
keyed by (seed, epoch, batch number), so a resumed epoch mixes as a whole one does.

Axes: N samples, C channels, H height, W width, K classes.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch import Tensor

from discern.base.errors import ConfigError
from discern.feed.batch import Batch, Feed, HeadTargets, head_targets
from discern.feed.draws import Draws, Operation
from discern.feed.operations import check_value
from discern.feed.seconds import FeedSeconds, spent_seconds
from discern.feed.variates import beta
from discern.feed.warps import Box

# Numbers of a batch: whether, mixup or CutMix, share, the middle of the box.
_NUMBERS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixing:
    """How batches are mixed.

    `mixup`, `cutmix`: shape of the beta distribution of the share, 0: off.
    `probability`: of a batch to be mixed; `switch`: of CutMix where both are on. Sources: H. Zhang
    et al., mixup, 2017 (0.2 for ImageNet); S. Yun et al., CutMix, 2019 (1.0).
    """

    mixup: float = 0.0
    cutmix: float = 0.0
    probability: float = 1.0
    switch: float = 0.5

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            value = getattr(self, name)
            check_value(value >= 0.0, name, value, "0 (off) or more")
        for name in ("probability", "switch"):
            value = getattr(self, name)
            check_value(0.0 <= value <= 1.0, name, value, "0 to 1")

    @property
    def active(self) -> bool:
        """Whether any batch is mixed."""
        return (self.mixup > 0.0 or self.cutmix > 0.0) and self.probability > 0.0

    def plan(self, draws: Draws, batch: int, height: int, width: int) -> Mix:
        """What happens to batch number `batch` of images of `height` x `width`."""
        key = torch.tensor([batch], dtype=torch.int64)
        whether, which, share, down, across = draws.table(key, Operation.MIX, _NUMBERS)[0].tolist()
        if not self.active or whether >= self.probability:
            return Mix(kept=1.0, box=None)
        cut = self.cutmix > 0.0 and (self.mixup == 0.0 or which < self.switch)
        kept = beta(share, self.cutmix if cut else self.mixup)
        if not cut:
            return Mix(kept=kept, box=None)
        box = cut_box(kept, height, width, (down, across))
        return Mix(kept=1.0 - box.height * box.width / (height * width), box=box)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """What is done to one batch. `kept`: share of each image's own target; `box`: CutMix's."""

    kept: float
    box: Box | None


def cut_box(kept: float, height: int, width: int, middle: tuple[float, float]) -> Box:
    """A box of share 1 - `kept` about `middle` (y, x in [0, 1)), cut off at the borders."""
    side = math.sqrt(1.0 - kept)
    tall, wide = int(height * side), int(width * side)
    top, left = int(middle[0] * height) - tall // 2, int(middle[1] * width) - wide // 2
    bottom, right = min(height, top + tall), min(width, left + wide)
    top, left = max(0, top), max(0, left)
    return Box(top, left, bottom - top, right - left)


def mix_images(images: Tensor, mix: Mix) -> Tensor:
    """`images` float [N,C,H,W] mixed each with the one before it (the first with the last).

    Returns new memory; the input stays as it is.
    """
    partners = images.roll(1, 0)
    if mix.box is None:
        return images * mix.kept + partners * (1.0 - mix.kept)
    mixed = images.clone()
    rows = slice(mix.box.top, mix.box.top + mix.box.height)
    columns = slice(mix.box.left, mix.box.left + mix.box.width)
    mixed[:, :, rows, columns] = partners[:, :, rows, columns]
    return mixed


def mix_targets(targets: Tensor, mix: Mix, classes: int) -> Tensor:
    """Soft targets float32 [N,K] of a mixed batch, from `targets` int64 [N] or float [N,K].

    A missing target (-1, or NaN) makes a row of which it has a share missing: NaN.
    """
    soft = soft_targets(targets, classes)
    if mix.kept == 1.0:
        return soft
    return soft * mix.kept + soft.roll(1, 0) * (1.0 - mix.kept)


def soft_targets(targets: Tensor, classes: int) -> Tensor:
    """Targets float32 [N,K]: one at the class of int64 [N], NaN in the row of a missing one (-1).

    Raises ConfigError for a class number of `classes` or more (on a GPU, whose answer is not waited
    for, the kernel refuses it); float [N,K] stay as they are.
    """
    if targets.ndim == 2:
        return targets.to(torch.float32)
    if targets.device.type == "cpu" and len(targets) and int(targets.max()) >= classes:
        raise ConfigError(
            "a target is outside the classes",
            where="mixing.classes",
            got=int(targets.max()),
            expected=f"below {classes}",
        )
    soft = torch.nn.functional.one_hot(targets.clamp(min=0), classes).to(torch.float32)
    soft[targets < 0] = math.nan
    return soft


class MixedFeed:
    """The batches of another feed, mixed: targets become float32 [N,K].

    `classes`: how many there are, or of several heads how many each has, by name. `until`: number
    of the epoch from which on nothing is mixed any more (`--close-aug`); targets stay soft. Closing
    it closes the other feed.
    """

    def __init__(
        self,
        feed: Feed,
        mixing: Mixing,
        *,
        classes: int | Mapping[str, int],
        seed: int,
        until: int | None = None,
    ) -> None:
        self._feed = feed
        self._mixing = mixing
        self._classes = classes
        self._seed = seed
        self._until = until
        self.samples = feed.samples
        self.batches = feed.batches

    @property
    def wait_s(self) -> float:
        """Seconds that the consumer has waited for the other feed."""
        return self._feed.wait_s

    @wait_s.setter
    def wait_s(self, seconds: float) -> None:
        self._feed.wait_s = seconds

    @property
    def spent(self) -> FeedSeconds:
        """The other feed's work; mixing is done after it and counts as the loop's."""
        return spent_seconds(self._feed)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of epoch number `epoch` from batch `start` on; see `Feed.epoch`."""
        return self._mixed(self._feed.epoch(epoch, start), epoch, start)

    def close(self) -> None:
        """End the other feed's threads."""
        self._feed.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _mixed(self, batches: Iterator[Batch], epoch: int, start: int) -> Iterator[Batch]:
        open_ = self._until is None or epoch < self._until
        mixing = self._mixing if open_ else Mixing()
        draws = Draws(self._seed, epoch)
        # Given up in the middle, the other feed must learn of it at once: its threads still read.
        with contextlib.closing(batches) as source:  # type: ignore[type-var]
            for number, batch in enumerate(source, start):
                mix = mixing.plan(draws, number, *batch.images.shape[-2:])
                images = batch.images if mix == _UNMIXED else mix_images(batch.images, mix)
                yield Batch(images, self._targets(batch, mix), batch.positions, batch.whole)

    def _targets(self, batch: Batch, mix: Mix) -> Tensor:
        if isinstance(self._classes, int):
            return mix_targets(batch.targets, mix, self._classes)
        parts = head_targets(batch).items()
        mixed = {name: mix_targets(part, mix, self._classes[name]) for name, part in parts}
        return HeadTargets(mixed)  # type: ignore[return-value]


_UNMIXED = Mix(kept=1.0, box=None)
