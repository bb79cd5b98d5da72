"""The loop of one stage: steps, readings, evaluation, checkpoint, signal, in that fixed order."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from discern.base.errors import Interrupted, RunError
from discern.models.classifier import Classifier
from discern.models.head_part import HeadPart
from discern.training.accord import StopRequest
from discern.training.callbacks import Signal
from discern.training.checkpoint_index import write_index
from discern.training.checkpoints import Checkpoint, read_state
from discern.training.ledger import new_entry
from discern.training.loop_clock import LoopClock, Window
from discern.training.meters import Meters
from discern.training.probes import ProbeList
from discern.training.rank_states import add_other_ranks, share_buffers
from discern.training.readings import group_rates, step_readings
from discern.training.recorder import Recorder
from discern.training.session import Session, StagePlan, restore_session
from discern.training.stage_length import StageClock, stage_batches
from discern.training.state_io import capture_state, restore_state
from discern.training.step import TrainState, train_step
from discern.training.tensor_trees import all_finite
from discern.training.validation import plan_figures

__all__ = ["Recorder", "Session", "StagePlan", "StopRequest", "Trainer", "restore_session"]

MAX_ROLLBACKS = 3


class _Rollback(Exception):
    """Unwinds the loop to the last checkpoint."""


class Trainer:
    """Runs one stage. `state.network` is put in training mode by `train_mode`."""

    def __init__(
        self, plan: StagePlan, state: TrainState, session: Session, train_mode: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.state = state
        self.session = session
        self._train_mode = train_mode
        self._meters = Meters(plan.rules.device, session.world, plan.rules.tally)
        self._accord = session.accord
        self._now = time.monotonic if session.accord is None else session.accord.now
        self._next_save = 0.0
        self._clock = LoopClock(plan.feed)
        self._probes = ProbeList(session.callbacks.probes(), plan.log_every)
        self._stage_clock = StageClock(self._now)
        self._over = False
        self._beginning: Checkpoint | None = None  # of a stage that has no checkpoint yet

    def run_stage(self, checkpoint: Checkpoint | None = None) -> Signal:
        """Train to the stage's end, from its start or from `checkpoint`.

        Raises Interrupted after saving when a stop was requested, RunError when the loss cannot
        be kept finite.
        """
        epoch, batch = self._start(checkpoint)
        self._show_ranking()
        self._next_save = self._now() + self.plan.checkpoint_every_s
        signal = self._call("before_stage")
        if checkpoint is not None and checkpoint.state["ended"] == "run":
            signal = Signal.END_RUN
        self._over = self._is_over(epoch, batch)
        while not self._over and signal < Signal.END_STAGE:
            try:
                signal = self._run_epoch(epoch, batch)
                epoch, batch = epoch + 1, 0
                self._tell_end(signal)
            except _Rollback:
                epoch, batch = self._roll_back()
                signal, self._over = Signal.GO_ON, self._is_over(epoch, batch)
        return max(signal, self._call("after_stage"))

    def _tell_end(self, signal: Signal) -> None:
        """Say which callback ended the stage before its time, or the run, and why."""
        if signal is Signal.END_RUN or (signal is Signal.END_STAGE and not self._over):
            what = "the run" if signal is Signal.END_RUN else f"stage {self.plan.name}"
            by = self.session.callbacks.ended_by()
            self.session.recorder.say(f"ended    {what} at step {self.state.step} by {by}")

    def _call(self, hook: str) -> Signal:
        return self._agree(self.session.callbacks.call(hook, self.session.progress))

    def _agree(self, signal: Signal) -> Signal:
        """The strongest signal of all ranks, and whether one of them was asked to stop."""
        return signal if self._accord is None else self._accord.conclude(signal)

    def _start(self, checkpoint: Checkpoint | None) -> tuple[int, int]:
        plan, progress = self.plan, self.session.progress
        epoch, batch = 0, 0
        self._stage_clock.start()
        if checkpoint is not None:
            epoch, batch = self._restore(checkpoint)
            self._stage_clock.start(checkpoint.state.get("stage_seconds", 0.0))
            if checkpoint.state["ended"] in ("stage", "run"):
                epoch, batch = plan.length.end
        progress.stage, progress.batches = plan.name, plan.feed.batches
        progress.seconds = plan.length.seconds
        progress.epoch, progress.batch = epoch, batch
        progress.step, progress.stage_step = self.state.step, self.state.stage_step
        self._show_length()
        if checkpoint is None:
            self._save_beginning()
        return epoch, batch

    def _is_over(self, epoch: int, batch: int) -> bool:
        return self.plan.length.is_over(epoch, batch, self._stage_clock.elapsed_s)

    def _show_length(self) -> None:
        """Let callbacks read the length: of one in time, what its pace so far makes of it."""
        progress = self.session.progress
        progress.stage_steps = self.plan.length.expected_steps(
            self.state.stage_step, self._stage_clock.elapsed_s
        )
        progress.epochs = -(-progress.stage_steps // self.plan.feed.batches)

    def _save_beginning(self) -> None:
        """A rollback in the first epoch needs somewhere to go.

        Where the stage before ended at this step, its checkpoint has the name: the beginning is
        then kept in memory.
        """
        path = self.save(0, 0)
        if path is not None and read_state(path)["stage_index"] != self.plan.index:
            groups, values = capture_state(self.state)
            values.update(self._position(0, 0), ended=None)
            copies = {
                name: {key: tensor.clone() for key, tensor in group.items()}
                for name, group in groups.items()
            }
            self._beginning = Checkpoint(path, self.state.step, copies, values)

    def _run_epoch(self, epoch: int, first_batch: int) -> Signal:
        session = self.session
        progress = session.progress
        progress.epoch, progress.batch = epoch, first_batch
        if first_batch == 0:
            session.callbacks.call("before_epoch", progress)
        signal = self._agree(max(self._train_epoch(epoch, first_batch), self._read()))
        if signal is Signal.ROLLBACK:
            raise _Rollback
        place = (epoch + 1, 0)
        # Asked once: an epoch after which the time is up must be evaluated as the last one.
        last = self._over = self._is_over(epoch, progress.batch)
        if last and progress.batch < self.plan.feed.batches:
            place = (epoch, progress.batch)  # a longer stage goes on inside the epoch
        progress.epoch = epoch + 1
        last = last or signal >= Signal.END_STAGE
        if last or progress.epoch % self.plan.evaluate_every == 0:
            signal = max(signal, self.evaluate())
        signal = self._agree(max(signal, session.callbacks.call("after_epoch", progress)))
        if signal is Signal.ROLLBACK:
            raise _Rollback
        over = "run" if signal is Signal.END_RUN else None
        if over is None and (last or signal >= Signal.END_STAGE):
            over = "stage" if signal is Signal.END_STAGE else "epochs"
        self.save(*place, ended=over)
        self._stop_if_asked()
        return signal

    def _train_epoch(self, epoch: int, first_batch: int) -> Signal:
        plan, state, session, meters = self.plan, self.state, self.session, self._meters
        progress, callbacks, stop, rules = (
            session.progress,
            session.callbacks,
            session.stop,
            plan.rules,
        )
        before, after = callbacks.listens("before_step"), callbacks.listens("after_step")
        log_every, clock = plan.log_every, self._now
        batches = plan.length.batches_of(epoch)
        step = self._probes.step if self._probes else train_step
        strongest, accord = Signal.GO_ON, self._accord
        if accord is not None:
            accord.begin()
        self._train_mode()
        self._clock.open()
        with contextlib.closing(plan.feed.epoch(epoch, first_batch)) as feed:  # type: ignore[type-var]
            for batch in stage_batches(
                feed, plan.length, (epoch, first_batch), self._stage_clock, state.schedule
            ):
                if before:
                    strongest = max(strongest, callbacks.call("before_step", progress))
                meters.update(step(state, batch, rules))
                progress.batch += 1
                progress.step, progress.stage_step = state.step, state.stage_step
                progress.samples = state.samples
                if after:
                    strongest = max(strongest, callbacks.call("after_step", progress))
                if state.step % log_every == 0:
                    strongest = max(strongest, self._read())
                if accord is not None:
                    strongest = accord.settle(strongest)
                if strongest or stop.requested or clock() >= self._next_save:
                    # At the last batch the epoch's own end follows at once, with its evaluation.
                    if progress.batch == batches:
                        continue
                    strongest = self._react(strongest, epoch)
                    if strongest >= Signal.END_STAGE:
                        break
        return strongest

    def _react(self, signal: Signal, epoch: int) -> Signal:
        """Between two steps: roll back, save, stop, or go on."""
        if signal is Signal.ROLLBACK:
            raise _Rollback
        if signal is Signal.SAVE or self.session.stop.requested or self._now() >= self._next_save:
            self._close_window()
            self.save(epoch, self.session.progress.batch)
            self._stop_if_asked()
            self._clock.open()
        return Signal.GO_ON if signal is Signal.SAVE else signal

    def _stop_if_asked(self) -> None:
        if self.session.stop.requested:
            raise Interrupted(
                "stopped as asked; everything is saved",
                where=f"stage {self.plan.name}, step {self.state.step}",
                hint="give the same command again, or --resume, to go on",
            )

    def _close_window(self) -> Window:
        """What the loop has spent since the window was opened."""
        window = self._clock.close()
        self.session.train_seconds += window.seconds
        return window

    def _read(self) -> Signal:
        """Read the meters off the device, record, tell the callbacks, start a new window."""
        if not self._meters.steps:
            return Signal.GO_ON
        figures = self._meters.read()
        count, steps = round(figures["images"]), self._meters.steps
        timing = self._close_window().readings(count, steps)
        self._meters.reset()
        readings = step_readings(figures, self.state.optimizer)
        progress = self.session.progress
        progress.rates = group_rates(self.state.optimizer)
        seen = self._probes.record(self.session.recorder.record)
        progress.readings = {**progress.readings, **readings, **timing, **seen}
        self._show_length()
        self.session.recorder.record(self.state.step, {**readings, **timing})
        signal = self.session.callbacks.call("reading", progress)
        if figures["nonfinite_steps"]:
            signal = max(signal, self._judge_nonfinite(int(figures["nonfinite_steps"]), steps))
        self._clock.open()
        return signal

    def _judge_nonfinite(self, bad: int, steps: int) -> Signal:
        """A few left-out steps are noted; nothing but such, or bad weights, mean going back."""
        self.session.recorder.warn(
            f"{bad} of {steps} step(s) up to step {self.state.step} had a loss that is not finite"
            + (" and were left out" if self.plan.rules.guard else "")
        )
        if bad < steps and all_finite(self.state.model.state_dict()):
            return Signal.GO_ON
        return Signal.ROLLBACK

    def evaluate(self) -> Signal:
        """Score the validation images with the weights that would be kept (EMA if there is one)."""
        session, plan, state = self.session, self.plan, self.state
        progress = session.progress
        session.callbacks.call("before_evaluation", progress)
        started = time.monotonic()
        model = state.model if state.ema is None else cast("Classifier", state.ema.model)
        share_buffers(session.world, model)
        figures = plan_figures(plan, HeadPart(model) if plan.features else model, session.world)
        if not math.isfinite(figures["loss"]):
            session.recorder.warn(
                f"the loss on the validation images is not finite at step {state.step}"
            )
            return Signal.ROLLBACK
        session.ledger.add(new_entry(state.step, plan.name, progress.epoch, figures))
        self._show_ranking()
        readings = {f"val/{name}": figures.get(name, math.nan) for name in plan.shown_figures}
        progress.readings = {**progress.readings, **readings}
        timing = {"time/evaluation_s": time.monotonic() - started}
        session.recorder.record(state.step, {**readings, **timing})
        return session.callbacks.call("after_evaluation", progress)

    def save(self, epoch: int, batch: int, *, ended: str | None = None) -> Path | None:
        """Write a checkpoint that continues at `batch` of `epoch`; None if the state is bad.

        `ended`: "stage" or "run" when a signal ended that: a resume then goes on behind it;
        "epochs" when the stage's length was done: a resume with a longer one trains further.
        """
        session, state, plan = self.session, self.state, self.plan
        self._probes.record(session.recorder.record)
        session.recorder.flush()
        share_buffers(session.world, state.model, None if state.ema is None else state.ema.model)
        groups, values = capture_state(state)
        self._next_save = self._now() + plan.checkpoint_every_s
        if not all_finite(groups["model"]):
            session.recorder.warn(f"no checkpoint at step {state.step}: the weights are not finite")
            return None
        values.update(self._position(epoch, batch), ended=ended)
        add_other_ranks(session.world, groups, values)
        path = session.store.write(state.step, groups, values)
        if batch or epoch:
            self._beginning = None
        best = session.ledger.ranked(plan.monitor)[: plan.keep_top] + session.ledger.stage_bests()
        session.store.keep({entry.step for entry in best} | session.callbacks.kept_steps())
        if session.world.leads:
            write_index(session.store, session.ledger, plan.monitor, plan.keep_top)
        return path

    def _show_ranking(self) -> None:
        """Let callbacks read what is best so far."""
        progress, ranking = self.session.progress, self.session.ledger.ranked(self.plan.monitor)
        if ranking:
            progress.best = ranking[0].value(self.plan.monitor.name)
            progress.best_step = ranking[0].step
        progress.top = tuple(ranking[: self.plan.keep_top])
        progress.monitor = self.plan.monitor.name

    def _position(self, epoch: int, batch: int) -> dict[str, Any]:
        session = self.session
        return {
            "stage": self.plan.name,
            "stage_index": self.plan.index,
            "epoch": epoch,
            "batch": batch,
            "meters": self._meters.state(),
            "ledger": session.ledger.state(),
            "callbacks": session.callbacks.state(),
            "readings": {
                key: value if math.isfinite(value) else None
                for key, value in session.progress.readings.items()
            },
            "rollbacks": session.rollbacks,
            "train_seconds": session.train_seconds,
            "stage_seconds": self._stage_clock.elapsed_s,
        }

    def _restore(self, checkpoint: Checkpoint) -> tuple[int, int]:
        session, values = self.session, checkpoint.state
        restore_state(self.state, checkpoint.tensors, values)
        self._meters.restore(values["meters"])
        self._probes.forget()
        restore_session(session, values)
        return int(values["epoch"]), int(values["batch"])

    def _roll_back(self) -> tuple[int, int]:
        session = self.session
        rollbacks, seconds = session.rollbacks + 1, session.train_seconds
        checkpoint = self._beginning or session.store.latest()
        if rollbacks > MAX_ROLLBACKS or checkpoint is None:
            raise RunError(
                "the loss does not stay finite",
                where=f"stage {self.plan.name}, step {self.state.step}",
                got=f"bad again after {MAX_ROLLBACKS} returns to a checkpoint at half the rate",
                hint="lower --lr, set --clip-grad 1, or use --precision fp32",
            )
        scale = self.state.rate_scale * 0.5
        epoch, batch = self._restore(checkpoint)
        self.state.rate_scale = min(scale, self.state.rate_scale * 0.5)
        session.rollbacks, session.train_seconds = rollbacks, seconds
        session.recorder.rewind(checkpoint.step)
        session.recorder.warn(
            f"non-finite weights: back to step {checkpoint.step}, rate x {self.state.rate_scale:g}"
        )
        return epoch, batch
