"""Making configs of the older suites into Discern's: which suite, one file or several, the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.config.foreign.catalyst import read_catalyst
from discern.config.foreign.lambda_tuner import draw_trials, read_fields
from discern.config.foreign.mlsteam import combinations, read_mlsteam
from discern.config.foreign.overrides import apply_overrides
from discern.config.foreign.reading import ImportRow, Reading, merge_deep
from discern.config.foreign_kinds import Kind, foreign_kind
from discern.config.layers import Layer, resolve
from discern.config.yaml_comments import commented_text
from discern.config.yaml_text import KeyPath, read_document


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedConfig:
    """One config made of a foreign one. `label`: what tells it from its siblings."""

    kind: Kind
    sources: tuple[str, ...]
    label: str
    config: dict[str, Any]
    comments: dict[KeyPath, str]
    rows: tuple[ImportRow, ...]

    @property
    def refused(self) -> list[ImportRow]:
        """What cannot be honored; with any, the config must not be used."""
        return [row for row in self.rows if row.fate == "refused"]

    @property
    def text(self) -> str:
        """The config as YAML, each value with the key that it comes from."""
        head = [f"Made of {', '.join(self.sources)} ({self.kind}) by `discern config import`."]
        head += [f"This one of several: {self.label}"] if self.label else []
        data = "" if "source" in self.config.get("data", {}) else " DATA"
        head.append(f"Train with it: discern train{data} --config THIS_FILE")
        left = [row for row in self.rows if row.fate == "left out"]
        head += ["Left out:"] if left else []
        head += [f"  {row.source}: {row.why}" for row in left]
        return commented_text(self.config, self.comments, head)


def import_configs(
    paths: Sequence[Path],
    overrides: Sequence[str] = (),
    *,
    skip: Sequence[str] = (),
    seed: int = 0,
) -> list[ImportedConfig]:
    """The configs that the foreign files make, merged in order, `overrides` on top.

    `skip`: source keys to leave out although they cannot be honored. `seed`: of a tuner's draws.
    Raises ConfigError for files of nobody's suite, and for a result that is no config of ours.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        merged = merge_deep(merged, read_document(path).value)
    kind = foreign_kind(merged)
    if kind is None:
        raise ConfigError(
            "not a config of Catalyst, MLSteam or the Lambda tuner",
            where=", ".join(map(str, paths)),
            got=", ".join(list(merged)[:10]) or "nothing",
        )
    variants: list[tuple[str, dict[str, Any]]]
    if kind == "the Lambda tuner":
        variants = [
            (label, apply_overrides(fields, overrides))
            for label, fields in draw_trials(merged, seed)
        ]
    else:
        merged = apply_overrides(merged, overrides)
        variants = combinations(merged) if kind == "MLSteam" else [("", merged)]
    read = {
        "Catalyst": read_catalyst,
        "MLSteam": read_mlsteam,
        "the Lambda tuner": read_fields,
    }[kind]
    found = []
    for label, config in variants:
        reading = Reading(skip=tuple(skip))
        read(config, reading)
        reading.finish()
        found.append(
            ImportedConfig(
                kind=kind,
                sources=tuple(path.name for path in paths),
                label=label,
                config={key: reading.config[key] for key in _ORDER if key in reading.config},
                comments=reading.comments,
                rows=tuple(reading.rows),
            )
        )
        if not reading.refused:
            _check(reading.config)
    return found


# As people read a config: what on, what with, how; the schema's order but for the seed.
_ORDER: Final = ("seed", "data", "model", "stages", "compute", "tracking")


def _check(config: dict[str, Any]) -> None:
    """Raise ConfigError unless `config` can be trained with, given DATA."""
    data = Layer("recipe", "DATA", {"data": {"source": "DATA"}})
    resolve([data, Layer("file", "the imported config", config)])
