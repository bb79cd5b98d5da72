"""What training may change about an image: frozen records and their words for the log.

Owns the settings, their checks, and the policy: a framing (how an image comes to the network's
size) and an ordered list of steps that keep its size. The arithmetic is in `windows` (small images,
whole batches), `photo` and `framing` (one photo at a time) and `operations`; the random numbers
are in `draws`; the policies with a name are in `policies`.

Axes: N samples, H height, W width, C channels, R random numbers of one image.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor

from discern.base.plugins import path_of
from discern.data.images import Pixels, Preprocess
from discern.feed.draws import Draws, Operation
from discern.feed.normalize import as_stored
from discern.feed.operations import PixelOperation, Rows, apply_where, check_value


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallImageAugment:
    """Shift by a crop out of the padded image, then perhaps mirror: the CIFAR standard.

    `pad`: pixels added on each side before the crop; 4 at 32 pixels is that of K. He et al., Deep
    Residual Learning, 2015, section 4.2. `flip`: mirror left to right with probability one half.
    `border`: what the added pixels show; `fill`: their value, 0 to 255, with border "constant".
    """

    pad: int = 4
    flip: bool = True
    border: Literal["constant", "reflect"] = "constant"
    fill: int = 0

    def __post_init__(self) -> None:
        check_value(self.pad >= 0, "pad", self.pad, "0 or more pixels")
        check_value(0 <= self.fill <= 255, "fill", self.fill, "0 to 255")
        check_value(
            self.border in ("constant", "reflect"), "border", self.border, "constant or reflect"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoAugment:
    """A crop of random area and shape resized to the network's size, then perhaps mirrored.

    `scale`: share of the image's area, smallest and largest. `ratio`: width / height of the crop,
    smallest and largest, drawn on a log scale. `tries`: draws before the center crop is taken.
    `flip`: mirror left to right with probability one half. The ratios and ten tries are those of C.
    Szegedy et al., Going Deeper with Convolutions, 2014, as torchvision draws them; its smallest
    area of 0.08 is for ImageNet from scratch, and 0.35 is what fine-tuning on few photos bears.
    """

    scale: tuple[float, float] = (0.35, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True
    tries: int = 10

    def __post_init__(self) -> None:
        low, high = self.scale
        check_value(0.0 < low <= high <= 1.0, "scale", self.scale, "0 < smallest <= largest <= 1")
        low, high = self.ratio
        check_value(0.0 < low <= high, "ratio", self.ratio, "0 < smallest <= largest")
        check_value(self.tries >= 0, "tries", self.tries, "0 or more")

    @property
    def draws(self) -> int:
        """Random numbers per image: area and shape of each try, top, left, mirror."""
        return 2 * self.tries + 3


# Above so many settings only those that differ from their defaults are told in the log.
_MANY = 8


class Framing(Protocol):
    """How a training image of any size comes to the network's size. `draws`: numbers it takes."""

    @property
    def draws(self) -> int: ...

    def frame(self, pixels: Pixels, row: Rows, preprocess: Preprocess) -> Pixels:
        """`pixels` [H,W,C] under `row` float64 [R]: uint8 [preprocess.height, .width, C]."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One operation of a policy, done to an image with `probability`."""

    operation: PixelOperation
    probability: float = 1.0

    def __post_init__(self) -> None:
        good = 0.0 <= self.probability <= 1.0
        check_value(good, "probability", self.probability, "0 to 1")

    @property
    def draws(self) -> int:
        """Whether it is done, then the operation's own numbers."""
        return 1 + self.operation.draws


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a policy wants evaluation to do; None leaves it as it is.

    `mean`, `std`: on 0..1 values, a number for each channel. `per_image`: each image is brought to
    mean 0 and deviation 1 by itself (see `normalize.standardize`), mean and std unused.
    `crop_pct`, `fit`: as those of `Preprocess`.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    per_image: bool = False
    crop_pct: float | None = None
    fit: str | None = None

    def adapt(self, preprocess: Preprocess) -> Preprocess:
        """`preprocess` with what is wanted; of grey images mean and std stay as they are."""
        wanted: dict[str, Any] = {}
        if self.mean is not None and self.std is not None and preprocess.channels == len(self.mean):
            wanted |= {"mean": self.mean, "std": self.std}
        if self.crop_pct is not None:
            wanted["crop_pct"] = self.crop_pct
        if self.fit is not None:
            wanted["fit"] = self.fit
        if self.per_image:
            wanted["per_image"] = True
        return replace(preprocess, **wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A framing, then steps in a fixed order: all that training does to an image.

    `framing`: None frames as evaluation does. What happens to an image depends on (seed, epoch,
    manifest position) alone: the framing's numbers are keyed by Operation.RESIZED_CROP (small
    images: CROP and FLIP), those of the steps by Operation.POLICY.
    """

    name: str
    framing: SmallImageAugment | PhotoAugment | Framing | None = None
    steps: tuple[Step, ...] = ()
    evaluation: Evaluation = Evaluation()

    @property
    def draws(self) -> int:
        """Random numbers of all steps for one image."""
        return sum(step.draws for step in self.steps)

    def closed(self) -> Policy:
        """The policy without its strong steps: framing and mirror stay (`--close-aug`)."""
        gentle = tuple(step for step in self.steps if step.operation.gentle)
        return replace(self, name=f"{self.name}, closed", steps=gentle)

    def table(self, draws: Draws, positions: Tensor) -> Rows:
        """The steps' random numbers at manifest `positions` int64 [N]: float64 [N,R]."""
        table: Rows = draws.table(positions, Operation.POLICY, self.draws).cpu().numpy()
        return table

    def record(self) -> dict[str, Any]:
        """Every setting as JSON values: name, framing, steps in order, evaluation."""
        return {
            "name": self.name,
            "framing": None if self.framing is None else _settings(self.framing),
            "steps": [
                {**_settings(step.operation), "probability": step.probability}
                for step in self.steps
            ],
            "evaluation": {k: _json_value(v) for k, v in asdict(self.evaluation).items()},
        }


Augment: TypeAlias = SmallImageAugment | PhotoAugment | Policy | None


def framing_of(augment: Augment) -> SmallImageAugment | PhotoAugment | Framing | None:
    """How `augment` brings an image to the network's size; None: as evaluation does."""
    return augment.framing if isinstance(augment, Policy) else augment


def apply_policy(pixels: Pixels, policy: Policy, rows: Rows) -> Pixels:
    """The policy's steps on images that are already framed.

    `pixels` uint8 [N,H,W,C] with `rows` float64 [N,R], or [H,W,C] with [R], of `Policy.table`;
    mirrors, which only move pixels, take uint16 too (`pixel_kinds` refuses the rest). Returns new
    pixels of the same shape; equal pixels and row give an equal image in any batch.
    """
    if pixels.ndim == 3:
        single: Pixels = apply_policy(pixels[None], policy, rows[None])[0]
        return single
    images = as_stored(torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))))
    changed = change_images(images, policy, rows)
    out: Pixels = np.array(changed.permute(0, 2, 3, 1).numpy(), order="C")
    return out.view(pixels.dtype)


def change_pixels(pixels: Tensor, policy: Policy, rows: Rows) -> Tensor:
    """As `change_images`, for `pixels` uint8 [N,H,W,C]: new ones of that shape."""
    return change_images(pixels.permute(0, 3, 1, 2), policy, rows).permute(0, 2, 3, 1).contiguous()


def change_images(images: Tensor, policy: Policy, rows: Rows) -> Tensor:
    """As `apply_policy`, for `images` uint8 [N,C,H,W] on any device; they stay as they are."""
    images = images.contiguous().clone()
    first = 0
    for step in policy.steps:
        chosen = rows[:, first] < step.probability
        own = rows[:, first + 1 : first + step.draws]
        apply_where(step.operation, images, own, chosen)
        first += step.draws
    return images


def operation_name(kind: type[object]) -> str:
    """What records and config files call an operation or framing: `random_erasing`."""
    if not kind.__module__.startswith("discern."):
        return path_of(kind)
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", kind.__name__).lower()


def describe_augment(augment: Augment) -> str:
    """One line for the run's log, such as "shift up to 4 pixels (constant 0), mirror"."""
    framing = framing_of(augment)
    parts = []
    if isinstance(framing, SmallImageAugment):
        if framing.pad:
            border = f"constant {framing.fill}" if framing.border == "constant" else "reflected"
            parts.append(f"shift up to {framing.pad} pixels ({border})")
    elif isinstance(framing, PhotoAugment):
        area, shape = framing.scale, framing.ratio
        parts.append(
            f"crop {area[0]:.0%} to {area[1]:.0%} of the area, "
            f"width / height {shape[0]:.2f} to {shape[1]:.2f}"
        )
    elif framing is not None:
        parts.append(_words(framing))
    if isinstance(framing, SmallImageAugment | PhotoAugment) and framing.flip:
        parts.append("mirror")
    if isinstance(augment, Policy):
        for step in augment.steps:
            chance = "" if step.probability == 1.0 else f" in {step.probability:.0%}"
            parts.append(_words(step.operation) + chance)
    return ", ".join(parts) or "none"


def _words(part: object) -> str:
    """An operation with what it was given, such as "jpeg (low 50, high 100)"."""
    settings = _settings(part)
    name = _name_words(settings.pop("name"))
    if len(settings) > _MANY:
        usual = _settings(type(part)())
        settings = {key: value for key, value in settings.items() if value != usual[key]}
    told = ", ".join(f"{key} {_value_words(value)}" for key, value in settings.items())
    return f"{name} ({told})" if told else str(name)


def _name_words(name: str) -> str:
    """An operation's name in words; an import path as it is."""
    return name if ":" in name else name.replace("_", " ")


def _value_words(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, dict):
        return _name_words(str(value["name"]))
    if isinstance(value, list):
        return " to ".join(map(_value_words, value)) if value else "none"
    return str(value)


def _settings(part: object) -> dict[str, Any]:
    """The name and every setting of an operation or framing, as JSON values."""
    record: dict[str, Any] = {"name": operation_name(type(part))}
    if is_dataclass(part) and not isinstance(part, type):
        record |= {field.name: _json_value(getattr(part, field.name)) for field in fields(part)}
    return record


def _json_value(value: object) -> object:
    if isinstance(value, tuple | list):
        return [_json_value(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return _settings(value)
    return value
