"""The verb `data-preview`: the images that a training with these settings would see."""

from __future__ import annotations

from pathlib import Path

from discern.base.console import Console
from discern.config.request import Request
from discern.feed.augment import describe_augment
from discern.feed.preview import crop_warning, preview_images
from discern.worker.plan import (
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    plan_training,
)
from discern.workflows.preview_picture import write_preview


def preview_verb(request: Request, console: Console) -> int:
    """Write the picture, and say what it shows."""
    plan = plan_training(request, console)
    built = build_network(plan, filled=False)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=allow_flip(plan))
    name, stage = next(iter(plan.config.stages.items()))
    augment = material.augmentation(stage.augment.name, stage.augment.args)
    facts = plan.scanned.facts
    shown = preview_images(
        material.source,
        material.positions("train"),
        material.preprocess,
        augment,
        seed=material.settings.seed,
        epoch=int(request.arguments["epoch"]),
        sizes=[(facts.median_height, facts.median_width)],
    )
    out = Path(request.arguments["out"])
    words = describe_augment(augment)
    size = f"{material.preprocess.height}x{material.preprocess.width}"
    write_preview(
        {
            f"training, stage {name}, epoch {request.arguments['epoch']}: {words}": shown.augmented,
            f"evaluation: {size}, {material.preprocess.fit}": shown.evaluation,
        },
        out,
    )
    console.say(f"model    {built.name}, input {size}")
    console.say(f"augment  {words}")
    if shown.crop_loss is not None:
        warning = crop_warning(shown.crop_loss)
        if warning is not None:
            console.warn(warning)
    console.result(f"wrote    {out}: {len(shown.names)} training images, as trained and as scored")
    console.emit({"out": str(out), "augment": words, **shown.record()})
    return 0
