"""What a program of `discern.lab` that another one started was given: settings and a comment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

from discern.base.errors import ConfigError

VARIABLE: Final = "DISCERN_LAB_RUN"


def environment_for(configs: Mapping[str, Any], comment: str) -> dict[str, str]:
    """The variable that hands them to a child. Raises ConfigError for what JSON cannot hold."""
    try:
        return {VARIABLE: json.dumps({"configs": dict(configs), "comment": comment})}
    except (TypeError, ValueError) as error:
        raise ConfigError(
            "these settings cannot be handed to another program",
            where="manage.new_run",
            got=str(error),
            expected="numbers, texts, truth values, lists and mappings of these",
        ) from error


def given_configs() -> dict[str, Any]:
    """The settings that win over the program's own; empty for one that people started."""
    return dict(_given().get("configs") or {})


def given_comment() -> str:
    """What the run is about."""
    return str(_given().get("comment") or "")


def _given() -> dict[str, Any]:
    text = os.environ.get(VARIABLE)
    if not text:
        return {}
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ConfigError("this is no JSON", where=f"${VARIABLE}", got=text) from error
    if not isinstance(given, dict):
        raise ConfigError("this is no JSON object", where=f"${VARIABLE}", got=text)
    return given
