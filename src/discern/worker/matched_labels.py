"""The labels of some data under a model's class numbers: matched by name, never by number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from discern.base.console import Console
from discern.base.errors import DataError
from discern.base.names import did_you_mean
from discern.data.head_spec import HeadSpec
from discern.data.label_columns import missing_rows
from discern.data.manifest import MISSING, Head
from discern.worker.open_model import OpenedModel


def matched_head(
    spec: HeadSpec, head: Head, opened: OpenedModel, where: str, console: Console
) -> Head:
    """The labels of `head` as the model's `spec` numbers its classes.

    Labels may be class names, other spellings the model knows (ImageNet's ids), or bare numbers.
    Raises DataError naming a class that the model does not know, or that stands for several, and
    for a label column of another kind.
    """
    if head.kind != spec.kind:
        raise DataError(
            f"the label column '{head.name}' is of another kind than the model's head",
            where=where,
            got=head.kind,
            expected=spec.kind,
            hint="--label '{NAME: {kind: multi, delimiter: ;}}' for several labels a cell",
        )
    known = opened.aliases | {name: number for number, name in enumerate(spec.classes)}
    numeric = all(name.isascii() and name.isdigit() for name in head.classes)
    if numeric and not any(name in known for name in head.classes):
        known = {str(number): number for number in range(spec.width)}
        console.say("note: the labels are numbers and are taken as the model's class numbers")
    shared = [name for name in head.classes if name in opened.ambiguous]
    if shared:
        raise DataError(
            "a label is the name of several classes",
            where=where,
            got=", ".join(shared),
            hint="label these images by number or by wnid",
        )
    unknown = [name for name in head.classes if name not in known]
    if unknown:
        raise DataError(
            "the data has a class that the model does not know",
            where=where,
            got=", ".join(unknown[:10]),
            expected=f"{spec.width} classes: {', '.join(spec.classes[:20])}",
            hint=did_you_mean(unknown[0], known),
        )
    if len(head.classes) == 1 and spec.width > 1:
        console.warn(f"all images are of one class, {head.classes[0]}")
    numbers = np.array([known[name] for name in head.classes], dtype=np.int64)
    if spec.kind == "multi":
        return Head(spec.name, spec.kind, spec.classes, _tags(head, numbers, spec.width))
    old = head.targets
    targets = np.where(old >= 0, numbers[np.maximum(old, 0)], MISSING) if len(numbers) else old
    return Head(spec.name, spec.kind, spec.classes, targets)


def _tags(head: Head, numbers: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """Labels float32 [N, width]; one that no image of the data has is a no where any is known."""
    targets = np.zeros((len(head.targets), width), dtype=np.float32)
    targets[missing_rows(head.kind, head.targets)] = np.nan
    targets[:, numbers] = head.targets
    return targets
