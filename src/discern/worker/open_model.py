"""MODEL on the command line: a run, a bundle, a checkpoint, or a network's name with weights."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from discern.base.errors import ConfigError, ModelError
from discern.compute.device import DeviceChoice, choose_device
from discern.data.images import Preprocess
from discern.exporting.bundle import open_bundle
from discern.exporting.predictor import Predictor
from discern.models.catalogue import ModelRequest, build_model
from discern.models.classifier import Classifier
from discern.models.listing import imagenet_classes
from discern.track.run import open_run, runs_root
from discern.training.checkpoints import checkpoint_step, read_checkpoint


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


@dataclass(frozen=True, slots=True)
class OpenedModel:
    """A network on its device with what evaluation needs; `aliases`: other spellings of classes."""

    name: str
    model: Classifier
    preprocess: Preprocess
    classes: tuple[str, ...]
    device: DeviceChoice
    aliases: dict[str, int] = field(default_factory=dict)

    def predictor(self) -> Predictor:
        """The same model for single images."""
        return Predictor(self.model, self.preprocess, self.classes, device=self.device.torch_device)


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
    return replace(opened, preprocess=_overridden(opened.preprocess, request))


def _open_bundle(path: Path, device: DeviceChoice) -> OpenedModel:
    bundle = open_bundle(path)
    model = bundle.model.to(device.torch_device).eval()
    return OpenedModel(str(path), model, bundle.preprocess, bundle.classes, device)


def _open_run(request: OpenRequest, device: DeviceChoice) -> OpenedModel:
    try:
        run = open_run(request.model, runs_root(request.runs))
    except ConfigError as error:
        raise ModelError(
            "no such model",
            got=request.model,
            expected="a run, a bundle, a checkpoint, or a network's name with --weights",
            hint=error.hint
            or "`discern runs list`; a bare network needs --weights pretrained or FILE",
        ) from error
    bundle = run.path / "model"
    if not (bundle / "config.json").is_file():
        raise ModelError(
            "the run has no finished model yet",
            where=run.id,
            got=f"status {run.status}",
            hint=f"go on with it, or use a checkpoint: {run.path / 'checkpoints'}/step-N",
        )
    return replace(_open_bundle(bundle, device), name=run.id)


def _open_checkpoint(path: Path, device: DeviceChoice) -> OpenedModel:
    checkpoint = read_checkpoint(path)
    record = json.loads((path.parent.parent / "run.json").read_text(encoding="utf-8"))
    config, classes = record["config"], tuple(record["classes"])
    data, model = config["data"], config["model"]
    height, width = data["image_size"]
    built = build_model(
        ModelRequest(
            name=model["name"],
            num_classes=len(classes),
            channels=data["channels"],
            image_size=(height, width),
            arguments=model["args"],
            weights="none",
        )
    )
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
    )
    model_on_device = built.model.to(device.torch_device).eval()
    return OpenedModel(str(path), model_on_device, preprocess, classes, device)


def _open_network(request: OpenRequest, device: DeviceChoice) -> OpenedModel:
    """A bare network: timm's preprocessing, and the class names of ImageNet or of a file."""
    if request.weights == "none":
        raise ModelError(
            "a network without weights knows nothing", where="--weights", got="none",
            expected="pretrained or FILE.safetensors",
        )  # fmt: skip
    names, aliases = _class_names(request.classes)
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
    return OpenedModel(request.model, model, built.preprocess, names, device, aliases)


def _class_names(file: str | None) -> tuple[tuple[str, ...], dict[str, int]]:
    """(names in label order, other spellings): ImageNet's, or those of a CSV."""
    if file is None:
        pairs = imagenet_classes()
        names = tuple(name for _, name in pairs)
        return names, {wnid: place for place, (wnid, _) in enumerate(pairs)}
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ConfigError(f"the class names cannot be read: {error}", where=file) from error
    columns = list(rows[0]) if rows else []
    named = next((column for column in ("name", "class", "label") if column in columns), None)
    if named is None:
        raise ConfigError(
            "no column of class names", where=file, got=", ".join(columns), expected="name"
        )
    if "index" in columns:
        rows.sort(key=lambda row: int(row["index"]))
    names = tuple(row[named] for row in rows)
    aliases = {row["wnid"]: place for place, row in enumerate(rows)} if "wnid" in columns else {}
    return names, aliases


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
