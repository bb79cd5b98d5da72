"""Tar shards: bytes equal to tarfile's, listing with and without our index, bad input."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.data.shard_index import (
    IndexedImage,
    PackedSet,
    ShardIndex,
    index_path,
    read_index_file,
    read_packed_set,
    write_index_file,
    write_packed_set,
)
from discern.data.sources import FileSource
from discern.data.tar_shards import ShardWriter, is_shards, list_shards

JPEG = b"\xff\xd8\xff\xe0 no real image, but the writer does not look"


def write_tar(path, members):
    """A tar by Python's own module: (name, bytes) in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def cat_and_dog(path):
    return write_tar(
        path,
        [("a.jpg", b"one"), ("a.cls", b"0"), ("b.jpg", b"three"), ("b.cls", b"1\n")],
    )


@settings(max_examples=40)
@given(
    samples=st.lists(
        st.tuples(st.binary(max_size=1500), st.one_of(st.none(), st.binary(max_size=600))),
        max_size=5,
    )
)
def test_bytes_equal_those_of_tarfile(tmp_path_factory, samples):
    members = []
    stream = io.BytesIO()
    writer = ShardWriter(stream)
    for number, (image, label) in enumerate(samples):
        labels = [] if label is None else [(".cls", label)]
        offset = writer.add(f"{number:08d}", ".jpg", image, labels)
        assert image == stream.getvalue()[offset : offset + len(image)]
        members.append((f"{number:08d}.jpg", image))
        members += [(f"{number:08d}.cls", label)] if label is not None else []
    digest = writer.close()
    expected = write_tar(tmp_path_factory.mktemp("t") / "e.tar", members).read_bytes()
    assert expected == stream.getvalue()
    assert hashlib.sha256(expected).hexdigest() == digest
    assert len(expected) == writer.size


def test_name_too_long_is_named():
    writer = ShardWriter(io.BytesIO())
    with pytest.raises(DataError, match="cannot hold") as error:
        writer.add("k" * 300, ".jpg", JPEG)
    assert "kkk" in error.value.where


def test_shards_of_others_are_scanned(tmp_path):
    cat_and_dog(tmp_path / "train-000.tar")
    write_tar(tmp_path / "val-000.tar", [("c.cls", b"1"), ("c.png", b"se")])
    listing = list_shards(tmp_path)
    assert ["0", "1", "1"] == listing.labels
    assert listing.numeric
    assert [0, 0, 1] == listing.split.tolist()
    assert "2 tar shards (train, val), 3 images" == listing.layout
    source = FileSource(listing)
    assert [b"one", b"three", b"se"] == [source.read(k) for k in range(3)]
    assert "train-000.tar:b" == source.name(1)


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ({"label": 3}, "3"),
        ({"class": "maine coon"}, "maine coon"),
        ({"cls": "7", "width": 3}, "7"),
        ("tabby", "tabby"),
        ({"caption": "a cat"}, None),
        ({"label": -1}, None),
    ],
)
def test_json_labels(tmp_path, label, expected):
    data = json.dumps(label).encode()
    path = write_tar(tmp_path / "s.tar", [("k.jpg", JPEG), ("k.json", data)])
    assert [expected] == list_shards(path).labels


def test_cls_counts_more_than_json(tmp_path):
    path = write_tar(
        tmp_path / "s.tar",
        [("k.jpg", JPEG), ("k.cls", b"tabby"), ("k.json", b'{"label": "persian"}')],
    )
    assert ["tabby"] == list_shards(path).labels


def test_keys_without_label_image_or_with_two_are_noted(tmp_path):
    path = write_tar(
        tmp_path / "s.tar",
        [
            ("a.jpg", JPEG), ("a.cls", b"x"), ("b.jpg", JPEG), ("c.cls", b"y"),
            ("d.jpg", b"first"), ("d.png", b"second"), ("d.cls", b"x"),
        ],
    )  # fmt: skip
    listing = list_shards(path)
    assert ["x", None, "x"] == listing.labels
    notes = "\n".join(listing.notes)
    assert "1 keys have no label: s.tar:b" in notes
    assert "1 keys have a label, but no image, and were left out: s.tar:c" in notes
    assert "1 keys have several images: the first one counts: s.tar:d" in notes
    assert b"first" == FileSource(listing).read(2)


def test_index_replaces_the_scan_and_record_names_the_classes(tmp_path):
    path = cat_and_dog(tmp_path / "data-00000.tar")
    size = path.stat().st_size
    index = ShardIndex(
        size,
        "0" * 64,
        [
            IndexedImage("i", "a", "x/a.jpg", 512, 3, "d", 1),
            IndexedImage("j", "b", "y/b.jpg", 2560, 5, "e", None),
        ],
    )
    write_index_file(path, index)
    assert index == read_index_file(path)
    heads = ({"name": "label", "kind": "single", "classes": ["cat", "dog", "owl"]},)
    record = PackedSet(format="shards", heads=heads, files={path.name: "test"}, images=2)
    write_packed_set(tmp_path, record)
    assert record == read_packed_set(tmp_path)
    listing = list_shards(tmp_path)
    assert ["dog", None] == listing.labels  # the index's labels, not the members' 0 and 1
    assert ("cat", "dog", "owl") == listing.classes
    assert [2, 2] == listing.split.tolist()
    assert b"three" == FileSource(listing).read(1)


def test_several_heads_come_back_without_the_index(tmp_path):
    heads = (
        {"name": "color", "kind": "single", "classes": ["blue", "red"]},
        {"name": "tags", "kind": "multi", "classes": ["big", "old"]},
    )
    label = json.dumps({"color": 1, "tags": [0, 1]}).encode()
    none = json.dumps({"color": -1, "tags": None}).encode()
    write_tar(
        tmp_path / "data-0.tar",
        [("a.jpg", JPEG), ("a.json", label), ("b.jpg", JPEG), ("b.json", none)],
    )
    write_packed_set(tmp_path, PackedSet(format="shards", heads=heads, files={}, images=2))
    color, tags = list_shards(tmp_path).heads
    assert ["red", None] == color.texts()
    assert ["old", None] == tags.texts()
    assert np.isnan(tags.targets[1]).all()


def test_number_without_class_is_refused(tmp_path):
    heads = ({"name": "label", "kind": "single", "classes": ["cat"]},)
    cat_and_dog(tmp_path / "s.tar")
    write_packed_set(tmp_path, PackedSet(format="shards", heads=heads, files={}, images=2))
    with pytest.raises(DataError, match="not one of the classes") as error:
        list_shards(tmp_path)
    assert "1" == error.value.got


def test_stale_index_is_refused(tmp_path):
    path = cat_and_dog(tmp_path / "s.tar")
    write_index_file(path, ShardIndex(size=7))
    with pytest.raises(DataError, match="index disagree") as error:
        list_shards(path)
    assert str(path) == error.value.where


def test_damaged_index_is_refused(tmp_path):
    path = cat_and_dog(tmp_path / "s.tar")
    entry = IndexedImage("i", "a", "a", 512, 3, "d", 0)
    write_index_file(path, ShardIndex(path.stat().st_size, "", [entry]))
    text = index_path(path).read_text()
    changes = (('"images":1', '"images":2'), ("[512]", "[-1]"), ("[512]", "[99999]"),
               ('"discern_index":1', '"discern_index":9'))  # fmt: skip
    for damage in (text[:50], "[]", *(text.replace(*change) for change in changes)):
        index_path(path).write_text(damage)
        with pytest.raises(DataError):
            list_shards(path)


@pytest.mark.parametrize("cut", [1, 300, 600, 1000, 1100, 1536, 2000, 2700])
def test_cut_shard_is_refused(tmp_path, cut):
    path = cat_and_dog(tmp_path / "s.tar")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError):
        list_shards(path)


@pytest.mark.parametrize(
    ("cut", "expected"), [(1600, ["0"]), (2000, ["0"]), (2700, ["0", None]), (3072, ["0", None])]
)
def test_images_before_the_cut_are_listed_if_wanted(tmp_path, cut, expected):
    path = cat_and_dog(tmp_path / "s.tar")
    path.write_bytes(path.read_bytes()[:cut])
    listing = list_shards(path, on_damage="stop")
    assert expected == listing.labels
    assert b"one" == FileSource(listing).read(0)
    assert f"{len(expected)} images stand before that" in listing.notes[0]
    entries = [IndexedImage("i", "a", "a", 512, 3, "d", 0), IndexedImage("j", "b", "b", 2560, 5,
               "e", 1)]  # fmt: skip
    write_index_file(path, ShardIndex(10240, "", entries))
    with pytest.raises(DataError):
        list_shards(path)
    listing = list_shards(path, on_damage="stop")
    assert ["0", "1"][: len(expected)] == listing.labels
    assert f"{len(expected)} of 2 images are in it" in listing.notes[0]
    with pytest.raises(ConfigError):
        list_shards(path, on_damage="ignore")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("k.cls", b"9" * 6000), ("k.json", b"[" * 200_000), ("k.json", b"{"), ("k.cls", b"\xff"),
        ("k.json", b"[1]"), ("k.json", b'{"label": true}'), ("k.cls", b"x" * (1 << 21)),
    ],
)  # fmt: skip
def test_hostile_label_files_are_named(tmp_path, name, data):
    path = write_tar(tmp_path / "s.tar", [("k.jpg", JPEG), (name, data)])
    with pytest.raises(DataError) as error:
        list_shards(path)
    assert f"{path}:{name}" == error.value.where


@settings(max_examples=30)
@given(
    images=st.lists(
        st.builds(
            IndexedImage,
            id=st.text(max_size=5),
            key=st.text(max_size=5),
            path=st.text(st.characters()),
            offset=st.integers(0, 1 << 40),
            length=st.integers(0, 1 << 32),
            digest=st.text("0f"),
            label=st.one_of(st.none(), st.integers(0, 99), st.lists(st.integers(0, 9))),
        )
    )
)
def test_index_comes_back(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("i") / "s.tar"
    index = ShardIndex(7, "ab", images)
    write_index_file(path, index)
    assert index == read_index_file(path)


def test_damaged_header_in_the_middle_is_not_the_end(tmp_path):
    path = cat_and_dog(tmp_path / "s.tar")
    data = bytearray(path.read_bytes())
    data[2048] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged or cut short") as error:
        list_shards(path)
    assert "byte 2048" in error.value.where


def test_what_is_taken_for_shards(tmp_path):
    shard = cat_and_dog(tmp_path / "wds" / "s-0.tar")
    folders = write_tar(tmp_path / "c" / "pets.tar", [("cat/a.jpg", JPEG), ("dog/b.jpg", JPEG)])
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.tar").write_bytes(b"no tar")
    assert is_shards(shard)
    assert is_shards(shard.parent)
    assert not is_shards(folders)
    assert not is_shards(folders.parent)
    assert not is_shards(tmp_path / "empty")
    assert not is_shards(tmp_path / "broken.tar")
    assert not is_shards(tmp_path / "missing.tar")
