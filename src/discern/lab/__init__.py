"""For people with a training loop of their own: lazy configs, figures, progress, experiments.

    from discern.lab import Configs, tracker, monit, loop, experiment, logger

Names are loaded when first used; torch only with `discern.lab.pytorch`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discern.config.lazy import BaseConfigs as BaseConfigs
    from discern.config.lazy import Configs as Configs
    from discern.config.lazy import aggregate as aggregate
    from discern.config.lazy import calculate as calculate
    from discern.config.lazy import hyperparams as hyperparams
    from discern.config.lazy import meta_config as meta_config
    from discern.config.lazy import option as option
    from discern.lab import analytics as analytics
    from discern.lab import experiment as experiment
    from discern.lab import logger as logger
    from discern.lab import loop as loop
    from discern.lab import manage as manage
    from discern.lab import monit as monit
    from discern.lab import pytorch as pytorch
    from discern.lab import track_client as track_client
    from discern.lab import tracker as tracker

# A name of a module, or module:name.
_HOMES = {
    "BaseConfigs": "discern.config.lazy:BaseConfigs",
    "Configs": "discern.config.lazy:Configs",
    "aggregate": "discern.config.lazy:aggregate",
    "analytics": "discern.lab.analytics",
    "calculate": "discern.config.lazy:calculate",
    "experiment": "discern.lab.experiment",
    "hyperparams": "discern.config.lazy:hyperparams",
    "meta_config": "discern.config.lazy:meta_config",
    "option": "discern.config.lazy:option",
    "pytorch": "discern.lab.pytorch",
    "logger": "discern.lab.logger",
    "loop": "discern.lab.loop",
    "manage": "discern.lab.manage",
    "monit": "discern.lab.monit",
    "track_client": "discern.lab.track_client",
    "tracker": "discern.lab.tracker",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'discern.lab' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    module, _, attribute = home.partition(":")
    opened = importlib.import_module(module)
    return getattr(opened, attribute) if attribute else opened


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
