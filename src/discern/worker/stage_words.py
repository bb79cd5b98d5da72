"""What a training says of its stages before it begins: pictures, rates, features."""

from __future__ import annotations

from discern.config.recipes import recipe_reason
from discern.feed.augment import describe_augment
from discern.models.classifier import Classifier
from discern.training.material import Material
from discern.training.stage_parts import optimizer_lines
from discern.worker.plan import TrainingPlan
from discern.worker.stage_features import CHOICE

# Groups of rates told one by one; of more, as layer decay makes them, the first and the last.
_MOST_RATES = 6


def recipe_words(plan: TrainingPlan, material: Material) -> str | None:
    """Why the recipe has the stages that it has; None where they are the user's own."""
    count = len(material.positions(material.settings.val_split))
    return recipe_reason(plan.recipe, plan.config.training_stages, count)


def augment_words(plan: TrainingPlan, material: Material) -> str:
    """What is done to training images, stage by stage where stages differ."""
    words = {
        name: describe_augment(material.augmentation(stage.augment.name, stage.augment.args))
        for name, stage in plan.config.training_stages.items()
    }
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{name}: {text}" for name, text in words.items())


def rate_lines(plan: TrainingPlan, model: Classifier) -> list[str]:
    """The rates of each stage that has others than its plain one."""
    lines = []
    for name, stage in plan.config.training_stages.items():
        told = optimizer_lines(stage, model)
        if len(told) > _MOST_RATES:
            told = [told[0], f"{len(told) - 2} groups between", told[-1]]
        lines += [f"{name}: {line}" for line in told]
    return lines


def feature_lines(plan: TrainingPlan) -> list[str]:
    """The stages with kept features, and heads that go without, and why.

    Stages that train more than a head are passed over.
    """
    lines = []
    for name, choice in plan.choices.get(CHOICE, {}).items():
        if choice["value"]:
            lines.append(f"{name}: {choice['reason']}")
        elif plan.config.stages[name].trainable == "head":
            lines.append(f"{name}: computed in every epoch: {choice['reason']}")
    return lines
