"""The tuner YAML of Lambda's demo suite: fixed parameters, and a config for each trial drawn.

Its fields are those of the suite's command line: `--learning_rate`, `--piecewise_boundaries`, ...
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from discern.base.errors import ConfigError
from discern.config.foreign.reading import Part, Reading
from discern.config.yaml_text import parse_value

_STAGE: Final = "stages.train"
_MOST: Final = 10_000
_OPTIMIZERS: Final[dict[str, Any]] = {
    # Plain gradient descent there; ours has momentum unless told otherwise.
    "sgd": {"name": "sgd", "args": {"momentum": 0.0, "nesterov": False}},
    "momentum": {"name": "momentum", "args": {"momentum": 0.9, "nesterov": False}},
    **{name: name for name in ("adadelta", "adagrad", "adam", "ftrl", "rmsprop", "custom")},
}
_AUGMENTERS: Final = {
    "cifar_augmenter": "cifar",
    "vgg_augmenter": "vgg",
    "inception_augmenter": "inception",
}
_NORMS: Final = frozenset(("BatchNorm", "batchnorm", "preact", "postnorm", "gamma", "beta", "bn"))
_TOLD: Final = {
    "mode": "train",
    "model_dir": "say --runs, --project and --name",
    "num_classes": "counted from the labels",
    "num_samples": "counted",
    "gpu_count": "say --device",
    "save_summary_steps": "see tracking.log_every",
    "save_checkpoints_steps": "a checkpoint each epoch and every tracking.checkpoint_every_s",
    "summary_names": "loss, accuracy and rates are always recorded",
    "reduce_ops": "figures are exact over all devices",
    "train_reduce_ops": "figures are exact over all devices",
    "eval_reduce_ops": "figures are exact over all devices",
    "callbacks": "loss, accuracy, speed and summary are always there",
    "train_callbacks": "loss, accuracy, speed and summary are always there",
    "eval_callbacks": "loss, accuracy, speed and summary are always there",
    "infer_callbacks": "see `discern predict`",
    "data_format": "see compute.channels_last",
}


def draw_trials(config: Mapping[str, Any], seed: int) -> list[tuple[str, dict[str, Any]]]:
    """(what was drawn, all fields) of each trial; one without a name where nothing is drawn.

    `generate` draws 10 ** uniform(lo, hi), `select` one of its values. Raises ConfigError.
    """
    fixed = _mapping(config, "fixedparams")
    drawn = _mapping(config, "hyperparams")
    unknown = [key for key in drawn if key not in ("generate", "select")]
    unknown += [k for k in config if k not in ("num_trials", "fixedparams", "hyperparams")]
    if unknown:
        raise ConfigError(
            "not a part of a tuner's file", got=", ".join(unknown),
            expected="num_trials, fixedparams, hyperparams.generate, hyperparams.select",
        )  # fmt: skip
    ranges = {name: _range(name, text) for name, text in _mapping(drawn, "generate").items()}
    choices = {name: _values(text) for name, text in _mapping(drawn, "select").items()}
    if not ranges and not choices:
        return [("", fixed)]
    count = config.get("num_trials", 1)
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST:
        raise ConfigError(
            "not a number of trials", where="num_trials", got=count, expected=f"1 to {_MOST}"
        )
    draws = random.Random(seed)  # noqa: S311 - no secret
    trials = []
    for _ in range(count):
        chosen = {name: float(f"{10 ** draws.uniform(*ends):.6g}") for name, ends in ranges.items()}
        chosen |= {name: draws.choice(values) for name, values in choices.items()}
        label = ", ".join(f"{name}={value}" for name, value in chosen.items())
        trials.append((label, {**fixed, **chosen}))
    return trials


def _mapping(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = config.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise ConfigError("a mapping is wanted", where=name, got=type(value).__name__)
    return dict(value or {})


def _values(text: Any) -> list[Any]:
    """`a,b,c` as its parts, each read as YAML; a list as it is."""
    if isinstance(text, list):
        return text
    return [parse_value(part.strip(), "a list") for part in str(text).split(",")]


def _range(name: str, text: Any) -> tuple[float, float]:
    ends = _values(text)
    if len(ends) != 2 or not all(isinstance(end, int | float) for end in ends) or ends[0] > ends[1]:
        raise ConfigError(
            "not a range of exponents", where=f"hyperparams.generate.{name}", got=text,
            expected="LO,HI: the value is 10 to a power between them",
        )  # fmt: skip
    return float(ends[0]), float(ends[1])


def read_fields(fields: Mapping[str, Any], reading: Reading) -> None:
    """Read the fields of one trial, or of a command line, into `reading`."""
    part = Part(reading, [("", fields)], "among the suite's fields")
    _read_images(part)
    part.put("network", "model.name")
    _read_weights(part)
    part.put("epochs", f"{_STAGE}.epochs")
    part.put("batch_size_per_gpu", f"{_STAGE}.batch_size", why="over all devices here")
    _read_updates(part)
    augmenter = _AUGMENTERS.get(str(part.value.get("augmenter")))
    if augmenter is not None:
        fast = "_fast" if part.value.get("augmenter_speed_mode") else ""
        part.put("augmenter", f"{_STAGE}.augment", augmenter + fast)
        part.join("augmenter_speed_mode", f"{_STAGE}.augment")
    elif part.value.get("augmenter"):
        part.refuse("augmenter", f"one of {', '.join(_AUGMENTERS)} is known")
    part.put("log_every_n_iter", "tracking.log_every")
    part.put("keep_checkpoint_max", f"{_STAGE}.keep_top")
    for name, why in _TOLD.items():
        part.leave(name, why)
    part.close()


def _read_images(part: Part) -> None:
    for name in ("train_dataset_meta", "dataset_meta"):
        part.put(name, "data.source")
    part.put("eval_dataset_meta", "data.val")
    sides = [part.value.get(name) for name in ("image_height", "image_width")]
    if all(sides):
        part.put("image_height", "data.image_size", sides)
        part.join("image_width", "data.image_size")
    part.put("image_depth", "data.channels")


def _read_weights(part: Part) -> None:
    weights = part.value.get("pretrained_model")
    if isinstance(weights, str) and weights.endswith(".safetensors"):
        part.put("pretrained_model", "model.weights")
    elif weights:
        part.refuse("pretrained_model", "TensorFlow's checkpoints are not read; say --weights")
    else:
        part.leave("pretrained_model", "none")
    skipped = _names(part.take("skip_pretrained_var"))
    if skipped:
        part.put("skip_pretrained_var", "model.skip_weights", skipped)
    trained = _names(part.value.get("trainable_vars"))
    if trained and all("logits" in name or "fc" in name for name in trained):
        part.put("trainable_vars", f"{_STAGE}.trainable", "head")
    elif trained:
        part.refuse("trainable_vars", "layers have other names here: say stages.train.trainable")
    else:
        part.leave("trainable_vars", "all")


def _names(value: Any) -> list[str]:
    parts = value if isinstance(value, list) else str(value or "").split(",")
    return [str(part).strip() for part in parts if str(part).strip()]


def _read_updates(part: Part) -> None:
    part.put("learning_rate", f"{_STAGE}.lr", part.number("learning_rate", 0.0))
    optimizer = str(part.value.get("optimizer"))
    if optimizer in _OPTIMIZERS:
        part.put("optimizer", f"{_STAGE}.optimizer", _OPTIMIZERS[optimizer])
    elif "optimizer" in part:
        part.refuse("optimizer", f"one of {', '.join(_OPTIMIZERS)} is known")
    _read_schedule(part)
    decay = part.number("l2_weight_decay", 0.0)
    if decay and optimizer == "custom":
        part.refuse("l2_weight_decay", "custom decays apart from the gradient, this is in the loss")
    else:
        why = "of weights; norms and biases do not decay"
        part.put("l2_weight_decay", f"{_STAGE}.weight_decay", decay, why)
    others = [name for name in _names(part.value.get("skip_l2_loss_vars")) if name not in _NORMS]
    if others:
        written = [f".*{re.escape(name)}.*" for name in others]
        part.put("skip_l2_loss_vars", f"{_STAGE}.no_decay", written)
    else:
        part.leave("skip_l2_loss_vars", "norms do not decay")


def _read_schedule(part: Part) -> None:
    """Multiples of the rate between fractional epochs."""
    boundaries = _values(part.value.get("piecewise_boundaries") or [])
    multiples = _values(part.value.get("piecewise_lr_decay") or [])
    if not multiples:
        part.reading.put(f"{_STAGE}.schedule", "constant", "piecewise_lr_decay", None, "none given")
        part.refuse("piecewise_boundaries", "piecewise_lr_decay is not given")
        return
    if len(multiples) != len(boundaries) + 1:
        part.refuse("piecewise_lr_decay", "one multiple more than boundaries is wanted")
    else:
        arguments = {"boundaries": boundaries, "multiples": multiples}
        schedule = {"name": "piecewise", "args": arguments}
        part.put("piecewise_lr_decay", f"{_STAGE}.schedule", schedule)
    part.join("piecewise_boundaries", f"{_STAGE}.schedule")
