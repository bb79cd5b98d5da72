"""The lines that tell what an evaluation found beyond its scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

_WORST_SLICES: Final = 3


def part_lines(parts: Mapping[str, Any]) -> list[str]:
    """A line or more for each part that is there (see `evaluation_parts`)."""
    lines = []
    for name, words in _WORDS.items():
        if parts.get(name):
            lines += words(parts[name])
    for head, own in (parts.get("head_parts") or {}).items():
        lines += [f"{head}: {line}" for line in part_lines(own)]
    return lines


def _interval(record: Mapping[str, Any]) -> str:
    if record["accuracy"] is None:
        return "no image is left"
    return (
        f"{record['accuracy']:.4f} (95 %: {record['accuracy_low']:.4f} to "
        f"{record['accuracy_high']:.4f})"
    )


def _leak_free(part: Mapping[str, Any]) -> list[str]:
    removed = f"{part['removed']} like a training image"
    if part["removed"]:
        removed += f" ({part['exact']} equal, {part['near']} nearly), left out"
        line = f"leak-free: accuracy {_interval(part)} on {part['count']} images; {removed}"
    else:
        line = f"leak-free: no image is like a training image, by {part['compared']}"
    return [line + (f"; {part['note']}" if part["note"] else "")]


def _answers(part: Mapping[str, Any]) -> list[str]:
    if part["thresholds"]:
        rule = f"answers at the bundle's thresholds: macro F1 {part['macro_f1']:.4f}"
    else:
        rule = "answers"
    asked = f"{part['answered']} known, {part['unknown']} unknown"
    return [f"{rule}: {asked}; of the known {_interval(part)} are right"]


def _calibration(part: Mapping[str, Any]) -> list[str]:
    line = f"calibration: ECE {part['ece']:.4f}, Brier {part['brier']:.4f}"
    if part["temperature"] is not None:
        line += (
            f"; at temperature {part['temperature']:.2f} ECE {part['at_temperature']['ece']:.4f} "
            "(cross-validated; `discern calibrate` stores one)"
        )
    return [line]


def _coverage(part: list[Mapping[str, Any]]) -> list[str]:
    told = [f"{row['accuracy']:.4f} of the surest {row['coverage']:.0%}" for row in part[2:5]]
    return ["coverage: " + ", ".join(told)]


def _slices(part: list[Mapping[str, Any]]) -> list[str]:
    """The weakest slices of those that are below all images; in words where none is."""
    weak = [row for row in part if row["gap"] < 0]
    if not weak:
        return ["weak slices: none is below all images"]
    return [
        f"weak slice: {row['fact']} {row['value']}: {row['accuracy']:.4f} on {row['count']} "
        f"(95 %: {row['low']:.4f} to {row['high']:.4f})"
        for row in weak[:_WORST_SLICES]
    ]


def _groups(part: Mapping[str, Any]) -> list[str]:
    lines = [f"groups: accuracy {_interval(part)} over {len(part['classes'])} groups"]
    pairs = part["most_confused"][:_WORST_SLICES]
    return lines + [f"  {p['true']} taken for {p['predicted']}: {p['count']}" for p in pairs]


def _stress(part: Mapping[str, Any]) -> list[str]:
    lines = [f"stress: {part['accuracy']:.4f} untouched, on {part['count']} images"]
    for kind, rows in part["kinds"].items():
        told = ", ".join(f"{row['accuracy']:.4f}" for row in rows)
        lines.append(f"  {kind:10s} {told}")
    return lines


def _views(part: Mapping[str, Any]) -> list[str]:
    changed = f"{part['mended']} mended, {part['spoiled']} spoiled"
    return [f"views: accuracy {_interval(part)} over {part['views']} views each; {changed}"]


_WORDS: Final[dict[str, Callable[[Any], list[str]]]] = {
    "leak_free": _leak_free,
    "answers": _answers,
    "calibration": _calibration,
    "coverage": _coverage,
    "slices": _slices,
    "groups": _groups,
    "stress": _stress,
    "tta": _views,
}
