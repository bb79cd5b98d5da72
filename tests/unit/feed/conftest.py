"""Small stand-ins for the feed's inputs: preprocessing values, pixels, a source over arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from discern.data.images import Preprocess


@dataclass(frozen=True, kw_only=True)
class Settings(Preprocess):
    """Preprocessing to 8 x 10 pixels, with what the tests compute from it."""

    height: int = 8
    width: int = 10
    channels: int = 3
    mean: tuple[float, ...] = (0.4, 0.5, 0.6)
    std: tuple[float, ...] = (0.2, 0.25, 0.3)

    def normalized(self, pixels):
        """The values that a batch must hold: float [N,C,H,W], computed in float64."""
        return ((pixels / 255.0 - np.array(self.mean)) / np.array(self.std)).transpose(0, 3, 1, 2)

    def random_pixels(self, count, seed=0):
        """uint8 [count,H,W,C]."""
        shape = (count, self.height, self.width, self.channels)
        return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


class ArraySource:
    """A source over uint8 images, [H,W,C] each; counts its reads."""

    threadsafe = True

    def __init__(self, images):
        self.images = images
        self.reads = []

    def __len__(self):
        return len(self.images)

    def read(self, position):
        self.reads.append(position)
        return self.images[position]

    def name(self, position):
        return f"image-{position}.png"


@pytest.fixture(params=["color", "grey"])
def settings(request):
    """Preprocessing of color images of 8 x 10, then of grey ones."""
    if request.param == "grey":
        return Settings(channels=1, mean=(0.3,), std=(0.2,))
    return Settings()


@pytest.fixture
def color():
    """Preprocessing of color images of 8 x 10."""
    return Settings()


@pytest.fixture
def array_source():
    """Builds a source over images."""
    return ArraySource
