"""From a request to everything that a training needs: images, config, network, preprocessing.

An assembler. Every automatic choice is made here, once, and noted with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from discern.base.console import Console
from discern.base.errors import ConfigError
from discern.base.files import hash_file, hash_json
from discern.base.seeds import derive_seed
from discern.compute.device import (
    DeviceChoice,
    default_threads,
    seed_everything,
    usable_cores,
)
from discern.compute.world import World
from discern.config.assemble import resolve_request
from discern.config.layers import Layer, Resolved
from discern.config.recipes import (
    SMALL_SIDE,
    RecipeFacts,
    choose_by_figures,
    choose_recipe,
    default_model,
    shorten_warmups,
)
from discern.config.request import Request
from discern.config.schema import DataConfig, RunConfig
from discern.config.stage_lengths import length_in_epochs
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.data.label_columns import answer_numbers
from discern.data.mirror import mirror_test
from discern.data.scan import ScannedData
from discern.data.sources import Source, measure_mean_std, open_source
from discern.feed.side_heads import side_head_specs
from discern.models.catalogue import BuiltModel, build_model, is_own_network
from discern.models.recompute import recompute_activations
from discern.optim.schedules import rises_by_itself
from discern.training.material import FeedSettings, Material
from discern.training.metric_table import Metric, open_metrics
from discern.training.stage_parts import asked_metrics
from discern.training.stock.names import canonical
from discern.worker.adapted_preprocess import as_augmented
from discern.worker.data_scan import CHOOSE_ON_TEST, choose_on_test, scan
from discern.worker.network import default_weights, network_request
from discern.worker.parts import check_parts
from discern.worker.rank_plan import check_same_images, join_ranks, share_batch_norm
from discern.worker.smoke import overfit_images, scored_images, shortened

# The next step up from 64 pixels that networks are made for; 224 is ImageNet's.
_SIZES = (64, 128, 224)
_SMALLEST = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A training, ready to start. `choices` are stored in the run and reread on resume."""

    resolved: Resolved
    recipe: str
    scanned: ScannedData
    source: Source
    device: DeviceChoice
    workers: int
    threads: int
    identity: str
    chosen_on_reported: bool = False
    check: bool = False  # a smoke run
    kept_features: Path | None = None  # where the runs of a group keep those that they share
    world: World = field(default_factory=World)
    choices: dict[str, Any] = field(default_factory=dict)

    @property
    def config(self) -> RunConfig:
        """The config with its recipe."""
        return self.resolved.config


def plan_training(request: Request, console: Console) -> TrainingPlan:
    """Choose the device, look at the images, resolve the config. Raises before anything is made."""
    early = resolve_request(request).config
    check_parts(early)
    device, world = join_ranks(early.compute)
    threads = early.compute.threads or default_threads()
    torch.set_num_threads(threads)
    with world.first_alone():
        scanned = scan(early.data, console)
    check_same_images(world, scanned.manifest.hash)
    chosen_on_reported = early.data.val == CHOOSE_ON_TEST
    if chosen_on_reported:
        console.say("note: the model is chosen on the test images; those held out go back to train")
        scanned = choose_on_test(scanned)
    side = _typical_side(scanned)
    name = early.model.name or default_model(side)
    weights = early.model.weights or default_weights(name, side)
    facts = RecipeFacts(
        side=side,
        train_count=len(scanned.manifest.positions("train")),
        val_count=len(scanned.manifest.positions("test" if chosen_on_reported else "val")),
        classes=sum(len(head.classes) for head in scanned.manifest.heads),
        model=name,
        own_network=is_own_network(name),
        pretrained=weights != "none",
    )
    recipe = choose_recipe(facts)
    found = {} if early.model.name else {"name": name}
    found |= {} if early.model.weights else {"weights": weights}
    choice = Layer("recipe", recipe.origin, {"model": found})
    resolved = resolve_request(request, recipe, choice)
    if _fit_recipe(recipe, resolved.config, facts.train_count):
        resolved = resolve_request(request, recipe, choice)
    check = bool(request.arguments.get("check"))
    if check:
        resolved = replace(resolved, config=shortened(resolved.config))
    workers = resolved.config.data.workers
    kept = request.arguments.get("kept_features")
    return TrainingPlan(
        resolved=resolved,
        recipe=recipe.origin,
        scanned=scanned,
        source=open_source(scanned.manifest),
        device=device,
        workers=max(1, usable_cores() // world.ranks) if workers is None else workers,
        threads=threads,
        identity=_identity(resolved.config, scanned, check=check),
        chosen_on_reported=chosen_on_reported,
        check=check,
        kept_features=None if kept is None else Path(kept),
        world=world,
        choices=dict(request.arguments.get("choices") or {}),
    )


def _fit_recipe(recipe: Layer, config: RunConfig, images: int) -> bool:
    """Let the recipe give way to what people asked for in `config`; True if it changed."""
    shortened_some = shorten_warmups(recipe, _warm_lengths(config, images))
    # A stage that ends where its score no longer rises has its best epoch behind it.
    ends_early = any(canonical(spec.name) == "early_stop" for spec in config.tracking.callbacks)
    asked = ends_early or config.data.val == CHOOSE_ON_TEST
    judged = [name for name, stage in config.stages.items() if asked or stage.by_figure]
    return choose_by_figures(recipe, judged) or shortened_some


def _warm_lengths(config: RunConfig, images: int) -> dict[str, float | None]:
    """The stages' lengths in epochs of `images`, as far as a recipe's warm-up may take of them."""
    return {
        name: 0.0 if rises_by_itself(stage.schedule.name) else length_in_epochs(stage, images)
        for name, stage in config.stages.items()
    }


def _typical_side(scanned: ScannedData) -> int:
    facts = scanned.facts
    return min(facts.median_height, facts.median_width)


def _identity(config: RunConfig, scanned: ScannedData, *, check: bool) -> str:
    """What makes two requests the same: the config without names, the images, the weights file."""
    record = config.identity()
    for key in ("source", "source_args", "val", "test", "root", "workers"):
        record["data"].pop(key)
    weights = config.model.weights or ""
    if weights.endswith(".safetensors") and Path(weights).is_file():
        record["model"]["weights"] = hash_file(Path(weights))
    smoke = {"check": True} if check else {}
    return hash_json({"config": record, "images": scanned.manifest.hash, **smoke})


def build_network(plan: TrainingPlan, *, filled: bool = True) -> BuiltModel:
    """The network with its weights, seeded. Raises ModelError or ConfigError.

    Not `filled`, weights that would be loaded are left out: enough to know what it is given.
    """
    config, scanned = plan.config, plan.scanned
    seed_everything(derive_seed(config.seed, "weights"))
    widths = {head.name: head.width for head in network_heads(plan)}
    request = network_request(
        config.model,
        num_classes=sum(widths.values()),
        channels=config.data.channels or scanned.facts.channels,
        device=plan.device.torch_device,
        choices=plan.choices,
    )
    own_size = request.weights != "none" and not is_own_network(request.name)
    built = build_model(
        replace(
            request,
            heads=widths if len(widths) > 1 else {},
            image_size=_image_size(config.data, scanned, pretrained=own_size),
            weights=request.weights if filled else "none",
            enlarge=config.data.image_size is None,
        )
    )
    plan.choices["stem"] = {"value": built.changes.stem, "reason": built.stem_note}
    share_batch_norm(built.model, config.compute)
    built.model.to(plan.device.torch_device)
    if config.compute.channels_last:
        built.model.to(memory_format=torch.channels_last)
    if config.compute.grad_checkpointing:
        recompute_activations(built.model)
    return built


def network_heads(plan: TrainingPlan) -> tuple[HeadSpec, ...]:
    """What the network answers: the label columns, then the side heads. Raises ConfigError."""
    main = tuple(head.spec for head in plan.scanned.manifest.heads)
    return (*main, *side_head_specs(plan.config.data.side_heads, main))


def _image_size(
    data: DataConfig, scanned: ScannedData, *, pretrained: bool
) -> tuple[int, int] | None:
    """(height, width) of the network's input; None leaves it to a pretrained network."""
    if isinstance(data.image_size, int):
        return data.image_size, data.image_size
    if data.image_size is not None:
        if len(data.image_size) != 2:
            raise ConfigError(
                "an image size is one side or [height, width]",
                where="data.image_size",
                got=data.image_size,
            )
        return data.image_size[0], data.image_size[1]
    if pretrained:
        return None
    facts = scanned.facts
    if facts.all_equal and max(facts.median_height, facts.median_width) <= SMALL_SIDE:
        return max(_SMALLEST, facts.median_height), max(_SMALLEST, facts.median_width)
    side = _typical_side(scanned)
    chosen = next((size for size in _SIZES if size >= side), _SIZES[-1])
    return chosen, chosen


def choose_preprocess(plan: TrainingPlan, built: BuiltModel) -> Preprocess:
    """What evaluation does to an image: the config's values, else the network's, else measured."""
    data, offered = plan.config.data, built.preprocess
    preprocess = replace(
        offered,
        interpolation=data.interpolation or offered.interpolation,
        crop_pct=data.crop_pct or offered.crop_pct,
        fit=data.fit,
        depth=data.depth,
    )
    mean, std = _normalization(plan, built, preprocess)
    stored = plan.choices.get("normalization", {})
    plan.choices["normalization"] = {"mean": list(mean), "std": list(std)}
    per_image = bool(stored.get("per_image", False))
    return replace(preprocess, mean=mean, std=std, per_image=per_image)


def _normalization(
    plan: TrainingPlan, built: BuiltModel, preprocess: Preprocess
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std: given, stored by an earlier attempt, the pretrained network's, or measured."""
    data = plan.config.data
    if data.mean is not None and data.std is not None:
        return tuple(data.mean), tuple(data.std)
    if (data.mean is None) != (data.std is None):
        raise ConfigError("mean and std are given together", where="data.mean, data.std")
    stored = plan.choices.get("normalization")
    if stored is not None:
        return tuple(stored["mean"]), tuple(stored["std"])
    if built.pretrained:
        return preprocess.mean, preprocess.std
    positions = plan.scanned.manifest.positions("train")
    return measure_mean_std(plan.source, positions, preprocess, threads=plan.workers)


def make_material(
    plan: TrainingPlan, built: BuiltModel, preprocess: Preprocess, *, flip: bool
) -> Material:
    """The images made into feeds, for training and for the evaluations during it."""
    settings = FeedSettings(
        device=plan.device.torch_device,
        workers=plan.workers,
        seed=derive_seed(plan.config.seed, "feed") >> 16,
        flip=flip,
        resample=plan.config.data.resample,
        val_split="test" if plan.chosen_on_reported else "val",
        rank=plan.world.rank,
        ranks=plan.world.ranks,
        eval_batch_size=plan.config.compute.eval_batch_size,
        side_heads=tuple(plan.config.data.side_heads),
        scored_images=scored_images(plan.config) if plan.check else None,
        overfit_images=overfit_images(plan.config),
    )
    material = Material(plan.scanned.manifest, plan.source, preprocess, settings)
    # Pretrained weights keep the normalization that they were trained under.
    if built.pretrained:
        return material
    adapted = as_augmented(plan.config, material)
    plan.choices["normalization"] = {
        "mean": list(adapted.mean),
        "std": list(adapted.std),
        "per_image": adapted.per_image,
    }
    return material.with_preprocess(adapted)


def allow_flip(plan: TrainingPlan) -> bool:
    """Whether mirror images keep their class: measured once, then reread.

    Of several heads all must keep it. A side head that tells turned images would not know a mirror
    image that it was not told of.
    """
    if "mirror" not in plan.choices:
        heads, rows = plan.scanned.manifest.heads, plan.scanned.manifest.positions("train")
        results = [
            mirror_test(plan.source, rows[targets >= 0], targets[targets >= 0], plan.config.seed)
            for targets in (answer_numbers(head, rows) for head in heads)
        ]
        refused = [result for result in results if not result.allowed]
        plan.choices["mirror"] = (refused or results)[0].record()
    turned = {"rotation", "class_rotation"} & set(plan.config.data.side_heads)
    return bool(plan.choices["mirror"]["allowed"]) and not turned


def plan_metrics(plan: TrainingPlan) -> tuple[list[Metric], list[Metric]]:
    """The further figures that the config asks for, of each kind of head there is.

    (Those of one label an image, those of several.) Raises ConfigError for one that no head has.
    """
    return open_metrics(asked_metrics(plan.config), network_heads(plan))
