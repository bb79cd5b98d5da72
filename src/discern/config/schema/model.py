"""The `model` section: which network, with which weights."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from discern.config.schema.section import Section


class ModelConfig(Section):
    """The network by name, its arguments, and where its weights come from."""

    name: str | None = Field(
        None, description="network name or import path; default: by image size"
    )
    args: dict[str, Any] = Field(default_factory=dict, description="the builder's arguments")
    weights: str | None = Field(
        None, description="pretrained, none, or a .safetensors file; default: by network"
    )
