"""The verbs `models-list` and `models-show`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from discern.base.console import Console
from discern.config.request import Request
from discern.models.known_facts import InferenceSpeed
from discern.models.listing import ModelFacts, ModelLine, list_models, model_facts

_COLUMNS = (
    "name", "from", "M params", "GMACs", "top-1", "weights", "license of the weights", "img/s here",
    "peak MB",
)  # fmt: skip
_LAYER_COLUMNS = ("layer", "kind", "output", "parameters", "M multiply-adds")


def list_verb(request: Request, console: Console) -> int:
    """List networks by name, size and license."""
    given = request.arguments
    largest = given["max_params"]
    lines = list_models(
        given["pattern"] or "*",
        max_params=None if largest is None else int(largest * 1e6),
        license_part=given["license"],
        pretrained=given["pretrained"],
        count=True if given["count"] else None,
    )
    console.table(_COLUMNS, [_row(line) for line in lines])
    uncounted = sum(line.parameters is None for line in lines)
    note = f"; {uncounted} not counted yet: --count does" if uncounted else ""
    console.say(f"{len(lines)} networks{note}")
    console.emit({"models": [asdict(line) for line in lines]})
    return 0


def _row(line: ModelLine) -> tuple[str, ...]:
    speed = line.speed
    return (
        line.name,
        line.source,
        "" if line.parameters is None else f"{line.parameters / 1e6:.2f}",
        "" if line.gmacs is None else f"{line.gmacs:.3f}",
        "" if line.top1 is None else f"{line.top1:.4f}",
        line.weights,
        line.license or "",
        "" if speed is None else f"{speed.images_per_s:.0f} ({speed.device}, {speed.precision})",
        "" if speed is None else f"{speed.peak_mb:.0f}",
    )


def show_verb(request: Request, console: Console) -> int:
    """Show one network."""
    facts = model_facts(request.arguments["name"])
    given = facts.input
    rows: list[tuple[str, Any]] = [
        ("network", f"{facts.name} ({facts.source})"),
        ("parameters", f"{facts.parameters:,}"),
        ("multiply-adds", f"{facts.gmacs:.3f} G per image"),
        ("layers", len(facts.layers)),
        ("memory", _memory(facts)),
        ("features", facts.features),
        ("input", f"{given.channels} x {given.height} x {given.width}, {given.interpolation}"),
        ("mean, std", _normalization(facts)),
        ("classes", facts.classes),
        ("weights", f"{facts.weights}{'' if facts.hub_id is None else f' ({facts.hub_id})'}"),
        ("license", facts.license or ("-" if facts.weights == "none" else "unknown")),
        ("published", _published(facts.top1, facts.top5, facts.published_at)),
        *_measured(facts),
        ("also called", ", ".join(facts.aliases) or "-"),
    ]
    for name, value in rows:
        console.say(f"{name:<14} {value}")
    if request.arguments.get("layers"):
        console.say()
        console.table(_LAYER_COLUMNS, [_layer(layer) for layer in facts.layers])
    console.emit({**facts.record(), "memory": {**facts.memory, "optimizer": _state_bytes(facts)}})
    return 0


def _memory(facts: ModelFacts) -> str:
    """What training takes in float32."""
    state = ", ".join(
        f"{size / 1e6:.1f} MB for {name}" for name, size in _state_bytes(facts).items()
    )
    return (
        f"parameters {facts.memory['parameters'] / 1e6:.1f} MB, gradients as much, the optimizer "
        f"{state}; kept of each image for the backward pass "
        f"{facts.memory['activations'] / 1e6:.1f} MB"
    )


def _state_bytes(facts: ModelFacts) -> dict[str, int]:
    """Momentum is one number a parameter, AdamW keeps two, and a step count a tensor, left out."""
    size = facts.memory["parameters"]
    return {"sgd": size, "adamw": 2 * size}


def _layer(layer: dict[str, Any]) -> tuple[object, ...]:
    shape = layer["output"]
    return (
        layer["name"],
        layer["kind"],
        "not used" if shape is None else " x ".join(map(str, shape)),
        layer["parameters"],
        f"{layer['macs'] / 1e6:.3f}",
    )


def _normalization(facts: ModelFacts) -> str:
    if facts.source == "discern":
        return "measured on the training images"
    given = facts.input
    return ", ".join(" ".join(f"{v:.3f}" for v in values) for values in (given.mean, given.std))


def _measured(facts: ModelFacts) -> list[tuple[str, Any]]:
    """A line for each measurement of `discern bench infer` on this machine."""
    if not facts.speeds:
        return [("speed here", f"not measured: discern bench infer {facts.name}")]
    return [("speed here", _speed(speed)) for speed in facts.speeds]


def _speed(speed: InferenceSpeed) -> str:
    height, width = speed.image_size
    return (
        f"{speed.images_per_s:.1f} img/s, {speed.peak_mb:.0f} MB; batch {speed.batch_size}, "
        f"{height} x {width}, {speed.precision}, {speed.device}"
    )


def _published(top1: float | None, top5: float | None, source: str | None) -> str:
    if top1 is None:
        return "no score known"
    return f"top-1 {top1:.4f}, top-5 {top5 or 0:.4f} ({source})"
