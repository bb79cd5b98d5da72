"""Catalyst's transform_params: augmentations of albumentations as steps of our own policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from discern.config.foreign.reading import Part

# (our step, {their argument: ours}); an argument that is not listed is refused.
_STEPS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "HorizontalFlip": ("mirror", {}),
    "ShiftScaleRotate": (
        "shift_scale_rotate",
        {"shift_limit": "shift", "scale_limit": "scale", "rotate_limit": "angle"},
    ),
    "IAAPerspective": ("perspective", {}),
    "HueSaturationValue": (
        "hsv_shift",
        {"hue_shift_limit": "hue", "sat_shift_limit": "saturation", "val_shift_limit": "value"},
    ),
    "ToGray": ("grey", {}),
    "ChannelShuffle": ("channel_shuffle", {}),
    "RandomBrightnessContrast": (
        "brightness_contrast",
        {"brightness_limit": "brightness", "contrast_limit": "contrast"},
    ),
    "RGBShift": ("channel_shift", {}),
    "RandomGamma": ("gamma", {}),
    "CLAHE": ("clahe", {"clip_limit": "clip"}),
    "JpegCompression": ("jpeg", {"quality_lower": "low", "quality_upper": "high"}),
}
# albumentations' own defaults where our steps have others.
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "ShiftScaleRotate": {"shift": 0.0625, "scale": 0.1, "angle": 45.0},
    "RandomBrightnessContrast": {"brightness": 0.2, "contrast": 0.2},
    "JpegCompression": {"low": 99, "high": 100},
}
_TENSORS: Final = ("ToTensor", "ToTensorV2", "TensorToImage", "ScaleToZeroOne")
_HEAVY: Final = "code of Catalyst.Classification, not in this file: its hard transforms"


def read_transforms(part: Part, stage: str) -> None:
    """The augmentation of a stage; without transform_params it is that of Catalyst's own code."""
    key = f"stages.{stage}.augment"
    part.take("_key_value")
    if not part.names:
        part.reading.put(key, "heavy", "transforms.py", None, _HEAVY)
        return
    train = part.part("train", "of a transform") if "train" in part else part
    steps: list[dict[str, Any]] = []
    fit: list[str] = []
    _walk(train, steps, fit)
    if fit:
        part.reading.put("data.fit", "pad", train.source("transforms"), None, "padded to a square")
    written: Any = {"name": "own", "args": {"steps": steps}} if steps else "none"
    part.reading.put(key, written, train.source("transforms"), None)
    for name in ("valid", "infer"):
        part.leave(name, "validation sees images as the network does")
    part.close()


def _walk(part: Part, steps: list[dict[str, Any]], fit: list[str]) -> None:
    name = str(part.value.get("transform", part.value.get("transforms") and "Compose"))
    inner = part.value.get("transforms")
    if name in ("Compose", "None") and isinstance(inner, list):
        part.take("transforms")
        part.take("transform")
        for number, value in enumerate(inner):
            source = f"{part.source('transforms')}/{number}"
            _walk(Part(part.reading, [(source, value)], "of a transform"), steps, fit)
    elif name in _STEPS:
        steps.append(_step(part, name))
    elif name in ("LongestMaxSize", "PadIfNeeded"):
        fit.append(name)
        _leave_all(part, "data.fit: pad brings images to the network's size")
    elif name == "Resize":
        _put_size(part)
    elif name == "Normalize":
        for ours in ("mean", "std"):
            part.put(ours, f"data.{ours}")
        if part.value.get("max_pixel_value", 255.0) == 255.0:
            _leave_all(part, "images are normalized")
    elif name in _TENSORS:
        _leave_all(part, "images become tensors anyway")
    elif name == "OneOf" and isinstance(inner, list):
        _choice(part, inner, steps)
    else:
        _refuse_all(part, f"one of {', '.join(_STEPS)} is known")
    part.close()


def _step(part: Part, name: str) -> dict[str, Any]:
    ours, arguments = _STEPS[name]
    step: dict[str, Any] = {"name": ours, **_DEFAULTS.get(name, {})}
    for theirs, mine in arguments.items():
        if isinstance(part.value.get(theirs), int | float):
            number = part.take(theirs)
            step[mine] = float(number) if mine in ("shift", "scale", "angle") else number
    chance = part.take("p", 0.5)
    if chance != 1.0:
        step["probability"] = chance
    part.take("transform")
    return step


def _choice(part: Part, inner: list[Any], steps: list[dict[str, Any]]) -> None:
    """One of several steps, each as likely as the others: its place in `steps`, or a refusal."""
    options: list[dict[str, Any]] = []
    chances = set()
    for number, value in enumerate(inner):
        source = f"{part.source('transforms')}/{number}"
        option = Part(part.reading, [(source, value)], "of a transform")
        name = str(option.value.get("transform"))
        if name not in _STEPS:
            _refuse_all(option, f"one of {', '.join(_STEPS)} is known in a choice")
            continue
        options.append(_step(option, name))
        chances.add(options[-1].pop("probability", 1.0))
        option.close()
    if len(chances) > 1:
        part.refuse("transforms", "a choice of unlike chances; give each of them the same p")
    part.take("transforms")
    part.take("transform")
    step: dict[str, Any] = {"name": "one_of", "options": options}
    chance = part.take("p", 0.5)
    steps.append(step if chance == 1.0 else {**step, "probability": chance})


def _put_size(part: Part) -> None:
    sides = (part.value.get("height"), part.value.get("width"))
    if all(isinstance(side, int) for side in sides):
        part.reading.put("data.image_size", list(sides), part.source("height"), list(sides))
        part.reading.put("data.fit", "squish", part.source("transform"), "Resize")
        _leave_all(part, "in data.image_size")


def _leave_all(part: Part, why: str) -> None:
    for name in part.names:
        part.leave(name, why)


def _refuse_all(part: Part, why: str) -> None:
    part.refuse("transform" if "transform" in part else "transforms", why)
    for name in part.names:
        if not isinstance(part.value[name], Mapping):
            part.leave(name, "see transform")
