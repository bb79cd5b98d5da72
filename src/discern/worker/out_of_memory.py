"""A training that does not fit: told with a smaller plan, a command line; what is saved stays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from discern.base.errors import RunError
from discern.compute.device import DeviceChoice
from discern.compute.memory import (
    ScoringMemoryError,
    in_words,
    is_out_of_memory,
    peak_bytes,
)
from discern.config.schema import StageConfig
from discern.models.classifier import Classifier
from discern.models.recompute import can_recompute
from discern.training.evaluate import evaluation_batch
from discern.training.stages import Training
from discern.worker.fitting_passes import (
    SmallerPasses,
    fitting_passes,
    halved_passes,
    images_a_pass,
)
from discern.worker.plan import TrainingPlan

_NOTHING_SMALLER = "choose a smaller image size (--img-size) or network, with --fresh"


@contextlib.contextmanager
def memory_told(
    plan: TrainingPlan,
    model: Classifier,
    run: str | None,
    stage: Callable[[], str] = str,
    training: Training | None = None,
) -> Iterator[None]:
    """Running out of memory inside is a RunError that says what was tried and what would fit.

    `run` None: there is none yet. `stage` gives the name of the stage in progress; the first one
    where there is none yet. Of a `training` in progress smaller passes are tried for that.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        config, device = plan.config, plan.device
        peak = in_words(peak_bytes(device.torch_device))
        name = stage() or next(iter(config.stages))
        precision = plan.choices.get("precision", {}).get("value", "precision still being chosen")
        if isinstance(error, ScoringMemoryError):
            asked = config.compute.eval_batch_size
            images = evaluation_batch(config.stages[name].batch, asked)
            passes, hint = f"evaluation passes of {images}", smaller_scoring(run, images)
            known = None
        else:
            passes = _passes(config.stages[name], plan.world.ranks)
            hint, known = _way_out(plan, name, model, run, training, error)
        raise RunError(
            "the device's memory does not suffice; what was saved stays",
            where=f"{'' if run is None else run + ', '}stage {name}, on {device}",
            got=f"{config.model.name}, {passes}, {precision}, a peak of {peak}",
            expected=known,
            hint=hint,
        ) from error


@contextlib.contextmanager
def scoring_memory_told(name: str, device: DeviceChoice, images: int) -> Iterator[None]:
    """Running out of memory inside is a RunError with the number of images that would need less.

    `name`: the model that is at work, in passes of `images`.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        peak = in_words(peak_bytes(device.torch_device))
        raise RunError(
            "the device's memory does not suffice",
            where=f"{name}, on {device}",
            got=f"passes of {images} images, a peak of {peak}",
            hint=f"--batch-size {images // 2}"
            if images > 1
            else "--device cpu, or a smaller image",
        ) from error


def smaller_scoring(run: str | None, images: int) -> str:
    """The command that goes on with the run in evaluation passes of half of `images`."""
    if images == 1:
        return _NOTHING_SMALLER
    words = f"--set compute.eval_batch_size={images // 2}"
    return words if run is None else f"discern train --resume {run} {words}"


def _passes(stage: StageConfig, ranks: int) -> str:
    return f"batch {images_a_pass(stage, ranks)} on the device ({stage.batch} an update)"


def _way_out(
    plan: TrainingPlan,
    name: str,
    model: Classifier,
    run: str | None,
    training: Training | None,
    error: BaseException,
) -> tuple[str, str | None]:
    """(The command that goes on with the run in less memory, what is known of that memory).

    Fewer images a pass, recomputation; updates stay those of the same number of images. Without a
    run, the flags alone.
    """
    config, ranks, stage = plan.config, plan.world.ranks, plan.config.stages[name]
    recompute = not config.compute.grad_checkpointing and can_recompute(model)
    smaller: SmallerPasses | None = None
    if images_a_pass(stage, ranks) > 1:
        if training is None:
            smaller = halved_passes(stage, "the training has not begun")
        else:
            smaller = fitting_passes(training, name, error, recompute=recompute)
        if smaller is None:
            return _NOTHING_SMALLER, "tried: passes of two images do not fit either"
    words: list[str] = []
    if smaller is not None and len(config.stages) == 1:
        words += ["--grad-accum-steps", str(smaller.count)]
    elif smaller is not None:
        words += ["--set", f"stages.{name}.grad_accum_steps={smaller.count}"]
    words += ["--grad-checkpointing"] if recompute else []
    if not words:
        return _NOTHING_SMALLER, None
    command = " ".join(words if run is None else ["discern", "train", "--resume", run, *words])
    return command, None if smaller is None else smaller.known
