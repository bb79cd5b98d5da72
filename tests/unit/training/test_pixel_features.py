"""Features of pictures without a network."""

from __future__ import annotations

import numpy as np

from discern.training.pixel_features import pixel_features


def stripes(horizontal, shift=0):
    wave = ((np.arange(32) + shift) // 4 % 2 * 200).astype(np.uint8)
    plane = np.tile(wave[:, None], (1, 32)) if horizontal else np.tile(wave, (32, 1))
    return plane[..., None]


def test_edges_are_told_by_their_direction_and_not_by_their_sign_or_strength():
    across, down = stripes(horizontal=False), stripes(horizontal=True)
    pictures = np.stack([across, down, 200 - across, across // 2])
    rows = pixel_features(pictures)
    assert (4, 576 + 16) == rows.shape
    edges = rows[:, :576]
    np.testing.assert_allclose(edges[0], edges[2], atol=1e-6)
    assert np.abs(edges[0] - edges[3]).max() < 0.02
    assert np.abs(edges[0] - edges[1]).max() > 0.3


def test_colors_are_the_mean_of_each_field():
    picture = np.zeros((1, 32, 32, 3), np.uint8)
    picture[0, :8, 8:16, 1] = 255
    rows = pixel_features(picture)
    colors = rows[0, 576:].reshape(4, 4, 3)
    assert 1.0 == colors[0, 1, 1]
    assert 1.0 == colors.sum()
    wide = pixel_features(picture.astype(np.uint16) * 257)
    np.testing.assert_allclose(rows, wide, atol=1e-6)


def test_a_blank_picture_has_no_edges_and_blocks_change_nothing():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (515, 32, 32, 3), dtype=np.uint8)
    pictures[3] = 77
    rows = pixel_features(pictures)
    assert not rows[3, :576].any()
    assert np.array_equal(rows[510:], pixel_features(pictures[510:]))
