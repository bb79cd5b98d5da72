"""The records a model bundle is made from. Owns no file and no format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from discern.base.errors import ModelError
from discern.data.images import Pixels, Preprocess

OWN_PREFIX = "discern/"
GOLDEN_IMAGES = 16


@dataclass(frozen=True, slots=True)
class HeadRecord:
    """One question that the network answers: its name, kind ("single" or "multi") and classes."""

    name: str
    kind: str
    classes: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """The head as a JSON object."""
        return {"name": self.name, "kind": self.kind, "classes": list(self.classes)}


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
    heads: tuple[HeadRecord, ...]
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


def single_head(heads: tuple[HeadRecord, ...], where: object) -> HeadRecord:
    """The only head of a single-label bundle.

    Raises ModelError for several heads or a multi-label one, which this version cannot run.
    """
    if len(heads) != 1 or heads[0].kind != "single":
        raise ModelError(
            "This version of Discern runs bundles with one single-label head",
            where=where,
            got=", ".join(f"{head.name} ({head.kind})" for head in heads) or "no head",
            expected="one head of kind single",
        )
    return heads[0]
