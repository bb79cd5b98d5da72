"""Classes joined into groups: which groups are taken for each other, whatever the classes inside.

NumPy only. A table of groups is an `EvalTable`, so every score and picture of one serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.training.scores import UNLABELED, EvalTable


def group_table(table: EvalTable, groups: Mapping[str, str]) -> EvalTable:
    """The table with the group of each class in its place, that of the best class kept.

    `groups`: class name to group name, of every class. Raises ConfigError for a class without a
    group.
    """
    names = group_names(table.classes, groups)
    number = np.array([names.index(groups[name]) for name in table.classes], dtype=np.int64)
    known = table.targets != UNLABELED
    targets = np.where(known, number[np.maximum(table.targets, 0)], UNLABELED)
    return EvalTable(
        positions=table.positions,
        targets=targets,
        top_classes=number[table.top_classes[:, :1]],
        top_probabilities=table.top_probabilities[:, :1],
        losses=table.losses,
        logits=None,
        classes=names,
    )


def group_names(classes: Sequence[str], groups: Mapping[str, str]) -> tuple[str, ...]:
    """The groups of all classes, in the order of their first class. Raises ConfigError."""
    lacking = [name for name in classes if name not in groups]
    if lacking:
        raise ConfigError(
            "a class has no group",
            where="--groups",
            got=", ".join(lacking[:10]),
            expected="a line for each class: class,group",
            hint=did_you_mean(lacking[0], list(groups)),
        )
    return tuple(dict.fromkeys(groups[name] for name in classes))
