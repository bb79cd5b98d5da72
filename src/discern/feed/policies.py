"""The augmentations that have a name, and policies put together from a list in a config.

Owns the presets and the two tables that a config's names are looked up in. The records are in
`augment`, the changes in `operations`, `color_operations`, `auto_operations`, `framing` and
`mx_augment`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

from discern.base.errors import ConfigError
from discern.base.names import did_you_mean
from discern.base.plugins import check_arguments, is_import_path, open_import_path
from discern.feed.augment import (
    Evaluation,
    Framing,
    PhotoAugment,
    Policy,
    SmallImageAugment,
    Step,
    operation_name,
)
from discern.feed.auto_operations import AugMix, RandAugment, TrivialAugment
from discern.feed.color_operations import (
    BrightnessContrast,
    BrightnessShift,
    ChannelShift,
    ChannelShuffle,
    Clahe,
    ColorDistortion,
    ColorJitter,
    Contrast,
    Gamma,
    Grey,
    HlsJitter,
    HsvShift,
    Jpeg,
    Lighting,
)
from discern.feed.framing import BoxCrop, ShortSideCrop, Whole
from discern.feed.mx_augment import MxAugment
from discern.feed.operations import (
    Cutout,
    Mirror,
    OneOf,
    Perspective,
    PixelOperation,
    RandomErasing,
    ShiftScaleRotate,
)

# MX-31 and MX-44: MXNet's mean and deviation of ImageNet, on 0..255 pixels.
MX_MEAN = (123.68, 116.779, 103.939)
MX_STD = (58.393, 57.12, 57.375)

_OPERATIONS: tuple[type[PixelOperation], ...] = (
    AugMix,
    BrightnessContrast,
    BrightnessShift,
    ChannelShift,
    ChannelShuffle,
    Clahe,
    ColorDistortion,
    ColorJitter,
    Contrast,
    Cutout,
    Gamma,
    Grey,
    HlsJitter,
    HsvShift,
    Jpeg,
    Lighting,
    Mirror,
    Perspective,
    RandAugment,
    RandomErasing,
    ShiftScaleRotate,
    TrivialAugment,
)
# What a step of a config may name; `one_of` has such steps as its options.
OPERATIONS = {operation_name(kind): kind for kind in _OPERATIONS}
ONE_OF = operation_name(OneOf)
FRAMINGS: dict[str, Callable[..., SmallImageAugment | PhotoAugment | Framing]] = {
    "small": SmallImageAugment,
    "photo": PhotoAugment,
    "short_side_crop": ShortSideCrop,
    "box_crop": BoxCrop,
    "whole": Whole,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyContext:
    """What a preset must know. `small`: images held in memory at the network's size.

    `crop`: the framing for photos or small images that fits the data; `flip`: whether mirror
    images are allowed at all (digits and letters are not the same in a mirror).
    """

    small: bool
    crop: SmallImageAugment | PhotoAugment
    flip: bool = True


def named_policy(
    name: str, context: PolicyContext, arguments: Mapping[str, Any] | None = None
) -> Policy:
    """The preset `name` of `POLICY_NAMES`.

    `arguments`: of `mxnet` its flags (see `MxAugment`), of trivialaugment, randaugment, augmix and
    random_erasing those of the operation; the other presets have none. Raises ConfigError for an
    unknown name, argument or value.
    """
    given, where = dict(arguments or {}), f"augment '{name}'"
    if name == "mxnet":
        flags: MxAugment = _make(MxAugment, given, where)
        return flags.policy()
    if name in _AUTOMATIC:
        operation = _make(_AUTOMATIC[name], given, where)
        steps = (*_mirror(context), Step(operation=operation))
        return Policy(name=name, framing=_crop(context), steps=steps)
    build = _PRESETS.get(name)
    if build is None:
        raise ConfigError(
            "no such augmentation",
            where="augment",
            got=name,
            expected=", ".join(POLICY_NAMES),
            hint=did_you_mean(name, POLICY_NAMES),
        )
    check_arguments(lambda: None, given, where=where)
    return build(context)


def listed_policy(
    steps: Sequence[Mapping[str, Any]],
    *,
    framing: Mapping[str, Any] | None = None,
    name: str = "own",
) -> Policy:
    """A policy of named steps, such as [{"name": "jpeg", "low": 30, "probability": 0.2}].

    A name is one of `OPERATIONS` (a framing's: of `FRAMINGS`) or `package.module:name`; all other
    keys but `probability` are its arguments. {"name": "one_of", "options": [STEP, ...]} does one of
    its options, each as likely as the others. Raises ConfigError naming the step.
    """
    built = []
    for number, step in enumerate(steps):
        given = dict(step)
        probability = given.pop("probability", 1.0)
        where = f"augment.steps[{number}]"
        operation = _operation(given, where)
        built.append(_make(Step, {"operation": operation, "probability": probability}, where))
    frame = None if framing is None else _build(dict(framing), FRAMINGS, "augment.framing")
    return Policy(name=name, framing=frame, steps=tuple(built))


def _operation(given: dict[str, Any], where: str) -> Any:
    """What a step describes: an operation, or a choice among some."""
    if given.get("name") != ONE_OF:
        return _build(given, OPERATIONS, where)
    del given["name"]
    check_arguments(OneOf, given, where=f"{where} '{ONE_OF}'")
    options = given["options"]
    if not isinstance(options, list) or not all(isinstance(one, Mapping) for one in options):
        raise ConfigError(
            "no list of options", where=where, got=options, expected="[{name: ...}, ...]"
        )
    made = [_operation(dict(one), f"{where}.options[{n}]") for n, one in enumerate(options)]
    return OneOf(options=tuple(made))


def _build(given: dict[str, Any], known: Mapping[str, Callable[..., Any]], where: str) -> Any:
    """What a mapping with a `name` describes."""
    name = str(given.pop("name", ""))
    if is_import_path(name):
        build = open_import_path(name, where=where)
    elif name in known:
        build = known[name]
    else:
        raise ConfigError(
            "no such part of an augmentation",
            where=where,
            got=name or "no name",
            expected=", ".join(sorted(known)),
            hint=did_you_mean(name, known),
        )
    return _make(build, given, f"{where} '{name}'")


def _make(build: Callable[..., Any], given: dict[str, Any], where: str) -> Any:
    """`build` called with `given`, whose names and kinds are checked first."""
    check_arguments(build, given, where=where)
    usual = {}
    if isinstance(build, type) and is_dataclass(build):
        usual = {field.name: field.default for field in fields(build)}
    for name, value in given.items():
        if not _same_kind(value, usual.get(name)):
            raise ConfigError(
                f"argument '{name}' is of another kind",
                where=where,
                got=repr(value),
                expected=f"a value such as {usual[name]!r}",
            )
    values = {key: tuple(v) if isinstance(v, list) else v for key, v in given.items()}
    values |= {key: bool(v) for key, v in given.items() if isinstance(usual.get(key), bool)}
    return build(**values)


def _same_kind(value: object, usual: object) -> bool:
    """Whether `value` may stand where `usual` is the default; True where that tells nothing."""
    if isinstance(usual, bool):  # MXNet's switches are 0 and 1
        return value in (0, 1)
    if isinstance(usual, str):
        return isinstance(value, str)
    if isinstance(usual, int):
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(usual, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(usual, tuple):
        if not isinstance(value, list | tuple) or len(value) < len(usual):
            return False
        return all(_same_kind(one, other) for one, other in zip(value, usual, strict=False))
    return usual is not None or value is None or isinstance(value, int | float)


def _mirror(context: PolicyContext) -> tuple[Step, ...]:
    return (Step(operation=Mirror(), probability=0.5),) if context.flip else ()


def _crop(context: PolicyContext) -> SmallImageAugment | PhotoAugment:
    """The data's own framing, its mirror moved to the steps so that it shows there."""
    return replace(context.crop, flip=False)


def _none(_: PolicyContext) -> Policy:
    return Policy(name="none")


def _flip_random(context: PolicyContext) -> Policy:
    return Policy(name="flip_random", steps=_mirror(context))


def _color_distortion(_: PolicyContext) -> Policy:
    return Policy(name="color_distortion", steps=(Step(operation=ColorDistortion()),))


def _both(context: PolicyContext) -> Policy:
    steps = (*_mirror(context), Step(operation=ColorDistortion()))
    return Policy(name="both", steps=steps)


def _light(context: PolicyContext) -> Policy:
    return Policy(name="light", framing=_crop(context), steps=_mirror(context))


def _standard(context: PolicyContext) -> Policy:
    """The crop, then the color changes of MX-44 (0.4 each, PCA noise 0.1) and the mirror."""
    jitter = ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4)
    steps = (Step(operation=jitter), Step(operation=Lighting(sigma=0.1)), *_mirror(context))
    return Policy(name="standard", framing=_crop(context), steps=steps)


def _heavy(context: PolicyContext) -> Policy:
    """Catalyst.Classification's hard transforms in their order (CA-35), each in half of all."""
    # A mirror is not among them: the whole image is padded to a square, then changed.
    colors = OneOf(options=(HsvShift(), Grey(), ChannelShift(), ChannelShuffle()))
    operations: tuple[PixelOperation, ...] = (
        Cutout(holes=4, share=0.25),
        ShiftScaleRotate(shift=0.1, scale=0.1, angle=15.0),
        Perspective(low=0.02, high=0.05),
        colors,
        BrightnessContrast(brightness=0.5, contrast=0.5),
        Gamma(),
        Clahe(),
        Jpeg(low=50),
    )
    steps = tuple(Step(operation=operation, probability=0.5) for operation in operations)
    # Images held in memory are at the network's size: nothing is left to pad.
    framing = None if context.small else Whole(fit="pad")
    return Policy(name="heavy", framing=framing, steps=steps, evaluation=Evaluation(fit="pad"))


def imagenet_settings(*, mirror: bool = True) -> MxAugment:
    """MXNet's flags for ImageNet (MX-44)."""
    return MxAugment(
        random_resized_crop=True,
        min_random_area=0.08,
        min_random_aspect_ratio=3 / 4,
        max_random_aspect_ratio=4 / 3,
        random_mirror=mirror,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        pca_noise=0.1,
    )


def _imagenet(context: PolicyContext) -> Policy:
    policy = imagenet_settings(mirror=context.flip).policy("imagenet")
    return replace(policy, evaluation=_levels(MX_MEAN, MX_STD))


def _cifar(context: PolicyContext, *, fast: bool = False) -> Policy:
    """LA-14: zero border of 4, crop, mirror, brightness by 63 levels, contrast 0.2 to 1.8."""
    framing = SmallImageAugment(pad=4, flip=False)
    steps: tuple[Step, ...] = ()
    if not fast:
        steps = (
            *_mirror(context),
            Step(operation=BrightnessShift(limit=63.0)),
            Step(operation=Contrast(low=0.2, high=1.8)),
        )
    name = "cifar_fast" if fast else "cifar"
    return Policy(name=name, framing=framing, steps=steps, evaluation=Evaluation(per_image=True))


def _vgg(context: PolicyContext, *, fast: bool = False) -> Policy:
    """LA-15: short side 256 to 512 (fast: 256), crop, mirror; evaluation at 256."""
    evaluation = replace(
        _levels((123.68, 116.78, 103.94), (1.0, 1.0, 1.0)), crop_pct=224 / 256, fit="crop"
    )
    return Policy(
        name="vgg_fast" if fast else "vgg",
        framing=ShortSideCrop(
            low=256, high=256 if fast else 512, network=224 if context.small else 0
        ),
        steps=_mirror(context),
        evaluation=evaluation,
    )


def _inception(context: PolicyContext, *, fast: bool = False) -> Policy:
    """LA-16: box of area 0.05 to 1, one of four interpolations (fast: bilinear), mirror, color."""
    scale, ratio = (0.05, 1.0), (0.75, 1.33)
    framing: Framing | PhotoAugment = BoxCrop(scale=scale, ratio=ratio)
    if fast:
        framing = PhotoAugment(scale=scale, ratio=ratio, flip=False)
    half = (0.5, 0.5, 0.5)
    return Policy(
        name="inception_fast" if fast else "inception",
        framing=framing,
        steps=(*_mirror(context), Step(operation=ColorDistortion(fast=fast))),
        evaluation=Evaluation(mean=half, std=half, crop_pct=0.875, fit="crop"),
    )


def _levels(mean: tuple[float, ...], std: tuple[float, ...]) -> Evaluation:
    """Mean and deviation given on 0..255 pixels."""
    return Evaluation(
        mean=tuple(value / 255.0 for value in mean), std=tuple(value / 255.0 for value in std)
    )


_PRESETS: dict[str, Callable[[PolicyContext], Policy]] = {
    "none": _none,
    "flip_random": _flip_random,
    "color_distortion": _color_distortion,
    "both": _both,
    "light": _light,
    "standard": _standard,
    "heavy": _heavy,
    "imagenet": _imagenet,
    "cifar": _cifar,
    "cifar_fast": lambda context: _cifar(context, fast=True),
    "vgg": _vgg,
    "vgg_fast": lambda context: _vgg(context, fast=True),
    "inception": _inception,
    "inception_fast": lambda context: _inception(context, fast=True),
}
# The data's own crop, a mirror, then one operation that chooses for itself.
_AUTOMATIC: dict[str, type[PixelOperation]] = {
    "trivialaugment": TrivialAugment,
    "randaugment": RandAugment,
    "augmix": AugMix,
    "random_erasing": RandomErasing,
}
POLICY_NAMES = (*_PRESETS, *_AUTOMATIC, "mxnet")
