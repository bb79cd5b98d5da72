"""Whether a stage can train its heads on features computed once, and the computing itself.

A stage can when nothing below its heads learns or behaves otherwise in training than in evaluation
(batch norm, dropout), and chance does no more to an image than mirror it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError
from discern.compute.device import autocast
from discern.compute.memory import scoring_passes
from discern.feed.augment import Augment, describe_augment
from discern.feed.batch import Feed
from discern.feed.features import count_views
from discern.models.classifier import Classifier, train_mode

# Features beyond this stay uncomputed under `auto`: 2 GiB hold 419,000 images of 1,280 numbers.
MEMORY_BYTES = 2 << 30
# Two random images tell dropout and batch statistics from a pass that is the same every time.
_TRIAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturePlan:
    """What a stage would keep. `images`: those of training, `scored`: those of its evaluations."""

    augment: Augment
    mixed: bool  # images or targets are mixed within batches
    images: int
    scored: int
    epochs: int
    side_heads: bool = False  # images are changed to make the labels of side heads
    own_trainer: bool = False  # one that may call the network itself


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """Whether the stage's features are computed once, and why."""

    cached: bool
    reason: str


def choose_features(
    wanted: Literal["auto", "on", "off"],
    model: Classifier,
    plan: FeaturePlan,
    sample: Tensor,
    *,
    where: str,
) -> FeatureChoice:
    """Decide for a stage whose trainable parameters are set in `model`.

    `sample` [N, C, H, W] is any valid input, on the model's device. `auto` takes the kept features
    where the stage allows them, they fit and they save passes; `on` raises ConfigError where the
    stage does not allow them or they do not fit.
    """
    if wanted == "off":
        return FeatureChoice(False, "asked for")
    views = count_views(plan.augment)
    against = _against(model, plan, views, sample)
    if against is not None and wanted == "on":
        raise ConfigError(
            "this stage's features cannot be computed once",
            where=f"{where}.cache_features",
            got=against,
            expected="a stage that trains heads only, with augment none or flip_random",
            hint="--cache-features auto takes them where they can be had",
        )
    if against is not None or views is None:
        return FeatureChoice(False, against or "the augmentation shows new pictures")
    if wanted == "auto" and plan.epochs <= views:
        return FeatureChoice(False, f"{plan.epochs} epoch(s) cost no more")
    mirrored = " and its mirror image" if views == 2 else ""
    size = _bytes(model, plan, views, sample)
    return FeatureChoice(
        True,
        f"each image{mirrored} passes the frozen part once: {plan.images} training and "
        f"{plan.scored} validation images, {size / 1e6:.1f} MB (at most {MEMORY_BYTES / 1e6:.0f})",
    )


def _against(model: Classifier, plan: FeaturePlan, views: int | None, sample: Tensor) -> str | None:
    """The first reason why the features of every pass are not the same; None if they are."""
    if not model.splits:
        return f"the network gives {model.route.value}: its head cannot run alone"
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    below = [name for name in learning if not model.is_head(name)]
    if below:
        return f"layers below the head learn: {below[0]} and {len(below) - 1} more"
    if views is None:
        return f"the augmentation shows new pictures: {describe_augment(plan.augment)}"
    if plan.side_heads:
        return "images are changed for side heads"
    if plan.own_trainer:
        return "a trainer of one's own may call the whole network"
    if plan.mixed:
        return "images are mixed within batches"
    if not same_in_training(model, sample):
        return "frozen layers behave otherwise in training (dropout or batch norm)"
    size = _bytes(model, plan, views, sample)
    if size > MEMORY_BYTES:
        return f"the features take {size / 1e9:.1f} GB, more than {MEMORY_BYTES / 1e9:.1f}"
    return None


def _bytes(model: Classifier, plan: FeaturePlan, views: int, sample: Tensor) -> int:
    with evaluation_mode(model), torch.no_grad():
        width = model.embed(sample[:1]).shape[1]
    return 4 * width * (plan.images * views + plan.scored)


def same_in_training(model: Classifier, sample: Tensor) -> bool:
    """Whether the frozen part gives equal features of `sample` in training and in evaluation.

    Buffers, modes and random states are left as they were.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = [sample.device] if sample.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices), evaluation_mode(model):
        expected = model.embed(sample)
        train_mode(model)
        given = model.embed(sample)
        changed = [n for n, b in model.named_buffers() if not torch.equal(b, buffers[n])]
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return not changed and torch.equal(given, expected)


def trial_images(shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """Normal noise [2, C, H, W] of `shape` (C, H, W), the same each time."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(_TRIAL, *shape, generator=generator).to(device)


def extract_features(
    model: Classifier, images: Feed, views: int, *, amp_dtype: torch.dtype | None = None
) -> Tensor:
    """Features [views, N, D] of every image of `images`, and of its mirror image if `views` is 2.

    In evaluation mode, in the precision that the stage trains in; modes are put back.
    """
    parts: list[list[Tensor]] = [[] for _ in range(views)]
    epoch = contextlib.closing(images.epoch(0))  # type: ignore[type-var]
    with scoring_passes(), evaluation_mode(model), torch.no_grad(), epoch as batches:
        for batch in batches:
            for view, kept in enumerate(parts):
                pictures = batch.images.flip(-1) if view else batch.images
                with autocast(pictures.device, amp_dtype):
                    # A copy: features that are a view of the images would change with them.
                    kept.append(model.embed(pictures).clone())
    return torch.stack([torch.cat(kept) for kept in parts])


@contextlib.contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """`model` in evaluation mode; each module's own mode is put back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
