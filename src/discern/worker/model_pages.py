"""The verbs `models-list` and `models-show`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from discern.base.console import Console
from discern.config.request import Request
from discern.models.listing import ModelFacts, list_models, model_facts


def list_verb(request: Request, console: Console) -> int:
    """List networks by name, size and license."""
    given = request.arguments
    largest = given["max_params"]
    lines = list_models(
        given["pattern"] or "*",
        max_params=None if largest is None else int(largest * 1e6),
    )
    if given["license"]:
        wanted = given["license"].casefold()
        lines = [line for line in lines if wanted in (line.license or "").casefold()]
    if given["pretrained"]:
        lines = [line for line in lines if line.weights != "none"]
    rows = [(line.name, line.source, line.weights, line.license) for line in lines]
    console.table(("name", "from", "weights", "license of the weights"), rows)
    console.say(f"{len(lines)} networks")
    console.emit({"models": [asdict(line) for line in lines]})
    return 0


def show_verb(request: Request, console: Console) -> int:
    """Show one network."""
    facts = model_facts(request.arguments["name"])
    given = facts.input
    rows: list[tuple[str, Any]] = [
        ("network", f"{facts.name} ({facts.source})"),
        ("parameters", f"{facts.parameters:,}"),
        ("multiply-adds", f"{facts.gmacs:.3f} G per image"),
        ("features", facts.features),
        ("input", f"{given.channels} x {given.height} x {given.width}, {given.interpolation}"),
        ("mean, std", _normalization(facts)),
        ("classes", facts.classes),
        ("weights", f"{facts.weights}{'' if facts.hub_id is None else f' ({facts.hub_id})'}"),
        ("license", facts.license or ("-" if facts.weights == "none" else "unknown")),
        ("published", _published(facts.top1, facts.top5, facts.published_at)),
        ("also called", ", ".join(facts.aliases) or "-"),
    ]
    for name, value in rows:
        console.say(f"{name:<14} {value}")
    console.emit(facts.record())
    return 0


def _normalization(facts: ModelFacts) -> str:
    if facts.source == "discern":
        return "measured on the training images"
    given = facts.input
    return ", ".join(" ".join(f"{v:.3f}" for v in values) for values in (given.mean, given.std))


def _published(top1: float | None, top5: float | None, source: str | None) -> str:
    if top1 is None:
        return "no score known"
    return f"top-1 {top1:.4f}, top-5 {top5 or 0:.4f} ({source})"
