"""The scores on the images that a model is chosen by, of one head or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from discern.compute.world import World
from discern.data.head_spec import HeadSpec, main_heads
from discern.feed.batch import Feed
from discern.training.evaluate import Table, evaluate_heads
from discern.training.joint_scores import joint_figures, joint_record
from discern.training.session import StagePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFeeds:
    """The images of a split as the heads are scored on them.

    `feed`: as they are, for the main heads. `side_feed`: the same images changed to make the side
    heads' labels; None without side heads.
    """

    feed: Feed
    side_feed: Feed | None = None

    def __enter__(self) -> HeadFeeds:
        return self

    def __exit__(self, *_: object) -> None:
        self.feed.close()
        if self.side_feed is not None:
            self.side_feed.close()


def score_heads(
    model: nn.Module,
    feeds: HeadFeeds,
    heads: Sequence[HeadSpec],
    device: torch.device,
    amp_dtype: torch.dtype | None = None,
    *,
    world: World | None = None,
    keep_features: bool = False,
) -> dict[str, Table]:
    """The table of each head, main heads first; all ranks of `world` get all of it."""
    main = main_heads(heads)
    score = partial(evaluate_heads, model, device=device, amp_dtype=amp_dtype, world=world)
    score = partial(score, keep_features=keep_features)
    tables = score(feeds.feed, heads=main)
    side = [head for head in heads if head.side]
    if side and feeds.side_feed is not None:
        tables |= score(feeds.side_feed, heads=side)
    return tables


def plan_figures(plan: StagePlan, model: nn.Module, world: World) -> dict[str, float]:
    """The figures of a stage's validation images by name: see `joint_scores.joint_figures`."""
    heads = plan.heads or (HeadSpec("label", "single", plan.classes),)
    feeds = HeadFeeds(feed=plan.val_feed, side_feed=plan.side_feed)
    rules = plan.rules
    tables = score_heads(
        model,
        feeds,
        heads,
        rules.device,
        rules.amp_dtype,
        world=world,
        keep_features=any(metric.of_features for metric in plan.metrics),
    )
    record = joint_record(tables, heads, metrics=plan.metrics, tag_metrics=plan.tag_metrics)
    return joint_figures(record, heads)
