"""Discern tells images apart: from a folder of photos to a classifier you can trust.

    import discern

    run = discern.train("photos/")
    classifier = discern.load(run)
    classifier.predict("new.jpg")

Names are loaded when first used, so that `import discern` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from discern.base.version import __version__

if TYPE_CHECKING:
    from discern.api import TrainedRun as TrainedRun
    from discern.api import autolabel as autolabel
    from discern.api import decide as decide
    from discern.api import embed as embed
    from discern.api import explain as explain
    from discern.api import kfold as kfold
    from discern.api import load as load
    from discern.api import predict as predict
    from discern.api import review as review
    from discern.api import scan as scan
    from discern.api import train as train
    from discern.base.errors import DiscernError as DiscernError
    from discern.exporting.predictor import Predictions as Predictions
    from discern.exporting.predictor import Predictor as Classifier  # noqa: F401
    from discern.model_api import calibrate as calibrate
    from discern.model_api import evaluate as evaluate
    from discern.model_api import thresholds as thresholds
    from discern.training.callbacks import Callback as Callback
    from discern.training.callbacks import Progress as Progress
    from discern.training.callbacks import Signal as Signal
    from discern.workflows.index.image_index import Index as Index

_HOMES = {
    "Callback": "discern.training.callbacks:Callback",
    "Classifier": "discern.exporting.predictor:Predictor",
    "DiscernError": "discern.base.errors:DiscernError",
    "Index": "discern.workflows.index.image_index:Index",
    "Predictions": "discern.exporting.predictor:Predictions",
    "Progress": "discern.training.callbacks:Progress",
    "Signal": "discern.training.callbacks:Signal",
    "TrainedRun": "discern.api:TrainedRun",
    "autolabel": "discern.api:autolabel",
    "decide": "discern.api:decide",
    "calibrate": "discern.model_api:calibrate",
    "embed": "discern.api:embed",
    "evaluate": "discern.model_api:evaluate",
    "explain": "discern.api:explain",
    "kfold": "discern.api:kfold",
    "load": "discern.api:load",
    "predict": "discern.api:predict",
    "review": "discern.api:review",
    "scan": "discern.api:scan",
    "thresholds": "discern.model_api:thresholds",
    "train": "discern.api:train",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        msg = f"module 'discern' has no attribute '{name}'"
        raise AttributeError(msg)
    import importlib

    module, _, attribute = home.partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
