"""Catalyst's criterion_params and the callbacks that add criteria up, as objectives here."""

from __future__ import annotations

from typing import Any

from discern.config.foreign.catalyst_names import (
    CRITERIA,
    CRITERIA_REFUSED,
    CRITERION_DEFAULTS,
    SIDE_HEADS,
    Facts,
)
from discern.config.foreign.reading import Part

# (side head or "", label, weight, {name, args}) of one loss.
_Term = tuple[str, str, float, dict[str, Any]]
_PLAIN: dict[str, Any] = {"name": "cross_entropy", "args": {}}
_MAIN = ("logits", "class_logits", "embeddings", "features")


def read_losses(
    criteria: Part, losses: list[Part], joined: Part | None, stage: str, facts: Facts
) -> None:
    """What a stage minimizes: one criterion, or several by their callbacks and their aggregator."""
    several = bool(criteria.take("_key_value"))
    specs: dict[str, dict[str, Any]] = {}
    for name in list(criteria.names) if several else [""]:
        part = criteria.part(name, "of a criterion") if several else criteria
        spec = _read_criterion(part, several=several)
        if spec is not None:
            specs[name] = spec
    if not several and "" not in specs:
        specs[""] = _PLAIN
        if "criterion" not in criteria:
            source = criteria.source("criterion")
            key = f"stages.{stage}.objective"
            criteria.reading.put(key, "cross_entropy", source, None, "none is given")
            _tell_plain(losses, joined, stage)
            return
    weights = _aggregate(joined, stage)
    main: list[_Term] = []
    side: list[_Term] = []
    for loss in losses:
        term = _read_loss(loss, specs, weights, facts, stage)
        if term is not None:
            (main if term[0] == "" else side).append(term)
    if not losses:
        main = [("", name, 1.0, spec) for name, spec in specs.items()]
    _write(criteria, main, side, stage)


def _read_criterion(part: Part, *, several: bool) -> dict[str, Any] | None:
    name = str(part.value.get("criterion"))
    known = CRITERIA.get(name)
    if known is None:
        if "criterion" in part:
            why = CRITERIA_REFUSED.get(name, f"one of {', '.join(CRITERIA)} is known")
            part.refuse("criterion", why)
        part.close()
        return None
    ours, arguments = known
    given = dict(CRITERION_DEFAULTS.get(name, {}))
    for theirs, mine in arguments.items():
        value = part.value.get(theirs)
        if theirs == "reduction" and value not in (None, "mean"):
            continue
        if mine is not None and theirs in part:
            given[mine] = value
        part.leave(theirs, "in the objective" if mine is not None else "means over images")
    del several
    part.take("criterion")
    part.close()
    return {"name": ours, "args": given}


def _tell_plain(losses: list[Part], joined: Part | None, stage: str) -> None:
    for one in [*losses, *([] if joined is None else [joined])]:
        for name in one.names:
            one.join(name, f"stages.{stage}.objective")


def _aggregate(joined: Part | None, stage: str) -> dict[str, float] | None:
    """Weights by the losses' prefixes; None without an aggregator."""
    if joined is None:
        return None
    metrics = joined.value.get("metrics", joined.value.get("loss_keys"))
    mode = joined.value.get(
        "mode", "mean" if joined.value.get("callback", "").startswith("Metric") else "sum"
    )
    if isinstance(metrics, str):
        metrics = [metrics]
    if not isinstance(metrics, dict | list) or mode not in (
        "sum",
        "mean",
        "weighted_sum",
        "weighted_mean",
    ):
        joined.refuse(
            "callback", "a list of losses or their weights, and mode sum, mean or weighted"
        )
        metrics = []
    weights = (
        {str(name): float(weight) for name, weight in metrics.items()}
        if isinstance(metrics, dict)
        else {str(name): 1.0 for name in metrics}
    )
    if mode.endswith("mean") and weights:
        total = sum(weights.values()) if mode == "weighted_mean" else float(len(weights))
        weights = {name: weight / total for name, weight in weights.items()}
    for name in ("callback", "metrics", "loss_keys", "mode", "prefix", "loss_aggregate_fn"):
        joined.join(name, f"stages.{stage}.objective")
    if joined.value.get("multiplier", 1.0) == 1.0:
        joined.leave("multiplier", "1")
    joined.close()
    return weights


def _read_loss(
    loss: Part,
    specs: dict[str, dict[str, Any]],
    weights: dict[str, float] | None,
    facts: Facts,
    stage: str,
) -> _Term | None:
    """One CriterionCallback: a term of the main head's loss, or the loss of a side head."""
    prefix = str(loss.value.get("prefix", "loss"))
    spec = specs.get(str(loss.value.get("criterion_key", "")), specs.get(""))
    weight = loss.number("multiplier", 1.0)
    if weights is not None and prefix not in weights:
        weight = 0.0
        loss.leave("prefix", "the aggregator leaves it out: not trained")
    elif weights is not None:
        weight *= weights[prefix]
    output = str(loss.value.get("output_key", "logits"))
    head = SIDE_HEADS.get(output, "")
    if spec is None:
        loss.refuse("criterion_key", "there is no criterion of that name that can be honored")
    elif output not in _MAIN and head not in facts.side_heads:
        loss.refuse("output_key", "no such head is read from this config")
        spec = None
    key = f"stages.{stage}.{f'heads.{head}' if head else 'objective'}"
    for name in ("callback", "criterion_key", "input_key", "output_key", "prefix", "multiplier"):
        loss.join(name, key)
    loss.close()
    return None if spec is None else (head, prefix, weight, spec)


def _write(criteria: Part, main: list[_Term], side: list[_Term], stage: str) -> None:
    key, source = f"stages.{stage}.objective", criteria.source("criterion")
    live = [(label, weight, spec) for _, label, weight, spec in main if weight]
    value = criteria.value.get("criterion")
    if len(live) == 1 and live[0][1] == 1.0:
        criteria.reading.put(key, _short(live[0][2]), source, value)
    elif live:
        terms = [_short_term(*term) for term in live]
        spec = {"name": "weighted_sum", "args": {"terms": terms}}
        criteria.reading.put(key, spec, source, value)
    for head, _, weight, spec in side:
        written: dict[str, Any] = {} if spec == _PLAIN else {"objective": _short(spec)}
        written |= {} if weight == 1.0 else {"weight": weight}
        if written:
            criteria.reading.put(f"stages.{stage}.heads.{head}", written, source, value)


def _short(spec: dict[str, Any]) -> Any:
    return spec if spec["args"] else spec["name"]


def _short_term(label: str, weight: float, spec: dict[str, Any]) -> dict[str, Any]:
    term = {"name": spec["name"], "label": label}
    term |= {} if weight == 1.0 else {"weight": weight}
    return term | ({"args": spec["args"]} if spec["args"] else {})
