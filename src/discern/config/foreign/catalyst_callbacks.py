"""Catalyst's callbacks_params: what each callback is here, or why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from discern.config.foreign.catalyst_names import (
    BUILT_IN,
    CALLBACKS_REFUSED,
    METRICS,
    SERVICES,
)
from discern.config.foreign.reading import Part

_PLUMBING = ("input_key", "output_key", "prefix", "num_classes", "class_names", "num_args")


@dataclass(slots=True)
class Listened:
    """What a stage's callbacks say of its loss, its updates and its end."""

    losses: list[Part] = field(default_factory=list)
    joined: Part | None = None
    forward_passes: int = 1
    decoupled: bool = True
    start_from: str | None = None


def read_callbacks(callbacks: Part, stage: str, monitor: str) -> Listened:
    """Read every callback of a stage whose main metric is `monitor` here."""
    told = Listened()
    for name in callbacks.names:
        if callbacks.value[name] is None:
            callbacks.leave(name, "a callback that is null is skipped")
            continue
        one = callbacks.part(name, "of a callback")
        kind = str(one.value.get("callback", ""))
        kind = kind if kind != "" else "no callback"
        if kind in ("CriterionCallback", "CriterionOutputOnlyCallback"):
            told.losses.append(one)
            continue
        if kind in (
            "CriterionAggregatorCallback",
            "MetricAggregationCallback",
            "CriterionAggregator",
        ):
            told.joined = one
            continue
        _read_one(one, kind, stage, monitor, told)
        one.close()
    callbacks.close()
    return told


def _read_one(one: Part, kind: str, stage: str, monitor: str, told: Listened) -> None:
    key = f"stages.{stage}"
    if kind in BUILT_IN or kind in SERVICES:
        why = "always there" if kind in BUILT_IN else "nothing is sent to other services"
        one.leave("callback", why)
        for name in one.names:
            one.leave(name, why)
    elif kind == "OptimizerCallback":
        _read_updates(one, key, told)
    elif kind == "SchedulerCallback":
        if one.value.get("mode", "epoch") == "epoch" or _one_cycle(one, key):
            one.leave("mode", "as the schedule is")
        for name in ("callback", "reduced_metric", "reduce_metric", "scheduler_key"):
            one.leave(name, "rates follow from the update's number")
    elif kind == "CheckpointCallback":
        _read_checkpoints(one, key, told)
    elif kind == "EarlyStoppingCallback":
        _read_early_stop(one, key, monitor)
    elif kind in ("MixupCallback", "CutmixCallback"):
        ours = "mixup" if kind.startswith("Mix") else "cutmix"
        one.put("callback", f"{key}.{ours}", one.number("alpha", 1.0))
        for name in ("alpha", "fields", "on_train_only"):
            if name != "on_train_only" or one.value.get(name, True):
                one.join(name, f"{key}.{ours}")
    elif kind in ("GradNormLogger", "SaveModelGradsCallback"):
        _add(one, "tracking.callbacks", ["grad_norms"])
        for name in ("norm_type", "accumulation_steps"):
            if one.value.get(name, 2) in (1, 2):
                one.leave(name, "norms of each update")
    elif kind == "PeriodicLoaderCallback":
        one.put("valid", f"{key}.evaluate_every")
        one.leave("callback", "evaluations every so many epochs")
    else:
        _read_metric(one, kind)


def _one_cycle(one: Part, key: str) -> bool:
    """A schedule that Catalyst steps with every batch; the schedule itself is read elsewhere."""
    del key
    return one.value.get("mode") == "batch"


def _read_updates(one: Part, key: str, told: Listened) -> None:
    told.forward_passes = int(one.number("accumulation_steps", 1))
    told.decoupled = bool(one.value.get("decouple_weight_decay", True))
    one.join("accumulation_steps", f"{key}.grad_accum_steps")
    one.join("decouple_weight_decay", f"{key}.optimizer")
    clip = one.part("grad_clip_params", "of grad_clip_params")
    form = clip.value.get("func", "clip_grad_norm_")
    if clip.value and form in ("clip_grad_norm_", "clip_grad_norm"):
        clip.put("max_norm", f"{key}.clip_grad", clip.number("max_norm", 0.0))
        clip.join("func", f"{key}.clip_grad")
        if clip.value.get("norm_type", 2) == 2:
            clip.leave("norm_type", "the Euclidean norm")
    clip.close()
    for name in ("callback", "loss_key", "metric_key", "optimizer_key", "save_model_grads"):
        one.leave(name, "the stage's loss and optimizer")


def _read_checkpoints(one: Part, key: str, told: Listened) -> None:
    one.put("save_n_best", f"{key}.keep_top")
    end = one.value.get("load_on_stage_end")
    if end is not None:
        told.start_from = str(end).removesuffix("_full")
        if told.start_from in ("best", "last"):
            one.leave("load_on_stage_end", "start_from of the stage that follows")
        else:
            told.start_from = None
    for name in ("resume", "resume_dir"):
        if one.value.get(name):
            one.refuse(name, "say --resume RUN, or stages.NAME.start_from")
        one.leave(name, "not asked for")
    for name in ("callback", "metrics_filename", "load_on_stage_start"):
        if name != "load_on_stage_start" or one.value.get(name) is None:
            one.leave(name, "every epoch's checkpoint, the best and the last are kept")


def _read_early_stop(one: Part, key: str, monitor: str) -> None:
    from discern.config.foreign.catalyst_names import MONITORS

    wanted = MONITORS.get(str(one.value.get("metric", "loss")))
    if wanted != monitor:
        one.refuse("metric", "the stage's main_metric ends it")
        if "metric" not in one:
            source = f"{one.source('callback')}, metric loss"
            one.reading.refuse(source, None, "the stage's main_metric ends it")
    one.put("patience", f"{key}.patience")
    if "min_delta" in one:
        one.put("min_delta", f"{key}.min_delta", one.number("min_delta", 0.0))
    for name in ("callback", "metric", "minimize"):
        one.leave(name, "the stage's main metric")


def _read_metric(one: Part, kind: str) -> None:
    wanted: list[str] = []
    if kind.startswith("Accuracy"):
        ks = one.value.get("accuracy_args") or one.value.get("topk_args") or []
        wanted = [f"top_{k}" for k in ks if k != 1]
    elif kind in ("MapKCallback", "MAPKCallback"):
        wanted = [f"map_at_{k}" for k in one.value.get("map_args") or [1, 3, 5]]
    elif kind in METRICS:
        wanted = list(METRICS[kind])
    else:
        one.refuse("callback", CALLBACKS_REFUSED.get(kind, f"there is no callback '{kind}' here"))
        for name in one.names:
            one.leave(name, "see callback")
        return
    if wanted:
        _add(one, "tracking.metrics", wanted)
    one.leave("callback", "accuracy is always measured")
    for name in ("accuracy_args", "topk_args", "map_args", *_PLUMBING, "activation"):
        one.leave(name, "each head has its own figures")
    if one.value.get("threshold") in (None, 0.5):
        one.leave("threshold", "0.5")


def _add(one: Part, key: str, names: list[str]) -> None:
    """Add names to a list of the whole run."""
    section, _, last = key.partition(".")
    there: list[Any] = one.reading.config.setdefault(section, {}).setdefault(last, [])
    there += [{"name": name} for name in names if {"name": name} not in there]
    written = list(there)
    del one.reading.config[section][last]
    one.put("callback", key, written)
