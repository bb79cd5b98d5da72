"""Manifests: content, hash, new versions, and their files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.manifest import Head, Locations, Manifest, order_classes, unique_ids
from discern.data.manifest_files import is_manifest, read_manifest, write_manifest

FORMS = [".parquet", ".csv", ".tsv", ".jsonl"]


def manifest(root=Path(), paths=("a/1.jpg", "b/2.jpg", "a/3.jpg", 'b/ä,"4".jpg'), **changes):
    count = len(paths)
    base = {
        "ids": np.array([f"{n:016x}" for n in range(count)]),
        "locations": Locations.files(list(paths)),
        "heads": (Head("label", "single", ("cat", "dog"), np.arange(count) % 2),),
        "split": np.array([0, 1, 2, -1][:count], np.int8),
        "root": root,
        "layout": "class folders",
    }
    return Manifest(**(base | changes))


def full(root):
    inside = Locations(
        np.array(["cat/1.jpg", "dog/2.jpg", "x.jpg", "y.jpg"]),
        np.array([0, 1, -1, -1], np.int32),
        np.array([512, 2**40, 0, 0]),
        np.array([99, 7, 0, 0]),
        ("one.tar", "two.tar"),
    )
    return manifest(
        root,
        locations=inside,
        heads=(
            Head("color", "single", ("red", "2"), np.array([0, 1, -1, 0])),
            Head(
                "tags",
                "multi",
                ("old", "new"),
                np.array([[0, 1], [np.nan, 0.5], [1, 1], [0, 0]], np.float32),
            ),
        ),
        fold=np.array([0, 1, 2, 0], np.int32),
        group=np.array(["p1", "", "p2", "p;2"]),
        weight=np.array([1, 0.1, np.nan, 3], np.float32),
        origin=np.array(["human", "pseudo:1", "", "imported"]),
        confidence=np.array([1, 0.25, 0.5, 0.75], np.float32),
    )


def assert_equal(wanted, got):
    assert wanted.hash == got.hash
    assert (wanted.layout, wanted.root) == (got.layout, got.root)
    for name in ("paths", "offsets", "lengths"):
        assert np.array_equal(getattr(wanted.locations, name), getattr(got.locations, name)), name
    assert places(wanted) == places(got)
    for name in ("fold", "group", "weight", "origin", "confidence"):
        one, two = getattr(wanted, name), getattr(got, name)
        assert (one is None) == (two is None), name
        if one is not None:
            assert one.dtype.kind == two.dtype.kind
            assert np.array_equal(one, two, equal_nan=one.dtype.kind == "f"), name
    for one, two in zip(wanted.heads, got.heads, strict=True):
        assert (one.name, one.kind, one.classes) == (two.name, two.kind, two.classes)
        assert np.array_equal(one.targets, two.targets, equal_nan=one.kind == "multi")


def places(value):
    where = value.locations
    return [where.container_names[n] if n >= 0 else None for n in where.containers]


@pytest.mark.parametrize("form", FORMS)
def test_file_gives_the_same_manifest(form, tmp_path):
    for number, wanted in enumerate((manifest(tmp_path), full(tmp_path))):
        path = tmp_path / f"{number}{form}"
        write_manifest(wanted, path)
        assert_equal(wanted, read_manifest(path))
        assert is_manifest(path)


@pytest.mark.parametrize("form", FORMS)
@given(
    names=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1),
        min_size=2,
        max_size=5,
        unique=True,
    )
)
@settings(max_examples=25)
def test_any_class_name_survives_the_file(form, names, tmp_path_factory):
    head = Head("label", "single", tuple(names), np.arange(len(names)))
    paths = [f"{number}.jpg" for number in range(len(names))]
    folder = tmp_path_factory.mktemp("names")
    split = np.zeros(len(names), np.int8)
    wanted = manifest(folder, paths, heads=(head,), split=split)
    write_manifest(wanted, folder / f"m{form}")
    assert_equal(wanted, read_manifest(folder / f"m{form}"))


NAME = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
# Not the manifest's own columns; blanks at the ends of a column's name do not survive a CSV.
HEAD_NAME = st.from_regex(r"[a-zäöü][a-zäöü0-9 ]{0,8}[a-zäöü]", fullmatch=True).filter(
    lambda name: name not in {"id", "path", "split", "fold", "group", "weight", "origin"}
)


@st.composite
def several_heads(draw):
    count = draw(st.integers(1, 5))
    heads = []
    for name in draw(st.lists(HEAD_NAME, min_size=1, max_size=4, unique=True)):
        classes = tuple(draw(st.lists(NAME, min_size=1, max_size=4, unique=True)))
        if draw(st.booleans()):
            numbers = st.lists(st.integers(-1, len(classes) - 1), min_size=count, max_size=count)
            heads.append(Head(name, "single", classes, np.array(draw(numbers), np.int64)))
        else:
            cell = st.sampled_from([0.0, 1.0, 0.25, float("nan")])
            row = st.lists(cell, min_size=len(classes), max_size=len(classes))
            rows = draw(st.lists(row, min_size=count, max_size=count))
            heads.append(Head(name, "multi", classes, np.array(rows, np.float32)))
    return tuple(heads)


@pytest.mark.parametrize("form", FORMS)
@given(heads=several_heads())
@settings(max_examples=40)
def test_any_heads_survive_the_file(form, heads, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    count = len(heads[0].targets)
    paths = [f"{number}.jpg" for number in range(count)]
    wanted = manifest(folder, paths, heads=heads, split=np.zeros(count, np.int8))
    write_manifest(wanted, folder / f"m{form}")
    assert_equal(wanted, read_manifest(folder / f"m{form}"))


def test_counts_of_several_heads_are_by_head_and_of_tags_by_yes(tmp_path):
    value = full(tmp_path).with_split(np.array([0, 0, 0, 2]))
    assert {
        "train": {"color/red": 1, "color/2": 1, "tags/old": 1, "tags/new": 3},
        "test": {"color/red": 1, "color/2": 0, "tags/old": 0, "tags/new": 0},
    } == value.counts()
    assert {"train": 3, "test": 1} == value.sizes()
    tags = replace(value, heads=value.heads[1:])
    assert {"old": 1, "new": 3} == tags.counts()["train"]


@pytest.mark.parametrize("form", FORMS)
def test_newer_version_is_a_clear_error(form, tmp_path, monkeypatch):
    monkeypatch.setattr("discern.data.manifest_files.VERSION", 2)
    write_manifest(manifest(tmp_path), tmp_path / f"m{form}")
    monkeypatch.undo()
    with pytest.raises(DataError, match="newer version") as caught:
        read_manifest(tmp_path / f"m{form}")
    assert "manifest version 2" == caught.value.got


def test_table_of_somebody_else_is_no_manifest(tmp_path):
    (tmp_path / "t.csv").write_text("path,label\na.jpg,cat\n")
    assert not is_manifest(tmp_path / "t.csv")
    with pytest.raises(DataError, match="no manifest"):
        read_manifest(tmp_path / "t.csv")


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_file_is_an_error(form, tmp_path):
    path = tmp_path / f"m{form}"
    write_manifest(manifest(tmp_path), path)
    path.write_bytes(path.read_bytes()[:-15])
    with pytest.raises(DataError):
        read_manifest(path)


def test_unknown_label_and_missing_column_are_errors(tmp_path):
    path = tmp_path / "m.csv"
    write_manifest(manifest(tmp_path), path)
    text = path.read_text()
    path.write_text(text.replace(",dog,", ",dgo,"))
    with pytest.raises(DataError, match="not one of its classes") as caught:
        read_manifest(path)
    assert "did you mean 'dog'?" == caught.value.hint
    path.write_text(text.replace("split", "spilt"))
    with pytest.raises(DataError, match="damaged"):
        read_manifest(path)


def test_unknown_suffix_and_head_named_like_a_column_are_refused(tmp_path):
    with pytest.raises(DataError):
        write_manifest(manifest(), tmp_path / "m.xlsx")
    head = Head("split", "single", ("a", "b"), np.zeros(4, np.int64))
    with pytest.raises(DataError, match="manifest column"):
        write_manifest(manifest(heads=(head,)), tmp_path / "m.csv")


def test_manifest_beside_a_moved_folder_takes_its_own_place_as_root(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    write_manifest(manifest(old), old / "m.parquet")
    old.rename(new)
    assert new == read_manifest(new / "m.parquet").root


def test_hash_is_of_content_not_of_paths():
    first = manifest(Path("/one"))
    moved = manifest(Path("/two"), ["w.jpg", "x.jpg", "y.jpg", "z.jpg"], layout="table")
    assert first.hash == moved.hash


@pytest.mark.parametrize(
    "change",
    [
        {"ids": np.array(["a", "b", "c", "d"])},
        {"split": np.zeros(4, np.int8)},
        {"heads": (Head("label", "single", ("cat", "dog"), np.zeros(4, np.int64)),)},
        {"heads": (Head("label", "single", ("dog", "cat"), np.arange(4) % 2),)},
        {"fold": np.zeros(4, np.int32)},
        {"group": np.array(["", "", "", ""])},
        {"weight": np.ones(4, np.float32)},
    ],
)
def test_hash_changes_with_the_content(change):
    assert manifest().hash != manifest(**change).hash


def test_manifest_cannot_be_written_into():
    value = manifest()
    for array in (value.ids, value.targets, value.split):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(DataError, match="differ in length"):
        manifest(split=np.zeros(3, np.int8))


def test_counts_and_positions_are_by_class_and_split():
    value = manifest().with_split(np.array([0, 0, 2, 0]))
    assert {"train": {"cat": 1, "dog": 2}, "test": {"cat": 1, "dog": 0}} == value.counts()
    assert [0, 1, 3] == value.positions("train").tolist()


def test_select_takes_rows_of_every_column(tmp_path):
    part = full(tmp_path).select(np.array([3, 1]))
    assert ["y.jpg", "dog/2.jpg"] == part.locations.paths.tolist()
    assert [None, "two.tar"] == places(part)
    assert [0, 1] == part.fold.tolist()
    assert ["imported", "pseudo:1"] == part.origin.tolist()
    assert [0, 1] == part.heads[0].targets.tolist()


def test_ids_of_equal_bytes_are_numbered():
    digests = ["a" * 64, "b" * 64, "a" * 64, "a" * 64]
    wanted = ["a" * 16, "b" * 16, "a" * 16 + "-2", "a" * 16 + "-3"]
    assert wanted == unique_ids(digests).tolist()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["b", "B", "a"], ("B", "a", "b")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["10", "9", "x"], ("10", "9", "x")),
        (["e\u0301", "\u00e9"], ("\u00e9",)),
    ],
)
def test_class_order(names, wanted):
    assert wanted == order_classes(names)


def test_replaced_head_keeps_the_rest():
    value = manifest()
    head = replace(value.head, targets=np.array([1, 1, 1, 1]))
    assert ["cat", "dog"] == list(replace(value, heads=(head,)).classes)


def test_jsonl_has_one_object_a_line(tmp_path):
    write_manifest(manifest(tmp_path), tmp_path / "m.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert {"id", "path", "label", "split"} == set(lines[1])
    assert 5 == len(lines)


def test_locations_of_another_length_are_refused():
    with pytest.raises(DataError, match="differ in length"):
        manifest(locations=Locations.files(["only.jpg"]))


def test_several_labels_an_image_are_not_taken_for_one(tmp_path):
    tags = full(tmp_path)
    with pytest.raises(DataError, match="several label columns"):
        _ = tags.targets
    alone = replace(tags, heads=tags.heads[1:])
    for name in ("targets", "classes"):
        with pytest.raises(DataError, match="several labels an image") as caught:
            getattr(alone, name)
        assert "kind: single" in caught.value.hint
