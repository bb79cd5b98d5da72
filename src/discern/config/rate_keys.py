"""The keys that say a stage's rate, and which of them are without effect beside others."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from discern.base.errors import ConfigError
from discern.config.schema.stage import StageConfig


def check_rate_keys(
    stages: Mapping[str, StageConfig],
    origins: Mapping[tuple[str, ...], str],
    typed: Collection[str],
) -> None:
    """Raise ConfigError for a rate key that was typed and that the stage would not use.

    `lr_base` takes the place of `lr`; `lr_base_size` and `lr_scaling` are of `lr_base` alone.
    `typed`: the origins that are flags; what recipes and files leave unused is not a slip.
    """
    for name, stage in stages.items():
        scaled = stage.lr_base is not None
        for key in ("lr",) if scaled else ("lr_base_size", "lr_scaling"):
            origin = origins.get(("stages", name, key))
            if origin not in typed:
                continue
            where = f"{origin}: stages.{name}.{key}"
            if scaled:
                raise ConfigError(
                    "lr is not used where lr_base is given", where=where,
                    got=f"lr_base {stage.lr_base} by {origins['stages', name, 'lr_base']}",
                    hint=f"leave one out; --set stages.{name}.lr_base=null leaves out lr_base",
                )  # fmt: skip
            raise ConfigError(
                f"{key} is not used without lr_base", where=where, expected="--lr-base as well"
            )
