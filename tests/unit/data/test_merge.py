"""Several data sets as one: classes joined or apart, origins, equal images."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.data.manifest import Head, Locations, Manifest
from discern.data.manifest_files import read_manifest, write_manifest
from discern.data.merge import merge_data
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source


def data_set(name, labels, classes, ids=None, **columns):
    count = len(labels)
    targets = np.array([classes.index(label) if label else -1 for label in labels], np.int64)
    base = {
        "ids": np.array(ids or [f"{name}{n:012x}" for n in range(count)]),
        "locations": Locations.files([f"{label}/{n}.jpg" for n, label in enumerate(labels)]),
        "heads": (Head("label", "single", tuple(classes), targets),),
        "split": np.full(count, -1, np.int8),
        "root": Path("/data") / name,
        "layout": "class folders",
    }
    return Manifest(**(base | columns))


@pytest.fixture
def two_sets():
    one = data_set("one", ["cat", "dog", "cat"], ["cat", "dog"])
    two = data_set("two", ["dog", "bird", None], ["bird", "dog"])
    return one, two


def labels(manifest):
    head = manifest.heads[0]
    return [head.classes[n] if n >= 0 else None for n in head.targets]


def test_equal_names_are_joined(two_sets):
    merged, report = merge_data(two_sets)
    assert ("bird", "cat", "dog") == merged.classes == report.classes
    assert ["cat", "dog", "cat", "dog", "bird", None] == labels(merged)
    assert ("dog",) == report.shared
    assert {"one": 3, "two": 3} == report.sets
    assert ["one"] * 3 + ["two"] * 3 == merged.origin.tolist()
    assert "/data/two/bird/1.jpg" == merged.locations.paths[4]


def test_equal_names_are_kept_apart_by_the_name_of_the_set(two_sets):
    merged, report = merge_data(two_sets, "prefix")
    assert ("one-cat", "one-dog", "two-bird", "two-dog") == merged.classes
    assert ["one-cat", "one-dog", "one-cat", "two-dog", "two-bird", None] == labels(merged)
    assert () == report.shared
    named, _ = merge_data(two_sets, "prefix", names=["a", "b"])
    assert ("a-cat", "a-dog", "b-bird", "b-dog") == named.classes


@given(
    st.lists(
        st.lists(st.sampled_from(["a", "b", "C", "10", "9"]), min_size=1, max_size=9),
        min_size=2,
        max_size=4,
    )
)
@settings(max_examples=50)
def test_nobody_is_lost_and_labels_stay(sets):
    parts = [data_set(f"s{n}", row, sorted(set(row))) for n, row in enumerate(sets)]
    merged, _ = merge_data(parts)
    assert [label for row in sets for label in row] == labels(merged)
    assert len(set(merged.ids)) == len(merged)
    apart, _ = merge_data(parts, "prefix")
    wanted = [f"s{n}-{label}" for n, row in enumerate(sets) for label in row]
    assert wanted == labels(apart)


def test_order_that_all_sets_agree_on_stays():
    one = data_set("one", ["dog", "cat"], ["dog", "cat"])
    two = data_set("two", ["cat"], ["dog", "cat"])
    assert ("dog", "cat") == merge_data([one, two])[0].classes


def test_equal_images_are_counted_and_those_of_different_labels_named(two_sets):
    one, two = two_sets
    two = replace(two, ids=np.array([one.ids[1], one.ids[0], "feed000000000000"]))
    one = replace(one, split=np.array([0, 0, 0], np.int8))
    two = replace(two, split=np.array([2, 0, 0], np.int8))
    merged, report = merge_data([one, two])
    assert (2, 1, 1) == (report.duplicates, report.conflicts, report.leaks)
    conflict = report.equal[0]
    assert ("cat", "bird") == conflict.labels
    assert ("/data/one/cat/0.jpg", "/data/two/bird/1.jpg") == conflict.paths
    assert ("one", "two") == conflict.sets
    assert any("bird/1.jpg (cat, bird)" in line for line in report.lines())
    assert [f"{one.ids[1]}-2", f"{one.ids[0]}-2"] == merged.ids[3:5].tolist()
    assert json.loads(json.dumps(report.record())) == report.record()
    fewer, dropped = merge_data([one, two], drop_duplicates=True)
    assert 1 == dropped.dropped
    assert 5 == len(fewer) == dropped.images
    assert ["cat", "dog", "cat", "bird", None] == labels(fewer)


def test_columns_of_one_set_are_filled_for_the_others(two_sets):
    one, two = two_sets
    one = replace(
        one,
        group=np.array(["p1", "", "p2"]),
        weight=np.array([2, 1, 1], np.float32),
        origin=np.array(["human", "pseudo:1", ""]),
        fold=np.array([0, 1, 2], np.int32),
    )
    merged, report = merge_data([one, two])
    assert ["p1", "", "p2", "", "", ""] == merged.group.tolist()
    assert [2, 1, 1, 1, 1, 1] == merged.weight.tolist()
    assert ["human@one", "pseudo:1@one", "one", "two", "two", "two"] == merged.origin.tolist()
    assert merged.fold is None
    assert any("folds are left out" in note for note in report.notes)


def test_label_columns_of_one_set_are_missing_in_the_others(two_sets):
    one, two = two_sets
    shape = Head(
        "shape", "multi", ("round", "flat"), np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    )
    merged, _ = merge_data([replace(one, heads=(*one.heads, shape)), two])
    assert ["label", "shape"] == [head.name for head in merged.heads]
    assert np.isnan(merged.heads[1].targets[3:]).all()
    assert shape.targets.tolist() == merged.heads[1].targets[:3].tolist()
    other = Head("shape", "multi", ("flat", "long"), np.ones((3, 2), np.float32))
    both, _ = merge_data([replace(one, heads=(shape,)), replace(two, heads=(other,))])
    assert ("flat", "long", "round") == both.heads[0].classes
    assert np.isnan(both.heads[0].targets[3:, 2]).all()
    with pytest.raises(DataError, match="several in another"):
        merge_data([replace(one, heads=(shape,)), two])


def test_merged_folders_are_read_and_written(tmp_path, save_image):
    for number in range(6):
        save_image(tmp_path / "one" / "ab"[number % 2] / f"{number}.jpg", number)
        save_image(tmp_path / "two" / "bc"[number % 2] / f"{number}.jpg", number + 3)
    parts = [
        scan_data(DataRequest(train=str(tmp_path / name), split=None)).manifest
        for name in ("one", "two")
    ]
    merged, report = merge_data(parts)
    # Numbers 3, 4 and 5 are in both: as b, a, b there and as b, c, b here.
    assert (3, 1) == (report.duplicates, report.conflicts)
    write_manifest(merged, tmp_path / "m.parquet")
    again = read_manifest(tmp_path / "m.parquet")
    assert merged.hash == again.hash
    source = open_source(again)
    paths = sorted((tmp_path / "two").rglob("*.jpg"))
    assert [path.read_bytes() for path in paths] == [source.read(row) for row in range(6, 12)]


def test_built_in_sets_merge_with_each_other_only(two_sets):
    digits = scan_data(DataRequest(train="digits", split=None)).manifest
    merged, report = merge_data([digits, digits])
    assert len(digits) <= report.duplicates
    assert np.array_equal(open_source(digits).read(5), open_source(merged).read(len(digits) + 5))
    with pytest.raises(DataError, match="built-in"):
        merge_data([digits, two_sets[0]])


def test_wrong_requests_are_refused(two_sets):
    with pytest.raises(ConfigError, match="unknown rule") as caught:
        merge_data(two_sets, "unoin")
    assert "did you mean 'union'?" == caught.value.hint
    with pytest.raises(DataError, match="nothing to merge"):
        merge_data(two_sets[:1])
    with pytest.raises(ConfigError, match="name of its own"):
        merge_data(two_sets, names=["x", "x"])


def test_sets_of_one_folder_name_get_numbers(two_sets):
    one, two = two_sets
    two = replace(two, root=Path("/elsewhere/one"))
    assert {"one": 3, "one-2": 3} == merge_data([one, two])[1].sets


def test_case_twins_are_noted():
    one = data_set("one", ["cat"], ["cat"])
    two = data_set("two", ["Cat"], ["Cat"])
    assert any("Cat, cat" in note for note in merge_data([one, two])[1].notes)


def test_numbers_are_joined_with_a_note():
    one = data_set("one", ["0", "1"], ["0", "1"])
    two = data_set("two", ["2", "10"], ["2", "10"])
    merged, report = merge_data([one, two])
    assert ("0", "1", "2", "10") == merged.classes
    assert any("are numbers" in note for note in report.notes)


def test_prefixed_names_that_meet_are_refused():
    one = data_set("one", ["b-c"], ["b-c"])
    two = data_set("two", ["c"], ["c"])
    with pytest.raises(DataError, match="one name behind"):
        merge_data([one, two], "prefix", names=["a", "a-b"])
