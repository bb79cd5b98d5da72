"""What follows from a config key: which other keys, and choices made by themselves, depend on it.

Owns the table behind `discern config explain`. A test compares its keys with the schema.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Dependence:
    """`dependent` follows from `key`, `how` says in which way. `*` stands for a stage's name.

    `dependent` is a key or, where it begins with a capital, a choice that has no key.
    """

    key: str
    dependent: str
    how: str


_RECIPE = "Recipe"
_OWN_LEVELS = "its presets imagenet, vgg, inception and cifar bring their own"

_TABLE: Final[tuple[tuple[str, tuple[tuple[str, str], ...]], ...]] = (
    (
        "data.source",
        (
            ("data.channels", "1 where at least 95 % of the images are gray, else 3"),
            ("data.image_size", "without weights: the images' own up to 64, else 64, 128, 224"),
            ("data.mean", "measured on training images, unless the weights have theirs"),
            ("data.std", "as data.mean"),
            ("model.name", "fast_net for images up to 64 pixels, a mobile network beyond"),
            ("tracking.project", "the data's base name, unless given"),
            (_RECIPE, "stages are proposed by image size and count"),
            ("Mirroring", "allowed where a probe finds that mirrored images keep their class"),
        ),
    ),
    ("data.labels", (("data.classes", "the names found in these columns"),)),
    (
        "data.val",
        (
            ("data.val_share", "not used where validation data is given"),
            ("data.inner_val_share", "not used where validation and test data are given"),
        ),
    ),
    ("data.test", (("data.test_share", "not used where test data is given"),)),
    (
        "data.split_seed",
        (
            ("data.val_share", "which images are held out"),
            ("data.test_share", "which images are held out"),
            ("data.inner_val_share", "which images are held out"),
        ),
    ),
    ("data.image_size", (("Network input", "its height and width; null takes the network's own"),)),
    ("data.channels", (("Network input", "its channels, and the length of mean and std"),)),
    (
        "model.name",
        (
            ("model.weights", "pretrained for timm's networks, none for Discern's own"),
            ("model.args", "checked against this network's signature; another name drops them"),
            ("data.image_size", "a pretrained network's own size"),
            ("data.mean", "a pretrained network's own"),
            ("data.std", "a pretrained network's own"),
            ("data.interpolation", "a pretrained network's own, else bilinear"),
            ("data.crop_pct", "a pretrained network's own"),
            ("tracking.name", "MODEL-N, unless given"),
            (_RECIPE, "classic for mlp and lenet, small for own networks, others for timm's"),
        ),
    ),
    (
        "model.weights",
        (
            ("data.image_size", "with weights the network's own"),
            ("data.mean", "with weights the network's own"),
            ("data.std", "with weights the network's own"),
            (_RECIPE, "fine-tune with weights, from-scratch without"),
        ),
    ),
    (
        "seed",
        (
            ("Weights", "the network's first weights, and those of a new head"),
            ("Order", "of the training images in each epoch"),
            ("Augmentation", "every draw of each image"),
        ),
    ),
    (
        "stages.*.epochs",
        (
            ("stages.*.schedule", "its length in updates"),
            ("stages.*.close_aug", "which epochs are the last ones"),
        ),
    ),
    *(
        (
            f"stages.*.{length}",
            (("stages.*.epochs", "another length is given: epochs is not used"),),
        )
        for length in ("steps", "examples", "minutes")
    ),
    (
        "stages.*.start_from",
        (("First weights", "of the stage; default: where the stage before ended"),),
    ),
    (
        "data.n_folds",
        (
            ("data.train_folds", "which images they are"),
            ("data.val_folds", "which images they are"),
            ("data.test_folds", "which images they are"),
            ("data.folds_seed", "used with n_folds only"),
        ),
    ),
    (
        "data.train_folds",
        (
            ("data.val_folds", "default: all other folds"),
            ("data.val_share", "not used where folds are chosen"),
        ),
    ),
    (
        "model.embedding",
        (("Embeddings", "what the head reads, and metric-learning objectives"),),
    ),
    (
        "stages.*.batch_size",
        (
            ("stages.*.lr", "with lr_base: lr_base x batch_size / lr_base_size, or its root"),
            ("stages.*.schedule", "updates per epoch"),
            ("stages.*.grad_accum_steps", "each forward pass sees that part of the batch"),
        ),
    ),
    ("stages.*.lr_base", (("stages.*.lr", "where lr_base is given, lr is not used"),)),
    ("stages.*.lr_base_size", (("stages.*.lr", "with lr_base: the batch that it is meant for"),)),
    ("stages.*.lr_scaling", (("stages.*.lr", "with lr_base: how it grows with the batch"),)),
    (
        "stages.*.lr",
        (
            ("stages.*.groups", "lr_scale multiplies it"),
            ("stages.*.layer_decay", "multiplies it from layer to layer"),
            ("stages.*.warmup_lr", "at most this"),
            ("stages.*.schedule", "multiplies it"),
        ),
    ),
    (
        "stages.*.optimizer",
        (
            ("stages.*.weight_decay", "adamw, sgdw and muon decay apart from the gradient"),
            ("stages.*.groups", "their args are this optimizer's"),
        ),
    ),
    (
        "stages.*.weight_decay",
        (
            ("stages.*.decay_all", "whether norms and biases have it, too"),
            ("stages.*.no_decay", "who is spared"),
            ("stages.*.groups", "theirs, unless given"),
        ),
    ),
    (
        "stages.*.schedule",
        (
            ("stages.*.warmup_epochs", "one_cycle, triangular and one_cycle_warmup take none"),
        ),
    ),
    (
        "stages.*.warmup_epochs",
        (
            ("stages.*.warmup_mode", "its form"),
            ("stages.*.warmup_lr", "where it begins"),
        ),
    ),
    (
        "stages.*.objective",
        (
            ("stages.*.smoothing", "of cross_entropy, bce and logit_adjusted"),
        ),
    ),
    (
        "stages.*.augment",
        (
            ("data.mean", f"unless given: {_OWN_LEVELS}"),
            ("data.std", f"unless given: {_OWN_LEVELS}"),
            ("data.crop_pct", f"unless given: {_OWN_LEVELS}"),
            ("stages.*.close_aug", "the gentle part that stays"),
        ),
    ),
    ("stages.*.sampler", (("stages.*.epoch_size", "cut out of what the sampler shows"),)),
    ("stages.*.epoch_size", (("stages.*.schedule", "updates per epoch"),)),
    (
        "stages.*.trainable",
        (("stages.*.groups", "only parameters that learn are in groups"),),
    ),
    (
        "stages.*.monitor",
        (
            ("stages.*.patience", "the figure that has to get better"),
            ("stages.*.keep_top", "the figure that the best are the best by"),
        ),
    ),
    (
        "stages.*.evaluate_every",
        (("stages.*.patience", "counted in evaluations of that many epochs"),),
    ),
    ("stages.*.patience", (("stages.*.epochs", "a stage without gain ends earlier"),)),
    (
        "compute.device",
        (
            ("compute.precision", "auto: fp32 or bf16 as a probe on this device finds"),
            ("compute.threads", "default: free cores"),
        ),
    ),
    ("compute.precision", (("Loss scaling", "with fp16"),)),
)  # fmt: skip

DEPENDENCES: Final[tuple[Dependence, ...]] = tuple(
    Dependence(key, dependent, how) for key, parts in _TABLE for dependent, how in parts
)


def dependents_of(key: str) -> tuple[Dependence, ...]:
    """What follows from `key`."""
    return tuple(one for one in DEPENDENCES if one.key == key)


def sources_of(key: str) -> tuple[Dependence, ...]:
    """What `key` follows from."""
    return tuple(one for one in DEPENDENCES if one.dependent == key)
