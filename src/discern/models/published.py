"""Published ImageNet-1k accuracies of the networks that people ask for most.

Source of every row: timm's results/results-imagenet.csv (huggingface/pytorch-image-models, commit
0173a139): top-1 and top-5 on the 50,000 validation images at the size and crop given there.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "timm results/results-imagenet.csv, ImageNet-1k validation"


@dataclass(frozen=True, slots=True)
class Published:
    """Fractions of the 50,000 validation images; `side` is the image size used, in pixels."""

    top1: float
    top5: float
    side: int


PUBLISHED: dict[str, Published] = {
    "convnext_atto.d2_in1k": Published(0.77008, 0.93702, 288),
    "convnext_femto.d1_in1k": Published(0.78716, 0.94430, 288),
    "deit_tiny_distilled_patch16_224.fb_in1k": Published(0.74500, 0.91892, 224),
    "densenet121.ra_in1k": Published(0.76500, 0.93368, 288),
    "densenet161.tv_in1k": Published(0.77358, 0.93642, 224),
    "densenet169.tv_in1k": Published(0.75900, 0.93028, 224),
    "densenet201.tv_in1k": Published(0.77286, 0.93480, 224),
    "edgenext_x_small.in1k": Published(0.75688, 0.92766, 288),
    "efficientnet_b0.ra_in1k": Published(0.77694, 0.93532, 224),
    "efficientnet_b1.ft_in1k": Published(0.78800, 0.94342, 256),
    "efficientnet_lite0.ra_in1k": Published(0.75480, 0.92522, 224),
    "ghostnet_100.in1k": Published(0.73982, 0.91466, 224),
    "inception_v3.tv_in1k": Published(0.77434, 0.93474, 299),
    "mobilenetv2_100.ra_in1k": Published(0.72976, 0.91010, 224),
    "mobilenetv2_140.ra_in1k": Published(0.76520, 0.92986, 224),
    "mobilenetv3_large_100.ra_in1k": Published(0.75766, 0.92538, 224),
    "mobilevit_s.cvnets_in1k": Published(0.78312, 0.94144, 256),
    "regnety_004.tv2_in1k": Published(0.75598, 0.92696, 224),
    "resnet18.a1_in1k": Published(0.73158, 0.91026, 288),
    "resnet34.a1_in1k": Published(0.77918, 0.93766, 288),
    "resnet50.tv_in1k": Published(0.76130, 0.92858, 224),
    "resnet101.tv_in1k": Published(0.77376, 0.93542, 224),
    "resnet152.tv_in1k": Published(0.78322, 0.94048, 224),
    "resnext50_32x4d.tv_in1k": Published(0.77618, 0.93696, 224),
    "vgg16_bn.tv_in1k": Published(0.73370, 0.91514, 224),
    "vgg19_bn.tv_in1k": Published(0.74216, 0.91844, 224),
    "vit_small_patch16_224.augreg_in1k": Published(0.78846, 0.94288, 224),
    "vit_tiny_patch16_224.augreg_in21k_ft_in1k": Published(0.75454, 0.92844, 224),
}
