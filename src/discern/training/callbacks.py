"""What may watch a training: the hooks, their answers, and the list that calls them in order.

A callback sees plain readings and never alters a batch or weights. A hook that it does not
override is never called: the lists are built once, before the first step.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from discern.base.errors import ConfigError
from discern.training.ledger import Entry
from discern.training.probes import Probe

HOOKS = (
    "before_run",
    "after_run",
    "before_stage",
    "after_stage",
    "before_epoch",
    "after_epoch",
    "before_step",
    "after_step",
    "reading",
    "before_evaluation",
    "after_evaluation",
)


class Signal(enum.IntEnum):
    """A callback's answer; of several, the strongest counts."""

    GO_ON = 0
    SAVE = 1
    END_STAGE = 2
    END_RUN = 3
    ROLLBACK = 4


@dataclass(slots=True)
class Progress:
    """Where the training stands. Read it; the trainer writes it.

    `step` counts updates over all stages; `epoch` and `batch` those done in this stage.
    `readings` are the last plain figures, such as `train/loss`. `rates`: (rate, momentum) of each
    parameter group. `top`: the evaluations whose checkpoints are kept, best first by `monitor`.
    For a stage of some minutes, `seconds`, `epochs` and `stage_steps` are what its pace so far
    makes of it.
    """

    stage: str = field(default="", init=False)
    step: int = field(default=0, init=False)
    stage_step: int = field(default=0, init=False)
    stage_steps: int = field(default=0, init=False)
    seconds: float | None = field(default=None, init=False)
    epoch: int = field(default=0, init=False)
    epochs: int = field(default=0, init=False)
    batch: int = field(default=0, init=False)
    batches: int = field(default=0, init=False)
    samples: int = field(default=0, init=False)
    readings: Mapping[str, float] = field(default_factory=dict, init=False)
    rates: tuple[tuple[float, float | None], ...] = field(default=(), init=False)
    monitor: str = field(default="accuracy", init=False)
    best: float | None = field(default=None, init=False)
    best_step: int | None = field(default=None, init=False)
    top: tuple[Entry, ...] = field(default=(), init=False)


Say: TypeAlias = Callable[[str], None]
# Takes the name, the step and all values, flat, of a distribution.
Distribute: TypeAlias = Callable[[str, int, Any], None]


def say_nothing(text: str) -> None:
    """Drop a line: nobody listens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a callback works. `folder`: the run's, None outside a run; `say` shows a line.

    `distribute`: takes distributions to the writers that keep them; None where there is none.
    """

    folder: Path | None = None
    say: Say = say_nothing
    warn: Say = say_nothing
    distribute: Distribute | None = None


class Callback:
    """Derive from this and override the hooks wanted; each may return a Signal or None.

    One with memory gives it as JSON values in `state` and takes it back in `restore`: it then
    survives a kill and a resume. One that wants to know gradients, weights or activations gives a
    `probe`: its figures are among the readings. `reason`: why it ended a stage or the run, told
    with its name.
    """

    reason: str | None = None

    def attach(self, place: Place) -> None:
        """Learn, before the run, where to write and how to speak. Raises DiscernError."""

    def probe(self) -> Probe | None:
        """What looks into chosen steps for this callback; None: nothing."""
        return None

    def kept_steps(self) -> set[int]:
        """The steps whose checkpoints are to be kept besides the last and the best."""
        return set()

    def before_run(self, progress: Progress) -> Signal | None:
        """Before the first stage, and again when a run is resumed."""

    def after_run(self, progress: Progress) -> Signal | None:
        """After the last stage; not called when the run fails."""

    def before_stage(self, progress: Progress) -> Signal | None:
        """Before a stage's first step, and when it is resumed."""

    def after_stage(self, progress: Progress) -> Signal | None:
        """After a stage's last epoch."""

    def before_epoch(self, progress: Progress) -> Signal | None:
        """Before an epoch's first step."""

    def after_epoch(self, progress: Progress) -> Signal | None:
        """After an epoch's last step and its evaluation, before its checkpoint."""

    def before_step(self, progress: Progress) -> Signal | None:
        """Before each step."""

    def after_step(self, progress: Progress) -> Signal | None:
        """After each step; `progress.readings` are those of the last reading."""

    def reading(self, progress: Progress) -> Signal | None:
        """Every `log_every` steps and at an epoch's end, when figures were read off the device."""

    def before_evaluation(self, progress: Progress) -> Signal | None:
        """Before the validation images are scored."""

    def after_evaluation(self, progress: Progress) -> Signal | None:
        """After the validation images were scored; `progress.readings` hold the scores."""

    def state(self) -> dict[str, Any]:
        """What must survive a resume, as JSON values."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take back what `state` gave."""


def _no_signal(hook: Callable[..., object], answer: object) -> ConfigError:
    return ConfigError(
        "a callback answers with a signal or nothing",
        where=getattr(hook, "__qualname__", str(hook)),
        got=repr(answer),
        expected=f"None or Signal.{', Signal.'.join(Signal.__members__)}",
    )


def _of(ended: tuple[Signal, Callback]) -> Signal:
    return ended[0]


class CallbackList:
    """Calls the callbacks in order; a hook that nobody overrides costs one look-up."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)
        self._ended: tuple[Signal, Callback] | None = None
        self._hooks = {
            hook: [
                (callback, getattr(callback, hook))
                for callback in callbacks
                if getattr(type(callback), hook) is not getattr(Callback, hook)
            ]
            for hook in HOOKS
        }

    def listens(self, hook: str) -> bool:
        """True if any callback overrides `hook`."""
        return bool(self._hooks[hook])

    def call(self, hook: str, progress: Progress) -> Signal:
        """Call `hook` on all that override it; gives the strongest answer."""
        strongest = Signal.GO_ON
        for callback, function in self._hooks[hook]:
            answer = function(progress)
            if answer is not None:
                if not isinstance(answer, Signal):
                    raise _no_signal(function, answer)
                strongest = max(strongest, answer)
                if answer in (Signal.END_STAGE, Signal.END_RUN):
                    self._ended = max(
                        self._ended or (answer, callback), (answer, callback), key=_of
                    )
        return strongest

    def ended_by(self) -> str:
        """Which callback ended the stage or the run, with its reason."""
        if self._ended is None:
            return "a callback of another rank"
        name, reason = type(self._ended[1]).__name__, self._ended[1].reason
        return name if reason is None else f"{name}: {reason}"

    def probes(self) -> list[Probe]:
        """What the callbacks want to look into steps with."""
        probes = (callback.probe() for callback in self.callbacks)
        return [probe for probe in probes if probe is not None]

    def kept_steps(self) -> set[int]:
        """The steps whose checkpoints any callback keeps."""
        return set().union(*(callback.kept_steps() for callback in self.callbacks))

    def state(self) -> list[dict[str, Any]]:
        """The states of all, in order, each with the callback's class name."""
        return [
            {"callback": type(callback).__name__, "state": callback.state()}
            for callback in self.callbacks
        ]

    def restore(self, states: list[dict[str, Any]]) -> None:
        """Give each callback its state back, by class name and order among its like."""
        waiting = list(states)
        for callback in self.callbacks:
            for entry in waiting:
                if entry["callback"] == type(callback).__name__:
                    callback.restore(entry["state"])
                    waiting.remove(entry)
                    break
