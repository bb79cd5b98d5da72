"""The table of flags that are spellings of config keys; all else is `--set KEY=VALUE`.

Static, so that `discern --help` needs neither the schema nor torch; a test compares it with the
schema. A key with `stages.*` is set in every stage.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# A value is read as YAML, as that of --set is: a number or a word. Columns are text, or YAML that
# begins with [ or {: a column may be called 2020, or no.
Kind = Literal["text", "int", "float", "switch", "pairs", "names", "value", "columns"]


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag: its name, other spellings, the config key it sets, and its help."""

    name: str
    key: str
    kind: Kind
    help: str
    aliases: tuple[str, ...] = ()
    group: str = "Training"
    commands: tuple[str, ...] = ("train",)
    plain: bool = False  # sets an argument of the command, not a config key

    @property
    def parameter(self) -> str:
        """The flag's name as a Python parameter."""
        return self.name.removeprefix("--").replace("-", "_")


_WITH_MODEL = ("train", "eval", "predict", "embed")
_SEARCH = "index search"
_EVERYWHERE = (*_WITH_MODEL, "bench infer")
# Each fold is held out in its turn: there are no other validation and test images.
_NOT_WITH_FOLDS = ("--val", "--test", "--soup")
# What `eval` takes to read data and to compute; the model stays as its bundle has it.
_FITTED = ("calibrate", "thresholds")
_TO_FIT = ("--data-arg", "--root", "--label", "--overlay", "--on-bad-image", "--workers")
_NOT_IN_REVIEW = ("--metric",)
# The images are two folders, and what is held out is dealt to folds.
_NOT_WITH_LABELING = (
    *("--data-arg", "--val", "--test", "--root", "--label", "--overlay"),
    "--overfit-batches",
)
_SHOWN = "data preview"  # takes what decides how an image is seen

FLAGS: tuple[Flag, ...] = (
    Flag(
        "--data-arg",
        "data.source_args",
        "pairs",
        "argument of DATA by import path, K=V",
        group="Data",
        commands=("train", "eval", "embed"),
    ),
    Flag("--val", "data.val", "text", "validation data, of any kind", group="Data"),
    Flag("--test", "data.test", "text", "test data, of any kind", group="Data"),
    Flag(
        "--root",
        "data.root",
        "text",
        "folder with a built-in set's files",
        group="Data",
        commands=("train", "eval", "embed"),
    ),
    Flag(
        "--label",
        "data.labels",
        "columns",
        "label column of a table; several: color,tags or YAML as in data.labels",
        group="Data",
        commands=("train", "eval", "embed"),
    ),
    Flag(
        "--overlay",
        "data.overlay",
        "text",
        "review folder, or a version of its decisions",
        group="Data",
        commands=("train", "eval", "embed"),
    ),
    Flag(
        "--img-size",
        "data.image_size",
        "int",
        "image side in pixels",
        ("--imgsz",),
        "Data",
        _EVERYWHERE,
    ),
    Flag("--channels", "data.channels", "int", "1 gray, 3 RGB, or any number", (), "Data"),
    Flag("--depth", "data.depth", "int", "16 reads 16-bit images in full", (), "Data"),
    Flag(
        "--on-bad-image",
        "data.on_bad_image",
        "text",
        "error or skip",
        (),
        "Data",
        (*_WITH_MODEL, _SEARCH),
    ),
    Flag(
        "--interpolation",
        "data.interpolation",
        "text",
        "bilinear, bicubic, ...",
        (),
        "Data",
        _WITH_MODEL,
    ),
    Flag(
        "--crop-pct",
        "data.crop_pct",
        "float",
        "share of the short side kept by the crop",
        (),
        "Data",
        _WITH_MODEL,
    ),
    Flag(
        "--fit",
        "data.fit",
        "text",
        "crop, pad or squish to the network's shape",
        (),
        "Data",
        _WITH_MODEL,
    ),
    Flag("--resample", "data.resample", "text", "of training photos: mixed or fast", (), "Data"),
    Flag("--overfit-batches", "data.overfit_batches", "int", "train and score the same few", ()),
    Flag("--workers", "data.workers", "int", "decoding threads", ("-j",), "Data", _WITH_MODEL),
    Flag("--model", "model.name", "text", "network name or import path", ("-m",), "Model"),
    Flag(
        "--weights",
        "model.weights",
        "text",
        "pretrained, none, or FILE.safetensors",
        ("--initial-checkpoint",),
        "Model",
        (*_WITH_MODEL, _SEARCH),
    ),
    Flag(
        "--skip-weights",
        "model.skip_weights",
        "names",
        "part of the names of tensors that the weights do not fill; may be given again",
        ("--skip-pretrained-var",),
        "Model",
    ),
    Flag("--init", "model.init", "text", "initial values: xavier, msra, ...", (), "Model"),
    Flag(
        "--model-arg",
        "model.args",
        "pairs",
        "argument of the network's builder, K=V",
        (),
        "Model",
        _WITH_MODEL,
    ),
    Flag(
        "--epochs",
        "stages.*.epochs",
        "int",
        "passes over the images, in each stage",
        ("--num-epochs",),
    ),
    Flag("--steps", "stages.*.steps", "int", "length in updates", ("--max-steps",)),
    Flag(
        "--batch-size",
        "stages.*.batch_size",
        "value",
        "images per update; auto: the most that fit",
        ("-b", "--batch"),
    ),
    Flag(
        "--sampler",
        "stages.*.sampler",
        "text",
        "all, down, up, images per class, weighted, shards",
        ("--balance-strategy",),
    ),
    Flag("--epoch-size", "stages.*.epoch_size", "int", "images per epoch", ()),
    Flag("--lr", "stages.*.lr", "float", "peak learning rate", ("--lr0",)),
    Flag("--opt", "stages.*.optimizer", "text", "adamw, sgd, muon, ...", ("--optimizer",)),
    Flag(
        "--sched", "stages.*.schedule", "text", "cosine, step, multistep, poly, one_cycle, ...", ()
    ),
    Flag("--lr-base", "stages.*.lr_base", "float", "rate for 256 images, scaled to the batch", ()),
    Flag("--lr-base-size", "stages.*.lr_base_size", "int", "images that --lr-base is for", ()),
    Flag("--lr-scaling", "stages.*.lr_scaling", "text", "linear or sqrt", ()),
    Flag("--layer-decay", "stages.*.layer_decay", "float", "rate of a layer over the next's", ()),
    Flag("--warmup-epochs", "stages.*.warmup_epochs", "float", "warm-up", ()),
    Flag("--warmup-mode", "stages.*.warmup_mode", "text", "linear, constant, power2, sqrt", ()),
    Flag(
        "--warmup-lr",
        "stages.*.warmup_lr",
        "float",
        "rate that the warm-up begins at",
        ("--warmup-begin-lr",),
    ),
    Flag("--weight-decay", "stages.*.weight_decay", "float", "not on norms and biases", ("--wd",)),
    Flag(
        "--loss", "stages.*.objective", "text", "cross_entropy, bce, focal, ...", ("--criterion",)
    ),
    Flag("--smoothing", "stages.*.smoothing", "float", "label smoothing", ()),
    Flag("--clip-grad", "stages.*.clip_grad", "float", "largest gradient norm", ()),
    Flag("--grad-accum-steps", "stages.*.grad_accum_steps", "int", "forward passes per update", ()),
    Flag(
        "--model-ema", "stages.*.ema", "float", "decay of the weights' moving average", ("--ema",)
    ),
    Flag("--augment", "stages.*.augment", "text", "auto, none, light, heavy, ...", ("--aug",)),
    Flag("--mixup", "stages.*.mixup", "float", "mix pairs of images: beta's shape, 0 off", ()),
    Flag("--cutmix", "stages.*.cutmix", "float", "paste parts: beta's shape, 0 off", ()),
    Flag("--close-aug", "stages.*.close_aug", "int", "last epochs with gentle augmentation", ()),
    Flag("--trainer", "stages.*.trainer", "text", "standard, or a loop by import path", ()),
    Flag("--trainable", "stages.*.trainable", "text", "all, head, or a pattern", ()),
    Flag(
        "--cache-features",
        "stages.*.cache_features",
        "text",
        "heads on features computed once: auto, on, off",
    ),
    Flag("--patience", "stages.*.patience", "int", "epochs without gain before a stage ends", ()),
    Flag("--min-delta", "stages.*.min_delta", "float", "gain that --patience counts as one", ()),
    Flag("--monitor", "stages.*.monitor", "text", "figure that chooses the kept model", ()),
    Flag("--soup", "stages.*.soup", "int", "average the K best checkpoints if that is better", ()),
    Flag("--checkpoint-hist", "stages.*.keep_top", "int", "best checkpoints kept", ()),
    Flag(
        "--device",
        "compute.device",
        "text",
        "auto, cpu, cuda, mps, 0, ...; '' is cpu",
        ("--gpus",),
        "Compute",
        (*_EVERYWHERE, _SEARCH),
    ),
    Flag("--nproc", "compute.nproc", "int", "ranks that share each batch", (), "Compute"),
    Flag(
        "--precision",
        "compute.precision",
        "text",
        "auto, fp32, bf16, fp16",
        ("--amp-dtype",),
        "Compute",
        _WITH_MODEL,
    ),
    Flag(
        "--threads",
        "compute.threads",
        "int",
        "arithmetic threads",
        (),
        "Compute",
        (*_EVERYWHERE, _SEARCH),
    ),
    Flag(
        "--compile",
        "compute.compile",
        "switch",
        "torch.compile the network",
        ("--torchcompile",),
        "Compute",
    ),
    Flag(
        "--grad-checkpointing",
        "compute.grad_checkpointing",
        "switch",
        "recompute activations: less memory, more time",
        ("--checkpoint-activations",),
        "Compute",
    ),
    Flag("--budget", "compute.budget", "text", "time for the whole, such as 20m", (), "Compute"),
    Flag(
        "--deterministic",
        "compute.deterministic",
        "switch",
        "only repeatable kernels",
        (),
        "Compute",
    ),
    Flag("--seed", "seed", "int", "master seed", (), "Compute"),
    Flag(
        "--project",
        "tracking.project",
        "text",
        "default: the data's base name",
        ("--experiment",),
        "Run",
    ),
    Flag("--name", "tracking.name", "text", "default: MODEL-N", (), "Run"),
    Flag(
        "--checkpoint-every",
        "tracking.checkpoint_every_s",
        "float",
        "seconds between checkpoints",
        (),
        "Run",
    ),
    Flag(
        "--metric",
        "tracking.metrics",
        "names",
        "further figure of the final scores; may be given again",
        (),
        "Run",
        ("train", "eval"),
    ),
    Flag(
        "--writer",
        "tracking.writers",
        "names",
        "figures go there, too: sqlite, jsonl, csv, ...; may be given again",
        (),
        "Run",
    ),
    Flag(
        "--histograms",
        "tracking.histograms",
        "int",
        "steps between histograms of parameters",
        (),
        "Run",
    ),
    Flag("--log-every", "tracking.log_every", "int", "steps between readings", (), "Run"),
    Flag(
        "--time-limit", "tracking.time_limit", "text", "end the run after 90s, 20m, 1h", (), "Run"
    ),
    Flag("--profile", "tracking.profile", "text", "trace updates FIRST-LAST", (), "Run"),
)


def _shown(flag: Flag) -> bool:
    seen = ("--augment", "--seed", "--device", "--threads")
    return flag.group in ("Data", "Model") or flag.name in seen


def flags_of(command: str) -> list[Flag]:
    """The flags that a command takes."""
    if command == "kfold":
        return [flag for flag in flags_of("train") if flag.name not in _NOT_WITH_FOLDS]
    if command in _FITTED:
        asked = flags_of("eval")
        return [flag for flag in asked if flag.name in _TO_FIT or flag.group == "Compute"]
    if command == "review":
        return [flag for flag in flags_of("eval") if flag.name not in _NOT_IN_REVIEW]
    if command == "autolabel":
        return [flag for flag in flags_of("train") if flag.name not in _NOT_WITH_LABELING]
    if command == "explain":  # a gradient is taken in full precision
        return [flag for flag in flags_of("predict") if flag.name != "--precision"]
    if command == "report":
        return [f for f in flags_of("eval") if f.group == "Compute" or f.name == "--workers"]
    if command == _SHOWN:
        return [flag for flag in FLAGS if _shown(flag)]
    return [flag for flag in FLAGS if command in flag.commands]
