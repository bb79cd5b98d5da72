"""The records a model bundle is made from. Owns no file and no format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from discern.base.errors import ModelError
from discern.data.head_spec import HeadSpec, is_plain, main_heads
from discern.data.images import Pixels, Preprocess

OWN_PREFIX = "discern/"
GOLDEN_IMAGES = 16


@dataclass(frozen=True, slots=True)
class GoldenImage:
    """A sample image that a bundle carries: the original file's bytes, or pixels [H, W, C]."""

    name: str
    image: bytes | Pixels


@dataclass(frozen=True, kw_only=True)
class BundleContent:
    """Everything a bundle holds.

    model: a Classifier (module with `.network`; `forward(images) -> (logits, features)`).
    architecture: a timm name, or "discern/NAME" for our own networks. arguments: the builder's.
    changes: what was changed on it (stem, pooling, embedding), as `ModelChanges.record` gives it.
    scores: as `metrics` of the run (fractions). trained_on: facts for the card, such as data name,
    counts and split. golden_images: up to 16 are kept; at least one is needed.
    """

    model: nn.Module
    architecture: str
    heads: tuple[HeadSpec, ...]
    preprocess: Preprocess
    golden_images: tuple[GoldenImage, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    weights_license: str | None = None
    run: str | None = None
    scores: Mapping[str, Any] | None = None
    trained_on: Mapping[str, Any] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether the network is one of ours, not timm's."""
        return self.architecture.startswith(OWN_PREFIX)


def single_head(heads: tuple[HeadSpec, ...], where: object) -> HeadSpec:
    """The only head that answers, which has one class an image.

    Raises ModelError for a model of several, or of several labels an image.
    """
    main = main_heads(heads)
    if not is_plain(main):
        raise ModelError(
            "this model has more than one answer, or several labels an image",
            where=where,
            got=", ".join(f"{head.name} ({head.kind})" for head in heads) or "no head",
            expected="one head of one label an image",
            hint="ask it head by head: `.heads`",
        )
    return main[0]


def head_widths(heads: tuple[HeadSpec, ...]) -> dict[str, int]:
    """The classes of each of several heads by name, as a network is built with; of one nothing."""
    return {head.name: head.width for head in heads} if len(heads) > 1 else {}
