"""Whether the images of a batch count alike in its loss: what ranks must know of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from discern.base.plugins import is_import_path
from discern.training.head_objectives import HeadWish, TrainingHead
from discern.training.objective_parts import takes_whole
from discern.training.objectives import Objective


def counts_unevenly(
    heads: Sequence[TrainingHead], objective: Objective, wishes: Sequence[HeadWish]
) -> bool:
    """Whether a batch's loss is no plain mean over its images, see `SharedGradients`.

    So it is where labels are missing, where `wishes` ask for class weights, and of an objective of
    one's own that takes the whole batch's targets.
    """
    settings: list[tuple[str, Any]] = [("name", wish.objective) for wish in wishes]
    settings += [pair for wish in wishes for pair in _settings(wish.args)]
    own = any(name == "name" and is_import_path(str(value)) for name, value in settings)
    weighted = any(name == "class_weights" and value is not None for name, value in settings)
    unlabeled = any(head.missing or head.partial for head in heads)
    return unlabeled or weighted or (own and takes_whole(objective))


def _settings(arguments: Any) -> list[tuple[str, Any]]:
    """The arguments of an objective, and those of the terms inside it."""
    if isinstance(arguments, Mapping):
        inside = [pair for value in arguments.values() for pair in _settings(value)]
        return [*arguments.items(), *inside]
    if isinstance(arguments, list | tuple):
        return [pair for value in arguments for pair in _settings(value)]
    return []
