"""The verb `data-preview`: the images that a training with these settings would see."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.request import Request
from discern.data.images import Pixels
from discern.feed.augment import describe_augment
from discern.feed.draws import Draws
from discern.feed.label_making import (
    BlurLabel,
    FlareLabel,
    LabelTransform,
    RotateLabel,
    make_labels,
)
from discern.feed.preview import Preview, crop_warning, preview_images
from discern.worker.plan import (
    allow_flip,
    build_network,
    choose_preprocess,
    make_material,
    plan_training,
)
from discern.workflows.preview_picture import write_preview

_TRANSFORMS: dict[str, Callable[[], LabelTransform]] = {
    "rotate": RotateLabel,
    "blur": BlurLabel,
    "flare": FlareLabel,
}


def preview_verb(request: Request, console: Console) -> int:
    """Write the picture, and say what it shows."""
    plan = plan_training(request, console)
    built = build_network(plan, filled=False)
    material = make_material(plan, built, choose_preprocess(plan, built), flip=allow_flip(plan))
    name, stage = next(iter(plan.config.training_stages.items()))
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
    made, labels = _made(request, shown, material.settings.seed)
    out = Path(request.arguments["out"])
    words = describe_augment(augment)
    size = f"{material.preprocess.height}x{material.preprocess.width}"
    write_preview(
        {
            f"training, stage {name}, epoch {request.arguments['epoch']}: {words}": shown.augmented,
            f"evaluation: {size}, {material.preprocess.fit}": shown.evaluation,
            **made,
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
    for name, numbers in labels.items():
        console.say(f"labels   {name}: {' '.join(map(str, numbers))}")
    console.emit({"out": str(out), "augment": words, "made_labels": labels, **shown.record()})
    return 0


def _made(
    request: Request, shown: Preview, seed: int
) -> tuple[dict[str, Pixels], dict[str, list[int]]]:
    """({caption: images}, {transform: labels}) of the transforms that make their own labels."""
    names = request.arguments.get("make_labels") or []
    for name in names:
        if name not in _TRANSFORMS:
            raise ConfigError(
                "no such transform", where="--make-labels", got=name,
                expected=", ".join(_TRANSFORMS), hint=did_you_mean(name, _TRANSFORMS),
            )  # fmt: skip
    if not names:
        return {}, {}
    images, labels = make_labels(
        shown.evaluation,
        {name: _TRANSFORMS[name]() for name in names},
        Draws(seed, int(request.arguments["epoch"])),
        torch.from_numpy(shown.positions),
    )
    plain = {name: numbers.tolist() for name, numbers in labels.items()}
    caption = "; ".join(f"{name} {' '.join(map(str, n))}" for name, n in plain.items())
    return {f"made labels: {caption}": images}, plain
