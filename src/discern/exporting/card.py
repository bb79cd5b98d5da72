"""The model card: `README.md` of a bundle, readable by people and by Hugging Face tools."""

from __future__ import annotations

import re
from typing import Any

from discern.base.plugins import is_import_path
from discern.data.head_spec import HeadSpec, main_heads
from discern.data.images import Preprocess
from discern.exporting.content import OWN_PREFIX, BundleContent
from discern.exporting.reader_configs import opens_in_timm

_SHOWN_CLASSES = 50


def model_card(content: BundleContent) -> str:
    """The card as Markdown with YAML front matter."""
    from discern.config.yaml_text import dump_text

    front: dict[str, Any] = {
        "library_name": "timm" if opens_in_timm(content) else "discern",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "discern"],
    }
    if content.weights_license:
        front["license"] = content.weights_license
    preprocess = content.preprocess
    heads = main_heads(content.heads)
    asked = ", ".join(_asked(head, alone=len(heads) == 1) for head in heads)
    size = f"{preprocess.height} x {preprocess.width} x {preprocess.channels}"
    lines = [
        "---",
        dump_text(front).rstrip(),
        "---",
        "",
        f"# {_plain(content.run or content.architecture)}",
        "",
        f"An image classifier: {content.architecture}, {asked}, input {size}.",
        "",
        *_score_lines(content),
        *[_class_line(head, alone=len(heads) == 1) for head in heads],
        "",
        "## Reading it",
        "",
        "```python",
        "import discern",
        "",
        'discern.load("PATH").predict("image.jpg")',
        "```",
        "",
    ]
    lines += _reader_lines(content)
    lines += [
        "Every image is decoded, turned upright, resized",
        f"({preprocess.interpolation}, {preprocess.fit}, crop share {preprocess.crop_pct:g}) and",
        _normalization(preprocess),
        "`golden/` holds sample images with the logits that this model gives for them.",
        "",
    ]
    return "\n".join(lines)


def _asked(head: HeadSpec, *, alone: bool) -> str:
    kind = "labels, any number an image" if head.kind == "multi" else "classes"
    return f"{head.width} {kind}" if alone else f"{_plain(head.name)} ({head.width} {kind})"


def _class_line(head: HeadSpec, *, alone: bool) -> str:
    shown = ", ".join(_plain(name) for name in head.classes[:_SHOWN_CLASSES])
    more = f" and {head.width - _SHOWN_CLASSES} more" if head.width > _SHOWN_CLASSES else ""
    what = "Labels" if head.kind == "multi" else "Classes"
    return f"{what if alone else _plain(head.name)}: {shown}{more}."


def _normalization(preprocess: Preprocess) -> str:
    if preprocess.per_image:
        return "brought to mean 0 and deviation 1 by itself; the mean and std given are unused."
    return f"normalized with mean {list(preprocess.mean)} and std {list(preprocess.std)}."


def _reader_lines(content: BundleContent) -> list[str]:
    """How other readers open the bundle."""
    if opens_in_timm(content):
        return [
            "timm opens it as it is, and so do Hugging Face's timm classes:",
            "",
            "```python",
            "import timm",
            "",
            "timm.create_model('local-dir:PATH', pretrained=True)",
            "```",
            "",
        ]
    if content.changes and not is_import_path(content.architecture):
        network = content.architecture.removeprefix(OWN_PREFIX)
        return [
            f"Its network is {network} with changes of Discern's ({', '.join(content.changes)}):",
            "other readers open the tensors, not the model.",
            "",
        ]
    if not content.own and not is_import_path(content.architecture):
        return [
            "timm has this network; build it with the arguments in `config.json` (one input",
            "channel) and load `model.safetensors`, whose names are timm's own.",
            "",
        ]
    return [
        "Its network is Discern's own: other readers open the tensors, not the model.",
        "",
    ]


def _plain(text: str) -> str:
    """`text` with everything escaped that Markdown or HTML would act on."""
    return re.sub(r"([\\`*_{}\[\]<>#|~!$&])", r"\\\1", " ".join(text.split()))


def _accuracy_name(heads: tuple[HeadSpec, ...]) -> str:
    """What the one figure means: see docs/heads.md."""
    main = main_heads(heads)
    if len(main) > 1:
        return "Accuracy (joint, of all heads)"
    return "Accuracy (all labels of an image right)" if main[0].kind == "multi" else "Accuracy"


def _score_lines(content: BundleContent) -> list[str]:
    scores, facts = content.scores, content.trained_on
    lines = []
    if scores:
        lines.append(
            f"{_accuracy_name(content.heads)} {scores['accuracy']:.4f} on {scores['count']} images "
            f"of the split {scores.get('split', 'test')} (95 % interval "
            f"{scores['accuracy_low']:.4f} to {scores['accuracy_high']:.4f})."
        )
        if facts.get("chosen_on_reported"):
            lines.append("The model was chosen on the test images: this score is too good.")
        lines.append("")
    if facts.get("unscored"):
        lines += [str(facts["unscored"]), ""]
    if facts.get("data"):
        counts = ", ".join(f"{name} {count}" for name, count in (facts.get("images") or {}).items())
        lines += [f"Trained on {_plain(str(facts['data']))}: {counts}.", ""]
    return lines
