"""From a built network to one ready for use: its weights, its changes, its initial values.

Owns their order: a file of the unchanged architecture is loaded before the changes, one of the
changed network after them; what no weights filled is drawn, or starts at zero if it is a head.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from discern.models.changes import ModelChanges
from discern.models.classifier import Classifier, wrap_network
from discern.models.embedding import embed_network
from discern.models.initializers import initialize
from discern.models.small_stem import (
    LARGEST_SMALL_SIDE,
    exchange_stem,
    has_small_stem,
    stem_macs,
)
from discern.models.weights import (
    WeightsReport,
    fit_weights,
    read_weights,
    restart_skipped,
    start_head_at_zero,
)

_ENCODER = "encoder."


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """What is done to a built network.

    `skip`: parts of the names of tensors that no weights fill. `init`: initializer and arguments.
    `layers`: rows of each layer that the classifier will be cut into, by its name, for several
    heads. `auto_stem_macs`: small images of a network from scratch take the small stem if it then
    costs no more multiply-adds an image; None leaves the stem to `changes`.
    """

    name: str
    weights: str = "none"
    changes: ModelChanges = field(default_factory=ModelChanges)
    skip: tuple[str, ...] = ()
    init: tuple[str, Mapping[str, Any]] | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    auto_stem_macs: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The network, what became of its weights, and the changes that were made in the end."""

    model: Classifier
    report: WeightsReport
    changes: ModelChanges
    stem_note: str | None = None


def finish_network(
    model: Classifier,
    sample: Tensor,
    finish: Finish,
    *,
    loaded: WeightsReport | None = None,
    fresh: Callable[[], nn.Module] | None = None,
) -> Finished:
    """Fill, change and start `model` as `finish` says; `sample` [1, C, H, W] is one image.

    `loaded`: what the builder itself filled with published weights; `fresh` then builds the
    network without them. Raises ModelError for weights that do not fit, ConfigError for a wrong
    name.
    """
    report = loaded or WeightsReport(source="none")
    if loaded is not None and finish.skip and fresh is not None:
        report = restart_skipped(model.network, fresh(), loaded, finish.skip)
    tensors: dict[str, Tensor] = {}
    if loaded is None and finish.weights != "none":
        tensors = read_weights(Path(finish.weights))
    changes, note = _with_stem(model, sample, finish)
    after = bool(tensors) and _made_with(tensors, model, changes)
    if tensors and not after:
        report = _fit(model, tensors, finish)
    model, new = _change(model, sample, changes)
    if after:
        report = _fit(model, tensors, finish)
    elif not report.from_scratch:
        report = replace(report, missing=(*_still_there(report.missing, model), *new))
    unfilled = (*report.missing, *report.skipped)
    if finish.init is not None:
        name, arguments = finish.init
        only = None if report.from_scratch else unfilled
        initialize(model.network, name, arguments, model_name=finish.name, only=only)
    elif not report.from_scratch:
        heads = model.inner_head_names[-1:] if changes.wrapped else model.inner_head_names
        start_head_at_zero(
            model.network,
            tuple(n for n in report.missing if any(n.startswith(f"{head}.") for head in heads)),
        )
    return Finished(model=model, report=report, changes=changes, stem_note=note)


def _fit(model: Classifier, tensors: dict[str, Tensor], finish: Finish) -> WeightsReport:
    return fit_weights(
        model.network,
        tensors,
        source=finish.weights,
        head_names=model.inner_head_names,
        layers=finish.layers,
        skip=finish.skip,
    )


def _with_stem(
    model: Classifier, sample: Tensor, finish: Finish
) -> tuple[ModelChanges, str | None]:
    """The changes with the stem decided, and what the user should know of it."""
    network, side = model.network, max(sample.shape[2:])
    small = side <= LARGEST_SMALL_SIDE and has_small_stem(network)
    if finish.auto_stem_macs is None or not small or finish.weights != "none":
        return finish.changes, None
    macs = stem_macs(network, sample)
    size = f"{sample.shape[2]}x{sample.shape[3]}"
    if macs > finish.auto_stem_macs:
        return finish.changes, (
            f"that of photographs, though images are {size}: a 3x3 stem without pooling is more "
            f"accurate, but costs {macs / 1e9:.1f} G multiply-adds an image on this device; "
            "--set model.stem=small takes it"
        )
    return replace(finish.changes, stem="small"), (
        f"3x3 at stride 1 without pooling, for images of {size}: "
        f"{macs / 1e9:.2f} G multiply-adds an image; --set model.stem=plain takes that of "
        "photographs, at about a 16th of the cost"
    )


def _made_with(tensors: dict[str, Tensor], model: Classifier, changes: ModelChanges) -> bool:
    """Whether the tensors are of the changed network, as its own checkpoints and bundles are."""
    if any(name.startswith(_ENCODER) for name in tensors):
        return True
    if changes.wrapped or changes.stem == "plain":
        return False
    own = model.network.state_dict()
    return any(
        name in own and value.ndim == 4 and value.shape[2:] == (3, 3) != own[name].shape[2:]
        for name, value in tensors.items()
    )


def _change(
    model: Classifier, sample: Tensor, changes: ModelChanges
) -> tuple[Classifier, tuple[str, ...]]:
    """The changed classifier, and the names of its new tensors."""
    new: tuple[str, ...] = ()
    if changes.stem == "small":
        new = exchange_stem(model.network)
        model = wrap_network(model.network, sample)
    if changes.wrapped:
        model = embed_network(model, changes, sample)
        new = tuple(f"{_ENCODER}{name}" for name in new)
        names = model.network.state_dict()
        new += tuple(name for name in names if not name.startswith(_ENCODER))
    return model, new


def _still_there(names: tuple[str, ...], model: Classifier) -> tuple[str, ...]:
    """Those of `names` that the changed network still has, under the names that it has them by."""
    own = model.network.state_dict()
    found = [name if name in own else f"{_ENCODER}{name}" for name in names]
    return tuple(name for name in found if name in own)
