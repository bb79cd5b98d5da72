"""Every config key with its type, default and meaning, read off the schema."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from discern.config.schema import RunConfig, Section, Spec


@dataclass(frozen=True, slots=True)
class KeyReference:
    """One key; `*` in it stands for a stage's name."""

    key: str
    type: str
    default: str
    default_value: Any
    help: str


def reference_rows() -> list[KeyReference]:
    """All keys, in schema order."""
    return _rows(RunConfig, "")


def _rows(section: type[BaseModel], prefix: str) -> list[KeyReference]:
    rows: list[KeyReference] = []
    for name, info in section.model_fields.items():
        annotation = info.annotation
        if (
            isinstance(annotation, type)
            and issubclass(annotation, Section)
            and annotation is not Spec
        ):
            rows += _rows(annotation, f"{prefix}{name}.")
        elif typing.get_origin(annotation) is dict and prefix == "" and name == "stages":
            rows += _rows(typing.get_args(annotation)[1], "stages.*.")
        else:
            default = _default(info)
            rows.append(
                KeyReference(
                    f"{prefix}{name}",
                    _type_text(annotation),
                    "required" if default is PydanticUndefined else _plain(default),
                    default,
                    info.description or "",
                )
            )
    return rows


def _default(info: FieldInfo) -> Any:
    if info.default_factory is not None:
        value = info.get_default(call_default_factory=True, validated_data={})
        return value.model_dump() if isinstance(value, BaseModel) else value
    return info.default


def _plain(value: Any) -> str:
    if isinstance(value, dict) and set(value) == {"name", "args"} and not value["args"]:
        return str(value["name"])
    return (
        "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    )


def _type_text(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type_text(arguments[0])
    if origin is typing.Literal:
        return " or ".join(str(value) for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_text(part) for part in arguments if part is not type(None))
    if origin is list:
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return "mapping"
    names = {
        str: "text",
        int: "whole number",
        float: "number",
        bool: "true or false",
        Spec: "name and args",
    }
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
