"""Passes that fit where a stage's own did not: tried on a copy of the network, ever smaller ones.

An error says that memory ran out, not how much more it would have taken: only trying tells.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass, replace

from discern.compute.memory import free_bytes, in_words, release_unused
from discern.config.schema import StageConfig
from discern.models.recompute import recompute_activations
from discern.training.stages import Training
from discern.worker.batch_choice import TAKEN
from discern.worker.batch_probe import probe_batch

# Batch norm cannot train on one image.
_LEAST = 2
# Seconds of trying: who waits for an error should not wait for long.
_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SmallerPasses:
    """`count` passes an update, and in words what is known of their memory."""

    count: int
    known: str


def images_a_pass(stage: StageConfig, ranks: int = 1) -> int:
    """Images of one forward pass: those of an update, divided among the ranks and their passes."""
    return -(-stage.batch // (ranks * stage.grad_accum_steps))


def halved_passes(stage: StageConfig, why: str) -> SmallerPasses:
    """Twice as many passes an update, untried because of `why`."""
    known = f"less than it took; how much is not known: {why}"
    return SmallerPasses(min(2 * stage.grad_accum_steps, stage.batch), known)


def fitting_passes(
    training: Training, name: str, error: BaseException, *, recompute: bool
) -> SmallerPasses | None:
    """The fewest passes an update, 2, 4, 8 ... times those that ran out of memory, that fit.

    None when passes of two images do not fit either. The run is over: its network's gradients are
    given up, and it recomputes its activations from now on if that is to be tried.
    """
    stage = training.config.stages[name]
    if not training.world.alone:
        return halved_passes(stage, "of several ranks none is tried by itself")
    if images_a_pass(stage) < 2 * _LEAST:
        return halved_passes(stage, "batch norm cannot be tried on one image")
    try:
        return _tried(training, name, error, recompute=recompute)
    except Exception as second:  # noqa: BLE001 - told beside the error that is the cause of all
        return halved_passes(stage, f"trying ended in {type(second).__name__}: {second}")


def _tried(
    training: Training, name: str, error: BaseException, *, recompute: bool
) -> SmallerPasses | None:
    _let_go(training, error)
    if recompute:
        recompute_activations(training.model)
    stages, began = training.config.stages, time.monotonic()
    compute = training.config.compute.model_copy(update={"compile": False})
    config = training.config.model_copy(update={"compute": compute})
    share = TAKEN.get(training.device.type, TAKEN["cpu"])
    trial, stage = replace(training, config=config), stages[name]
    count = stage.grad_accum_steps
    while images_a_pass(stage) >= 2 * _LEAST:
        count *= 2
        stage = stage.model_copy(update={"grad_accum_steps": count})
        if time.monotonic() - began > _SECONDS:
            return SmallerPasses(count, "less than it took; there was no time to try it")
        release_unused(training.device)
        room = free_bytes(training.device)
        index = list(stages).index(name)
        images = images_a_pass(stage)
        found = probe_batch(trial, name, stage, index, images, scored=False)
        if found.peak is not None and found.peak <= share * room:
            known = f"tried: {images} images a pass take {in_words(found.peak)}"
            return SmallerPasses(count, f"{known} of {in_words(room)} that are free")
    return None


def _let_go(training: Training, error: BaseException) -> None:
    """Free what the failed pass holds: the variables of its frames, and the gradients."""
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    training.model.zero_grad(set_to_none=True)
