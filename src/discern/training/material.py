"""The images of a run, in memory or read as they are needed, made into feeds for any stage."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.base.plugins import check_arguments, is_import_path
from discern.data.head_spec import HeadSpec
from discern.data.images import Pixels, Preprocess
from discern.data.manifest import Head, Manifest
from discern.data.sources import Source, load_resident
from discern.feed.augment import Augment, PhotoAugment, SmallImageAugment
from discern.feed.batch import Feed, FeedOptions
from discern.feed.class_batches import ClassBatches
from discern.feed.empty import EmptyFeed
from discern.feed.features import Extract, FeatureFeed
from discern.feed.loader import LoaderFeed, LoaderThreads
from discern.feed.own_augment import own_augment
from discern.feed.photo_resize import Resample
from discern.feed.policies import PolicyContext, listed_policy, named_policy
from discern.feed.resident import ResidentFeed
from discern.feed.samplers import (
    BalancedSampler,
    EverySample,
    MiniEpochs,
    Sampler,
    ShardSampler,
    WeightedSampler,
)
from discern.feed.side_heads import side_labels
from discern.training.evaluate import evaluation_batch
from discern.training.head_objectives import TrainingHead

# Images up to this side are kept in memory as uint8, up to this many bytes of them.
RESIDENT_SIDE = 64
RESIDENT_BYTES = 4 << 30
# A shift of a sixteenth of the side, at least one pixel: 2 at 28 to 32 pixels scored as well as
# the 4 of He et al. 2015 on held-out images, and small images lose less (docs/lab-log.md).
PAD_SHARE = 1 / 16
# The second spellings are Catalyst's.
_BALANCES: dict[str, Literal["down", "up"]] = {
    "down": "down",
    "up": "up",
    "downsampling": "down",
    "upsampling": "up",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedSettings:
    """What all feeds of a run share."""

    device: torch.device
    workers: int
    seed: int
    flip: bool  # the mirror test's verdict, for `auto` augmentation
    resample: Resample = "mixed"  # how training photos are resized
    side_heads: tuple[str, ...] = ()  # by name, see `feed.side_heads`
    val_split: str = "val"  # the images that the model is chosen by
    rank: int = 0
    ranks: int = 1
    eval_batch_size: int | None = None  # images per evaluation pass, see `evaluation_batch`
    scored_images: int | None = None  # at most so many of a split are scored: a check's
    overfit_images: int | None = None  # the same few training images are every split


class Material:
    """Images and targets by split. `preprocess` is what evaluation does to an image."""

    def __init__(
        self, manifest: Manifest, source: Source, preprocess: Preprocess, settings: FeedSettings
    ) -> None:
        self.manifest = manifest
        self.source = source
        self.preprocess = preprocess
        self.settings = settings
        self._pixels: dict[str, Pixels] = {}
        main = [head.spec for head in manifest.heads]
        self._side, side_specs = side_labels(settings.side_heads, main, preprocess)
        self.heads: tuple[HeadSpec, ...] = (*main, *side_specs)  # as the network has them
        side = max(preprocess.height, preprocess.width)
        size = len(manifest.ids) * preprocess.height * preprocess.width * preprocess.channels
        size *= preprocess.dtype.itemsize
        self.resident = side <= RESIDENT_SIDE and size <= RESIDENT_BYTES

    def positions(self, split: str) -> NDArray[np.int64]:
        """The manifest positions of a split: train, val, test, or all."""
        if split == "all":
            return np.arange(len(self.manifest.ids))
        if self.settings.overfit_images is not None:
            train = self.manifest.positions("train")
            chosen = np.random.default_rng(self.settings.seed).permutation(train)
            return np.sort(chosen[: self.settings.overfit_images])
        positions = self.manifest.positions(split)
        most = self.settings.scored_images
        if most is not None and split != "train" and len(positions) > most:
            return positions[np.arange(most) * len(positions) // most]  # some of every class
        return positions

    def pixels(self, split: str) -> Pixels:
        """The split's images in memory: uint8 [N, H, W, C]."""
        if split not in self._pixels:
            self._pixels[split] = load_resident(
                self.source, self.positions(split), self.preprocess, threads=self.settings.workers
            )
        return self._pixels[split]

    def targets(self, positions: NDArray[np.int64]) -> NDArray[Any] | dict[str, NDArray[Any]]:
        """The labels of the images at `positions`; if the network has several heads, by name."""
        heads = self.manifest.heads
        if len(self.heads) == 1:
            only: NDArray[Any] = heads[0].targets[positions]
            return only
        return {head.name: head.targets[positions] for head in heads}

    def training_heads(self) -> list[TrainingHead]:
        """Every head with what its training labels are, in the network's order."""
        rows = self.positions("train")
        main = [TrainingHead.of(head, rows) for head in self.manifest.heads]
        missing = any(head.missing for head in main)
        sides = [spec for spec in self.heads if spec.side]
        return main + [TrainingHead.made(spec, missing=missing) for spec in sides]

    def with_preprocess(self, preprocess: Preprocess) -> Material:
        """The same images under other mean and std."""
        other = Material(self.manifest, self.source, preprocess, self.settings)
        same = replace(preprocess, mean=self.preprocess.mean, std=self.preprocess.std)
        if same == self.preprocess:
            other._pixels = self._pixels
        return other

    def evaluation_feed(
        self,
        split: str,
        batch_size: int,
        *,
        extract: Extract | None = None,
        rows: NDArray[np.int64] | None = None,
    ) -> Feed:
        """Every image of a split once, in manifest order, untouched by chance.

        With `extract` its features, computed once, in place of the images. `rows` [n]: only those
        of the split, all on this rank.
        Of several ranks each gets whole batches in a row, the batches that one process would see:
        the same sums to the last bit. A rank that is left without any gets no image.
        """
        options = FeedOptions(batch_size=batch_size, device=self.settings.device)
        settings, count = self.settings, len(self.positions(split))
        if rows is not None:
            return self._feed(split, options, extract, rows)
        if settings.ranks == 1:
            return self._feed(split, options, extract)
        batches = -(-count // batch_size)
        begin, end = (
            min(count, batch_size * -(-batches * rank // settings.ranks))
            for rank in (settings.rank, settings.rank + 1)
        )
        if begin == end:
            return EmptyFeed()
        return self._feed(split, options, extract, slice(begin, end))

    def evaluation_batch(self, batch_size: int) -> int:
        """Images per evaluation pass of a stage whose updates are of `batch_size` images."""
        return evaluation_batch(batch_size, self.settings.eval_batch_size)

    def epoch_size(self, batch_size: int, sampler: Sampler | None = None) -> tuple[int, int]:
        """(batches, images) of an epoch of `training_feed`."""
        options = FeedOptions(batch_size=batch_size, training=True, sampler=sampler)
        samples, batches, _ = options.epoch_size(len(self.positions("train")))
        return batches, samples

    def side_feed(self, split: str, batch_size: int) -> Feed | None:
        """The images of a split as the side heads are scored on them; None without side heads."""
        if self._side is None:
            return None
        device, seed = self.settings.device, self.settings.seed
        options = FeedOptions(batch_size=batch_size, device=device, seed=seed, side=self._side)
        return self._feed(split, options)

    def training_feed(
        self,
        augment: Augment,
        batch_size: int,
        stage: int,
        sampler: Sampler | None = None,
        close_from: int | None = None,
        *,
        extract: Extract | None = None,
    ) -> Feed:
        """The training images of one stage, as `sampler` has it, augmented by keyed draws.

        From epoch `close_from` on, only the gentle part of a policy is done. With `extract` the
        images' features, computed once, in their place (see `feed.features`).
        """
        options = FeedOptions(
            batch_size=batch_size,
            training=True,
            seed=self.settings.seed + stage,
            augment=augment,
            sampler=sampler,
            close_from=close_from,
            resample=self.settings.resample,
            device=self.settings.device,
            rank=self.settings.rank,
            ranks=self.settings.ranks,
            side=self._side,
        )
        return self._feed("train", options, extract)

    def _feed(
        self,
        split: str,
        options: FeedOptions,
        extract: Extract | None = None,
        part: slice | NDArray[np.int64] = slice(None),
    ) -> Feed:
        positions = self.positions(split)[part]
        targets = self.targets(positions)
        if extract is not None:
            size = self.evaluation_batch(options.batch_size)
            every = np.arange(len(self.positions(split)))[part]
            images = lambda rows: self.evaluation_feed(split, size, rows=every[rows])  # noqa: E731
            return FeatureFeed(images, targets, positions, options, extract)
        if self.resident and isinstance(options.framing(), SmallImageAugment | None):
            pixels = self.pixels(split)[part]
            return ResidentFeed(pixels, targets, positions, self.preprocess, options)
        threads = LoaderThreads(workers=self.settings.workers)
        return LoaderFeed(
            self.source, targets, positions, self.preprocess, options, threads=threads
        )

    def augmentation(self, name: str, arguments: dict[str, Any]) -> Augment:
        """The augmentation that a stage's spec names. Raises ConfigError."""
        if name == "none":
            check_arguments(lambda: None, arguments, where="augment 'none'")
            return None
        if name == "auto":
            name = "small" if self.resident else "photo"
        if name == "small":
            return self._small(arguments)
        if name == "photo":
            return self._photo(arguments)
        if name == "own":
            check_arguments(listed_policy, arguments, where="augment 'own'")
            return listed_policy(**arguments)
        crop = self._small({}) if self.resident else self._photo({})
        context = PolicyContext(small=self.resident, crop=crop, flip=self.settings.flip)
        if is_import_path(name):
            return own_augment(name, context, arguments)
        return named_policy(name, context, arguments)

    def _small(self, arguments: dict[str, Any]) -> SmallImageAugment:
        shorter = min(self.preprocess.height, self.preprocess.width)
        pad = max(1, round(shorter * PAD_SHARE))
        check_arguments(SmallImageAugment, arguments, where="augment 'small'")
        return SmallImageAugment(**{"pad": pad, "flip": self.settings.flip, **arguments})

    def _photo(self, arguments: dict[str, Any]) -> PhotoAugment:
        check_arguments(PhotoAugment, arguments, where="augment 'photo'")
        given: dict[str, Any] = {"flip": self.settings.flip}
        for key, value in arguments.items():
            given[key] = tuple(value) if isinstance(value, list) else value
        return PhotoAugment(**given)

    def sampler(self, name: str, arguments: dict[str, Any], size: int | None) -> Sampler | None:
        """What a stage shows of the training images; None for each once. Raises ConfigError.

        `size`: images per epoch, None for as many as the sampler itself has.
        """
        positions = self.positions("train")
        count = len(positions)
        base: Sampler = EverySample(count)
        where = f"sampler '{name}'"
        if name in _BALANCES or name.isdigit():
            check_arguments(_balanced_by, arguments, where=where)
            head = self._balanced_head(_balanced_by(**arguments), where)
            per_class = int(name) if name.isdigit() else _BALANCES[name]
            base = BalancedSampler(head.targets[positions], per_class)
        elif name == "weighted":
            check_arguments(lambda: None, arguments, where=where)
            if self.manifest.weight is None:
                raise ConfigError("the data has no weight column", where=where)
            return WeightedSampler(self.manifest.weight[positions], size or count)
        elif name == "shards":
            check_arguments(_shards_at_once, arguments, where=where)
            containers = self.manifest.locations.containers[positions]
            base = ShardSampler(containers, _shards_at_once(**arguments))
        elif name == "classes_images":
            check_arguments(_classes_and_images, arguments, where=where)
            base = _class_batches(targets=self.manifest.targets[positions], size=size, **arguments)
        elif name != "all":
            raise ConfigError(
                "no such sampler", where="sampler", got=name,
                expected=f"all, {', '.join(_BALANCES)}, a number of images per class, weighted, "
                "shards or classes_images",
            )  # fmt: skip
        if size is not None:
            return MiniEpochs(base, size)
        return None if name == "all" else base

    def _balanced_head(self, name: str | None, where: str) -> Head:
        """The label column whose classes are balanced: the only one, or the one that is named."""
        single = {head.name: head for head in self.manifest.heads if head.kind == "single"}
        if name is None and len(self.manifest.heads) == 1 and single:
            return self.manifest.heads[0]
        if name in single:
            return single[name]
        got = [f"{head.name} ({head.kind})" for head in self.manifest.heads]
        raise ConfigError(
            "classes are balanced by one label column of one label an image",
            where=where,
            got=", ".join(got) if name is None else name,
            expected=", ".join(single) or "such a column",
            hint=f"args: {{head: {next(iter(single))}}}" if single else "take the sampler 'all'",
        )


def _balanced_by(head: str | None = None) -> str | None:
    """The arguments of the samplers that balance: by which label column."""
    return head


def _classes_and_images(classes: int, images: int) -> tuple[int, int]:
    """The arguments of the sampler `classes_images`: classes of a batch, images of each."""
    return classes, images


def _class_batches(
    targets: NDArray[np.int64], size: int | None, classes: int, images: int
) -> ClassBatches:
    base = ClassBatches(targets, classes, images)
    if size is not None and size % base.batch_size:
        raise ConfigError(
            "an epoch is made of whole batches of classes",
            where="epoch_size",
            got=size,
            expected=f"a multiple of {base.batch_size}",
        )
    return base


def _shards_at_once(at_once: int = 4) -> int:
    """The arguments of the sampler `shards`: how many are shuffled together."""
    return at_once
