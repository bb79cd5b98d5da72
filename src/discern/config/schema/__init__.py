"""The config's fixed skeleton: strict, frozen records, one file a section.

Open parts (network, optimizer, schedule, augmentation) are a `Spec`: a name and its arguments.
"""

from discern.config.schema.compute import ComputeConfig
from discern.config.schema.data import DataConfig
from discern.config.schema.model import ModelConfig
from discern.config.schema.run import RunConfig
from discern.config.schema.section import Section, Spec
from discern.config.schema.stage import HeadConfig, ParameterGroup, StageConfig
from discern.config.schema.tracking import TrackingConfig

__all__ = [
    "ComputeConfig",
    "DataConfig",
    "HeadConfig",
    "ModelConfig",
    "ParameterGroup",
    "RunConfig",
    "Section",
    "Spec",
    "StageConfig",
    "TrackingConfig",
]
