from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from discern.base.errors import DataError
from discern.data.images import Preprocess
from discern.feed.augment import PhotoAugment, SmallImageAugment
from discern.feed.batch import FeedOptions
from discern.feed.loader import LoaderFeed
from discern.feed.policies import POLICY_NAMES, PolicyContext, named_policy
from discern.feed.preview import crop_loss, crop_warning, preview_images

SQUARE = Preprocess(height=224, width=224, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.mark.parametrize(
    ("expected", "size", "changes"),
    [
        (0.0, (300, 300), {}),
        (0.25, (300, 400), {}),
        (0.25, (400, 300), {}),
        (1 - 0.875**2, (300, 300), {"crop_pct": 0.875}),
        (1 - 0.75 * 0.875**2, (300, 400), {"crop_pct": 0.875}),
        (0.0, (300, 400), {"fit": "pad"}),
        (0.0, (300, 400), {"fit": "squish"}),
        (0.0, (300, 400), {"height": 150, "width": 200}),
        (0.5, (200, 200), {"height": 100, "width": 200}),
    ],
)
def test_crop_loss_is_the_area_that_is_never_seen(expected, size, changes):
    preprocess = replace(SQUARE, **changes)
    assert expected == pytest.approx(crop_loss(preprocess, [size]))
    if preprocess.fit == "crop":
        # By painting: the crop shows as much of the image as the pixels say.
        rows, columns = np.mgrid[0 : size[0], 0 : size[1]]
        where = np.stack([rows / size[0], columns / size[1], rows * 0], -1)
        made = preprocess.apply((where * 255).astype(np.uint8)).astype(float) / 255
        seen = np.ptp(made[:, :, 0]) * np.ptp(made[:, :, 1])
        assert 1 - expected == pytest.approx(seen, abs=0.03)


def test_median_shape_decides():
    sizes = [(100, 100), (100, 200), (100, 1000)]
    assert 0.5 == pytest.approx(crop_loss(SQUARE, sizes))
    with pytest.raises(DataError):
        crop_loss(SQUARE, [])


def test_warning_comes_with_much_loss():
    assert crop_warning(0.1) is None
    assert "33% of the median image" in crop_warning(1 / 3)


@pytest.mark.parametrize("name", ["photo", "small", *POLICY_NAMES])
def test_preview_shows_what_the_feed_feeds(color, array_source, name):
    random = np.random.default_rng(0)
    source = array_source(
        [random.integers(0, 256, (30 + k, 40, 3), dtype=np.uint8) for k in range(12)]
    )
    context = PolicyContext(small=False, crop=PhotoAugment())
    augment = {"photo": PhotoAugment(), "small": SmallImageAugment(pad=1)}.get(name)
    augment = augment or named_policy(name, context)
    # With nearest the fast reader of photos and the reference agree in every pixel.
    flat = replace(color, interpolation="nearest", mean=(0.0,) * 3, std=(1.0,) * 3)
    positions = np.arange(12)
    preview = preview_images(source, positions, flat, augment, seed=3, epoch=2)
    assert (8, 8, 10, 3) == preview.augmented.shape == preview.evaluation.shape
    options = FeedOptions(batch_size=5, training=True, seed=3, augment=augment)
    with LoaderFeed(source, np.zeros(12, np.int64), positions, flat, options) as feed:
        fed = {}
        for batch in feed.epoch(2):
            pixels = (batch.images * 255).round().to("cpu").numpy().transpose(0, 2, 3, 1)
            fed |= dict(zip(batch.positions.tolist(), pixels.astype(np.uint8), strict=True))
    for number, position in enumerate(preview.positions.tolist()):
        assert np.array_equal(fed[position], preview.augmented[number])
        assert np.array_equal(flat.apply(source.images[position]), preview.evaluation[number])
        assert f"image-{position}.png" == preview.names[number]


@pytest.mark.parametrize("name", ["photo", "small", "light", "vgg", "none"])
def test_preview_of_deep_images_is_that_of_their_upper_bits(color, array_source, name):
    random = np.random.default_rng(1)
    shallow = [random.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(8)]
    deep = [image.astype(np.uint16) * 257 for image in shallow]
    context = PolicyContext(small=False, crop=PhotoAugment())
    augment = {"photo": PhotoAugment(), "small": SmallImageAugment(pad=1)}.get(name)
    augment = augment or named_policy(name, context)
    flat = replace(color, interpolation="nearest")
    expected = preview_images(array_source(shallow), np.arange(8), flat, augment)
    made = preview_images(array_source(deep), np.arange(8), replace(flat, depth=16), augment)
    assert np.array_equal(expected.augmented, made.augmented)
    assert np.array_equal(expected.evaluation, made.evaluation)


def test_preview_of_few_images_shows_them_once(color, array_source):
    source = array_source([np.full((9, 9, 3), k, np.uint8) for k in range(3)])
    preview = preview_images(source, np.array([2, 0]), color, None, sizes=[(9, 18)])
    assert [2, 0] == preview.positions.tolist()
    assert preview.record()["crop_loss"] == pytest.approx(1 - 1.25 / 2)
    with pytest.raises(DataError):
        preview_images(source, np.array([], dtype=np.int64), color, None)
