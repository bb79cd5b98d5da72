"""The one door to timm: its architectures, what it knows of them, and building one.

timm is imported only when one of its networks, or the list of them, is wanted: its import costs
more than the start of a command with our own networks.
"""

from __future__ import annotations

import importlib
import inspect
import re
from functools import cache
from typing import Any

from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments

SET_BY_DISCERN = ("num_classes", "in_chans", "pretrained", "pretrained_cfg", "checkpoint_path")
_CONSTRUCTOR = re.compile(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'")


def _timm() -> Any:
    """timm, imported when the first of its networks is wanted: that takes seconds."""
    import timm
    import timm.models

    return timm


@cache
def timm_names() -> tuple[str, ...]:
    """Every architecture of the installed timm, sorted."""
    return tuple(_timm().list_models())


def is_timm_name(name: str) -> bool:
    """True for `resnet18` and, with the tag of its weights, `resnet18.a1_in1k`."""
    architecture, _, tag = name.partition(".")
    if architecture not in timm_names():
        return False
    return not tag or tag in timm_tags(architecture)


def timm_tags(architecture: str) -> tuple[str, ...]:
    """The tags of the weights published for `architecture`, timm's choice first."""
    registry = _timm().models
    return tuple(
        full.partition(".")[2]
        for full in registry.get_arch_pretrained_cfgs(architecture)
        if "." in full
    )


def timm_record(name: str) -> dict[str, Any]:
    """timm's own record of `name` (input_size, mean, std, interpolation, license, ...).

    Empty if timm keeps none.
    """
    record = _timm().models.get_pretrained_cfg(name)
    return {} if record is None else dict(record.to_dict())


def has_weights(name: str) -> bool:
    """True if timm knows where weights for `name` are published."""
    record = _timm().models.get_pretrained_cfg(name)
    return bool(record is not None and record.has_weights)


def cached_weights(hub_id: str | None) -> str | None:
    """The file of `hub_id`'s weights in the local Hugging Face cache, or None."""
    if not hub_id:
        return None
    from huggingface_hub import try_to_load_from_cache

    for filename in ("model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(hub_id, filename)
        if isinstance(found, str):
            return found
    return None


def build_timm(
    name: str,
    *,
    num_classes: int,
    channels: int,
    image_size: tuple[int, int] | None,
    arguments: dict[str, Any],
    pretrained: bool,
) -> nn.Module:
    """The timm network `name`; networks bound to one image size are told `image_size`.

    Raises ConfigError for an argument that its builder does not know.
    """
    architecture = name.partition(".")[0]
    entry = _timm().models.model_entrypoint(architecture)
    check_arguments(entry, arguments, where=f"model '{name}'", given=SET_BY_DISCERN)
    given = dict(arguments)
    bound = bool(timm_record(name).get("fixed_input_size"))
    if bound and image_size is not None:
        given.setdefault("img_size", image_size)
    try:
        network = _timm().create_model(
            name, pretrained=pretrained, num_classes=num_classes, in_chans=channels, **given
        )
    except (TypeError, AssertionError, KeyError) as error:
        raise _refused(name, entry, given, error) from error
    if not isinstance(network, nn.Module):
        raise ModelError("timm did not build a network", where=name, got=type(network).__name__)
    return network


def _refused(name: str, entry: Any, given: dict[str, Any], error: Exception) -> ConfigError:
    """The ConfigError for settings that timm's builder refused, with the nearest known name."""
    match = _CONSTRUCTOR.search(str(error))
    where = f"model '{name}'"
    if match is None:
        return ConfigError(
            f"the network cannot be built with these arguments: {error}", where=where, got=given
        )
    class_name, argument = match.groups()
    module = importlib.import_module(entry.__module__)
    constructor = getattr(module, class_name, None)
    allowed = [] if constructor is None else list(inspect.signature(constructor).parameters)
    allowed = [a for a in allowed if a not in SET_BY_DISCERN]
    return ConfigError(
        f"unknown argument '{argument}'",
        where=where,
        got=argument,
        expected=", ".join(allowed) or f"the arguments of {class_name}",
        hint=did_you_mean(argument, allowed),
    )
