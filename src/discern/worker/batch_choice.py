"""`--batch-size auto`: the largest batch that fits, found before training and stored in the run.

An assembler. The search runs on a copy of the network, on every rank at once; the rank with the
least room decides for all. What was chosen is reread on resume.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from discern.base.console import Console
from discern.base.errors import ConfigError, RunError
from discern.compute.device import choose_precision
from discern.compute.memory import free_bytes, in_words
from discern.compute.world import World
from discern.config.schema import StageConfig
from discern.models.catalogue import BuiltModel
from discern.training.batch_search import FIRST, BatchTrial, FoundBatch, search_batch
from discern.training.material import Material
from discern.training.stages import Training
from discern.worker.batch_probe import probe_batch
from discern.worker.plan import (
    TrainingPlan,
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
)
from discern.worker.rank_plan import chosen_by_first
from discern.worker.smoke import shortened
from discern.worker.stage_features import choose_stage_features

CHOICE = "batch_size"
# An epoch has at least so many updates: with fewer there is no schedule to speak of.
_LEAST_UPDATES = 5
# Images of an update at most. On a GPU: up to 8,192 images accuracy holds under a rate scaled to
# them (Goyal et al. 2017, arXiv:1706.02677). On a CPU larger passes are no faster.
_MOST = {"cuda": 8192, "cpu": 1024}
# Share of the free memory that is taken: two steps and one evaluation pass miss the fragments that
# a long training leaves, and on a CPU what other programs come to need. Not measured.
TAKEN = {"cuda": 0.9, "cpu": 0.8}
# Seconds of measuring for each stage.
_SECONDS = 30.0


def with_batches(plan: TrainingPlan, chosen: Mapping[str, Any]) -> TrainingPlan:
    """The plan with the stored sizes in the stages that leave theirs open.

    Stages that only predict take the smallest.
    """
    if not chosen or not _is_open(plan):
        return plan
    least = min(choice["value"] for choice in chosen.values())
    stages = {
        name: stage.model_copy(update={"batch_size": chosen.get(name, {"value": least})["value"]})
        if stage.batch_size == "auto"
        else stage
        for name, stage in plan.config.stages.items()
    }
    config = plan.config.model_copy(update={"stages": stages})
    if plan.check:
        config = shortened(config)
    return replace(plan, resolved=replace(plan.resolved, config=config))


def choose_batches(plan: TrainingPlan, console: Console) -> TrainingPlan:
    """The plan with a batch size for every stage that leaves its own open; searched once.

    Raises ConfigError where there is none to search for, RunError if no batch fits.
    """
    if not _is_open(plan):
        return plan
    if CHOICE not in plan.choices:
        _check_searchable(plan)
        plan.choices[CHOICE] = _search(plan, console)
    for name, choice in plan.choices[CHOICE].items():
        console.say(f"batch    {name}: {choice['reason']}")
        if plan.config.stages[name].lr_base is None:
            rate = plan.config.stages[name].lr
            console.say(f"batch    {name}: the rate stays {rate:g}; --lr-base scales it")
    return with_batches(plan, plan.choices[CHOICE])


def _is_open(plan: TrainingPlan) -> bool:
    return any(stage.batch_size == "auto" for stage in plan.config.stages.values())


def _check_searchable(plan: TrainingPlan) -> None:
    if plan.config.data.overfit_batches is not None:
        raise ConfigError(
            "--overfit-batches counts batches of a known size",
            where="stages.*.batch_size",
            got="auto",
            expected="a number",
        )
    if plan.config.compute.sync_batchnorm:
        raise ConfigError(
            "with batch norm over all ranks no rank can be tried by itself",
            where="stages.*.batch_size",
            got="auto",
            expected="a number, or --set compute.sync_batchnorm=false",
        )


def _search(plan: TrainingPlan, console: Console) -> dict[str, Any]:
    """What is chosen for each open stage: size, reason, and what was tried."""
    training = _trial(plan)
    found = {}
    for index, (name, stage) in enumerate(plan.config.stages.items()):
        if stage.kind == "train" and stage.batch_size == "auto":
            console.say(f"batch    {name}: looking for the largest that fits")
            found[name] = _of_stage(plan, training, name, stage, index)
    return found


def _trial(plan: TrainingPlan) -> Training:
    """Network and images for the search: this rank's own, in batches of a few images."""
    small = {name: {"value": FIRST * plan.world.ranks} for name in plan.config.training_stages}
    few = with_batches(replace(plan, check=False, choices=dict(plan.choices)), small)

    def prepare() -> tuple[BuiltModel, Material, frozenset[str]]:
        built = build_network(few)
        preprocess = choose_preprocess(few, built)
        material = make_material(few, built, preprocess, flip=allow_flip(few))
        return built, material, choose_stage_features(few, built.model, material, begun=False)

    built, material, on_features = chosen_by_first(plan.world, few.choices, prepare)
    for measured in ("mirror", "normalization"):  # the same for any batch, so not measured again
        plan.choices[measured] = few.choices[measured]
    device, compute = plan.device.torch_device, few.config.compute
    precision = plan.choices.get("precision", {}).get("value", compute.precision)
    if precision == "auto" and device.type == "cpu":
        precision = "fp32"  # timed later; bf16 takes no more
    elif precision == "auto":
        precision, _ = choose_precision("auto", device, _no_step)
    config = few.config.model_copy(
        update={"compute": compute.model_copy(update={"compile": False})}
    )
    return Training(
        config=config,
        model=built.model,
        material=material,
        device=device,
        precision=precision,
        on_features=on_features,
    )


def _no_step(_: object) -> None:
    """Off the CPU a precision is known without a step."""


def _of_stage(
    plan: TrainingPlan, training: Training, name: str, stage: StageConfig, index: int
) -> dict[str, Any]:
    world, kind = plan.world, training.device.type
    passes = world.ranks * stage.grad_accum_steps
    count = len(training.material.positions("train"))
    largest = min(_MOST.get(kind, _MOST["cpu"]), max(passes, count // _LEAST_UPDATES))

    def measure(images: int) -> BatchTrial:
        return _of_all_ranks(world, probe_batch(training, name, stage, index, images))

    measure(1 if largest < FIRST * passes else FIRST)  # what kernels and libraries keep for good
    room = _room(plan, training, name)
    found = search_batch(
        measure,
        room=room,
        most=max(1, largest // passes),
        seconds=_SECONDS,
        cautious=kind == "cpu",
    )
    if found is None:
        raise RunError(
            "not even one image a pass fits into the device's memory",
            where=f"stage {name}, on {plan.device}",
            got=f"{plan.config.model.name}, {in_words(room)} allowed",
            hint="--grad-checkpointing, a smaller network or a smaller image size (--img-size)",
        )
    update = found.images * passes
    return {
        "value": update,
        "reason": _reason(found, update, largest, room, passes),
        "room": room,
        "tried": [[trial.images, trial.peak] for trial in found.tried],
    }


def _of_all_ranks(world: World, own: BatchTrial) -> BatchTrial:
    """The trial of the rank that took most memory, and most time: the same on every rank."""
    told = [json.loads(one) for one in world.gather(json.dumps([own.peak, own.seconds]).encode())]
    peaks = [peak for peak, _ in told]
    peak = None if None in peaks else max(peaks)
    return BatchTrial(own.images, peak, max(seconds for _, seconds in told))


def _room(plan: TrainingPlan, training: Training, name: str) -> int:
    """Bytes that a pass may take: of the rank with least. Ranks on a CPU share what is free."""
    device, world = training.device, plan.world
    free = free_bytes(device) * TAKEN.get(device.type, TAKEN["cpu"])
    if device.type == "cpu":
        free /= world.ranks
    if name in training.on_features:
        free -= _kept_bytes(training)
    return max(0, int(min(float(one) for one in world.gather(str(free).encode()))))


def _kept_bytes(training: Training) -> int:
    """Features of every training image and its mirror image, and of the validation images."""
    material = training.material
    scored = len(material.positions(material.settings.val_split))
    width = training.model.feature_width or 0  # known of every network that keeps features
    return 4 * width * (2 * len(material.positions("train")) + scored)


def _reason(found: FoundBatch, update: int, largest: int, room: int, passes: int) -> str:
    tried = ", ".join(
        f"{trial.images}: {'too much' if trial.peak is None else in_words(trial.peak)}"
        for trial in found.tried
    )
    each = "" if passes == 1 else f", {found.images} a pass"
    how = ", the rest by their line" if found.estimated else ""
    return (
        f"{update} images an update{each} (at most {largest}), {in_words(room)} allowed; "
        f"tried {tried}{how}"
    )
