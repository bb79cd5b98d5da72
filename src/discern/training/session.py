"""What a stage is given, and what all stages of a run share. Plain records, without a loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from discern.compute.world import World
from discern.data.head_spec import HeadSpec
from discern.feed.batch import Feed
from discern.training.accord import Accord, StopRequest
from discern.training.callbacks import CallbackList, Progress
from discern.training.checkpoints import CheckpointStore
from discern.training.ledger import Ledger
from discern.training.metric_table import Metric
from discern.training.monitor import LAST_EPOCH, Monitor
from discern.training.recorder import Recorder
from discern.training.stage_length import StageLength
from discern.training.step import StepRules


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage's parts and lengths.

    `heads`: what the network answers; empty for one head of one label an image, over `classes`.
    `side_feed`: the validation images with the side heads' labels. `metrics`: further figures of
    each evaluation, of heads of one label an image; `tag_metrics`: of heads of several.
    """

    name: str
    index: int
    length: StageLength
    feed: Feed
    val_feed: Feed
    classes: tuple[str, ...]
    rules: StepRules
    features: bool = False  # the feeds give features, and the head alone is called
    metrics: tuple[Metric, ...] = ()
    tag_metrics: tuple[Metric, ...] = ()
    monitor: Monitor = field(default_factory=Monitor)
    keep_top: int = 3
    evaluate_every: int = 1
    log_every: int = 50
    checkpoint_every_s: float = 300.0
    heads: tuple[HeadSpec, ...] = ()
    side_feed: Feed | None = None

    @property
    def shown_figures(self) -> tuple[str, ...]:
        """The figures of each evaluation that are recorded and printed."""
        asked = [one.name for one in (*self.metrics, *self.tag_metrics)]
        several = self.heads if len(self.heads) > 1 else ()
        of_heads = [f"{head.name}/{name}" for head in several for name in ("accuracy", "loss")]
        names = ("accuracy", "loss", *asked, self.monitor.name, *of_heads)
        return tuple(name for name in dict.fromkeys(names) if name != LAST_EPOCH)


@dataclass(slots=True, kw_only=True)
class Session:
    """What all stages of a run share."""

    store: CheckpointStore
    callbacks: CallbackList
    recorder: Recorder
    ledger: Ledger = field(default_factory=Ledger)
    progress: Progress = field(default_factory=Progress)
    stop: StopRequest = field(default_factory=StopRequest)
    rollbacks: int = field(default=0, init=False)
    # First batch to last update; evaluations and saving apart.
    train_seconds: float = field(default=0.0, init=False)
    world: World = field(default_factory=World)
    accord: Accord | None = None  # what several ranks decide together; sets `stop`


def restore_session(session: Session, values: dict[str, Any]) -> None:
    """Put back what all stages share from a checkpoint's values."""
    session.ledger.restore(values["ledger"])
    session.callbacks.restore(values["callbacks"])
    session.rollbacks = values["rollbacks"]
    session.train_seconds = values["train_seconds"]
    session.progress.readings = {
        key: math.nan if value is None else value for key, value in values["readings"].items()
    }
    session.progress.samples = values["samples"]
