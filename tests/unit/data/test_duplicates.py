"""Equal bytes, equal looks, equal embeddings: what is found, and what is not."""

from __future__ import annotations

import io
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from discern.base.errors import DataError
from discern.data.duplicates import (
    Looks,
    embedding_pairs,
    equal_groups,
    join_pairs,
    near_groups,
    near_pairs,
)


def _looks(images):
    looks = Looks.empty(len(images))
    pictures = [
        np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BOX)) for image in images
    ]
    looks.put(np.arange(len(images)), np.stack(pictures))
    return looks


def _as_sets(pairs):
    return {tuple(sorted(pair)) for pair in pairs.tolist()}


def _by_comparing_all(hashes, distance):
    rows, columns = np.triu_indices(len(hashes), 1)
    near = np.bitwise_count(hashes[rows] ^ hashes[columns]) <= distance
    return set(zip(rows[near].tolist(), columns[near].tolist(), strict=True))


@pytest.mark.parametrize("distance", [0, 3, 10])
def test_near_pairs_are_those_of_comparing_all(distance):
    draw = np.random.default_rng(1)
    hashes = draw.integers(0, 2**63, 300, dtype=np.uint64)
    # Every hash gets one neighbor with up to 14 flipped bits.
    flips = [
        sum(1 << int(bit) for bit in draw.choice(64, draw.integers(1, 15), replace=False))
        for _ in range(300)
    ]
    hashes = np.unique(np.concatenate([hashes, hashes ^ np.array(flips, dtype=np.uint64)]))
    draw.shuffle(hashes)
    pairs, complete = near_pairs(hashes, distance)
    assert complete
    assert _by_comparing_all(hashes, distance) == _as_sets(pairs)
    assert len(pairs) == len(_as_sets(pairs))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 2**64 - 1), max_size=12))
def test_near_pairs_of_any_hashes(values):
    hashes = np.array(values, dtype=np.uint64)
    assert _by_comparing_all(hashes, 10) >= _as_sets(near_pairs(hashes, 10)[0])
    unique = np.unique(hashes)
    assert _by_comparing_all(unique, 10) == _as_sets(near_pairs(unique, 10)[0])


def test_many_equal_hashes_are_one_group_without_all_pairs():
    hashes = np.full(5000, 12345, dtype=np.uint64)
    pairs, _ = near_pairs(hashes)
    assert len(pairs) < 17 * 5000
    groups = join_pairs(pairs)
    assert [5000] == [len(group) for group in groups]


def test_search_ends_early_and_says_so(monkeypatch):
    monkeypatch.setattr("discern.data.duplicates._MOST_PAIRS", 10)
    hashes = np.arange(64, dtype=np.uint64)
    pairs, complete = near_pairs(hashes)
    assert not complete
    assert len(pairs) > 10


def test_keep_decides_on_pairs():
    hashes = np.array([0, 1, 3, 0], dtype=np.uint64)
    pairs, _ = near_pairs(hashes, keep=lambda p: (p.max(axis=1) == 3) & (p.min(axis=1) == 0))
    assert {(0, 3)} == _as_sets(pairs)


@pytest.fixture(scope="module")
def photos(shared_data):
    with tarfile.open(shared_data / "imagenet_samples" / "imagenet_samples_400.tar") as archive:
        members = [member for member in archive if member.isfile()][:60]
        return [
            Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")
            for member in members
        ]


def _saved(image, **options):
    stream = io.BytesIO()
    image.save(stream, **options)
    return Image.open(io.BytesIO(stream.getvalue()))


CHANGES = {
    "quality 20": lambda image: _saved(image, format="JPEG", quality=20),
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "png": lambda image: _saved(image, format="PNG"),
    "paler": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L"),
    "brighter": lambda image: image.point(lambda value: min(255, round(value * 1.15))),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_of_photos_are_found(photos, change):
    copies = [CHANGES[change](photo) for photo in photos]
    looks = _looks(photos + copies)
    groups, _ = near_groups(looks, np.arange(2 * len(photos)))
    expected = {(row, row + len(photos)) for row in range(len(photos))}
    found = {tuple(group.tolist()) for group in groups}
    assert found <= expected, "no stranger is joined"
    assert len(found) >= 0.95 * len(expected)


def test_different_photos_are_not_joined(photos):
    groups, _ = near_groups(_looks(photos), np.arange(len(photos)))
    assert [] == groups


def test_blank_pictures_are_marked_and_never_joined():
    images = [Image.new("RGB", (64, 64), (shade, shade, shade)) for shade in (0, 100, 101, 255)]
    looks = _looks(images)
    assert [True] * 4 == looks.blank.tolist()
    assert ([], True) == near_groups(looks, np.arange(4))


def test_same_shape_in_another_color_is_another_picture():
    draw = np.random.default_rng(3)
    shape = np.kron(draw.integers(0, 2, (8, 8)), np.ones((8, 8), dtype=np.int64)).astype(bool)
    red, blue = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    # Equal brightness by the weights of ITU-R 601: 0.299 * 200 = 0.114 * 255 + 0.587 * 52.
    red[shape], blue[shape] = (200, 0, 0), (0, 52, 255)
    looks = _looks([Image.fromarray(red), Image.fromarray(blue), Image.fromarray(red[:, :])])
    groups, _ = near_groups(looks, np.arange(3))
    assert [[0, 2]] == [group.tolist() for group in groups]


def test_equal_groups_keep_order_and_skip_the_unread():
    groups = equal_groups(["b", "", "a", "b", "", "a", "c", "b"])
    assert [[0, 3, 7], [2, 5]] == [group.tolist() for group in groups]


def test_join_pairs_follows_chains():
    pairs = np.array([[5, 6], [1, 2], [6, 9], [2, 7], [7, 1]], dtype=np.int64)
    assert [[1, 2, 7], [5, 6, 9]] == [group.tolist() for group in join_pairs(pairs)]
    assert [] == join_pairs(np.empty((0, 2), dtype=np.int64))


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_embedding_pairs_are_those_of_the_full_product(block):
    draw = np.random.default_rng(5)
    base = draw.normal(size=(20, 16)).astype(np.float32)
    embeddings = np.concatenate([base, 3 * base[:8] + 0.01, np.zeros((1, 16), np.float32)])
    embeddings[19] = np.nan
    pairs = embedding_pairs(embeddings, 0.95, block)
    assert {(row, row + 20) for row in range(8)} == _as_sets(pairs)


def test_embeddings_of_another_shape_are_refused():
    with pytest.raises(DataError, match="not an array of embeddings"):
        embedding_pairs(np.zeros(5, dtype=np.float32))
    with pytest.raises(DataError, match="out of range"):
        embedding_pairs(np.zeros((5, 2), dtype=np.float32), similarity=1.5)
