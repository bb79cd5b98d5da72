"""Which loop runs a stage: Discern's own, or one by import path.

Owns the contract of a trainer and its opening by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, cast

from discern.base.errors import ConfigError
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.training.callbacks import Signal
from discern.training.checkpoints import Checkpoint
from discern.training.step import TrainState
from discern.training.trainer import Session, StagePlan, Trainer

STANDARD = "standard"
# What Discern gives a trainer's constructor, in this order; further parameters are the user's.
GIVEN = ("plan", "state", "session", "train_mode")


class StageTrainer(Protocol):
    """Runs one stage, made anew for each.

    It moves `state` (by `step.train_step`, or its own arithmetic), adds each evaluation to
    `session.ledger`, and writes checkpoints to `session.store`: the best of them is the model that
    is kept. A class derived from `Trainer` has `evaluate` and `save` for that.
    """

    def run_stage(self, checkpoint: Checkpoint | None = None) -> Signal:
        """Train `state.model` to the stage's end, from its start or from `checkpoint`.

        Signal.END_RUN leaves out the stages behind; any other goes on with them.
        """
        ...


TrainerMaker = Callable[[StagePlan, TrainState, Session, Callable[[], None]], StageTrainer]


def open_trainer(name: str, arguments: Mapping[str, Any] | None = None) -> TrainerMaker:
    """The trainer of this name: `standard`, or one's own by import path, its arguments bound.

    One's own is called with (plan, state, session, train_mode, **arguments). Raises ConfigError
    for an unknown name, for arguments that do not fit, and for a class without `run_stage`.
    """
    given, where = dict(arguments or {}), f"trainer '{name}'"
    if name == STANDARD:
        check_arguments(Trainer, given, where=where, given=GIVEN)
        return Trainer
    if not is_import_path(name):
        raise ConfigError(
            "no such trainer",
            where="trainer",
            got=name,
            expected=f"{STANDARD}, package.module:name or ./my_file.py:name",
        )
    target = open_import_path(name, where="trainer")
    if not callable(target) or (isinstance(target, type) and not hasattr(target, "run_stage")):
        raise ConfigError(
            "not a trainer",
            where=where,
            got=getattr(target, "__name__", type(target).__name__),
            expected=f"a class with run_stage(checkpoint), made from ({', '.join(GIVEN)})",
        )
    check_arguments(target, given, where=where, given=GIVEN)
    return cast("TrainerMaker", partial(target, **given))
