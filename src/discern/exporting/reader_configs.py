"""`config.json` and `preprocessor_config.json` of a bundle. Owns their keys.

Both follow what timm and Hugging Face readers look for; what only Discern knows stands under the
key `discern`. For RGB single-head timm networks the files open in those readers as they are.
"""

from __future__ import annotations

from typing import Any, Final

from torch import nn

from discern.data.head_spec import is_plain
from discern.data.pixel_arrays import white_of
from discern.exporting.answer_rules import AnswerRules, rules_record
from discern.exporting.content import OWN_PREFIX, BundleContent

VERSION: Final = 1
_TIMM_CROP_MODES = {"crop": "center", "squish": "squash", "pad": "border"}
_TIMM_INTERPOLATIONS = {"area": "box"}
# Keys that timm's own configuration knows about the layers of a network.
_LAYER_KEYS = ("fixed_input_size", "first_conv", "classifier", "min_input_size")
# Pillow's resampling numbers, which Hugging Face image processors store.
_RESAMPLE = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "area": 4}


def opens_in_timm(content: BundleContent) -> bool:
    """Whether timm and Hugging Face readers open the bundle as it is.

    They do RGB timm networks in 8 bit that are as timm builds them, of one head of one label an
    image, and know nothing of a
    normalization of each image by itself.
    """
    if not is_plain(content.heads):
        return False
    preprocess = content.preprocess
    usual = preprocess.channels == 3 and preprocess.depth == 8 and not preprocess.per_image
    return not content.own and not content.changes and usual


def output_names(content: BundleContent) -> list[str]:
    """The name of each output of the network: a class, of several heads `HEAD/CLASS`."""
    if len(content.heads) == 1:
        return list(content.heads[0].classes)
    return [f"{head.name}/{name}" for head in content.heads for name in head.classes]


def bundle_config(content: BundleContent, *, writer: str) -> dict[str, Any]:
    """`config.json` as a dictionary. `writer`: program and version that wrote the bundle."""
    network = getattr(content.model, "network", content.model)
    classes = output_names(content)
    record: dict[str, Any] = {
        # timm finds no such name, instead of a network that the tensors do not fit.
        "architecture": f"{OWN_PREFIX}{content.architecture}"
        if content.changes and not content.own
        else content.architecture,
        "num_classes": len(classes),
        "label_names": classes,
    }
    num_features = getattr(network, "num_features", None)
    if isinstance(num_features, int):
        record["num_features"] = num_features
    if not content.own and not content.changes:
        arguments = _timm_arguments(content, network)
        if arguments:
            record["model_args"] = arguments
    record["pretrained_cfg"] = _timm_settings(content, network)
    record["discern"] = {
        "version": VERSION,
        "writer": writer,
        "architecture": content.architecture,
        "arguments": dict(content.arguments),
        "changes": dict(content.changes),
        "heads": [head.record() for head in content.heads],
        "preprocess": content.preprocess.record(),
        "revision": 1,
        **rules_record(AnswerRules(), content.heads),
        "weights_license": content.weights_license,
        "run": content.run,
        "scores": None if content.scores is None else dict(content.scores),
        "trained_on": dict(content.trained_on),
    }
    return record


def processor_config(content: BundleContent) -> dict[str, Any]:
    """`preprocessor_config.json` as a dictionary, in the style of a Hugging Face image processor.

    timm networks name the processor that reads `pretrained_cfg` of `config.json`; the other keys
    say the same in words that any reader of such files knows.
    """
    preprocess = content.preprocess
    shortest = int(min(preprocess.height, preprocess.width) / preprocess.crop_pct)
    if preprocess.fit == "crop":
        size = {"shortest_edge": shortest}
    else:
        size = {"height": preprocess.height, "width": preprocess.width}
    timm_reader = opens_in_timm(content)
    return {
        "image_processor_type": "TimmWrapperImageProcessor" if timm_reader else "ImageProcessor",
        "do_convert_rgb": preprocess.channels == 3,
        "do_resize": True,
        "size": size,
        "resample": _RESAMPLE[preprocess.interpolation],
        "do_center_crop": preprocess.fit == "crop",
        "crop_size": {"height": preprocess.height, "width": preprocess.width},
        "do_rescale": True,
        "rescale_factor": 1 / white_of(preprocess.depth),
        "do_normalize": True,
        "image_mean": list(preprocess.mean),
        "image_std": list(preprocess.std),
    }


def _timm_settings(content: BundleContent, network: nn.Module) -> dict[str, Any]:
    """timm's `pretrained_cfg`: evaluation settings and the names of first and last layer."""
    preprocess = content.preprocess
    known = getattr(network, "pretrained_cfg", None) or {}
    settings: dict[str, Any] = {
        key: known[key] for key in _LAYER_KEYS if known.get(key) is not None
    }
    settings.update(
        input_size=[preprocess.channels, preprocess.height, preprocess.width],
        interpolation=_TIMM_INTERPOLATIONS.get(preprocess.interpolation, preprocess.interpolation),
        crop_pct=preprocess.crop_pct,
        crop_mode=_TIMM_CROP_MODES[preprocess.fit],
        mean=list(preprocess.mean),
        std=list(preprocess.std),
        num_classes=len(output_names(content)),
        custom_load=False,  # the weights file holds timm's own names, no other format
    )
    if content.weights_license:
        settings["license"] = content.weights_license
    return settings


def _timm_arguments(content: BundleContent, network: nn.Module) -> dict[str, Any]:
    """What `timm.create_model` needs beside name and class count to rebuild the network."""
    arguments = dict(content.arguments)
    preprocess = content.preprocess
    known = getattr(network, "pretrained_cfg", None) or {}
    if preprocess.channels != 3:
        arguments.setdefault("in_chans", preprocess.channels)
    size = [preprocess.height, preprocess.width]
    if known.get("fixed_input_size") and list(known.get("input_size", ()))[1:] != size:
        arguments.setdefault("img_size", size)
    return arguments
