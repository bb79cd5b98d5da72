"""The parts that a config names by import path, checked before images are read.

Each is opened and its arguments are compared with its signature: a wrong name ends a run at once,
not when the part is wanted. The parts that Discern has by name are checked where they are built.
"""

from __future__ import annotations

from discern.base.plugins import check_arguments, check_takes, is_import_path, open_import_path
from discern.config.schema import RunConfig, Spec
from discern.data.own_source import check_own_source, is_own_source
from discern.training.metric_table import open_metric
from discern.training.trainers import open_trainer

# What Discern itself gives to each kind of part; see CONTRIBUTING.md for their signatures.
_GIVEN_MODEL = ("num_classes", "channels", "image_size")
_GIVEN_AUGMENT = ("context",)
_GIVEN_OBJECTIVE = (
    "kind", "class_counts", "num_classes", "feature_dim", "missing", "output", "targets", "whole",
)  # fmt: skip


def check_parts(config: RunConfig) -> None:
    """Raise ConfigError for a part by import path that is not there or whose arguments are wrong.

    Source, augmentations, network, objectives, metrics, callbacks and trainers.
    """
    data = config.data
    for source in (data.source, data.val, data.test):
        if source is not None and is_own_source(source):
            check_own_source(source, data.source_args)
    model = config.model
    if model.name is not None:
        _check(Spec(name=model.name, args=model.args), "model", _GIVEN_MODEL, takes_all=True)
    for name, stage in config.stages.items():
        where = f"stages.{name}"
        _check(stage.augment, f"{where}.augment", _GIVEN_AUGMENT)
        _check(stage.objective, f"{where}.objective", _GIVEN_OBJECTIVE)
        for head, wish in stage.heads.items():
            _check(wish.objective, f"{where}.heads.{head}.objective", _GIVEN_OBJECTIVE)
        open_trainer(stage.trainer.name, stage.trainer.args)
    for metric in config.tracking.metrics:
        if is_import_path(metric.name):
            open_metric(metric.name, metric.args)
    for place, callback in enumerate(config.tracking.callbacks):
        _check(callback, f"tracking.callbacks.{place}", ())


def _check(
    spec: Spec | None, where: str, given: tuple[str, ...], *, takes_all: bool = False
) -> None:
    if spec is None or not is_import_path(spec.name):
        return
    target = open_import_path(spec.name, where=where)
    where = f"{where} '{spec.name}'"
    if takes_all and callable(target):
        check_takes(target, given, where=where)
    check_arguments(target, spec.args, where=where, given=given)
