"""MODEL on the command line: a run, a bundle, a checkpoint, or a network's name with weights.

A checkpoint is a folder, or RUN@best, RUN@last, RUN@epoch:K, RUN@step:N.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from discern.base.errors import ConfigError, ModelError, RunError
from discern.base.plugins import is_import_path
from discern.compute.device import DeviceChoice, choose_device
from discern.data.fold_split import FoldRule
from discern.data.head_spec import HeadSpec
from discern.data.images import Preprocess
from discern.data.split import SplitRule
from discern.exporting.answer_rules import AnswerRules
from discern.exporting.bundle import open_bundle
from discern.exporting.content import head_widths, single_head
from discern.exporting.predictor import Predictor
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import Classifier
from discern.models.listing import imagenet_classes
from discern.track.run import Run, list_runs, open_run, runs_root
from discern.track.run_folder import CHECKPOINTS, RUN_FILE
from discern.track.run_reference import CheckpointWish, split_reference
from discern.training.checkpoint_choice import choose_checkpoint, final_monitor
from discern.training.checkpoints import checkpoint_step, read_checkpoint
from discern.training.evaluate import evaluation_batch
from discern.worker.network import stored_request


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenRequest:
    """What to open, and what overrides its stored preprocessing. None: as stored."""

    model: str
    device: str = "auto"
    weights: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    classes: str | None = None
    image_size: int | None = None
    interpolation: str | None = None
    crop_pct: float | None = None
    fit: str | None = None
    mean: list[float] | None = None
    std: list[float] | None = None
    runs: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredWith:
    """How a run scored its model, so that the same images give the same figures again.

    `split`: how it drew its splits; `folds`: which fold it held out, if it did. `batch_size`:
    images per pass. `source`: the data that it was trained on, as its config names it; `data`: all
    that its config says of the images; `images_hash`: that of the images' table.
    """

    source: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    images_hash: str | None = None
    split: SplitRule = field(default_factory=SplitRule)
    folds: FoldRule | None = None
    batch_size: int = 64
    channels_last: bool = False
    labels: Any = None  # the label columns, as the run's config names them
    mirrored: bool = False  # trained with mirror images among its views


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedModel:
    """A network on its device with what evaluation needs; `aliases`: other spellings of classes.

    A spelling that two classes share stands in `ambiguous`, not in `aliases`.
    """

    name: str
    model: Classifier
    preprocess: Preprocess
    heads: tuple[HeadSpec, ...]
    device: DeviceChoice
    aliases: dict[str, int] = field(default_factory=dict)
    ambiguous: frozenset[str] = frozenset()
    scored: ScoredWith = field(default_factory=ScoredWith)
    rules: AnswerRules = field(default_factory=AnswerRules)
    bundle: Path | None = None  # where it was opened, of a bundle or a run

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names of the only head. Raises ModelError for several."""
        return single_head(self.heads, self.name).classes

    def predictor(self, amp_dtype: torch.dtype | None = None) -> Predictor:
        """The same model for single images; `amp_dtype`: what autocast casts to, None does not."""
        return Predictor(
            self.model,
            self.preprocess,
            self.heads,
            device=self.device.torch_device,
            amp_dtype=amp_dtype,
            rules=self.rules,
        )


def open_model(request: OpenRequest) -> OpenedModel:
    """Open MODEL. Raises ModelError or ConfigError; the device is checked first."""
    device = choose_device(request.device)
    path = Path(request.model)
    if (path / "config.json").is_file():
        opened = _open_bundle(path, device)
    elif path.is_dir() and checkpoint_step(path) is not None:
        opened = _open_checkpoint(path, device)
    elif request.weights is not None:
        opened = _open_network(request, device)
    else:
        opened = _open_run(request, device)
    preprocess = _overridden(opened.preprocess, request)
    if request.image_size is not None:
        _try_size(opened, preprocess)
    return replace(opened, preprocess=preprocess)


def _try_size(opened: OpenedModel, preprocess: Preprocess) -> None:
    """Raises ModelError when the network cannot take images of an asked-for size."""
    shape = (1, preprocess.channels, preprocess.height, preprocess.width)
    try:
        with torch.inference_mode():
            opened.model(torch.zeros(shape, device=opened.device.torch_device))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ModelError(
            "the network cannot take images of this size",
            where="--img-size",
            got=f"{preprocess.height}x{preprocess.width}",
            expected=f"{opened.preprocess.height}x{opened.preprocess.width}",
            hint="leave --img-size out",
        ) from error


def _open_bundle(path: Path, device: DeviceChoice, trusted: str | None = None) -> OpenedModel:
    bundle = open_bundle(path, trusted=trusted)
    model = bundle.model.to(device.torch_device).eval()
    return OpenedModel(
        name=str(path),
        model=model,
        preprocess=bundle.preprocess,
        heads=bundle.heads,
        device=device,
        rules=bundle.rules,
        bundle=path,
    )


def _open_run(request: OpenRequest, device: DeviceChoice) -> OpenedModel:
    root = runs_root(request.runs)
    name, wish = split_reference(request.model)
    try:
        run = open_run(name, root)
    except RunError as error:
        there = any(name in (run.id, run.name) for run in list_runs(root))
        if there or (Path(name) / RUN_FILE).is_file():
            raise
        near = f"{error.hint}; " if error.hint and error.hint.startswith("did you mean") else ""
        raise ModelError(
            "no such model",
            got=request.model,
            expected="a run, RUN@best, a bundle, a checkpoint, or a network's name with --weights",
            hint=f"{near}`discern runs list` shows the runs; a bare network needs "
            "--weights pretrained or FILE.safetensors",
        ) from error
    if wish is not None:
        return _open_checkpoint(_checkpoint_of(run, wish), device)
    bundle = run.path / "model"
    if not (bundle / "config.json").is_file():
        raise ModelError(
            "the run has no finished model yet",
            where=run.id,
            got=f"status {run.status}",
            hint=f"go on with it, or use a checkpoint: {run.id}@last or {run.id}@best",
        )
    name = run.record["config"]["model"]["name"]
    opened = _open_bundle(bundle, device, trusted=name if is_import_path(name) else None)
    return _as_scored(replace(opened, name=run.id), run.record)


def _checkpoint_of(run: Run, wish: CheckpointWish) -> Path:
    """The checkpoint that RUN@WHAT names; never another one, whose figures would be taken for its.

    Raises ModelError.
    """
    monitor = final_monitor(run.record["config"]["stages"])
    chosen = choose_checkpoint(run.path / CHECKPOINTS, wish, monitor)
    if chosen.note is not None:
        raise ModelError(
            chosen.note, where=run.id, got=f"@{wish}", expected="a checkpoint that was kept",
            hint=f"{run.id}@step:{chosen.step}",
        )  # fmt: skip
    return chosen.path


def _as_scored(opened: OpenedModel, record: dict[str, Any]) -> OpenedModel:
    """The model of a run, set up as the run scored it in the end: in full precision."""
    config = record["config"]
    data, compute = config["data"], config["compute"]
    rule = SplitRule(
        val=data["val_share"],
        test=data["test_share"],
        inner_val=data["inner_val_share"],
        seed=data["split_seed"],
    )
    scored = ScoredWith(
        source=data["source"],
        data=data,
        images_hash=record.get("images_hash"),
        split=rule,
        folds=_fold_rule(data),
        batch_size=evaluation_batch(
            list(config["stages"].values())[-1]["batch_size"], compute.get("eval_batch_size")
        ),
        channels_last=compute["channels_last"],
        labels=data.get("labels"),
        mirrored=bool(((record.get("choices") or {}).get("mirror") or {}).get("allowed")),
    )
    if scored.channels_last:
        opened.model.to(memory_format=torch.channels_last)
    return replace(opened, scored=scored)


def _fold_rule(data: dict[str, Any]) -> FoldRule | None:
    if data.get("held_fold") is None:
        return None
    return FoldRule(
        folds=data["folds"],
        held=data["held_fold"],
        inner_val=data["inner_val_share"],
        seed=data["split_seed"],
    )


def _open_checkpoint(path: Path, device: DeviceChoice) -> OpenedModel:
    checkpoint = read_checkpoint(path)
    record = json.loads((path.parent.parent / "run.json").read_text(encoding="utf-8"))
    config, heads = record["config"], stored_heads(record)
    data, model = config["data"], config["model"]
    height, width = data["image_size"]
    request = stored_request(
        model,
        record.get("choices") or {},
        num_classes=sum(head.width for head in heads),
        channels=data["channels"],
    )
    built = build_model(replace(request, heads=head_widths(heads), image_size=(height, width)))
    try:
        built.model.load_state_dict(checkpoint.tensors.get("ema") or checkpoint.tensors["model"])
    except (RuntimeError, KeyError) as error:
        raise ModelError(f"the checkpoint does not fit its network: {error}", where=path) from error
    preprocess = Preprocess(
        height=height,
        width=width,
        channels=data["channels"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        crop_pct=data["crop_pct"],
        fit=data["fit"],
        depth=data.get("depth", 8),
        per_image=record.get("choices", {}).get("normalization", {}).get("per_image", False),
    )
    model_on_device = built.model.to(device.torch_device).eval()
    opened = OpenedModel(
        name=str(path), model=model_on_device, preprocess=preprocess, heads=heads, device=device
    )
    return _as_scored(opened, record)


def stored_heads(record: dict[str, Any]) -> tuple[HeadSpec, ...]:
    """The heads of a run by its record; an older one has the classes of its only head."""
    if "heads" in record:
        return tuple(HeadSpec.from_record(head) for head in record["heads"])
    return (HeadSpec("label", "single", tuple(record["classes"])),)


def _open_network(request: OpenRequest, device: DeviceChoice) -> OpenedModel:
    """A bare network: timm's preprocessing, and the class names of ImageNet or of a file."""
    if request.weights == "none":
        raise ModelError(
            "a network without weights knows nothing", where="--weights", got="none",
            expected="pretrained or FILE.safetensors",
        )  # fmt: skip
    names, aliases, ambiguous = _class_names(request.classes)
    size = request.image_size
    built = build_model(
        ModelRequest(
            name=request.model,
            num_classes=len(names),
            image_size=None if size is None else (size, size),
            arguments=request.arguments,
            weights=request.weights or "pretrained",
        )
    )
    report = built.weights_report
    if report.missing or report.reshaped:
        raise ModelError(
            "the weights' classes or layers are not those of this network",
            where=report.source,
            got=", ".join([*report.missing, *report.reshaped][:4]) + " not filled",
            expected=f"a head of {len(names)} classes",
            hint="--classes FILE.csv names other classes than ImageNet's",
        )
    model = built.model.to(device.torch_device).eval()
    heads = (HeadSpec("label", "single", names),)
    return OpenedModel(
        name=request.model,
        model=model,
        preprocess=built.preprocess,
        heads=heads,
        device=device,
        aliases=aliases,
        ambiguous=ambiguous,
    )


def _class_names(file: str | None) -> tuple[tuple[str, ...], dict[str, int], frozenset[str]]:
    """(names in label order, other spellings, spellings of several): ImageNet's, or a CSV's."""
    if file is None:
        pairs = imagenet_classes()
        names = tuple(name for _, name in pairs)
        # A name lists its synonyms: "tench, Tinca tinca". The first one alone names the class too.
        shorts = [name.partition(", ")[0] for name in names]
        numbers = {wnid: place for place, (wnid, _) in enumerate(pairs)}
    else:
        rows = _class_rows(file)
        columns = list(rows[0]) if rows else []
        named = next((column for column in ("name", "class", "label") if column in columns), None)
        if named is None:
            raise ConfigError(
                "no column of class names", where=file, got=", ".join(columns), expected="name"
            )
        names = tuple(row[named] for row in rows)
        shorts = list(names)
        known = rows if "wnid" in columns else []
        numbers = {row["wnid"]: place for place, row in enumerate(known)}
    shared = frozenset(name for name, count in Counter(shorts).items() if count > 1)
    aliases = {short: place for place, short in enumerate(shorts) if short not in shared}
    return names, aliases | numbers, shared


def _class_rows(file: str) -> list[dict[str, str]]:
    """The rows of a CSV of classes, in the order of its column `index` if it has one."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream, restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"the class names cannot be read: {error}", where=file) from error
    if not rows or "index" not in rows[0]:
        return rows
    try:
        ordered = {int(row["index"]): row for row in rows}
    except ValueError as error:
        raise ConfigError(f"a class has no number: {error}", where=file) from error
    if sorted(ordered) != list(range(len(rows))):
        raise ConfigError(
            "the classes are not numbered from 0 without gaps and repeats",
            where=file,
            got=f"{len(rows)} rows, numbers {min(ordered)} to {max(ordered)}",
            expected=f"each of 0 to {len(rows) - 1} once",
        )
    return [ordered[number] for number in range(len(rows))]


def _overridden(preprocess: Preprocess, request: OpenRequest) -> Preprocess:
    changes: dict[str, Any] = {
        "interpolation": request.interpolation,
        "crop_pct": request.crop_pct,
        "fit": request.fit,
        "mean": None if request.mean is None else tuple(request.mean),
        "std": None if request.std is None else tuple(request.std),
    }
    if request.image_size is not None:
        changes["height"] = changes["width"] = request.image_size
    return replace(
        preprocess, **{key: value for key, value in changes.items() if value is not None}
    )
