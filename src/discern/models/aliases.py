"""Names of older zoos: today's name of the same architecture, or the reason why there is none.

The weights behind a name are timm's, not the old zoo's: equal architecture, other numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

_NO_11K = "its weights for the 11,221-class ImageNet were published for MXNet only"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """An older name: `target` is the name to use, or `reason` says why there is none."""

    target: str | None = None
    reason: str | None = None
    near: str | None = None


# The 12 names of MXNet's image-classification model zoo.
_MXNET_ZOO = {
    "imagenet1k-inception-bn": Alias(
        reason="timm has no Inception with batch norm", near="inception_v3"
    ),
    "imagenet1k-resnet-18": Alias(target="resnet18"),
    "imagenet1k-resnet-34": Alias(target="resnet34"),
    "imagenet1k-resnet-50": Alias(target="resnet50"),
    "imagenet1k-resnet-101": Alias(target="resnet101"),
    "imagenet1k-resnet-152": Alias(target="resnet152"),
    "imagenet1k-resnext-50": Alias(target="resnext50_32x4d"),
    "imagenet1k-resnext-101": Alias(target="resnext101_32x4d"),
    "imagenet1k-resnext-101-64x4d": Alias(target="resnext101_64x4d"),
    "imagenet11k-resnet-152": Alias(reason=_NO_11K, near="resnet152"),
    "imagenet11k-place365ch-resnet-50": Alias(reason=_NO_11K, near="resnet50"),
    "imagenet11k-place365ch-resnet-152": Alias(reason=_NO_11K, near="resnet152"),
}

# Gluon's names where they differ from timm's.
_GLUON = {
    **{f"resnet{depth}_v1": Alias(target=f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}_v2": Alias(target=f"resnetv2_{depth}") for depth in (18, 34, 50, 101, 152)},
    "inceptionv3": Alias(target="inception_v3"),
    "mobilenet1.0": Alias(target="mobilenetv1_100"),
    "mobilenetv2_1.0": Alias(target="mobilenetv2_100"),
    "mobilenetv2_0.75": Alias(target="mobilenetv2_075"),
    "mobilenetv2_0.5": Alias(target="mobilenetv2_050"),
    "mobilenet0.75": Alias(reason="timm has no MobileNet of this width", near="mobilenetv1_100"),
    "mobilenet0.5": Alias(reason="timm has no MobileNet of this width", near="mobilenetv1_100"),
    "mobilenet0.25": Alias(reason="timm has no MobileNet of this width", near="mobilenetv1_100"),
    "mobilenetv2_0.25": Alias(
        reason="timm has no MobileNetV2 of this width", near="mobilenetv2_035"
    ),
    "alexnet": Alias(reason="timm has no AlexNet", near="resnet18"),
    "squeezenet1.0": Alias(reason="timm has no SqueezeNet", near="mobilenetv2_050"),
    "squeezenet1.1": Alias(reason="timm has no SqueezeNet", near="mobilenetv2_050"),
}

ALIASES: dict[str, Alias] = {**_MXNET_ZOO, **_GLUON}
MXNET_ZOO_NAMES: tuple[str, ...] = tuple(_MXNET_ZOO)
