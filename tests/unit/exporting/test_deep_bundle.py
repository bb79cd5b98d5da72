"""Bundles of models that see 16 bit, or other channels than grey and RGB."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest

from discern.base.errors import ModelError
from discern.data.images import Preprocess
from discern.exporting.bundle import open_bundle, replay_golden, save_bundle
from discern.exporting.content import GoldenImage
from discern.exporting.forward import normalized
from discern.exporting.golden import _stored
from discern.exporting.predictor import Predictor

KINDS = [(1, 16), (3, 16), (5, 8), (5, 16)]


def picture(channels, depth, seed=0):
    limit = 1 << depth
    dtype = np.uint8 if depth == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, limit, (40, 36, channels), dtype=dtype)


@pytest.fixture(params=KINDS, ids=[f"{c} channels, {d} bit" for c, d in KINDS])
def bundle(request, make_content, tmp_path):
    """A saved bundle and its content."""
    channels, depth = request.param
    content = make_content(
        channels=channels,
        preprocess=Preprocess(
            height=32, width=32, channels=channels, depth=depth,
            mean=(0.45,) * channels, std=(0.25,) * channels,
        ),
        golden_images=tuple(
            GoldenImage(f"{seed}", picture(channels, depth, seed)) for seed in range(2)
        ),
    )  # fmt: skip
    save_bundle(tmp_path / "model", content)
    return tmp_path / "model", content


def test_golden_images_are_replayed_to_the_bit(bundle):
    folder, content = bundle
    result = replay_golden(folder)
    assert (True, 2, 2) == (result.ok, result.count, result.pixels_equal)
    depth = content.preprocess.depth
    for number, kept in enumerate(sorted((folder / "golden").glob("*.npy"))):
        channels = content.preprocess.channels
        assert np.array_equal(picture(channels, depth, number), np.load(kept))
    assert 2 == number + 1


def test_opened_bundle_has_the_depth_and_the_logits(bundle):
    folder, content = bundle
    opened = open_bundle(folder)
    preprocess = content.preprocess
    assert preprocess == opened.preprocess
    config = json.loads((folder / "config.json").read_text())
    assert preprocess.depth == config["discern"]["preprocess"]["depth"]
    image = picture(preprocess.channels, preprocess.depth, 7)
    before = Predictor(content.model, preprocess, ("ant", "bee", "cat")).predict(image)
    after = Predictor(opened.model, opened.preprocess, ("ant", "bee", "cat")).predict(image)
    assert np.array_equal(before.probabilities, after.probabilities)


def test_changed_low_byte_of_a_golden_array_is_found(bundle):
    folder, _ = bundle
    path = folder / "golden" / "00.npy"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError) as caught:
        open_bundle(folder)
    assert "00.npy" in str(caught.value.where)


def test_normalized_is_that_of_the_formula():
    image = picture(2, 16)
    preprocess = Preprocess(
        height=40, width=36, channels=2, mean=(0.3, 0.4), std=(0.2, 0.5), depth=16
    )
    got = normalized([image], preprocess, "cpu")[0].permute(1, 2, 0).numpy()
    expected = (image / 65535.0 - np.array([0.3, 0.4])) / np.array([0.2, 0.5])
    np.testing.assert_allclose(got, expected, atol=2e-6)


def array_file(array, **options):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        array_file(np.zeros((4, 4, 3), np.float32)),
        array_file(np.zeros((4, 4), np.uint8)),
        array_file(np.asfortranarray(np.ones((4, 5, 3), np.uint8))),
        array_file(np.array([[[{}]]], dtype=object)),
        array_file(np.zeros((4, 4, 3), np.uint8))[:-1],
        array_file(np.zeros((4, 4, 3), np.uint8)).replace(b"(4, 4, 3)", b"(4, 4,99)"),
        array_file(np.zeros((4, 4, 3), np.uint8), version=(2, 0)),
        b"no array at all",
    ],
)
def test_golden_array_that_is_none_is_refused(data):
    with pytest.raises(ValueError, match=r"golden array|magic"):
        _stored(data, ".npy")


def test_other_files_are_left_to_the_decoder():
    assert b"anything" == _stored(b"anything", ".png")
    pixels = picture(5, 16)
    assert np.array_equal(pixels, _stored(array_file(pixels), ".npy"))
