"""The verb `train`: finds or makes the run, trains its stages, and finishes it."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from discern.base.console import Console
from discern.base.names import counted
from discern.config.explain import origin_record
from discern.config.request import Request
from discern.config.yaml_text import dump_text
from discern.launch.resumed import named_run, with_stored_config
from discern.models.catalogue import BuiltModel
from discern.track.meter.system import meter_run
from discern.track.run import (
    Run,
    RunWriter,
    create_run,
    open_run,
    resume_run,
    runs_root,
)
from discern.track.run_reference import split_reference
from discern.track.writers.names import check_writers
from discern.training.accord import StopRequest
from discern.training.material import Material
from discern.training.monitor import open_monitor
from discern.training.stages import (
    Training,
    check_stages,
    probe_precision,
    run_stages,
)
from discern.worker.batch_choice import CHOICE as BATCHES
from discern.worker.batch_choice import choose_batches, with_batches
from discern.worker.branch import branch_run
from discern.worker.event_content import add_start_events
from discern.worker.finish import final_tables, finish_run, last_training
from discern.worker.model_account import store_model_summary
from discern.worker.out_of_memory import memory_told
from discern.worker.plan import (
    TrainingPlan,
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    network_heads,
    plan_metrics,
    plan_training,
)
from discern.worker.rank_end import leave_result
from discern.worker.rank_plan import (
    all_devices,
    changed_ranks,
    check_batches,
    chosen_by_first,
    rank_lines,
    telling_the_cause,
)
from discern.worker.recording import open_callbacks
from discern.worker.resume import (
    changed,
    check_same,
    grown_lengths,
    project_of,
    same_request,
    stored_config,
)
from discern.worker.session import open_session
from discern.worker.signals import stop_on_signals
from discern.worker.stage_features import choose_stage_features, shared_features
from discern.worker.stage_inputs import chosen_starts, find_starts, open_own_images
from discern.worker.stage_words import augment_words, feature_lines, rate_lines, recipe_words
from discern.worker.terminal import heads_text
from discern.worker.time_plan import apply_budget, plan_time
from discern.worker.untrained_heads import check_untrained


def train_verb(request: Request, console: Console) -> int:
    """Do one `train` request; its result is one JSON object or lines for people."""
    result = train(request, console)
    if result is not None:
        leave_result(0, result)
        console.emit(result)
    return 0


def train(request: Request, console: Console) -> dict[str, Any] | None:
    """Train as asked; gives the object that `--json` prints. Raises DiscernError.

    One of several ranks does its part; those beyond the first write nothing and give None.
    """
    started = time.monotonic()
    root = runs_root(request.arguments.get("runs"))
    named = named_run(request, root)
    if named is not None:
        request = with_stored_config(request, named)
    plan = plan_training(request, console)
    with plan.world:
        run = _agreed_run(named or same_request(request, plan, root), plan, root)
        if run is not None:
            plan = with_batches(plan, (run.record.get("choices") or {}).get(BATCHES) or {})
            check_same(plan, run)
            run = _agreed_run(_branched(request, run, plan, console), plan, root) or run
            plan.choices.update(run.record.get("choices") or {})
            plan = apply_budget(plan)
        plan = choose_batches(plan, console)
        parts = chosen_by_first(
            plan.world, plan.choices, lambda: _prepare(plan, run, root, console)
        )
        built, material = parts[:2]
        _announce(plan, built, material, run, console)
        dry = bool(request.arguments.get("dry_run"))
        if dry or (plan.config.compute.budget is not None and "budget" not in plan.choices):
            with memory_told(plan, built.model, None):
                plan, times = plan_time(plan, parts[:3], started)
            for line in times.lines():
                console.say(line)
            if dry:
                return times.record() if plan.world.leads else None
        writer = _open_writer(request, plan, run, root) if plan.world.leads else None
        with writer or contextlib.nullcontext(), telling_the_cause():
            resumed = run is not None
            return _train_run(plan, parts, writer, console, started, resumed=resumed)


_Parts = tuple[BuiltModel, Material, frozenset[str], dict[str, Material]]


def _prepare(plan: TrainingPlan, run: Run | None, root: Path, console: Console) -> _Parts:
    """The network and the images, checked; the stages that train on kept features; and the images
    of stages that predict on some of their own.
    """
    built = build_network(plan)
    preprocess = choose_preprocess(plan, built)
    flip = allow_flip(plan)
    material = make_material(plan, built, preprocess, flip=flip)
    check_stages(plan.config, built.model, material)
    check_untrained(plan.config, material.heads, built.model)
    check_batches(plan.config, material, plan.world)
    plan_metrics(plan)
    open_callbacks(plan.config.tracking)  # a misspelled one is told before any work
    check_writers(plan.config.tracking.writers, where="tracking.writers")
    begun = run is not None and "choices" in run.record
    on_features = choose_stage_features(plan, built.model, material, begun=begun)
    find_starts(plan, root, console)
    return built, material, on_features, open_own_images(plan, material, console)


def _branched(request: Request, run: Run, plan: TrainingPlan, console: Console) -> Run:
    """The new run that `--resume RUN@...` asks for; without such a checkpoint, the run itself."""
    _, wish = split_reference(request.arguments.get("resume") or "")
    if wish is None or not plan.world.leads:
        return run
    stages = plan.config.stages
    stage = stages.get(wish.stage or "") or last_training(plan)[1]
    return branch_run(run, wish, open_monitor(stage.monitor, stage.monitor_mode), console)


def _agreed_run(found: Run | None, plan: TrainingPlan, root: Path) -> Run | None:
    """The run that rank 0 goes on with, on every rank."""
    path = plan.world.tell(None if found is None else str(found.path))
    if found is None or str(found.path) != path:
        return None if path is None else open_run(path, root)
    return found


def _announce(
    plan: TrainingPlan, built: BuiltModel, material: Material, run: Run | None, console: Console
) -> None:
    manifest, preprocess = plan.scanned.manifest, material.preprocess
    counts = ", ".join(f"{split} {count}" for split, count in split_counts(plan).items())
    console.say(f"data     {manifest.layout}: {heads_text(material.heads)}, {counts}")
    size = f"{preprocess.height}x{preprocess.width}x{preprocess.channels}"
    size += "" if preprocess.depth == 8 else f" in {preprocess.depth} bit"
    parameters = sum(p.numel() for p in built.model.parameters())
    console.say(
        f"model    {built.name}, {parameters / 1e6:.2f} M parameters, input {size}, {built.origin}"
    )
    mirror = plan.choices["mirror"]
    verdict = "allowed" if mirror["allowed"] else "not allowed"
    console.say(
        f"augment  {augment_words(plan, material)}; mirroring {verdict}: a probe scores "
        f"{mirror['plain']:.3f}, mirrored {mirror['mirrored']:.3f}"
    )
    console.say(f"device   {plan.device}, {counted(plan.threads, 'thread')}, {plan.recipe}")
    reason = recipe_words(plan, material)
    if reason is not None:
        console.say(f"recipe   {reason}")
    for line in rank_lines(plan.config, all_devices(plan.device, plan.world), plan.world):
        console.say(f"ranks    {line}")
    for line in rate_lines(plan, built.model):
        console.say(f"rates    {line}")
    for line in check_untrained(plan.config, material.heads, built.model):
        console.say(f"head     {line}")
    for line in feature_lines(plan):
        console.say(f"features {line}")
    if built.size_note is not None:
        console.say(f"size     {built.size_note}")
    if built.stem_note is not None:
        console.say(f"stem     {built.stem_note}")
    for line in built.changes.lines():
        console.say(f"model    {line}")
    for line in built.report_lines():
        console.say(f"weights  {line}")
    if run is not None:
        finished = run.status == "finished"
        told = "finished; it is trained further" if finished else "this request is unfinished there"
        console.say(f"resume   {run.id}: {told}")
        for key, before, now in grown_lengths(plan, run.record):
            told = f"{key:<8} {before} -> {now}: the schedule goes on with the new total"
            console.say(told)


def split_counts(plan: TrainingPlan) -> dict[str, int]:
    """Images per split, of the splits that there are."""
    manifest = plan.scanned.manifest
    counts = {split: len(manifest.positions(split)) for split in ("train", "val", "test")}
    return {split: count for split, count in counts.items() if count}


def _open_writer(request: Request, plan: TrainingPlan, run: Run | None, root: Path) -> RunWriter:
    if run is not None:
        return resume_run(run.path)
    return create_run(
        root,
        project_of(plan),
        name_stem=name_stem(plan),
        name=None if plan.check else plan.config.tracking.name,
        exist_ok=bool(request.arguments.get("exist_ok")),
        request_hash=plan.identity,
        config_text=dump_text(stored_config(plan, None)),
        record={
            "images_hash": plan.scanned.manifest.hash,
            "layout": plan.scanned.manifest.layout,
            "split": _split_record(plan),
            "classes": list(plan.scanned.manifest.heads[0].classes),
            "heads": [head.record() for head in network_heads(plan)],
            "recipe": plan.recipe,
            "config": stored_config(plan, None),
            "origins": origin_record(plan.resolved),
            "left_out": [problem.record() for problem in plan.scanned.problems],
            "check": plan.check,
        },
    )


def name_stem(plan: TrainingPlan) -> str:
    """What a run without a given name is called before its number; a smoke run says so."""
    name = (plan.config.model.name or "model").rpartition(":")[2].rpartition("/")[2]
    return f"{plan.config.tracking.name or name}-check" if plan.check else name


def _split_record(plan: TrainingPlan) -> dict[str, Any]:
    scanned = plan.scanned
    return {
        "reported": scanned.reported,
        "random": scanned.random_split,
        "chosen_on_reported": plan.chosen_on_reported,
        "warnings": [
            *(["chosen on the test images"] if plan.chosen_on_reported else []),
            *scanned.warnings,
        ],
        "seed": plan.config.data.split_seed,
        "counts": scanned.manifest.counts(),
    }


def _train_run(
    plan: TrainingPlan,
    parts: _Parts,
    writer: RunWriter | None,
    console: Console,
    started: float,
    *,
    resumed: bool,
) -> dict[str, Any] | None:
    built, material, on_features, own_images = parts
    device, world = plan.device.torch_device, plan.world
    run = "RUN" if writer is None else writer.run.id
    if "precision" not in plan.choices and world.leads:
        with memory_told(plan, built.model, run):
            value, reason = probe_precision(plan.config, built.model, material, device)
        plan.choices["precision"] = {"value": value, "reason": reason}
    plan.choices.update(world.tell(plan.choices))
    precision = plan.choices["precision"]
    console.say(f"compute  {precision['value']} ({precision['reason']})")
    devices = all_devices(plan.device, world)
    if writer is not None:
        _store_choices(plan, material, writer, devices)
        if plan.config.tracking.system_meter:
            # The ranks of one machine have one parent: its tree is the whole run.
            meter_run(writer, None if world.alone else os.getppid())
        stages = plan.config.training_stages
        store_model_summary(writer.path, built, material, stages, console)
        console.say(f"run      {writer.path}")
    asked = StopRequest()
    session = open_session(plan, writer, console, asked)
    checkpoint = session.store.latest() if resumed else None
    if resumed:
        session.recorder.rewind(-1 if checkpoint is None else checkpoint.step)
        if checkpoint is None:
            console.say("resume   the run has no checkpoint: it begins again at step 0")
        told = changed_ranks(checkpoint, world)
        if told is not None:
            session.recorder.warn(told)
    if writer is not None:
        begun = 0 if checkpoint is None else checkpoint.step
        add_start_events(plan, built.model, material, writer, begun)
    training = Training(
        config=plan.config,
        model=built.model,
        material=material,
        device=device,
        precision=precision["value"],
        on_features=on_features,
        world=world,
        elsewhere=chosen_starts(plan),
        own_images=own_images,
        kept_features=shared_features(plan),
    )
    with memory_told(plan, built.model, run, lambda: session.progress.stage, training):
        with stop_on_signals(asked, console):
            run_stages(training, session, checkpoint)
        if writer is None:
            final_tables(plan, training)
            return None
        return finish_run(plan, built, training, session, writer, console, started)


def _store_choices(
    plan: TrainingPlan, material: Material, writer: RunWriter, devices: list[str]
) -> None:
    config = stored_config(plan, material.preprocess)
    writer.write_config(dump_text(config))
    if changed(plan, writer.record):
        writer.update(request_hash=plan.identity)  # the earlier request is another one from now on
    writer.update(
        config=config,
        choices=plan.choices,
        device=plan.device.record(),
        ranks={
            "count": plan.world.ranks,
            "backend": plan.world.backend,
            "devices": devices,
        },
    )
