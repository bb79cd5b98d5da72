"""The short names of the callbacks that come with Discern, and the opening of any by name."""

from __future__ import annotations

from typing import Any, Final

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.training.callbacks import Callback

_PACKAGE: Final = "discern.training.stock"
STOCK: Final = {
    "bottleneck": f"{_PACKAGE}.bottleneck:Bottleneck",
    "checkpoint_every": f"{_PACKAGE}.checkpoint_every:CheckpointEvery",
    "early_stop": f"{_PACKAGE}.early_stop:EarlyStop",
    "grad_norms": f"{_PACKAGE}.grad_norms:GradNorms",
    "histograms": f"{_PACKAGE}.histograms:Histograms",
    "layer_statistics": f"{_PACKAGE}.layer_statistics:LayerStatistics",
    "profiler": f"{_PACKAGE}.profiler:Profiler",
    "time_limit": f"{_PACKAGE}.time_limit:TimeLimit",
}
# What the same is called in the systems whose configs people bring along.
ALIASES: Final = {
    "EarlyStopping": "early_stop",
    "EarlyStoppingCallback": "early_stop",
    "GradNormLogger": "grad_norms",
    "IterationCheckpoint": "checkpoint_every",
    "IterationCheckpointCallback": "checkpoint_every",
    "SaveModelGrads": "grad_norms",
    "SaveModelGradsCallback": "grad_norms",
    "monitor": "layer_statistics",
}


def canonical(name: str) -> str:
    """The short name of a stock callback behind its other spellings; any other name as it is."""
    return ALIASES.get(name, name)


def open_callback(name: str, arguments: dict[str, Any], *, where: str) -> Callback:
    """A callback by short name or import path, with `arguments`. Raises ConfigError."""
    if is_import_path(name):
        target = open_import_path(name, where=where)
    else:
        path = STOCK.get(canonical(name))
        if path is None:
            raise ConfigError(
                f"there is no callback '{name}'",
                where=where,
                got=name,
                expected=", ".join(STOCK) + ", package.module:name or ./my_file.py:name",
                hint=did_you_mean(name, [*STOCK, *ALIASES]),
            )
        target = open_import_path(path, where=where)
    check_arguments(target, arguments, where=where)
    callback = target(**arguments)
    if not isinstance(callback, Callback):
        raise ConfigError(
            "not a callback", where=where, got=type(callback).__name__,
            expected="a class derived from discern.training.callbacks.Callback",
        )  # fmt: skip
    return callback
