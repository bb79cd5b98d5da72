"""From a name to a network: our own, any of timm's, or a function in the user's file.

Owns the names and what comes with a built network: its input, weights report and license.
Loads timm only for a name that is not our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from discern.base.errors import ConfigError, ModelError
from discern.base.names import nearest_names
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.data.images import Preprocess
from discern.models import timm_nets
from discern.models.aliases import ALIASES
from discern.models.changes import ModelChanges
from discern.models.classifier import Classifier, wrap_network
from discern.models.ensemble import ENSEMBLE, build_ensemble
from discern.models.finishing import Finish, Finished, finish_network
from discern.models.inputs import standard_input, timm_input
from discern.models.named_heads import HeadsClassifier, cut_names, layer_rows, with_heads
from discern.models.nets.builders import BUILDERS, own_names, resolve_own
from discern.models.nets.smallest import smallest_side, with_smallest_side
from discern.models.weights import WeightsReport, load_pretrained, no_weights

OWN_PREFIX = "discern/"
_SET_BY_DISCERN = ("num_classes", "channels", "image_size")
_SHOWN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What to build. `image_size` (height, width) in pixels; None takes a timm network's own.

    `name`: an own network, a timm architecture (a tag may follow a dot), an alias of an older zoo,
    or an import path of a function `(num_classes, channels, image_size, **arguments) -> module`.
    `weights`: `none`, `pretrained`, or the path of a safetensors file.
    `enlarge`: raise `image_size` to the least that a timm network takes, instead of an error.
    `changes`, `skip`, `init` and `auto_stem_macs`: as of `finishing.Finish`.
    `heads`: classes of each head by name, if there are several; `num_classes` is then their sum.
    """

    name: str
    num_classes: int
    channels: int = 3
    image_size: tuple[int, int] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    weights: str = "none"
    enlarge: bool = False
    heads: Mapping[str, int] = field(default_factory=dict)
    changes: ModelChanges = field(default_factory=ModelChanges)
    skip: tuple[str, ...] = ()
    init: tuple[str, Mapping[str, Any]] | None = None
    auto_stem_macs: float | None = None

    def finish(self) -> Finish:
        """What is done to the built network."""
        return Finish(
            name=self.name,
            weights=self.weights,
            changes=self.changes,
            skip=self.skip,
            init=self.init,
            layers=layer_rows(self.heads),
            auto_stem_macs=self.auto_stem_macs,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltModel:
    """A network ready for use. `license` is that of its weights, None without any.

    `preprocess`: what evaluation does to an image. Mean and std are the weights' own if
    `pretrained`, else 0 and 1, to be measured.

    `architecture`: `discern/NAME`, timm's name, or the import path; with `arguments` (those of the
    request and those that the name implies) and `changes` it builds the same network again.
    `stem_note`: what was decided about the first layers for small images, and why.
    `enlarged_from`: the image size that was too small and gave way to that of `preprocess`.
    """

    model: Classifier
    name: str
    arguments: dict[str, Any]
    preprocess: Preprocess
    weights_report: WeightsReport
    license: str | None
    architecture: str
    enlarged_from: tuple[int, int] | None = None
    changes: ModelChanges = field(default_factory=ModelChanges)
    stem_note: str | None = None

    @property
    def pretrained(self) -> bool:
        """True if weights were loaded into a timm network, whose mean and std are known."""
        own = self.architecture.startswith(OWN_PREFIX) or is_import_path(self.architecture)
        return not (own or self.weights_report.from_scratch)

    @property
    def origin(self) -> str:
        """Where the weights come from, in words for the terminal."""
        report = self.weights_report
        return "trained from scratch" if report.from_scratch else f"weights {report.source}"

    @property
    def size_note(self) -> str | None:
        """That images were too small and are enlarged; None if they were not."""
        if self.enlarged_from is None:
            return None
        height, width = self.preprocess.height, self.preprocess.width
        return (
            f"images of {self.enlarged_from[0]}x{self.enlarged_from[1]} are enlarged to "
            f"{height}x{width}: '{self.name}' takes no side under {min(height, width)} pixels"
        )

    def report_lines(self) -> list[str]:
        """What the user should know of the weights: nothing if all of them fit."""
        report = self.weights_report
        lines = []
        if report.skipped:
            shown = ", ".join(report.skipped[:_SHOWN])
            more = ", ..." if len(report.skipped) > _SHOWN else ""
            lines.append(f"not used, {len(report.skipped)} tensors: {shown}{more}")
        if report.missing:
            what = "new layers" if self.changes else "new head for other classes"
            what = "new heads" if isinstance(self.model, HeadsClassifier) else what
            lines.append(f"{what}: {', '.join(report.missing)}")
        if report.reshaped:
            lines.append(f"summed to one input channel: {', '.join(report.reshaped)}")
        return lines


def is_own_network(name: str) -> bool:
    """True for Discern's own networks and for import paths: no weights are published for them.

    True too for an older zoo's name of one. Never loads timm.
    """
    if is_import_path(name):
        return True
    alias = ALIASES.get(name)
    target = name if alias is None else alias.target or name
    return resolve_own(target.removeprefix(OWN_PREFIX)) is not None


def is_network(name: str) -> bool:
    """True for what `build_model` knows: an own network, one of timm's, an alias, a plug-in."""
    return is_own_network(name) or name in ALIASES or timm_nets.is_timm_name(name)


def build_model(request: ModelRequest) -> BuiltModel:
    """Build the network of `request` with its weights, and try it on one image.

    Raises ConfigError for an unknown name or argument (naming the nearest), and ModelError if the
    weights cannot be had or do not fit, or the network cannot take the images.
    """
    _check_request(request)
    if request.name == ENSEMBLE:
        return build_ensemble(request, build_model)
    name = resolve_name(request.name)
    if is_import_path(name):
        return _build_plugin(request, name)
    if resolve_own(name) is not None:
        return _build_own(request, name)
    return _build_timm(request, name)


def resolve_name(name: str) -> str:
    """The name behind an alias, `discern/NAME` without its prefix; other known names as they are.

    Raises ConfigError, with the nearest names, for a name that nothing is known by.
    """
    if is_import_path(name):
        return name
    plain = name.removeprefix(OWN_PREFIX)
    if resolve_own(plain) is not None:
        return plain
    alias = ALIASES.get(name)
    if alias is not None and alias.target is not None:
        return alias.target
    if alias is not None:
        raise ConfigError(
            f"there is no '{name}' any more: {alias.reason}",
            where="model",
            got=name,
            hint=f"use '{alias.near}'",
        )
    if name == plain and timm_nets.is_timm_name(name):
        return name
    raise _unknown(name)


def _check_request(request: ModelRequest) -> None:
    if request.num_classes < 1 or request.channels < 1:
        raise ConfigError(
            "a network needs at least one class and one channel",
            where="model",
            got=f"{request.num_classes} classes, {request.channels} channels",
        )
    if request.image_size is not None and min(request.image_size) < 1:
        raise ConfigError("image sides are positive", where="model", got=request.image_size)


def _unknown(name: str) -> ConfigError:
    architecture, _, tag = name.partition(".")
    if tag and architecture in timm_nets.timm_names():
        tags = timm_nets.timm_tags(architecture)
        return ConfigError(
            f"'{architecture}' has no weights '{tag}'",
            where="model",
            got=name,
            expected=", ".join(f"{architecture}.{known}" for known in tags),
        )
    near = nearest_names(name, [*own_names(), *ALIASES, *timm_nets.timm_names()])
    return ConfigError(
        f"unknown model '{name}'",
        where="model",
        got=name,
        expected="a name of 'discern models list', or package.module:function",
        hint="did you mean " + " or ".join(f"'{n}'" for n in near) + "?" if near else None,
    )


def _required_size(request: ModelRequest) -> tuple[int, int]:
    if request.image_size is None:
        raise ConfigError("this network needs an image size", where="model", got=request.name)
    return request.image_size


def _build_own(request: ModelRequest, name: str) -> BuiltModel:
    image_size = _required_size(request)
    resolved = resolve_own(name)
    if resolved is None:
        raise _unknown(name)
    builder_name, implied = resolved
    for key in implied:
        if key in request.arguments and request.arguments[key] != implied[key]:
            raise ConfigError(
                f"'{name}' already says {key}={implied[key]}",
                where=f"model argument '{key}'",
                got=request.arguments[key],
            )
    arguments = {**implied, **request.arguments}
    builder = BUILDERS[builder_name]
    check_arguments(builder, arguments, where=f"model '{name}'", given=_SET_BY_DISCERN)
    network = builder(request.num_classes, request.channels, image_size, **arguments)
    return _finish_own(
        request, network, image_size, architecture=OWN_PREFIX + builder_name, arguments=arguments
    )


def _build_plugin(request: ModelRequest, name: str) -> BuiltModel:
    image_size = _required_size(request)
    builder = open_import_path(name, where="model")
    arguments = dict(request.arguments)
    check_arguments(builder, arguments, where=f"model '{name}'", given=_SET_BY_DISCERN)
    network = builder(
        num_classes=request.num_classes,
        channels=request.channels,
        image_size=image_size,
        **arguments,
    )
    if not isinstance(network, nn.Module):
        raise ModelError(
            "the function did not give a network",
            where=name,
            got=type(network).__name__,
            expected="a torch.nn.Module",
        )
    return _finish_own(request, network, image_size, architecture=name, arguments=arguments)


def _finish_own(
    request: ModelRequest,
    network: nn.Module,
    image_size: tuple[int, int],
    *,
    architecture: str,
    arguments: dict[str, Any],
) -> BuiltModel:
    sample = torch.zeros(1, request.channels, *image_size)
    model = wrap_network(network, sample, request.num_classes)
    if request.weights == "pretrained":
        raise no_weights(request.name, None, "no weights are published for this network")
    finished = finish_network(model, sample, request.finish())
    return BuiltModel(
        model=with_heads(finished.model, request.heads),
        name=request.name,
        arguments=arguments,
        preprocess=standard_input(image_size, request.channels),
        weights_report=_told(finished, request),
        license=None,
        architecture=architecture,
        changes=finished.changes,
        stem_note=finished.stem_note,
    )


def _told(finished: Finished, request: ModelRequest) -> WeightsReport:
    """What became of the weights, under the names that the network has after its heads are cut."""
    report, model = finished.report, finished.model
    if not request.heads:
        return report
    cut = partial(cut_names, classifiers=model.inner_head_names, heads=request.heads)
    return replace(report, missing=cut(report.missing), skipped=cut(report.skipped))


def _build_timm(request: ModelRequest, name: str) -> BuiltModel:
    record = timm_nets.timm_record(name)
    source_size = tuple(record.get("input_size", (3, 224, 224)))[1:]
    asked = height, width = request.image_size or (int(source_size[0]), int(source_size[1]))
    pretrained = request.weights == "pretrained"
    if pretrained and not timm_nets.has_weights(name):
        raise no_weights(name, None, "timm publishes no weights for this architecture")

    def build(*, pretrained: bool = pretrained) -> nn.Module:
        return timm_nets.build_timm(
            name,
            num_classes=request.num_classes,
            channels=request.channels,
            image_size=request.image_size,
            arguments=dict(request.arguments),
            pretrained=pretrained,
        )

    report = None
    if pretrained:
        classifier = record.get("classifier") or ()
        heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
        fits = request.num_classes == record.get("num_classes") and not request.heads
        hub_id = record.get("hf_hub_id")
        network, report = load_pretrained(
            build,
            name=name,
            hub_id=hub_id,
            head_names=() if fits else heads,
            here=timm_nets.cached_weights(hub_id) is not None,
        )
    else:
        network = build()
    bare = partial(build, pretrained=False)
    model, (height, width) = _wrap_timm(network, request, (height, width), bare)
    sample = torch.zeros(1, request.channels, height, width)
    finished = finish_network(model, sample, request.finish(), loaded=report, fresh=bare)
    return BuiltModel(
        model=with_heads(finished.model, request.heads),
        name=request.name,
        arguments=dict(request.arguments),
        preprocess=timm_input(record, height, width, request.channels),
        weights_report=_told(finished, request),
        license=None if finished.report.from_scratch else record.get("license"),
        architecture=name,
        enlarged_from=None if (height, width) == asked else asked,
        changes=finished.changes,
        stem_note=finished.stem_note,
    )


def _wrap_timm(
    network: nn.Module,
    request: ModelRequest,
    image_size: tuple[int, int],
    build: Callable[[], nn.Module],
) -> tuple[Classifier, tuple[int, int]]:
    """The wrapped network, and `image_size`, enlarged where that is asked for and needed."""
    height, width = image_size
    try:
        return wrap_network(network, torch.zeros(1, request.channels, height, width)), image_size
    except ModelError as error:
        least = smallest_side(build, request.channels)
        if not request.enlarge or least is None or min(image_size) >= least:
            raise with_smallest_side(error, least, image_size) from error
    height, width = max(height, least), max(width, least)
    return wrap_network(network, torch.zeros(1, request.channels, height, width)), (height, width)
