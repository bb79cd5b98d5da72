"""Which optimizer a name means, its settings there, and which names are refused and why.

Owns the table. timm's optimizers are named here without importing timm, which costs seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import is_import_path, open_import_path
from discern.optim.adam_variants import QHAdamW, RAlamb
from discern.optim.classics import DelayCompensatedSgd, Ftml, Ftrl, Sgld, Signum
from discern.optim.large_batch import LargeBatchSgd
from discern.optim.muon import Muon

Factory = Callable[..., torch.optim.Optimizer]

OPTIMIZERS: dict[str, Factory] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
    "muon": Muon,
    "rmsprop": torch.optim.RMSprop,
    "adagrad": torch.optim.Adagrad,
    "adadelta": torch.optim.Adadelta,
    "adafactor": torch.optim.Adafactor,
    "adamax": torch.optim.Adamax,
    "asgd": torch.optim.ASGD,
    "custom": torch.optim.AdamW,
    "dcasgd": DelayCompensatedSgd,
    "ftml": Ftml,
    "ftrl": Ftrl,
    "lbsgd": LargeBatchSgd,
    "momentum": torch.optim.SGD,
    "nadam": torch.optim.NAdam,
    "nag": torch.optim.SGD,
    "qhadamw": QHAdamW,
    "radam": torch.optim.RAdam,
    "ralamb": RAlamb,
    "rprop": torch.optim.Rprop,
    "sgld": Sgld,
    "signum": Signum,
}
"""Names of torch's optimizers and of our own. `nag` and `momentum` are spellings of `sgd`.

`rprop` takes the rate for its first step only: a schedule does not reach the later ones.
"""

TIMM_OPTIMIZERS = (
    "adabelief", "adamp", "adan", "adopt", "lamb", "laprop", "lars", "lion",
    "madgrad", "mars", "nadamw", "novograd", "radabelief", "sgdp", "sgdw",
)  # fmt: skip
"""Names that only timm has: `lion` is `timm:lion`."""

# Heavy-ball momentum of 0.9 with Nesterov's look-ahead: the setting of the ResNet and airbench
# recipes; torch's own default is none at all. `momentum` and `custom` (Adam with decoupled decay,
# epsilon 1e-6) are Lambda Deep Learning's; `lars` has MXNet's usual momentum.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "nag": {"momentum": 0.9, "nesterov": True},
    "momentum": {"momentum": 0.9, "nesterov": False},
    "custom": {"eps": 1e-6},
    "lars": {"momentum": 0.9},
    "sgdw": {"momentum": 0.9},
    "sgdp": {"momentum": 0.9},
}
# In these a layer's rate follows its weights; without decay timm would treat them as plain SGD and
# Adam, so that a weight decay of 0 silently made another optimizer.
_MATRIX_FLAGS: dict[str, tuple[str, ...]] = {"lars": ("always_adapt",), "lamb": ("always_adapt",)}
_REFUSED = {
    "lbfgs": ("asks for the loss several times a step, over all images", "adamw"),
    "sparseadam": (
        "works on sparse gradients only, which networks for images have none of",
        "adam",
    ),
    "adahessian": ("needs second derivatives of the loss", "adamw"),
}
_TIMM = "timm:"
LOOKAHEAD = "lookahead"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerChoice:
    """What a name means: `factory` builds it with `defaults`, which arguments of the user replace.

    `lookahead`: the steps are made by it and followed by slow weights. `matrix_flags`: options that
    are true in groups of matrices.
    """

    name: str
    factory: Factory
    defaults: Mapping[str, Any] = field(default_factory=dict)
    matrix_flags: tuple[str, ...] = ()
    lookahead: bool = False


def known_optimizers() -> list[str]:
    """Every plain name, sorted; `timm:NAME` and import paths come on top."""
    return sorted([*OPTIMIZERS, *TIMM_OPTIMIZERS, LOOKAHEAD])


def resolve_optimizer(name: str, base: str | None = None) -> OptimizerChoice:
    """The optimizer `name`, in any case of letters: a plain name, `timm:NAME` or an import path.

    `lookahead` wraps `base` (default adamw), `lookahead_NAME` wraps NAME. Raises ConfigError for an
    unknown name, naming the nearest, and for one that cannot train networks here, saying why.
    """
    plain = name.casefold()
    if plain == LOOKAHEAD or plain.startswith(f"{LOOKAHEAD}_"):
        inner = base or name[len(LOOKAHEAD) + 1 :] or "adamw"
        choice = resolve_optimizer(inner)
        if choice.lookahead:
            raise ConfigError("lookahead cannot wrap lookahead", where="optimizer", got=inner)
        return OptimizerChoice(
            name=choice.name,
            factory=choice.factory,
            defaults=choice.defaults,
            matrix_flags=choice.matrix_flags,
            lookahead=True,
        )
    if name.startswith(_TIMM):
        return OptimizerChoice(name=name, factory=_open_timm(name.removeprefix(_TIMM)))
    if is_import_path(name):
        return OptimizerChoice(name=name, factory=open_import_path(name, where="optimizer"))
    if plain in _REFUSED:
        reason, nearest = _REFUSED[plain]
        raise ConfigError(
            f"optimizer '{name}' {reason}",
            where="optimizer",
            got=name,
            hint=f"the nearest that fits is '{nearest}'",
        )
    if plain not in OPTIMIZERS and plain not in TIMM_OPTIMIZERS:
        known = known_optimizers()
        raise ConfigError(
            f"unknown optimizer '{name}'",
            where="optimizer",
            got=name,
            expected=f"{', '.join(known)}, timm:NAME, or package.module:Class",
            hint=did_you_mean(name, known),
        )
    return OptimizerChoice(
        name=plain,
        factory=OPTIMIZERS[plain] if plain in OPTIMIZERS else _open_timm(plain),
        defaults=_DEFAULTS.get(plain, {}),
        matrix_flags=_MATRIX_FLAGS.get(plain, ()),
    )


def _open_timm(name: str) -> Factory:
    # timm costs seconds to import, so only those who name it pay.
    import timm.optim

    factory: Any = timm.optim

    known = factory.list_optimizers()
    if name not in known:
        raise ConfigError(
            f"timm has no optimizer '{name}'",
            where="optimizer",
            got=f"{_TIMM}{name}",
            expected=", ".join(known),
            hint=did_you_mean(name, known),
        )
    found: Factory = factory.get_optimizer_class(name, bind_defaults=True)
    return found
