"""The ground of every config section: frozen, strict, no unknown keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Section(BaseModel):
    """A part of the config. Values are checked, never converted in silence."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Spec(Section):
    """Something open, by name: a short name, `package.module:name` or `./my_file.py:name`."""

    name: str = Field(description="short name or import path")
    args: dict[str, Any] = Field(
        default_factory=dict, description="arguments, checked against the signature"
    )

    @model_validator(mode="before")
    @classmethod
    def _accept_bare_name(cls, value: Any) -> Any:
        """`optimizer: adamw` says the same as `optimizer: {name: adamw}`."""
        return {"name": value} if isinstance(value, str) else value
