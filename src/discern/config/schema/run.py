"""The whole config of a run."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field, field_validator

from discern.config.schema.compute import ComputeConfig
from discern.config.schema.data import DataConfig
from discern.config.schema.model import ModelConfig
from discern.config.schema.section import Section
from discern.config.schema.stage import StageConfig
from discern.config.schema.tracking import TrackingConfig

# Names stand in dotted keys and in files' names.
_STAGE_NAME = re.compile(r"[^\s./\\\x00-\x1f*]([^./\\\x00-\x1f*]{0,62}[^\s./\\\x00-\x1f*])?")


class RunConfig(Section):
    """Frozen, resolved before use, printable back to the file that makes it."""

    seed: int = Field(0, ge=0, description="master seed of weights, order and augmentation")
    data: DataConfig
    model: ModelConfig = Field(default_factory=lambda: ModelConfig())
    stages: dict[str, StageConfig] = Field(
        default_factory=lambda: {"train": StageConfig()}, description="stages in order"
    )
    compute: ComputeConfig = Field(default_factory=lambda: ComputeConfig())
    tracking: TrackingConfig = Field(default_factory=lambda: TrackingConfig())

    @field_validator("stages")
    @classmethod
    def _need_a_stage(cls, value: dict[str, StageConfig]) -> dict[str, StageConfig]:
        if all(stage.kind == "predict" for stage in value.values()):
            msg = "a training needs at least one stage that trains and is not null"
            raise ValueError(msg)
        for name in value:
            if not _STAGE_NAME.fullmatch(name):
                msg = f"a stage's name has no dot, slash or control character: {name!r}"
                raise ValueError(msg)
        return value

    @property
    def training_stages(self) -> dict[str, StageConfig]:
        """The stages that train, in order; the others only predict."""
        return {name: stage for name, stage in self.stages.items() if stage.kind == "train"}

    def record(self) -> dict[str, Any]:
        """The config as plain JSON values, in schema order."""
        return self.model_dump(mode="json")

    def identity(self) -> dict[str, Any]:
        """What two runs must share to be the same request: all but names and tracking."""
        record = self.record()
        del record["tracking"]
        return record
