"""What there is to choose from, and the facts of one network: size, cost, input, license, weights.

Counts are made from the built network (on the meta device, so no memory and no arithmetic), never
from a table of our own; `known_facts` keeps them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from discern.base.errors import ConfigError
from discern.data.images import Preprocess
from discern.models import timm_nets
from discern.models.aliases import ALIASES
from discern.models.arithmetic import count_macs, count_parameters
from discern.models.catalogue import resolve_name
from discern.models.inputs import standard_input, timm_input
from discern.models.known_facts import (
    Counts,
    InferenceSpeed,
    fastest,
    read_counts,
    read_speeds,
    save_counts,
)
from discern.models.nets.builders import BUILDERS, own_names, resolve_own, usual_side
from discern.models.published import PUBLISHED, SOURCE, Published
from discern.models.summary import summarize

# What own networks are counted with: CIFAR's classes, or ImageNet's if made for its images.
_SMALL_SIDE = 32
_SMALL_CLASSES = 10
_LARGE_CLASSES = 1000
OWN_LICENSE = "apache-2.0"


# Networks that a list counts unasked: 0.1 to 0.3 s each the first time, so 10 s at most.
COUNTED_UNASKED = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLine:
    """One row of the list. `weights`: `here`, `to fetch` or `none`; `license` is the weights'.

    `parameters`, `gmacs`: None where not counted yet. `top1`, `top5`: published fractions.
    `speed`: the fastest measurement on this machine.
    """

    name: str
    source: str
    weights: str
    license: str | None
    parameters: int | None = None
    gmacs: float | None = None
    top1: float | None = None
    top5: float | None = None
    speed: InferenceSpeed | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a network without training it.

    `gmacs`: 10**9 multiply-adds of the convolutions and linear layers for one image of `input`.
    `top1`, `top5`: published fractions with their source, None where unknown. `layers` and
    `memory`: those of `summary.summarize`.
    """

    name: str
    source: str
    parameters: int
    gmacs: float
    layers: tuple[dict[str, Any], ...]
    memory: dict[str, int]
    features: int
    input: Preprocess
    classes: int
    weights: str
    weights_file: str | None
    hub_id: str | None
    license: str | None
    top1: float | None
    top5: float | None
    published_at: str | None
    aliases: tuple[str, ...]
    speeds: tuple[InferenceSpeed, ...] = ()

    def record(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {**asdict(self), "input": self.input.record()}


def list_models(
    pattern: str = "*",
    *,
    max_params: int | None = None,
    license_part: str | None = None,
    pretrained: bool = False,
    count: bool | None = None,
) -> list[ModelLine]:
    """Every network whose name fits `pattern` (shell pattern or a part of it), own ones first.

    `license_part`: words in the weights' license. `pretrained`: only with known weights. `count`:
    build those not counted yet; None does so for at most 40. `max_params` needs every count.
    """
    shell = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
    names = [(name, "discern") for name in own_names()]
    names += [(name, "timm") for name in timm_nets.timm_names()]
    counts, speeds = read_counts(), read_speeds()
    lines = [
        _with_known(_line(name, source), counts, speeds)
        for name, source in names
        if fnmatchcase(name, shell)
    ]
    if license_part:
        wanted = license_part.casefold()
        lines = [line for line in lines if wanted in (line.license or "").casefold()]
    if pretrained:
        lines = [line for line in lines if line.weights != "none"]
    unknown = sum(line.parameters is None for line in lines)
    if max_params is not None or count or (count is None and unknown <= COUNTED_UNASKED):
        lines = _counted(lines)
    if max_params is not None:
        lines = [line for line in lines if line.parameters and line.parameters <= max_params]
    return lines


def _with_known(
    line: ModelLine, counts: dict[str, Counts], speeds: list[InferenceSpeed]
) -> ModelLine:
    known = counts.get(line.name)
    return replace(
        line,
        parameters=None if known is None else known.parameters,
        gmacs=None if known is None else known.gmacs,
        speed=fastest(speeds, line.name),
    )


def _counted(lines: list[ModelLine]) -> list[ModelLine]:
    """The same lines with sizes; what had to be counted is kept for the next list."""
    counts = read_counts()
    missing = [line.name for line in lines if line.name not in counts]
    for name in missing:
        network, expected = _skeleton(name)
        sample = torch.zeros(
            1, expected.channels, expected.height, expected.width, device=_device_of(network)
        )
        counts[name] = Counts(count_parameters(network), count_macs(network, sample) / 1e9)
    if missing:
        save_counts(counts)
    return [
        replace(line, parameters=counts[line.name].parameters, gmacs=counts[line.name].gmacs)
        for line in lines
    ]


def model_facts(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    num_classes: int | None = None,
    channels: int = 3,
) -> ModelFacts:
    """The facts of the network `name`; None takes a timm network's own size and class count.

    Raises ConfigError for an unknown name.
    """
    wanted = resolve_name(name)
    network, expected = _skeleton(
        wanted, image_size=image_size, num_classes=num_classes, channels=channels
    )
    classes = num_classes or _classes(wanted)
    line = _line(wanted, "discern" if resolve_own(wanted) else "timm")
    record = {} if line.source == "discern" else timm_nets.timm_record(wanted)
    hub_id = record.get("hf_hub_id")
    published = _published(wanted, record)
    sample = torch.zeros(1, channels, expected.height, expected.width, device=_device_of(network))
    summary = summarize(network, sample)
    return ModelFacts(
        name=wanted,
        source=line.source,
        parameters=summary["parameters"],
        gmacs=summary["macs"] / 1e9,
        layers=tuple(summary["layers"]),
        memory=summary["memory"],
        features=_feature_width(network),
        input=expected,
        classes=classes,
        weights=line.weights,
        weights_file=timm_nets.cached_weights(hub_id),
        hub_id=hub_id,
        license=line.license,
        top1=published.top1 if published else None,
        top5=published.top5 if published else None,
        published_at=f"{SOURCE}, {published.side} pixels" if published else None,
        aliases=tuple(old for old, alias in ALIASES.items() if alias.target == wanted),
        speeds=tuple(speed for speed in read_speeds() if speed.network == wanted),
    )


def imagenet_classes() -> list[tuple[str, str]]:
    """(wnid, name) of the 1,000 ImageNet classes in label order, from timm's own record."""
    import timm.data

    library: Any = timm.data
    info = library.ImageNetInfo("imagenet-1k")
    return [
        (info.index_to_label_name(index), info.index_to_description(index, detailed=False))
        for index in range(info.num_classes())
    ]


def _line(name: str, source: str) -> ModelLine:
    if source == "discern":
        return ModelLine(name=name, source=source, weights="none", license=None)
    record = timm_nets.timm_record(name)
    state = "none"
    if timm_nets.has_weights(name):
        state = "here" if timm_nets.cached_weights(record.get("hf_hub_id")) else "to fetch"
    published = _published(name, record)
    return ModelLine(
        name=name,
        source=source,
        weights=state,
        license=record.get("license"),
        top1=published.top1 if published else None,
        top5=published.top5 if published else None,
    )


def _published(name: str, record: dict[str, Any]) -> Published | None:
    """The published score of the weights that `name` stands for."""
    return PUBLISHED.get(name if "." in name else f"{name}.{record.get('tag')}")


def _classes(name: str) -> int:
    """The classes that the network `name` is told with: those of the images it is made for."""
    own = resolve_own(name)
    if own is not None:
        return _LARGE_CLASSES if usual_side(own[0]) > _SMALL_SIDE else _SMALL_CLASSES
    return int(timm_nets.timm_record(name).get("num_classes") or _LARGE_CLASSES)


def _skeleton(
    name: str,
    *,
    image_size: tuple[int, int] | None = None,
    num_classes: int | None = None,
    channels: int = 3,
) -> tuple[nn.Module, Preprocess]:
    """The network without values where it can be built so, and its input."""
    own = resolve_own(name)
    if own is not None:
        builder, implied = own
        made_for = usual_side(builder)
        size = image_size or (made_for, made_for)
        # Small ones in real memory: torch's initializers on the meta device import its compiler,
        # which costs more than torch itself (1.5 s of CPU time). Large ones cost more than that.
        with torch.device("meta" if made_for > _SMALL_SIDE else "cpu"):
            network = BUILDERS[builder](num_classes or _classes(name), channels, size, **implied)
        return network, standard_input(size, channels)
    if not timm_nets.is_timm_name(name):
        raise ConfigError("facts are known of named networks only", where="model", got=name)
    record = timm_nets.timm_record(name)
    side = tuple(record.get("input_size") or (3, 224, 224))
    height, width = image_size or (int(side[1]), int(side[2]))

    def build() -> nn.Module:
        return timm_nets.build_timm(
            name,
            num_classes=num_classes or _classes(name),
            channels=channels,
            image_size=image_size,
            arguments={},
            pretrained=False,
        )

    expected = timm_input(record, height, width, channels)
    try:
        with torch.device("meta"):
            return build(), expected
    except (RuntimeError, NotImplementedError):
        # Some builders read values back (drop-path rates, position tables): those need real memory.
        return build(), expected


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _feature_width(network: nn.Module) -> int:
    head = getattr(network, "head", None)
    if isinstance(head, nn.Linear):
        return head.in_features
    width: Any = getattr(network, "head_hidden_size", None) or getattr(network, "num_features", 0)
    return int(width)
