"""Test images that a model has seen in training: equal, resized, and strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from discern.data.leaks import ImageSet, find_leaks
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source


def picture(seed: int) -> Image.Image:
    draws = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(draws).resize((96, 96)).filter(ImageFilter.GaussianBlur(2))


def test_equal_and_nearly_equal_training_images_are_found_with_their_twins(tmp_path: Path) -> None:
    for split, seeds in (("train", range(6)), ("test", range(3, 9))):
        (tmp_path / split / "a").mkdir(parents=True)
        for seed in seeds:
            image = picture(seed)
            if split == "test" and seed == 4:
                image = image.resize((64, 64))
            image.save(tmp_path / split / "a" / f"{seed}.png")
    manifest = scan_data(DataRequest(train=str(tmp_path), split=None)).manifest
    source = open_source(manifest)
    test, train = (
        ImageSet(manifest, source, manifest.positions(split)) for split in ("test", "train")
    )
    found = find_leaks(test, train, threads=1)
    assert found.exact.tolist() == [True, False, True, False, False, False]
    assert found.near.tolist() == [False, True, False, False, False, False]
    assert found.twins.tolist() == [3, 4, 5, -1, -1, -1]
    bytes_alone = find_leaks(test, train, threads=1, most=3)
    assert not bytes_alone.compared
    assert bytes_alone.any.sum() == 2
