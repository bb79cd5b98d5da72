"""Real image files, singly and in class folders."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save_image():
    """Writes an image of its own (drawn from `number`) and gives its path."""

    def save(path, number=0, size=(8, 6), mode="RGB"):
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(number)
        shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def class_folders(tmp_path, save_image):
    """`root/cat`, `root/dog` with six JPEGs each."""
    root = tmp_path / "pets"
    for number in range(12):
        save_image(root / ("cat", "dog")[number % 2] / f"{number:02d}.jpg", number)
    return root
