from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from discern.data.head_spec import HeadSpec
from discern.data.images import Pixels, Preprocess
from discern.exporting.content import BundleContent, GoldenImage
from discern.models.catalogue import ModelRequest, build_model

CLASSES = ("ant", "bee", "cat")


def photo(seed: int, side: int = 40, channels: int = 3) -> Pixels:
    """A smooth picture: resampling and JPEG change it a little, not wholly."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 4, channels), dtype=np.uint8)
    image = Image.fromarray(coarse[:, :, 0] if channels == 1 else coarse)
    pixels = np.asarray(image.resize((side, side + 8), Image.Resampling.BILINEAR))
    return pixels[:, :, None] if channels == 1 else pixels


def jpeg(pixels: Pixels) -> bytes:
    stream = io.BytesIO()
    flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    Image.fromarray(flat).save(stream, format="JPEG", quality=95)
    return stream.getvalue()


@pytest.fixture
def make_content() -> Callable[..., BundleContent]:
    """Builds the content of a bundle around a small seeded network."""

    def make(
        name: str = "fast_net",
        channels: int = 3,
        side: int = 32,
        seed: int = 0,
        **changes: Any,
    ) -> BundleContent:
        torch.manual_seed(seed)
        built = build_model(
            ModelRequest(
                name=name,
                num_classes=len(CLASSES),
                channels=channels,
                image_size=(side, side),
                arguments=changes.pop("arguments", {}),
            )
        )
        # Batch norms with statistics of their own: a network fresh from its builder hides mistakes.
        for module in built.model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.2, 0.2)
                module.running_var.uniform_(0.5, 1.5)
        shown = 1 if channels == 1 else 3
        given = {
            "model": built.model,
            "architecture": built.architecture,
            "arguments": built.arguments,
            "heads": (HeadSpec("label", "single", CLASSES),),
            "preprocess": Preprocess(
                height=side,
                width=side,
                channels=channels,
                mean=(0.45,) * channels,
                std=(0.25,) * channels,
                crop_pct=0.9,
            ),
            "golden_images": (
                GoldenImage("a.jpg", jpeg(photo(1, channels=shown))),
                GoldenImage("b.png", photo(2, channels=shown)),
            ),
            **changes,
        }
        return BundleContent(**given)

    return make
