"""How a bundle's logits become answers: temperature, thresholds by class, and when it is unknown.

Owns these rules, their form in `config.json`, and the score by which an image is known. The logits
themselves, and so the golden ones, never change. NumPy only.

Axes: N images, K classes, D features, M references.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ModelError
from discern.data.head_spec import HeadSpec, is_plain, main_heads

UNKNOWN: Final = "unknown"
METHODS: Final = ("confidence", "energy", "distance")
# The features of reference images, for the method `distance`, beside config.json.
REFERENCES: Final = "references.safetensors"
# Rows of images compared with all references at once: 1,024 x 5,000 cosines are 20 MB.
_BLOCK: Final = 1024
_LEAST_THRESHOLD: Final = 1e-6  # a threshold of 0 divides nothing
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class UnknownRule:
    """Images that score below `threshold` are unknown; the higher, the better known.

    method: `confidence`, the probability of the likeliest class; `energy`, log sum exp of the
    logits; `distance`, the largest cosine of the image's features to those of `references`
    [M, D], training images. coverage: the share of the images it was fitted on that are known.
    """

    method: str
    threshold: float
    coverage: float
    references: Floats | None = None


@dataclass(frozen=True, slots=True)
class HeadRules:
    """What is done to one head's logits; each None, or 1, where there is no such rule.

    thresholds: of several labels an image from which probability on each counts as there; of one
    class an image the answer is the class of the largest multiple of its threshold.
    """

    temperature: float | None = None
    thresholds: tuple[float, ...] | None = None
    unknown: UnknownRule | None = None


NO_RULES: Final = HeadRules()


@dataclass(frozen=True, slots=True)
class AnswerRules:
    """The rules of each head by name; `fitted`: what each was fitted on, for people."""

    heads: Mapping[str, HeadRules] = field(default_factory=dict)
    fitted: Mapping[str, Any] = field(default_factory=dict)

    def of(self, head: str) -> HeadRules:
        """The rules of one head."""
        return self.heads.get(head, NO_RULES)

    @property
    def temperatures(self) -> dict[str, float]:
        """The temperature of each head that has one."""
        found = {name: rules.temperature for name, rules in self.heads.items()}
        return {name: value for name, value in found.items() if value is not None}


def known_scores(
    rule: UnknownRule, logits: Floats, probabilities: Floats, features: Floats
) -> NDArray[np.float64]:
    """How well each image is known by `rule`'s method: float64 [N].

    logits: [N, K], undivided; probabilities: [N, K], as stated; features: [N, D].
    """
    if rule.method == "confidence":
        return np.asarray(probabilities.max(axis=1), dtype=np.float64)
    if rule.method == "energy":
        wide = logits.astype(np.float64)
        top = wide.max(axis=1)
        return np.asarray(top + np.log(np.exp(wide - top[:, None]).sum(axis=1)))
    if rule.references is None:
        raise ModelError("the rule of distance has no references", got=rule.method)
    return nearest_cosines(features, rule.references)


def nearest_cosines(features: Floats, references: Floats) -> NDArray[np.float64]:
    """The largest cosine of each row of `features` [N, D] to a row of `references`: [N]."""
    against = unit_rows(references).T
    blocks = [
        (unit_rows(features[start : start + _BLOCK]) @ against).max(axis=1)
        for start in range(0, len(features), _BLOCK)
    ]
    return np.concatenate([*blocks, np.empty(0)]).astype(np.float64)


def unit_rows(values: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values / np.maximum(lengths, 1e-12), dtype=np.float32)


def answered_classes(
    rules: HeadRules, logits: Floats, probabilities: Floats, features: Floats
) -> NDArray[np.int64] | None:
    """The class that each image is given, -1 = unknown: int64 [N]; None where no rule chooses.

    Thresholds choose between the classes; only the rule of the unknown rejects an image.
    """
    if rules.thresholds is None and rules.unknown is None:
        return None
    weighed = probabilities
    if rules.thresholds is not None:
        weighed = probabilities / np.maximum(np.array(rules.thresholds), _LEAST_THRESHOLD)
    answers: NDArray[np.int64] = weighed.argmax(axis=1).astype(np.int64)
    if rules.unknown is not None:
        scores = known_scores(rules.unknown, logits, probabilities, features)
        answers[scores < rules.unknown.threshold] = -1
    return answers


def rules_record(rules: AnswerRules, heads: Sequence[HeadSpec]) -> dict[str, Any]:
    """`temperature`, `thresholds`, `unknown` and `fitted` as config.json has them.

    Of a model with one head of one class an image each stands alone, else by head name.
    """
    found: dict[str, dict[str, Any]] = {"temperature": {}, "thresholds": {}, "unknown": {}}
    for head in main_heads(heads):
        own = rules.of(head.name)
        if own.temperature is not None:
            found["temperature"][head.name] = own.temperature
        if own.thresholds is not None:
            by_class = zip(head.classes, own.thresholds, strict=True)
            found["thresholds"][head.name] = dict(by_class)
        if own.unknown is not None:
            found["unknown"][head.name] = {
                "method": own.unknown.method,
                "threshold": own.unknown.threshold,
                "coverage": own.unknown.coverage,
            }
    record: dict[str, Any] = {
        key: (next(iter(of.values())) if is_plain(main_heads(heads)) else of) if of else None
        for key, of in found.items()
    }
    return record | {"fitted": dict(rules.fitted) or None}


def read_rules(
    own: Mapping[str, Any], heads: Sequence[HeadSpec], references: Mapping[str, Floats], where: Path
) -> AnswerRules:
    """The rules in a bundle's `discern` part. Raises ModelError for what is none."""
    try:
        return _rules(own, main_heads(heads), references)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(
            f"the bundle's rules of answers cannot be read: {error}", where=where
        ) from error


def _rules(
    own: Mapping[str, Any], heads: Sequence[HeadSpec], references: Mapping[str, Floats]
) -> AnswerRules:
    found = {}
    for head in heads:

        def part(key: str, name: str = head.name) -> Any:
            value = own.get(key)
            return value if value is None or is_plain(heads) else value.get(name)

        temperature, by_class, unknown = (
            part(key) for key in ("temperature", "thresholds", "unknown")
        )
        rules = HeadRules(
            temperature=None if temperature is None else _temperature(float(temperature)),
            thresholds=None if by_class is None else _thresholds(by_class, head),
            unknown=None if unknown is None else _unknown(unknown, references.get(head.name)),
        )
        if rules != NO_RULES:
            found[head.name] = rules
    return AnswerRules(found, dict(own.get("fitted") or {}))


def _temperature(value: float) -> float:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"temperature {value}")
    return value


def _thresholds(by_class: Mapping[str, Any], head: HeadSpec) -> tuple[float, ...]:
    values = tuple(float(by_class[name]) for name in head.classes)
    if len(by_class) != len(values) or not all(0.0 <= value <= 1.0 for value in values):
        raise ValueError(f"thresholds of head '{head.name}' outside 0..1 or of other classes")
    return values


def _unknown(record: Mapping[str, Any], references: Floats | None) -> UnknownRule:
    method, threshold = str(record["method"]), float(record["threshold"])
    if method not in METHODS or not math.isfinite(threshold):
        raise ValueError(f"method {method}, threshold {threshold}")
    if method == "distance" and references is None:
        raise ValueError(f"{REFERENCES} lacks the references of the method distance")
    return UnknownRule(method, threshold, float(record["coverage"]), references)
