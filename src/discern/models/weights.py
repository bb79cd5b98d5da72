"""Weights: reading safetensors into a network, strictly, and fetching timm's.

Owns what may differ between a file and a network (the head's class count, one input channel for
three) and what may not. Never leaves a network at random values without an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from discern.base.errors import ConfigError, ModelError
from discern.base.names import did_you_mean
from discern.models.stored_heads import fit_heads
from discern.track.machine_checks import network as network_answer

_SHOWN = 5
_WRAPPED = "network."


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsReport:
    """What became of the weights; names are those inside the network.

    `source`: `none`, `pretrained:NAME` or the file. `loaded` counts tensors. `missing`: tensors
    of the network that stay at their random start (a head of another class count, several heads
    for one). `unexpected`: the file's tensors that were left out for that. `reshaped`: input
    kernels summed to one channel. `skipped`: tensors of the network and of the file that were
    left out because the user said so.
    """

    source: str
    loaded: int = 0
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()

    @property
    def from_scratch(self) -> bool:
        """True if no tensor was loaded."""
        return self.loaded == 0

    def record(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "source": self.source,
            "loaded": self.loaded,
            "missing": list(self.missing),
            "unexpected": list(self.unexpected),
            "reshaped": list(self.reshaped),
            "skipped": list(self.skipped),
        }


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; half precision becomes float32.

    Raises ModelError if the file is not there, is another format, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelError(
            "no such weights file",
            where=path,
            expected="'none', 'pretrained' or a .safetensors file",
        )
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        foreign = path.suffix != ".safetensors"
        raise ModelError(
            "not a safetensors file" if foreign else "the weights file is damaged",
            where=path,
            got=str(error),
            expected="a whole .safetensors file",
            hint="files of pickled objects are never opened: convert them with safetensors.torch"
            if foreign
            else "fetch or copy the file again",
        ) from error
    halves = (torch.float16, torch.bfloat16)
    tensors = {k: v.float() if v.dtype in halves else v for k, v in tensors.items()}
    if tensors and all(name.startswith(_WRAPPED) for name in tensors):
        tensors = {name.removeprefix(_WRAPPED): value for name, value in tensors.items()}
    return tensors


def fit_weights(
    network: nn.Module,
    tensors: dict[str, Tensor],
    *,
    source: str,
    head_names: tuple[str, ...] = (),
    layers: Mapping[str, int] | None = None,
    skip: tuple[str, ...] = (),
) -> WeightsReport:
    """Load `tensors` of the file `source` into `network`; every name and shape must fit.

    Four differences are taken and reported: a head (`head_names`, prefixes inside the network) of
    another class count stays at its random start, so does one that is to be cut into several
    `layers` (rows of each by its name) unless the file has these very layers, kernels for 3
    input channels are summed for 1, and names that contain one of `skip` are left as they are in
    the network, whatever the file has. Raises ModelError listing the first differences
    otherwise, ConfigError for a part of a name that none contains.
    """
    own = network.state_dict()
    skipped = skipped_names([*own, *(name for name in tensors if name not in own)], skip)
    tensors = {name: value for name, value in tensors.items() if name not in skipped}
    own = {name: value for name, value in own.items() if name not in skipped}
    reshaped = _sum_input_channels(own, tensors)
    fresh, left_out = fit_heads(own, tensors, head_names, layers or {})
    other = _drop_other_head(own, tensors, head_names)
    dropped, left_out = [*fresh, *other], [*left_out, *other]
    differences = _differences(own, tensors, dropped)
    if differences:
        more = len(differences) - _SHOWN
        raise ModelError(
            "the weights do not fit the network",
            where=source,
            got="; ".join(differences[:_SHOWN]) + (f"; and {more} more" if more > 0 else ""),
            expected=f"the {len(own)} tensors of {type(network).__name__}",
            hint="check --model and --model-arg against the network the file was made from",
        )
    network.load_state_dict(tensors, strict=False)
    return WeightsReport(
        source=source,
        loaded=len(tensors),
        missing=tuple(dropped),
        unexpected=tuple(left_out),
        reshaped=tuple(reshaped),
        skipped=skipped,
    )


def skipped_names(names: Sequence[str], skip: tuple[str, ...]) -> tuple[str, ...]:
    """Those of `names` that contain one of `skip`.

    Raises ConfigError for a part that none contains.
    """
    for part in skip:
        if not any(part in name for name in names):
            parts = {piece for name in names for piece in (name, *name.split("."))}
            raise ConfigError(
                f"no tensor's name contains '{part}'",
                where="model.skip_weights",
                got=part,
                expected="a part of a name, such as 'fc' or 'layer4.'",
                hint=did_you_mean(part, sorted(parts)),
            )
    return tuple(name for name in names if any(part in name for part in skip))


@torch.no_grad()
def restart_skipped(
    network: nn.Module, fresh: nn.Module, report: WeightsReport, skip: tuple[str, ...]
) -> WeightsReport:
    """Give the tensors of `network` whose names contain one of `skip` the values of `fresh`.

    The report without them among the loaded.
    """
    own, values = network.state_dict(), fresh.state_dict()
    skipped = skipped_names(list(own), skip)
    for name in skipped:
        own[name].copy_(values[name])
    missing = tuple(name for name in report.missing if name not in skipped)
    return replace(
        report,
        loaded=len(own) - len({*skipped, *report.missing}),
        missing=missing,
        skipped=skipped,
    )


def load_pretrained(
    build: Callable[[], nn.Module],
    *,
    name: str,
    hub_id: str | None,
    head_names: tuple[str, ...],
    here: bool = False,
) -> tuple[nn.Module, WeightsReport]:
    """The network that `build` makes with timm's weights `name`, fetched if they are not here.

    `hub_id` names the repository for the message; `head_names` (prefixes) is empty when the class
    count is the weights' own. `here`: they are in the cache. Raises ModelError with the ways out
    if they cannot be had.
    """
    if not here and not is_offline():
        # The hub's client tries for most of a minute before it gives up: ask the host first.
        answer = network_answer()
        if not answer["reachable"]:
            raise no_weights(name, hub_id, f"{answer['host']}: {answer['problem']}")
    try:
        network = build()
    except _fetch_errors() as error:
        raise no_weights(name, hub_id, str(error)) from error
    names = list(network.state_dict())
    fresh = tuple(n for n in names if any(n.startswith(f"{head}.") for head in head_names))
    return network, WeightsReport(
        source=f"pretrained:{name}",
        loaded=len(names) - len(fresh),
        missing=fresh,
        unexpected=fresh,
    )


@torch.no_grad()
def start_head_at_zero(network: nn.Module, names: tuple[str, ...]) -> None:
    """Set the new head's tensors `names`, which no weights filled, to zero.

    A random head on finished features starts with large random logits (timm draws them from
    +-1/sqrt(classes) in some families) whose noise a short training never unlearns: on 12 kinds of
    flowers, 648 photos, a linear head scored 0.82 from such a start (docs/lab-log.md). Source of
    the zero: A. Kolesnikov et al., Big Transfer, 2020, section 3.3.
    """
    tensors = network.state_dict()
    for name in names:
        tensors[name].zero_()


def no_weights(name: str, hub_id: str | None, reason: str) -> ModelError:
    """The error for pretrained weights that cannot be had, with the three ways out."""
    offline = " (HF_HUB_OFFLINE is set)" if is_offline() else ""
    fetch = f", fetch them once with: hf download {hub_id}" if hub_id else ""
    return ModelError(
        f"the pretrained weights of '{name}' are not here and could not be fetched{offline}",
        where="weights",
        got=reason.strip().splitlines()[0] if reason.strip() else "no weights are published",
        expected="weights in the cache, or a way to fetch them",
        hint=(
            "(1) give a file: --weights FILE.safetensors; "
            "(2) train from scratch, knowingly: --weights none; "
            f"(3) use a small own network: --model fast_net, or go online{fetch}"
        ),
    )


def is_offline() -> bool:
    """True if HF_HUB_OFFLINE forbids the network."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in ("1", "ON", "YES", "TRUE")


def _fetch_errors() -> tuple[type[Exception], ...]:
    from huggingface_hub.errors import HfHubHTTPError

    # The hub's error derives from its HTTP library's own root, whose name differs by version.
    # RuntimeError: timm finds no weights or a size that does not fit; OSError: disk, connection,
    # and the hub's LocalEntryNotFoundError; ValueError: the hub's name and file checks.
    roots = (kind for kind in HfHubHTTPError.__mro__ if issubclass(kind, Exception))
    return (OSError, RuntimeError, ValueError, *(kind for kind in roots if kind is not Exception))


def _sum_input_channels(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> list[str]:
    """Kernels [O, 3, h, w] for an own [O, 1, h, w], summed in place: grey as equal R, G, B."""
    changed = []
    for name, value in tensors.items():
        target = own.get(name)
        if target is None or value.ndim != 4 or value.shape == target.shape:
            continue
        if value.shape[1] == 3 and target.shape == (value.shape[0], 1, *value.shape[2:]):
            tensors[name] = value.sum(1, keepdim=True)
            changed.append(name)
    return changed


def _drop_other_head(
    own: dict[str, Tensor], tensors: dict[str, Tensor], head_names: tuple[str, ...]
) -> list[str]:
    """Take each head of another class count out of `tensors`; gives the names taken."""
    dropped: list[str] = []
    for head in head_names:
        names = [name for name in tensors if name in own and name.startswith(f"{head}.")]
        differs = [name for name in names if tensors[name].shape != own[name].shape]
        # Only the class count, the first axis, may differ: another width is another network.
        if differs and all(tensors[n].shape[1:] == own[n].shape[1:] for n in differs):
            dropped += names
    for name in dropped:
        del tensors[name]
    return dropped


def _differences(
    own: dict[str, Tensor], tensors: dict[str, Tensor], dropped: list[str]
) -> list[str]:
    found = [f"'{n}' is missing" for n in own if n not in tensors and n not in dropped]
    found += [f"'{n}' is unknown to the network" for n in tensors if n not in own]
    found += [
        f"'{n}' is {tuple(tensors[n].shape)}, not {tuple(own[n].shape)}"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    return found
