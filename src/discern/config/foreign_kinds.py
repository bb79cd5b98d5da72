"""Which older suite a config file belongs to, told by the keys on its top level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

Kind = Literal["Catalyst", "MLSteam", "the Lambda tuner"]

_STAGE_PARTS: Final = (
    "state_params",
    "data_params",
    "transform_params",
    "criterion_params",
    "optimizer_params",
    "scheduler_params",
    "callbacks_params",
)
_MARKS: Final[tuple[tuple[Kind, frozenset[str]], ...]] = (
    ("Catalyst", frozenset(("model_params", "runner_params", "args", "distributed_params"))),
    ("MLSteam", frozenset(("command", "params", "params_definition", "param_definition"))),
    ("the Lambda tuner", frozenset(("num_trials", "fixedparams", "hyperparams"))),
)


def foreign_kind(value: Mapping[str, Any]) -> Kind | None:
    """The suite whose config `value` is, None for one of Discern's or of nobody's."""
    stages = value.get("stages")
    if isinstance(stages, Mapping):
        parts = [stages, *(stage for stage in stages.values() if isinstance(stage, Mapping))]
        if any(part in one for one in parts for part in _STAGE_PARTS):
            return "Catalyst"
    for kind, marks in _MARKS:
        if marks & set(value):
            return kind
    return None
