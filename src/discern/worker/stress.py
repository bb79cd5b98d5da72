"""The stress test: the same images blurred, compressed, noisy, turned, lit otherwise, cut.

Images are changed at the network's input size, after its own resize and crop, so that a strength
means the same for every photo. Noise is drawn from the image's place: equal runs, equal figures.
"""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any, Final

import numpy as np
from PIL import Image, ImageFilter

from discern.base.errors import ModelError
from discern.data.images import Pixels
from discern.data.sources import Source
from discern.training.evaluate import Table
from discern.training.material import Material
from discern.training.scores import wilson_interval
from discern.worker.scoring import Scoring

# Weak, middle, strong. Near the severities 1, 3 and 5 of ImageNet-C (Hendrycks and Dietterich,
# 2019) at 224 pixels; a blur is given in shares of the side so that small images blur alike.
STRENGTHS: Final[dict[str, tuple[float, float, float]]] = {
    "blur": (0.01, 0.02, 0.04),  # radius, share of the shorter side, of 25 pixels at least
    "jpeg": (60, 25, 10),  # quality
    "noise": (0.04, 0.1, 0.2),  # standard deviation, share of white
    "rotation": (5, 15, 30),  # degrees
    "brightness": (0.75, 0.5, 0.25),  # factor
    "crop": (0.9, 0.75, 0.6),  # share of the side that stays
}
# Eighteen passes of 1,000 images; a 95 % interval of about two points.
MOST_IMAGES: Final = 1000


class StressedSource:
    """The images of a source, fitted to the network and changed; pixels [H, W, C]."""

    def __init__(self, material: Material, kind: str, strength: float) -> None:
        self._source: Source = material.source
        self._preprocess = material.preprocess
        self._kind, self._strength = kind, strength

    def __len__(self) -> int:
        return len(self._source)

    def read(self, position: int) -> Pixels:
        """The changed pixels, uint8 [H, W, C]. Raises DataError."""
        data = self._source.read(position)
        fitted = self._preprocess.apply(data, name=self._source.name(position))
        return stressed(fitted, self._kind, self._strength, seed=position)

    def name(self, position: int) -> str:
        """What the source calls the image."""
        return self._source.name(position)


def stressed(pixels: Pixels, kind: str, strength: float, *, seed: int = 0) -> Pixels:
    """One image [H, W, C] uint8 changed by `kind` at `strength` (see STRENGTHS)."""
    if kind == "noise":
        draws = np.random.default_rng([seed, 7]).standard_normal(pixels.shape, dtype=np.float32)
        return _bytes(pixels + draws * (255 * strength))
    if kind == "brightness":
        return _bytes(pixels.astype(np.float32) * strength)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    if kind == "blur":
        image = image.filter(ImageFilter.GaussianBlur(strength * max(25, min(image.size))))
    elif kind == "jpeg":
        stream = io.BytesIO()
        image.save(stream, "JPEG", quality=int(strength))
        image = Image.open(stream).convert(image.mode)
    elif kind == "rotation":
        edge = tuple(int(v) for v in pixels[:1].reshape(-1, pixels.shape[2]).mean(axis=0))
        fill = edge[0] if len(edge) == 1 else edge
        image = image.rotate(strength, Image.Resampling.BILINEAR, fillcolor=fill)
    else:
        width, height = image.size
        left, top = (round(side * (1 - strength) / 2) for side in (width, height))
        box = (left, top, width - left, height - top)
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image, dtype=np.uint8).reshape(pixels.shape)


def _bytes(values: Any) -> Pixels:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def stress_test(scoring: Scoring, material: Material, split: str) -> dict[str, dict[str, Any]]:
    """By head, its accuracy at each kind and strength: `count`, `accuracy` untouched, `kinds`.

    On at most 1,000 images of the split, evenly spread; a head without a label among them is left
    out. Raises ModelError for networks of other than 1 or 3 channels or of 16 bit.
    """
    seen = material.preprocess
    if seen.channels not in (1, 3) or seen.depth != 8:
        raise ModelError(
            "only gray or RGB images of 8 bit are stressed", where="--stress",
            got=f"{seen.channels} channels, {seen.depth} bit",
        )  # fmt: skip
    few = scoring.material(material.manifest, source=material.source, most=MOST_IMAGES)
    found = _accuracies(scoring, few, split)
    kinds: dict[str, dict[str, list[dict[str, Any]]]] = {head: {} for head in found}
    fitted = replace(seen, crop_pct=1.0, fit="squish")
    for kind, strengths in STRENGTHS.items():
        for strength in strengths:
            source = StressedSource(few, kind, strength)
            changed = scoring.material(
                material.manifest, source=source, preprocess=fitted, most=MOST_IMAGES
            )
            for head, own in _accuracies(scoring, changed, split).items():
                kinds[head].setdefault(kind, []).append({"strength": strength, **own})
    return {head: {**own, "kinds": kinds[head]} for head, own in found.items()}


def _accuracies(scoring: Scoring, material: Material, split: str) -> dict[str, dict[str, Any]]:
    tables = scoring.tables(material, split)
    return {head: _accuracy(table) for head, table in tables.items() if table.labeled.any()}


def _accuracy(table: Table) -> dict[str, Any]:
    count, right = int(table.labeled.sum()), int(table.correct.sum())
    low, high = wilson_interval(right, count)
    return {"count": count, "accuracy": right / count, "accuracy_low": low, "accuracy_high": high}
