"""What the stages of a run share, opened for one process or for one of several ranks."""

from __future__ import annotations

from discern.base.console import Console
from discern.track.run import RunWriter
from discern.training.accord import Accord, StopRequest
from discern.training.callbacks import Callback, CallbackList
from discern.training.checkpoints import CheckpointStore
from discern.training.rank_states import RankStore
from discern.training.recorder import NoRecorder, Recorder
from discern.training.trainer import Session
from discern.worker.plan import TrainingPlan
from discern.worker.rank_plan import run_folder_of
from discern.worker.recording import (
    RunRecorder,
    attach_callbacks,
    open_callbacks,
    writer_names,
)
from discern.worker.terminal import EpochLines


def open_session(
    plan: TrainingPlan, writer: RunWriter | None, console: Console, asked: StopRequest
) -> Session:
    """What the stages share; on ranks beyond the first nothing of it writes, and nothing listens.

    `asked` is set by signals: in one process the trainer looks at it, on several all agree first.
    """
    world = plan.world
    folder = run_folder_of(None if writer is None else writer.path, world) / "checkpoints"
    recorder: Recorder = NoRecorder()
    store = None
    callbacks: list[Callback] = []
    if writer is not None:
        kept = RunRecorder(writer, console, writer_names(plan.config.tracking))
        recorder = kept
        store = CheckpointStore(folder, warn=recorder.warn, check_fence=writer.check_fence)
        callbacks = [EpochLines(console), *open_callbacks(plan.config.tracking)]
        attach_callbacks(callbacks, writer.path, kept)
    stop = asked if world.alone else StopRequest()
    return Session(
        store=store if store is not None and world.alone else RankStore(store, folder, world),
        callbacks=CallbackList(callbacks),
        recorder=recorder,
        stop=stop,
        world=world,
        accord=None if world.alone else Accord(world, asked, stop),
    )
