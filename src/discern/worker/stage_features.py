"""Which stages train their heads on features computed once: chosen once, stored in the run."""

from __future__ import annotations

from typing import Any

from discern.models.classifier import Classifier, set_trainable
from discern.training.frozen_features import FeaturePlan, choose_features, trial_images
from discern.training.kept_features import FeatureStore
from discern.training.material import Material
from discern.training.stage_parts import length_of_stage
from discern.training.trainers import STANDARD
from discern.worker.plan import TrainingPlan

CHOICE = "cache_features"


def choose_stage_features(
    plan: TrainingPlan, model: Classifier, material: Material, *, begun: bool
) -> frozenset[str]:
    """The names of those stages, noted in `plan.choices` with the reason of each stage.

    `begun`: the run has stored its choices, and keeps what it began with. Raises ConfigError for
    a stage that asks for kept features and cannot have them.
    """
    if CHOICE not in plan.choices:
        if begun:  # begun before there was a choice: every pass went through the whole network
            return frozenset()
        plan.choices[CHOICE] = _choices(plan, model, material)
    chosen = plan.choices[CHOICE]
    return frozenset(name for name, choice in chosen.items() if choice["value"])


def shared_features(plan: TrainingPlan) -> FeatureStore | None:
    """What the runs of its group have computed and go on computing; None for a run alone.

    Of several ranks each computes its own: a store is of one process at a time.
    """
    if plan.kept_features is None or not plan.world.alone:
        return None
    return FeatureStore(plan.kept_features)


def _choices(
    plan: TrainingPlan, model: Classifier, material: Material
) -> dict[str, dict[str, Any]]:
    preprocess = material.preprocess
    shape = (preprocess.channels, preprocess.height, preprocess.width)
    sample = trial_images(shape, material.settings.device)
    choices = {}
    for name, stage in plan.config.training_stages.items():
        set_trainable(model, stage.trainable)
        choice = choose_features(
            stage.cache_features,
            model,
            FeaturePlan(
                augment=material.augmentation(stage.augment.name, stage.augment.args),
                side_heads=any(head.side for head in material.heads),
                mixed=stage.mixup > 0.0 or stage.cutmix > 0.0,
                images=len(material.positions("train")),
                scored=len(material.positions(material.settings.val_split)),
                epochs=length_of_stage(material, stage).end[0],
                own_trainer=stage.trainer.name != STANDARD,
            ),
            sample,
            where=f"stages.{name}",
        )
        choices[name] = {"value": choice.cached, "reason": choice.reason}
    return choices
