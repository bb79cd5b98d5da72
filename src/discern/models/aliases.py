"""Names of older zoos: today's name of the same architecture, or the reason why there is none.

A target is a network of timm or one of Discern's own. The weights behind a name of timm are timm's,
not the old zoo's: equal architecture, other numbers. Own networks have no published weights.
"""

from __future__ import annotations

from dataclasses import dataclass

_NO_11K = "its weights for the 11,221-class ImageNet were published for MXNet only"
_FAMILY = "it names a family; say the depth"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alias:
    """An older name: `target` is the name to use, or `reason` says why there is none."""

    target: str | None = None
    reason: str | None = None
    near: str | None = None


# The 12 names of MXNet's image-classification model zoo.
_MXNET_ZOO = {
    "imagenet1k-inception-bn": Alias(target="inception_bn"),
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

# The networks of MXNet's image-classification example, as its files and its guide spell them.
# Widths, depths and groups are arguments there; here the names say them.
_MXNET_EXAMPLE = {
    "inception-bn": Alias(target="inception_bn"),
    "inception-v3": Alias(target="inception_v3"),
    "inception-v4": Alias(target="inception_v4"),
    "inception-resnet-v2": Alias(target="inception_resnet_v2"),
    "lenet-stn": Alias(target="lenet_stn"),
    "mobilenet": Alias(target="mobilenetv1_100"),
    "mobilenetv2": Alias(target="mobilenetv2_100"),
    "mobilenetv3": Alias(target="mobilenetv3_large_100"),
    # The file resnetv1.py is a copy of the example's only residual network.
    "resnet-v1": Alias(target="resnet"),
    "resnetv1": Alias(target="resnet"),
    "resnet269": Alias(target="resnet269_v1"),
    # Below 50 layers the example groups nothing: such a ResNeXt is the ResNet.
    "resnext18": Alias(target="resnet18"),
    "resnext34": Alias(target="resnet34"),
    **{f"resnext{depth}": Alias(target=f"resnext{depth}_32x4d") for depth in (50, 101, 152)},
    **{f"resnext{depth}": Alias(target=f"resnext{depth}_32x4d") for depth in (200, 269)},
    "vgg": Alias(reason=_FAMILY, near="vgg16"),
    "densenet": Alias(reason=_FAMILY, near="densenet121"),
}

# Gluon's names where they differ from timm's. Its v1 files put a bottleneck's stride into the first
# 1x1; timm's put it into the 3x3, which is known to be the more accurate of the two.
_GLUON = {
    **{f"resnet{depth}_v1": Alias(target=f"resnet{depth}") for depth in (18, 34, 50, 101, 152)},
    **{f"resnet{depth}_v2": Alias(target=f"resnetv2_{depth}") for depth in (18, 34, 50, 101, 152)},
    "resnet200_v1": Alias(target="resnet200"),
    "inceptionv3": Alias(target="inception_v3"),
    "mobilenet1.0": Alias(target="mobilenetv1_100"),
    "mobilenetv2_1.0": Alias(target="mobilenetv2_100"),
    "mobilenetv2_0.75": Alias(target="mobilenetv2_075"),
    "mobilenetv2_0.5": Alias(target="mobilenetv2_050"),
    "squeezenet1_0": Alias(target="squeezenet1.0"),
    "squeezenet1_1": Alias(target="squeezenet1.1"),
}

# The networks of Lambda's demos, and bare depths that only small images have.
_SMALL_IMAGES = {
    **{f"resnet{d}": Alias(target=f"resnet{d}_cifar") for d in (20, 32, 44, 56, 110, 164)},
}
_LAMBDA = {
    "nasnet_A_large": Alias(target="nasnetalarge"),
    "nasnet_a_large": Alias(target="nasnetalarge"),
}

ALIASES: dict[str, Alias] = {
    **_MXNET_ZOO,
    **_MXNET_EXAMPLE,
    **_GLUON,
    **_SMALL_IMAGES,
    **_LAMBDA,
}
MXNET_ZOO_NAMES: tuple[str, ...] = tuple(_MXNET_ZOO)
