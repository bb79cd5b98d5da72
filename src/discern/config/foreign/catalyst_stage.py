"""One stage of a Catalyst config: length, rates, schedule, loss, callbacks; or what it predicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from discern.config.foreign.catalyst_callbacks import Listened, read_callbacks
from discern.config.foreign.catalyst_losses import read_losses
from discern.config.foreign.catalyst_names import MONITORS, OPTIMIZERS, SELF_DECOUPLED, Facts
from discern.config.foreign.catalyst_schedules import read_schedule
from discern.config.foreign.catalyst_transforms import read_transforms
from discern.config.foreign.reading import Part

_EPOCHS = 1  # Catalyst's own where num_epochs is not given
_RATE = 1e-3  # of torch's adaptive optimizers where no rate is given


def read_stage(
    parts: Mapping[str, Part], stage: str, facts: Facts, *, first: bool, last: bool
) -> None:
    """A stage that trains."""
    state = parts["state_params"]
    epochs = int(state.number("num_epochs", _EPOCHS))
    if state.value.get("num_epochs") is not None:
        state.put("num_epochs", f"stages.{stage}.epochs")
    else:
        source = state.source("num_epochs")
        state.reading.put(f"stages.{stage}.epochs", _EPOCHS, source, None, "Catalyst's default")
    monitor = _read_monitor(state, stage)
    state.close()
    if facts.start_from is not None:
        source = f"stages/{stage} after load_on_stage_end"
        state.reading.put(f"stages.{stage}.start_from", facts.start_from, source, None)
        facts.start_from = None
    _read_trainable(state, stage, facts, first=first, last=last)
    told = read_callbacks(parts["callbacks_params"], stage, monitor)
    facts.start_from = told.start_from
    read_transforms(parts["transform_params"], stage)
    read_losses(parts["criterion_params"], told.losses, told.joined, stage, facts)
    scheduled = "lr_range" in parts["scheduler_params"]
    lr = _read_optimizer(parts["optimizer_params"], stage, told, peak_is_scheduled=scheduled)
    read_schedule(parts["scheduler_params"], stage, epochs, lr)
    _grow_batch(state, stage, told.forward_passes)


def read_infer_stage(parts: Mapping[str, Part], stage: str, facts: Facts) -> None:
    """A stage whose name begins with infer: what the best model says of the images is written."""
    reading = parts["state_params"].reading
    reading.put(f"stages.{stage}.kind", "predict", f"stages/{stage}", None, "writes predictions")
    callbacks = parts["callbacks_params"]
    for name in callbacks.names:
        one = callbacks.part(name, "of a callback")
        kind = str(one.value.get("callback", ""))
        if kind in ("CheckpointCallback", "CheckpointLoader") and one.value.get("resume"):
            wanted = str(one.value["resume"]).rpartition("/")[2].split(".")[0].removesuffix("_full")
            if wanted in ("best", "last"):
                one.put("resume", f"stages.{stage}.start_from", wanted)
            one.refuse("resume", "say stages.NAME.start_from")
        for argument in one.names:
            one.leave(argument, "logits, embeddings and each head are written into the run")
    data = parts["data_params"]
    table = data.value.get("in_csv_infer")
    if table not in (None, *_tables(reading.config)):
        data.put("in_csv_infer", f"stages.{stage}.source", table)
    elif facts.infer_table is not None:
        source = "stages/data_params/in_csv_infer"
        reading.put(f"stages.{stage}.source", facts.infer_table, source, facts.infer_table)
    for name in data.names:
        data.leave(name, "every split is predicted, in the order of its table")
    for key in (key for key in parts if key not in ("callbacks_params", "data_params")):
        for name in parts[key].names:
            parts[key].leave(name, "nothing is trained")


def _tables(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """The tables that are read anyway: of train and val."""
    data = config.get("data", {})
    return data.get("source"), data.get("val")


def _read_monitor(state: Part, stage: str) -> str:
    wanted = state.value.get("main_metric", "loss")
    ours = MONITORS.get(str(wanted))
    if "main_metric" not in state:
        source = state.source("main_metric")
        state.reading.put(f"stages.{stage}.monitor", "loss", source, None, "Catalyst's default")
    elif ours is not None:
        state.put("main_metric", f"stages.{stage}.monitor", ours)
    else:
        state.refuse("main_metric", f"one of {', '.join(MONITORS)} is known")
    down = state.value.get("minimize_metric", True)
    if ours is None or down == (ours == "loss"):
        state.leave("minimize_metric", "known by the metric")
    else:
        state.put("minimize_metric", f"stages.{stage}.monitor_mode", "min" if down else "max")
    if state.value.get("valid_loader", "valid") == "valid":
        state.leave("valid_loader", "the model is chosen on the validation images")
    state.leave("stage", "its name")
    return ours or "loss"


def _read_trainable(state: Part, stage: str, facts: Facts, *, first: bool, last: bool) -> None:
    """Catalyst's experiment freezes the encoder in its first stage and frees it in later ones."""
    if facts.frozen is None:
        return
    head = ["head", "embedding"] if facts.embedding else "head"
    frozen = facts.frozen and first
    why = "frozen: true" + ("" if last else ", freed by later stages") if frozen else "encoder free"
    written = head if frozen else "all"
    state.reading.put(f"stages.{stage}.trainable", written, facts.frozen_source, facts.frozen, why)


def _read_optimizer(
    part: Part, stage: str, told: Listened, *, peak_is_scheduled: bool = False
) -> float:
    """The stage's optimizer; gives its rate."""
    key = f"stages.{stage}"
    wrapper = part.value.get("optimizer")
    inner = part
    if wrapper == "Lookahead":
        inner = part.part("base_optimizer_params", "of an optimizer")
    name = inner.value.get("optimizer")
    ours = OPTIMIZERS.get(str(name))
    if ours is None:
        inner.refuse("optimizer", f"one of {', '.join(OPTIMIZERS)} is known")
        ours = "adam"
    decay = inner.number("weight_decay", 0.0)
    momentum = inner.number("momentum", 0.0)
    ours, arguments = _decoupled(inner, ours, decay, momentum, told)
    inner.take("optimizer")
    if wrapper == "Lookahead":
        part.take("optimizer")
        arguments |= {name: part.take(name) for name in ("k", "alpha") if name in part}
        ours = f"lookahead_{ours}"
    for argument in ("betas", "eps", "amsgrad", "dampening", "alpha", "centered", "nus", "rho"):
        if argument in inner and inner.value[argument] is not None and argument not in arguments:
            arguments[argument] = inner.take(argument)
    written = {"name": ours, "args": arguments} if arguments else ours
    part.reading.put(f"{key}.optimizer", written, part.source("optimizer"), wrapper)
    rate = _read_rate(part, inner, key, peak_is_scheduled=peak_is_scheduled)
    _read_decay(part, inner, key, decay)
    _read_layers(part, key)
    if not part.value.get("load_from_previous_stage"):
        part.leave("load_from_previous_stage", "each stage has an optimizer of its own")
    inner.close()
    part.close()
    return rate


def _decoupled(
    part: Part, ours: str, decay: float, momentum: float, told: Listened
) -> tuple[str, dict[str, Any]]:
    """The optimizer that decays as Catalyst's OptimizerCallback does, and its arguments."""
    arguments: dict[str, Any] = {}
    if ours == "sgd":
        nesterov = bool(part.value.get("nesterov"))
        arguments = {"momentum": momentum, "nesterov": nesterov}
        for name in ("momentum", "nesterov"):
            part.take(name)
    apart = told.decoupled and decay > 0 and ours not in SELF_DECOUPLED
    if not apart or (ours == "sgd" and momentum == 0):
        return ours, arguments
    if ours in ("adam", "sgd"):
        return {"adam": "adamw", "sgd": "sgdw"}[ours], arguments
    why = "OptimizerCallback decays apart from the gradient, which this optimizer does not here"
    part.refuse("weight_decay", f"{why}; decouple_weight_decay: false is the plain form")
    return ours, arguments


def _read_rate(part: Part, inner: Part, key: str, *, peak_is_scheduled: bool) -> float:
    scaled = part.part("lr_linear_scaling", "of lr_linear_scaling")
    if scaled.value:
        scaled.put("lr", f"{key}.lr_base")
        scaled.put("base_batch_size", f"{key}.lr_base_size")
        scaled.close()
        inner.leave("lr", "lr_linear_scaling says it")
        return scaled.number("lr", _RATE)
    rate = inner.number("lr", _RATE)
    if peak_is_scheduled:
        inner.leave("lr", "the scheduler's lr_range says it")
    inner.put("lr", f"{key}.lr", rate)
    return rate or _RATE


def _read_decay(part: Part, inner: Part, key: str, decay: float) -> None:
    inner.put("weight_decay", f"{key}.weight_decay", decay)
    if decay:
        source, why = part.source("no_bias_weight_decay"), "norms decay in Catalyst"
        part.reading.put(f"{key}.decay_all", True, source, None, why)
        if part.value.get("no_bias_weight_decay", True):
            part.reading.put(f"{key}.no_decay", [r".*\.bias"], source, True, "biases do not")
    part.join("no_bias_weight_decay", f"{key}.no_decay")


def _read_layers(part: Part, key: str) -> None:
    """layerwise_params of the whole encoder; inner layers have other names here."""
    layers = part.part("layerwise_params", "of layerwise_params")
    groups: list[dict[str, Any]] = []
    for pattern in layers.names:
        options = layers.part(pattern, "of layerwise_params")
        whole = pattern.split(".")[0] in ("encoder", "backbone") and pattern.count(".") <= 1
        if not whole or set(options.value) - {"lr", "weight_decay"}:
            layers.refuse(pattern, "layers have other names here: say it with stages.NAME.groups")
            continue
        groups += [{"match": "head"}, {"match": r"embedding\..*"}]
        groups.append({"match": ".*", **{name: options.take(name) for name in options.value}})
    if groups:
        part.reading.put(
            f"{key}.groups", groups, part.source("layerwise_params"), dict(layers.value)
        )


def _grow_batch(state: Part, stage: str, forward_passes: int) -> None:
    """Catalyst accumulates over batches; here the batch of an update is divided."""
    if forward_passes == 1:
        return
    mine = state.reading.config["stages"][stage]
    source = f"stages/{stage} accumulation_steps"
    if "batch_size" not in mine:
        state.reading.refuse(source, forward_passes, "the batch size is needed: give batch_size")
        return
    mine["batch_size"] *= forward_passes
    why = f"batches of an update: batch_size is {forward_passes} times as large"
    state.reading.put(
        f"stages.{stage}.grad_accum_steps", forward_passes, source, forward_passes, why
    )
