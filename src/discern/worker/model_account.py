"""The summary of a run's network: layers, sizes, costs, and what each stage's training keeps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from discern.base.console import Console
from discern.config.schema import StageConfig
from discern.models.catalogue import BuiltModel
from discern.models.classifier import Classifier, set_trainable
from discern.models.summary import summarize
from discern.optim.layer_depth import Named
from discern.optim.optimizers import build_optimizer
from discern.optim.state_size import optimizer_state_bytes
from discern.track.model_summary import SUMMARY_FILE, write_summary
from discern.training.material import Material
from discern.training.stage_parts import peak_rate


def store_model_summary(
    folder: Path,
    built: BuiltModel,
    material: Material,
    stages: Mapping[str, StageConfig],
    console: Console,
) -> None:
    """Write `model_summary.json` into a run's folder, unless it is there; a failure is told.

    Its `trainable` and `memory` are those of the last training stage; `stages` holds both of each.
    Which parameters learn is left as that stage has it: a stage sets that when it begins.
    """
    if (folder / SUMMARY_FILE).exists():
        return
    model, preprocess = built.model, material.preprocess
    first = next(model.parameters())
    shape = (1, preprocess.channels, preprocess.height, preprocess.width)
    sample = torch.zeros(shape, device=first.device, dtype=first.dtype)
    summary: dict[str, Any] = {}
    told: dict[str, Any] = {}
    try:
        for name, stage in stages.items():
            set_trainable(model, stage.trainable)
            summary = summarize(model, sample)
            summary["memory"]["optimizer"] = stage_state_bytes(stage, model)
            told[name] = {"trainable": summary["trainable"], "memory": summary["memory"]}
    except (RuntimeError, TypeError, ValueError) as error:
        console.warn(f"there is no summary of the network: {type(error).__name__}: {error}")
        return
    write_summary(folder, {**summary, "network": built.name, "stages": told})


def stage_state_bytes(stage: StageConfig, model: Classifier) -> int | None:
    """Bytes of the state of the stage's optimizer; None for one whose state has odd forms."""

    def build(named: list[Named]) -> torch.optim.Optimizer:
        return build_optimizer(
            stage.optimizer.name,
            named,
            lr=peak_rate(stage).lr,
            weight_decay=stage.weight_decay,
            arguments=stage.optimizer.args,
            head_names=model.head_names,
        )

    return optimizer_state_bytes(build, model.named_parameters())
