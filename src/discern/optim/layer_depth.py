"""How deep in a network each parameter lies, read from the parameters' names.

Owns the grouping that layer-wise decay needs. Names are enough for the networks of timm and for our
own: their repeated blocks are numbered (`layer1.0`, `blocks.3`, `stages.2.blocks.5`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from torch import nn

# The wrapper `Classifier` holds its network under this name; people write names inside it.
WRAPPER_PREFIX = "network."
# `stages.2.blocks.5` is one block, while `blocks.3.mlp.0` is inside one.
_NESTED = frozenset({"blocks", "block", "layers", "layer", "units"})
_NUMBERED_WORD = re.compile(r"[a-z_]+\d+")

Named = tuple[str, nn.Parameter]


def inner_name(name: str) -> str:
    """The parameter's name inside the network, as `trainable` and group rules write it."""
    return name.removeprefix(WRAPPER_PREFIX)


def in_modules(name: str, modules: Iterable[str]) -> bool:
    """True if the parameter `name` is one of `modules` or lies in one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def layer_depths(parameters: Sequence[Named], head_names: tuple[str, ...] = ()) -> dict[str, int]:
    """Depth of each parameter's layer by name: 0 for the stem, the largest for the head.

    `parameters`: all of the network's, in its order, frozen ones too. A layer is a numbered block,
    or without such blocks a module that holds a matrix or kernel; norms belong to the layer before
    them. What stands before the first block is the stem, what stands between the last block and the
    head belongs to that block. `head_names`: prefixes of the classifying layers; without them the
    last layer is the deepest.
    """
    body = [(key, p) for key, p in parameters if not in_modules(key, head_names)]
    keys = _block_keys([key for key, _ in body], _numbered_block)
    if not any(keys):
        keys = _block_keys([key for key, _ in body], _numbered_words)
    if not any(keys):
        keys = [inner_name(key).rpartition(".")[0] for key, _ in body]
    # A layer of vectors only is a norm, a scale or a token: no layer of its own.
    with_matrix = {key for key, (_, p) in zip(keys, body, strict=True) if p.ndim > 1}
    depths: dict[str, int] = {}
    known: dict[str, int] = {}
    deepest = -1
    for key, (name, parameter) in zip(keys, body, strict=True):
        if key and key in with_matrix and key not in known:
            deepest += 1
            known[key] = deepest
        elif not key and parameter.ndim > 1:
            deepest = max(deepest, 0)  # before the first block it makes the stem
        depths[name] = known.get(key, max(deepest, 0))
    last = max(deepest, 0) + 1 if body else 0
    depths.update({key: last for key, _ in parameters if key not in depths})
    return depths


def layer_scales(
    parameters: Sequence[Named], layer_decay: float, head_names: tuple[str, ...] = ()
) -> dict[str, float]:
    """The multiple of the rate by parameter name: `layer_decay` ** (layers between it and the end).

    The head, or the last layer where the head has no name, has 1. Source: Clark et al., ELECTRA
    (2020); for vision, Bao et al., BEiT (2021).
    """
    depths = layer_depths(parameters, head_names)
    deepest = max(depths.values(), default=0)
    return {name: float(layer_decay ** (deepest - depth)) for name, depth in depths.items()}


def _block_keys(names: list[str], rule: Callable[[list[str]], int]) -> list[str]:
    keys = []
    for name in names:
        parts = inner_name(name).split(".")
        keys.append(".".join(parts[: rule(parts)]))
    # `stages.1` (its downsampling) is no block beside `stages.1.blocks.0`, but a part of the next.
    found = list(dict.fromkeys(key for key in keys if key))
    outer = {key: next((k for k in found if k.startswith(f"{key}.")), key) for key in found}
    return [outer.get(key, key) for key in keys]


def _numbered_block(parts: list[str]) -> int:
    """How many leading parts name the block: up to the first number, and the block in the block."""
    end = next((i + 1 for i, part in enumerate(parts[:-1]) if part.isdigit()), 0)
    while end and end < len(parts) - 1:
        if parts[end].isdigit():
            end += 1
        elif parts[end] in _NESTED and end + 1 < len(parts) - 1 and parts[end + 1].isdigit():
            end += 2
        else:
            break
    return end


def _numbered_words(parts: list[str]) -> int:
    """As `_numbered_block`, for networks whose blocks are words with numbers (`denselayer3`)."""
    modules = parts[:-2]  # without the layer itself (`conv1`) and its parameter
    numbered = [i + 1 for i, part in enumerate(modules) if _NUMBERED_WORD.fullmatch(part)]
    return max(numbered, default=0)
