"""A request to review labels: its arguments, checked before anything is read."""

from __future__ import annotations

from typing import Any

from discern.base.errors import ConfigError

SUSPECTS = ("own", "cleanlab")


def review_arguments(**given: Any) -> dict[str, Any]:
    """The arguments of the request, checked. Raises ConfigError."""
    if not 0 <= given["threshold"] <= 1:
        raise ConfigError(
            "the threshold is out of range", where="--threshold", got=given["threshold"],
            expected="0 to 1",
        )  # fmt: skip
    if given["suspects"] not in SUSPECTS:
        raise ConfigError(
            "no such rule",
            where="--suspects",
            got=given["suspects"],
            expected=" or ".join(SUSPECTS),
        )
    if given["folds"] < 2:
        raise ConfigError(
            "the number is too small", where="--folds", got=given["folds"], expected="2 or more"
        )
    if given["model"] is not None and given["features"] is not None:
        raise ConfigError("--model and --features exclude each other", where="discern review")
    return given
