"""Nested values with tensors in them, split into named tensors and plain JSON, and joined again.

Optimizer states are such trees. No pickle: tensors go to safetensors, the rest to JSON.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from discern.base.errors import RunError

_TENSOR = "__tensor__"
_PAIRS = "__pairs__"
_TUPLE = "__tuple__"


def split_tree(value: Any, prefix: str = "t") -> tuple[dict[str, Tensor], Any]:
    """(tensors by name, JSON value) of a tree of dicts, lists, tuples, numbers, text, tensors."""
    tensors: dict[str, Tensor] = {}
    return tensors, _split(value, prefix, tensors)


def _split(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, dict):
        # Optimizer states have integer keys, which JSON objects cannot hold.
        return {
            _PAIRS: [[key, _split(item, f"{path}.{key}", tensors)] for key, item in value.items()]
        }
    if isinstance(value, tuple):
        return {_TUPLE: [_split(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]}
    if isinstance(value, list):
        return [_split(item, f"{path}.{i}", tensors) for i, item in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise RunError(
        "a part of the training state cannot be saved", where=path, got=type(value).__name__
    )


def join_tree(value: Any, tensors: dict[str, Tensor]) -> Any:
    """The tree that `split_tree` took apart. Raises KeyError if a tensor is missing."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        if _TUPLE in value:
            return tuple(join_tree(item, tensors) for item in value[_TUPLE])
        return {key: join_tree(item, tensors) for key, item in value[_PAIRS]}
    if isinstance(value, list):
        return [join_tree(item, tensors) for item in value]
    return value


def on_host(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors detached, on the CPU and contiguous, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def all_finite(tensors: dict[str, Tensor]) -> bool:
    """True if no floating-point tensor holds an infinity or a not-a-number."""
    return all(
        bool(torch.isfinite(tensor).all())
        for tensor in tensors.values()
        if tensor.is_floating_point()
    )
