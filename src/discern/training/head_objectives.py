"""What each head minimizes: one objective for the network, and what is counted beside it.

Owns the default objective of each kind of head, and what a stage may say of one head. Takes plain
values; `stages` reads them off the config.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from discern.base.errors import ConfigError
from discern.data.head_spec import HeadSpec, find_head, is_plain
from discern.data.label_columns import missing_rows
from discern.data.manifest import Head
from discern.training.objective_parts import HeadsObjective, WeightedSum
from discern.training.objective_terms import check_number
from discern.training.objectives import Objective, build_objective
from discern.training.tally import Tally

# What a head minimizes if nothing is said of it, by its kind.
DEFAULTS: Final = {"single": "cross_entropy", "multi": "bce"}
# Objectives that take the stage's label smoothing.
_SMOOTHED: Final = ("cross_entropy", "bce", "logit_adjusted")


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadWish:
    """What a stage says of a head: its objective by name, None for the default, and its weight."""

    objective: str | None = None
    args: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainingHead:
    """A head and its training labels: `counts` [K] images of each class; `missing`: some have none.

    `partial`: of some images' several labels not every one is known. The labels of a side head
    are made as they are needed: every class is as likely.
    """

    spec: HeadSpec
    counts: NDArray[np.int64]
    missing: bool
    partial: bool = False

    @classmethod
    def of(cls, head: Head, rows: NDArray[np.int64]) -> TrainingHead:
        """The head with what its labels at `rows` are. Raises ConfigError if none has a label."""
        missing = missing_rows(head.kind, head.targets[rows])
        if missing.all():
            raise ConfigError(
                "no training image has a label for this head",
                where=f"label column '{head.name}'",
                got=f"{len(rows)} training images",
            )
        counts = np.array(list(head.counts(rows).values()), dtype=np.int64)
        partial = head.kind == "multi" and bool(np.isnan(head.targets[rows][~missing]).any())
        return cls(head.spec, counts, bool(missing.any()), partial)

    @classmethod
    def made(cls, spec: HeadSpec, *, missing: bool) -> TrainingHead:
        """A side head; `missing`: some images lack the label that its own is made from."""
        return cls(spec, np.ones(spec.width, dtype=np.int64), missing)


def head_objectives(
    heads: Sequence[TrainingHead],
    common: HeadWish,
    wishes: Mapping[str, HeadWish],
    *,
    smoothing: float = 0.0,
    feature_width: int | None = None,
) -> tuple[Objective, Tally | None]:
    """What to minimize, and what to count; no tally for one head whose images all have one label.

    `common` is for the main heads that `wishes` (by head name) says nothing of; side heads learn by
    cross entropy. `smoothing` is of heads of one label an image. Raises ConfigError for a head that
    is not there, an objective that does not fit its head, and weights that come to nothing.
    """
    specs = [head.spec for head in heads]
    for name in wishes:
        find_head(specs, name, "stages.*.heads")
    terms = []
    for head in heads:
        wish = wishes.get(head.spec.name, HeadWish())
        check_number("weight", wish.weight, 0.0)
        terms.append(
            (head.spec.name, wish.weight, _objective(head, wish, common, smoothing, feature_width))
        )
    if not any(weight for _, weight, _ in terms):
        raise ConfigError("the heads' weights come to nothing", where="stages.*.heads")
    if len(terms) > 1:
        joint = HeadsObjective(terms=tuple(terms))
        return joint, Tally(heads=tuple(specs), parts=joint.part_names)
    (_, weight, objective) = terms[0]
    if weight != 1.0:
        raise ConfigError(
            "the weight of the only head changes nothing but the rate",
            where="stages.*.heads", got=weight, expected="1", hint="set the learning rate",
        )  # fmt: skip
    parts = objective.part_names if isinstance(objective, WeightedSum) else ()
    if is_plain(specs) and not parts and not heads[0].missing:
        return objective, None
    return objective, Tally(heads=tuple(specs), parts=parts)


def _objective(
    head: TrainingHead,
    wish: HeadWish,
    common: HeadWish,
    smoothing: float,
    feature_width: int | None,
) -> Objective:
    spec = head.spec
    chosen = wish if wish.objective is not None or spec.side else common
    name = chosen.objective or DEFAULTS[spec.kind]
    arguments = dict(chosen.args)
    if smoothing and name in _SMOOTHED and spec.kind == "single" and not spec.side:
        arguments.setdefault("smoothing", smoothing)
    return build_objective(
        name,
        arguments,
        class_counts=head.counts,
        kind="multi" if spec.kind == "multi" else "single",
        num_classes=spec.width,
        feature_dim=feature_width,
        missing=head.missing,
    )
