"""One stage of a training: what is trained, for how long, with which optimizer and schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.config.schema.section import Section, Spec
from discern.config.stage_lengths import DEFAULT_EPOCHS, LENGTHS

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class ParameterGroup(Section):
    """What is different for the parameters whose name an expression fits; the first one counts."""

    match: str = Field(
        description="regular expression for the whole name inside the network; head: the classifier"
    )
    lr: float | None = Field(None, gt=0.0, description="peak learning rate of these")
    lr_scale: float = Field(1.0, gt=0.0, description="multiple of the stage's learning rate")
    weight_decay: float | None = Field(None, ge=0.0, description="instead of the stage's")
    args: dict[str, Any] = Field(
        default_factory=dict, description="arguments of the optimizer for these, such as momentum"
    )


class HeadConfig(Section):
    """What one of several heads minimizes in a stage, and how much it counts."""

    objective: Spec | None = Field(
        None, description="instead of the stage's; default of a side head: cross_entropy"
    )
    weight: float = Field(1.0, ge=0.0, description="multiple of the head's loss; 0: not trained")


class StageConfig(Section):
    """A training is a non-empty mapping of these; each takes the model where the last left it."""

    kind: Literal["train", "predict"] = Field(
        "train", description="predict writes what the network says of each image to files"
    )
    epochs: int | None = Field(
        None,
        ge=1,
        description="passes over the training images; 10 unless another length is given",
    )
    steps: int | None = Field(None, ge=1, description="length in updates, for epochs")
    examples: int | None = Field(None, ge=1, description="length in images shown, for epochs")
    minutes: float | None = Field(
        None, gt=0.0, description="length in time, for epochs; not the same updates every time"
    )
    start_from: str | None = Field(
        None,
        description="weights to begin with: best or last of the stage before, stage:NAME, a run "
        "(RUN, RUN@epoch:K|step:N|best|last), a checkpoint or a weights file; default: where the "
        "stage before ended; of a predict stage: best",
    )
    source: str | None = Field(
        None, description="of a predict stage: images of its own, as DATA; default: each split"
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        128,
        description="images per update, over all devices; auto: the most that fit, found once",
    )
    optimizer: Spec = Field(
        default_factory=lambda: Spec(name="adamw"),
        description="adamw, sgd, muon, ... and arguments",
    )
    lr: float = Field(1e-3, gt=0.0, description="peak learning rate")
    lr_base: float | None = Field(
        None, gt=0.0, description="rate for batches of lr_base_size, scaled to the batch; for lr"
    )
    lr_base_size: int = Field(256, ge=1, description="images per update that lr_base is meant for")
    lr_scaling: Literal["linear", "sqrt"] = Field(
        "linear", description="how lr_base grows with the batch"
    )
    weight_decay: float = Field(0.0, ge=0.0, description="not applied to norms and biases")
    decay_all: bool = Field(False, description="apply weight decay to norms and biases too")
    no_decay: list[str] = Field(
        default_factory=list,
        description="regular expressions for whole names of further parameters without decay",
    )
    layer_decay: float | None = Field(
        None, gt=0.0, le=1.0, description="multiple of the rate from each layer to the one before"
    )
    groups: list[ParameterGroup] = Field(
        default_factory=list, description="parameters with a rate or decay of their own, by name"
    )
    schedule: Spec = Field(
        default_factory=lambda: Spec(name="cosine"),
        description="constant, cosine, step, multistep, poly, one_cycle, ... and arguments",
    )
    warmup_epochs: float = Field(0.0, ge=0.0, description="warm-up, in epochs")
    warmup_mode: Literal["linear", "constant", "power2", "sqrt"] = Field(
        "linear", description="form of the warm-up"
    )
    warmup_lr: float = Field(0.0, ge=0.0, description="rate that the warm-up begins at")
    objective: Spec | None = Field(
        None,
        description="cross_entropy, bce, focal, asymmetric, logit_adjusted, weighted_sum, ... and "
        "arguments; default: cross_entropy, of several labels an image bce",
    )
    heads: dict[str, HeadConfig] = Field(
        default_factory=dict,
        description="objective and weight of single heads, by name, where there are several",
    )
    smoothing: Unit = Field(
        0.0, description="label smoothing, of objectives that have it and one label an image"
    )
    clip_grad: float | None = Field(None, gt=0.0, description="largest gradient norm")
    grad_accum_steps: int = Field(1, ge=1, description="forward passes per update")
    ema: float | None = Field(
        None, gt=0.0, lt=1.0, description="decay of the moving average of the weights"
    )
    augment: Spec = Field(
        default_factory=lambda: Spec(name="auto"),
        description="auto, none, small, photo, own; light, standard, heavy, randaugment, mxnet "
        "and other presets; and arguments",
    )
    mixup: float = Field(
        0.0, ge=0.0, description="mix pairs of images: shape of the share's beta distribution"
    )
    cutmix: float = Field(
        0.0, ge=0.0, description="paste parts of images: shape of the share's beta distribution"
    )
    close_aug: int = Field(0, ge=0, description="last epochs with the gentle augmentation only")
    sampler: Spec = Field(
        default_factory=lambda: Spec(name="all"),
        description="images of an epoch: all; classes evened out by down, up or a number of images "
        "per class; weighted; shards; classes_images, see batch_classes",
    )
    batch_classes: int | None = Field(
        None, ge=2, description="classes of a batch, for objectives that compare images"
    )
    batch_images: int | None = Field(
        None, ge=2, description="images of each of them; batch_size is then their product"
    )
    epoch_size: int | None = Field(
        None, ge=1, description="images per epoch, out of the endless row of whole epochs"
    )
    trainable: str | list[str] = Field(
        "all", description="all, head, or patterns of parameter names"
    )
    cache_features: Literal["auto", "on", "off"] = Field(
        "auto",
        description="compute a frozen network's features once, where only heads learn and chance "
        "does no more than mirror an image",
    )
    patience: int | None = Field(
        None, ge=1, description="epochs without a better score before the stage ends"
    )
    min_delta: float = Field(
        0.0, ge=0.0, description="gain of that score that patience counts as one"
    )
    monitor: str = Field(
        "accuracy",
        description="validation figure that chooses the kept model: accuracy, loss, macro_f1, mcc, "
        "auc, ... or a metric of your own; last: no figure does, the last epoch is kept",
    )
    monitor_mode: Literal["max", "min"] | None = Field(
        None, description="which way monitor is better; default: known by its name"
    )
    keep_top: int = Field(3, ge=1, description="checkpoints kept by that figure")
    soup: int | None = Field(
        None,
        ge=2,
        description="in the end, average the weights of so many of the last stage's best "
        "checkpoints, kept if that scores higher",
    )
    trainer: Spec = Field(
        default_factory=lambda: Spec(name="standard"),
        description="the loop that runs the stage: standard, or an import path and arguments",
    )
    evaluate_every: int = Field(1, ge=1, description="epochs between evaluations")

    @model_validator(mode="before")
    @classmethod
    def _default_length(cls, value: Any) -> Any:
        if isinstance(value, dict) and all(value.get(key) is None for key in LENGTHS):
            return {**value, "epochs": DEFAULT_EPOCHS}
        return value

    @property
    def by_figure(self) -> tuple[str, ...]:
        """The keys set that need a monitor which is a figure."""
        keys = ("patience", "soup", "monitor_mode")
        return tuple(key for key in keys if getattr(self, key) is not None)

    @property
    def batch(self) -> int:
        """Images of an update. Raises ConfigError while `auto` is still to be chosen."""
        if self.batch_size == "auto":
            raise ConfigError(
                "the batch size is not known yet",
                where="stages.*.batch_size",
                got="auto",
                expected="a whole number",
                hint="`discern train --batch-size auto --dry-run` finds one",
            )
        return self.batch_size

    @field_validator("batch_size", mode="before")
    @classmethod
    def _images_or_auto(cls, value: Any) -> Any:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        near = did_you_mean(value, ["auto"]) if isinstance(value, str) else None
        msg = "a whole number of images, or auto" + (f"; {near}" if near else "")
        raise ValueError(msg)

    @model_validator(mode="before")
    @classmethod
    def _batch_of_classes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        classes, images = value.get("batch_classes"), value.get("batch_images")
        if classes is None and images is None:
            return value
        if not isinstance(classes, int) or not isinstance(images, int):  # a missing one, mostly
            msg = "batch_classes and batch_images are whole numbers, given together"
            raise ValueError(msg)  # noqa: TRY004 - pydantic reports a ValueError
        sampler = {"name": "classes_images", "args": {"classes": classes, "images": images}}
        other = value.get("sampler")
        if other not in (None, "all", {"name": "all"}, {"name": "all", "args": {}}, sampler):
            msg = "batch_classes and batch_images are a sampler of their own: leave sampler out"
            raise ValueError(msg)
        return {**value, "batch_size": classes * images, "sampler": sampler}

    @model_validator(mode="after")
    def _one_length(self) -> StageConfig:
        given = [key for key in LENGTHS if getattr(self, key) is not None]
        if len(given) > 1:
            msg = f"one length, not {' and '.join(given)}"
            raise ValueError(msg)
        if self.source is not None and self.kind != "predict":
            msg = "a source of its own is for stages of kind predict"
            raise ValueError(msg)
        return self
