"""The mirror test: do images keep their class when flipped left to right?

A ridge classifier on small grey thumbnails is fitted and scored on held-out images as they are and
mirrored. Digits fall from 0.8 to 0.3, photos of animals do not change. Where mirrored images score
lower beyond chance, training must not flip.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from discern.base.seeds import derive_seed
from discern.data.images import Pixels, decode_image, fit_image
from discern.data.sources import Source

IMAGES = 2_000  # enough for a standard error near one point
SIDE = 16
HELD_OUT = 0.3
RIDGE = 10.0
MARGIN = 0.02
_LEAST_IMAGES = 20


@dataclass(frozen=True, slots=True)
class MirrorResult:
    """Accuracies on held-out images, plain and mirrored; `allowed` says that flipping is sound."""

    plain: float
    mirrored: float
    images: int
    allowed: bool

    def record(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)


def mirror_test(
    source: Source, positions: NDArray[np.int64], targets: NDArray[np.int64], seed: int
) -> MirrorResult:
    """Run the test on at most 2,000 of the images at `positions`, whose classes are `targets`.

    With fewer than 20 images nothing is known, and flipping is not allowed.
    """
    generator = np.random.default_rng(derive_seed(seed, "mirror"))
    chosen = generator.permutation(len(positions))[:IMAGES]
    if len(chosen) < _LEAST_IMAGES:
        return MirrorResult(0.0, 0.0, len(chosen), allowed=False)
    images = np.stack([_thumbnail(source.read(int(positions[i]))) for i in chosen])
    labels = targets[chosen]
    held = max(5, int(HELD_OUT * len(chosen)))
    weights = _fit(images[held:], labels[held:], int(targets.max()) + 1)
    plain = _accuracy(images[:held], labels[:held], weights)
    mirrored = _accuracy(images[:held, :, ::-1], labels[:held], weights)
    noise = 2.0 * float(np.sqrt(max(plain * (1 - plain), 0.01) / held))
    allowed = mirrored >= plain - max(MARGIN, noise)
    return MirrorResult(round(plain, 4), round(mirrored, 4), len(chosen), allowed)


def _thumbnail(image: bytes | Pixels) -> NDArray[np.float64]:
    pixels = decode_image(image, channels=1) if isinstance(image, bytes) else image
    small = fit_image(
        pixels, height=SIDE, width=SIDE, interpolation="area", crop_pct=1.0, fit="squish"
    )
    grey = small.astype(np.float64).mean(2)
    scaled: NDArray[np.float64] = (grey - grey.mean()) / (grey.std() + 1.0)
    return scaled


def _design(images: NDArray[np.float64]) -> NDArray[np.float64]:
    flat = images.reshape(len(images), -1)
    return np.concatenate([flat, np.ones((len(flat), 1))], axis=1)


def _fit(
    images: NDArray[np.float64], labels: NDArray[np.int64], classes: int
) -> NDArray[np.float64]:
    design = _design(images)
    wanted = np.eye(classes)[labels]
    gram = design.T @ design + RIDGE * np.eye(design.shape[1])
    solution: NDArray[np.float64] = np.asarray(
        np.linalg.solve(gram, design.T @ wanted), dtype=np.float64
    )
    return solution


def _accuracy(
    images: NDArray[np.float64], labels: NDArray[np.int64], weights: NDArray[np.float64]
) -> float:
    return float(((_design(images) @ weights).argmax(1) == labels).mean())
