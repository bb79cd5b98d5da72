"""Catalyst's stage YAML: its top-level sections, its network, and the order of its stages.

The parts of a stage are in `catalyst_stage`. A stage's own section goes over the defaults beside
the stages, deeply, as Catalyst merges them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from discern.config.foreign.catalyst_data import read_data
from discern.config.foreign.catalyst_names import (
    ACTIVATIONS,
    NORMS,
    POOLINGS,
    SIDE_HEADS,
    STAGE_PARTS,
    Facts,
)
from discern.config.foreign.catalyst_stage import read_infer_stage, read_stage
from discern.config.foreign.reading import Part, Reading

_ARGS_TOLD: Final = {
    "expdir": "code: networks and callbacks of one's own are named by import path",
    "logdir": "say --runs, --project and --name",
    "baselogdir": "say --runs",
    "verbose": "progress is always shown",
    "timeit": "times are always measured",
    "autoresume": "the same command again goes on with an unfinished run",
    "benchmark": "kernels are chosen by compute.deterministic",
    "config": "this file",
    "configs": "these files",
}
_PRECISIONS: Final = {"O0": "fp32", "O1": "auto", "O2": "auto"}


def read_catalyst(config: Mapping[str, Any], reading: Reading) -> None:
    """Read a merged Catalyst config into `reading`."""
    top = Part(reading, [("", config)])
    facts = Facts()
    _read_args(top.part("args"))
    _read_distributed(top.part("distributed_params"))
    runner = top.part("runner_params")
    for name in runner.names:
        runner.leave(name, "images and logits are known here")
    _read_model(top.part("model_params", "of a network"), facts)
    for name in ("shared", "anchors", "aliases"):
        top.leave(name, "what uses these anchors has their values")
    top.leave("monitoring_params", "nothing is sent to other services")
    _read_stages(top.part("stages"), facts)
    top.close()


def _read_args(args: Part) -> None:
    args.put("seed", "seed")
    args.put("deterministic", "compute.deterministic")
    args.put("num_workers", "data.workers")
    args.put("workers", "data.workers")
    for name, why in _ARGS_TOLD.items():
        args.leave(name, why)
    for name in ("check", "resume"):
        if args.value.get(name):
            args.refuse(name, f"say --{name} when training")
        args.leave(name, "not asked for")
    for name in ("apex", "amp", "fp16"):
        if args.value.get(name):
            args.put(name, "compute.precision", "auto", "mixed where the device gains by it")
        args.leave(name, "not asked for")
    for name in ("distributed", "ddp"):
        if args.value.get(name):
            args.refuse(name, "say --nproc when training")
        args.leave(name, "not asked for")
    args.close()


def _read_distributed(part: Part) -> None:
    level = part.value.get("opt_level")
    if level in _PRECISIONS:
        part.put("opt_level", "compute.precision", _PRECISIONS[level], "mixed as the device gains")
    elif level is not None:
        part.refuse("opt_level", "all in half precision loses small updates; O0, O1, O2 are known")
    part.put("syncbn", "compute.sync_batchnorm")
    part.leave("rank", "ranks are started by --nproc")
    part.close()


def _read_model(model: Part, facts: Facts) -> None:
    if model.value.get("_key_value"):
        model.refuse("_key_value", "one network is trained")
    model.leave("_key_value", "one network")
    name = model.value.get("model")
    encoder = next((n for n in ("backbone_params", "encoder_params") if n in model), None)
    if encoder is None:
        if isinstance(name, str):
            model.put("model", "model.name")
        model.leave("num_classes", "counted from the labels")
        _read_weights(model)
        for argument in model.names:
            if argument != "model":
                model.put(argument, f"model.args.{argument}")
        model.close()
        return
    model.leave("model", "an encoder, an embedding block and heads: said by their own keys")
    _read_encoder(model.part(encoder, "of an encoder"), facts)
    neck = next((n for n in ("neck_params", "embedding_net_params") if n in model), None)
    if neck is not None:
        _read_embedding(model.part(neck, "of an embedding block"), facts)
    elif "emb_size" in model:
        facts.embedding = True
        model.put("emb_size", "model.embedding.hiddens", [model.value["emb_size"]])
    model.leave("emb_size", "the last width of the embedding block")
    model.leave("num_classes", "counted from the labels")
    heads = next((n for n in ("heads_params", "head_params") if n in model), None)
    if heads is not None:
        _read_heads(model.part(heads, "of a head"), facts)
    model.close()


def _read_weights(part: Part) -> None:
    if "pretrained" in part:
        part.put(
            "pretrained", "model.weights", "pretrained" if part.value["pretrained"] else "none"
        )
    state = part.value.get("state_dict")
    if isinstance(state, str) and state.endswith(".safetensors"):
        part.put("state_dict", "model.weights")
    part.refuse("state_dict", "pickled weights are not loaded; save them as safetensors")


def _read_encoder(encoder: Part, facts: Facts) -> None:
    encoder.put("arch", "model.name")
    encoder.leave("model", "an encoder of that arch")
    encoder.leave("encoder", "an encoder of that arch")
    if encoder.value.get("state_dict") is not None:
        encoder.leave("pretrained", "state_dict is loaded over it")
    _read_weights(encoder)
    if "frozen" in encoder:
        facts.frozen = bool(encoder.value["frozen"])
        facts.frozen_source = encoder.source("frozen")
        encoder.leave("frozen", "said by stages.*.trainable")
    if "requires_grad" in encoder:
        facts.frozen = not encoder.value["requires_grad"]
        facts.frozen_source = encoder.source("requires_grad")
        encoder.leave("requires_grad", "said by stages.*.trainable")
    if encoder.value.get("cut_layers", 2) == 2:
        encoder.leave("cut_layers", "pooling and classifier are replaced")
    pooling = encoder.value.get("pooling")
    if pooling in POOLINGS:
        encoder.put("pooling", "model.pooling.name", POOLINGS[pooling])
    arguments = encoder.part("pooling_kwargs", "of a pooling")
    arguments.leave("features_in", "known from the network")
    for name in arguments.names:
        arguments.put(name, f"model.pooling.args.{name}")
    encoder.close()


def _read_embedding(neck: Part, facts: Facts) -> None:
    facts.embedding = True
    neck.put("hiddens", "model.embedding.hiddens")
    neck.put("emb_size", "model.embedding.hiddens", [neck.value.get("emb_size")])
    given = next((n for n in ("dropout", "dropout_rate") if n in neck), None)
    if given is not None:
        neck.put(given, "model.embedding.dropout", neck.number(given, 0.0))
    else:
        source = neck.source("dropout")
        neck.reading.put("model.embedding.dropout", 0.0, source, None, "Catalyst's default: none")
    for name, key, table, default in (
        ("norm_fn", "model.embedding.norm", NORMS, "none"),
        ("activation_fn", "model.embedding.activation", ACTIVATIONS, "relu"),
    ):
        chosen = _layer_name(neck.value.get(name))
        if chosen in table:
            neck.put(name, key, table[chosen])
        elif chosen is None:
            neck.reading.put(key, default, neck.source(name), None, "Catalyst's default")
            neck.take(name)
    layer = neck.value.get("layer_fn")
    plain = _layer_name(layer) == "Linear" and set(_arguments(layer)) <= {"bias"}
    if plain and (_arguments(layer).get("bias", True) or neck.value.get("norm_fn") is not None):
        neck.leave("layer_fn", "linear; a bias in front of a norm does nothing")
    if neck.value.get("layer_order") in (
        None,
        ["layer", "norm", "drop", "act"],
        ["layer", "norm", "act", "drop"],
    ):
        neck.leave("layer_order", "this order; dropout and activation may be exchanged")
    if not neck.value.get("residual"):
        neck.leave("residual", "none")
    neck.close()


def _layer_name(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("module", value.get("layer", value.get("name")))
    return value if isinstance(value, str) else None


def _arguments(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {}
    return {key: v for key, v in value.items() if key not in ("module", "layer", "name")}


def _read_heads(heads: Part, facts: Facts) -> None:
    for name in heads.names:
        plain = isinstance(heads.value[name], int | str | None)
        if name in SIDE_HEADS and plain:
            facts.side_heads.append(SIDE_HEADS[name])
            heads.leave(name, f"side head {SIDE_HEADS[name]}, in data.side_heads")
        elif name in ("logits", "class_logits") and plain:
            heads.leave(name, "the classes are counted from the labels")
        else:
            heads.refuse(name, "a head of a label column is made by data.labels: [COLUMN, ...]")
    if facts.side_heads:
        heads.reading.put(
            "data.side_heads", list(facts.side_heads), heads.source("").rstrip("/"), None
        )


def _read_stages(stages: Part, facts: Facts) -> None:
    names = [name for name in stages.names if name not in STAGE_PARTS]
    for name in names:
        if stages.value[name] is None:
            stages.reading.leave(f"stages/{name}", None, "a stage that is null is skipped")
            stages.take(name)
    present = [name for name in names if stages.value[name] is not None]
    training = [name for name in present if not name.startswith("infer")]
    for name in present:
        own = stages.part(name, "of a stage")
        parts = {
            key: Part(
                stages.reading,
                [
                    *([(f"stages/{key}", stages.value.get(key))] if name in training else []),
                    (f"stages/{name}/{key}", own.value.get(key)),
                ],
                f"in {key}",
            )
            for key in STAGE_PARTS
        }
        for key in STAGE_PARTS:
            own.take(key)
        own.close()
        stages.reading.config.setdefault("stages", {}).setdefault(name, {})
        if name in training:
            read_data(parts["data_params"], name, facts)
            read_stage(parts, name, facts, first=name == training[0], last=name == training[-1])
        else:
            read_infer_stage(parts, name, facts)
    for key in STAGE_PARTS:
        if not present:
            stages.refuse(key, "there is no stage")
        stages.take(key)
    stages.close()
