"""New labels from lists and tables, and taking them back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.data.image_lists import make_lists
from discern.data.label_overlay import apply_overlay, read_overlay, write_overlay
from discern.data.manifest import Head, Locations, Manifest, unique_ids
from discern.data.manifest_files import write_manifest
from discern.data.record_data import list_records
from discern.data.record_files import ListRow, read_list, write_list
from discern.data.recordio import ImageHeader, RecordWriter, pack
from discern.data.relabel import relabel

CLASSES = ("cat", "dog", "eel")


def manifest(root=Path("/data"), labels=("cat", "dog", "cat", None), **changes):
    targets = [CLASSES.index(label) if label else -1 for label in labels]
    count = len(labels)
    base = {
        "ids": np.array([f"{n:016x}" for n in range(count)]),
        "locations": Locations.files([f"in/{n}.jpg" for n in range(count)]),
        "heads": (Head("label", "single", CLASSES, np.array(targets, np.int64)),),
        "split": np.full(count, -1, np.int8),
        "root": root,
        "layout": "class folders",
    }
    return Manifest(**(base | changes))


def labels(value, head=0):
    found = value.heads[head]
    return [found.classes[n] if n >= 0 else None for n in found.targets]


def table(folder, text, name="new.csv"):
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.feature("MX-35")
def test_swapped_labels_of_a_list_change_the_records(tmp_path, save_image):
    listed = tmp_path / "images"
    for number in range(4):
        save_image(listed / "ab"[number // 2] / f"{number}.jpg", number)
    make_lists(tmp_path / "x", listed, recursive=True, shuffle=False)
    rows = read_list(tmp_path / "x.lst").rows
    with RecordWriter(tmp_path / "x.rec") as writer:
        for row in rows:
            header = ImageHeader(0, row.labels[0], row.id, 0)
            writer.write(pack(header, (listed / row.path).read_bytes()))
    before = (tmp_path / "x.rec").read_bytes()
    found = list_records(tmp_path / "x.rec")
    column = found.heads[0]
    data = Manifest(
        ids=unique_ids(f"{n:064x}" for n in (7, 5, 3, 1)),
        locations=found.locations,
        heads=(Head("label", "single", column.classes, column.targets),),
        split=found.split,
        root=found.root,
        layout=found.layout,
    )
    assert ["a", "a", "b", "b"] == labels(data)
    swapped = [rows[0]._replace(labels=(1.0,)), *rows[1:3], rows[3]._replace(labels=(0.0,))]
    write_list(tmp_path / "x.lst", swapped)
    result, report = relabel(data, tmp_path / "x.lst")
    assert ["b", "a", "b", "a"] == labels(result)
    assert (2, 2, "record number") == (report.changed, report.same, report.found_by)
    assert before == (tmp_path / "x.rec").read_bytes()
    assert {"a -> b": 1, "b -> a": 1} == report.moves


def test_list_numbers_are_by_its_own_names_file(tmp_path):
    rows = [ListRow(0, (0.0,), "in/0.jpg"), ListRow(1, (2.0,), "in/1.jpg")]
    write_list(tmp_path / "new.lst", rows)
    assert ["cat", "eel"] == labels(relabel(manifest(), tmp_path / "new.lst")[0])[:2]
    (tmp_path / "classes.txt").write_text("dog\ncat\neel\n")
    result, report = relabel(manifest(), tmp_path / "new.lst")
    assert ["dog", "eel", "cat", None] == labels(result)
    assert "path" == report.found_by


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_table_by_id_changes_what_it_names(form, tmp_path):
    data = manifest()
    new = manifest(labels=("dog", "dog", "cat", "eel"), root=tmp_path)
    write_manifest(new.select(np.array([3, 0, 1])), tmp_path / f"new.{form}")
    result, report = relabel(data, tmp_path / f"new.{form}")
    assert ["dog", "dog", "cat", "eel"] == labels(result)
    assert (3, 2, 1, 0) == (report.rows, report.changed, report.same, report.blank)
    assert {"(none) -> eel": 1, "cat -> dog": 1} == report.moves
    assert ["cat", "dog", "cat", None] == labels(data)
    assert json.loads(json.dumps(report.record())) == report.record()
    assert any("2 labels changed" in line for line in report.lines())


def test_paths_are_the_manifests_or_from_the_tables_folder(tmp_path):
    data = manifest(tmp_path)
    (tmp_path / "in").mkdir()
    for place, name in ((tmp_path, "in/0.jpg"), (tmp_path / "in", "0.jpg")):
        path = table(place, f"path,class\n{name},eel\n")
        assert ["eel", "dog", "cat", None] == labels(relabel(data, path)[0])
    path = table(tmp_path, f"x,y\n{tmp_path}/in/1.jpg,1\n")
    result, _ = relabel(data, path, key="x", column="y")
    assert "dog" == labels(result)[1]


def test_numbers_stand_for_places_unless_classes_are_numbers(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,2\nin/1.jpg,0\n")
    assert ["eel", "cat"] == labels(relabel(manifest(), path)[0])[:2]
    head = Head("label", "single", ("0", "2", "5"), np.array([0, 2, 1, 0]))
    data = manifest(heads=(head,))
    result, _ = relabel(data, path)
    assert ["2", "0", "2", "0"] == labels(result)
    write_list(tmp_path / "new.lst", [ListRow(0, (5.0,), "in/0.jpg")])
    assert "5" == labels(relabel(data, tmp_path / "new.lst")[0])[0]


def test_blank_cells_change_nothing_unless_asked(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,\nin/1.jpg,cat\n")
    result, report = relabel(manifest(), path)
    assert ["cat", "cat", "cat", None] == labels(result)
    assert (1, 1) == (report.changed, report.blank)
    cleared, _ = relabel(manifest(), path, clear_blank=True)
    assert [None, "cat", "cat", None] == labels(cleared)


def test_unknown_rows_are_refused(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,cat\nin/9.jpg,dog\n")
    with pytest.raises(DataError, match="1 of 2 rows name no image") as caught:
        relabel(manifest(), path)
    assert "in/9.jpg" == caught.value.got


def test_unknown_classes_are_refused_or_come_last(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,dgo\nin/1.jpg,ant\n")
    with pytest.raises(DataError, match="2 classes of the table") as caught:
        relabel(manifest(), path)
    assert "ant, dgo" == caught.value.got
    result, report = relabel(manifest(), path, new_classes=True)
    assert (*CLASSES, "ant", "dgo") == result.classes
    assert ("ant", "dgo") == report.new_classes
    assert ["dgo", "ant", "cat", None] == labels(result)


def test_rows_that_disagree_are_refused(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,dog\nin/0.jpg,dog\n")
    assert 1 == relabel(manifest(), path)[1].changed
    path = table(tmp_path, "path,label\nin/0.jpg,dog\nin/0.jpg,eel\n")
    with pytest.raises(DataError, match="different labels") as caught:
        relabel(manifest(), path)
    assert caught.value.where.endswith("row 2")


def test_name_of_several_images_is_refused(tmp_path):
    where = Locations(
        np.array(["a.jpg", "a.jpg", "b.jpg", "c.jpg"]),
        np.array([0, 1, 0, 0], np.int32),
        np.zeros(4, np.int64),
        np.ones(4, np.int64),
        ("one.tar", "two.tar"),
    )
    data = manifest(locations=where)
    with pytest.raises(DataError, match="several images"):
        relabel(data, table(tmp_path, "path,label\na.jpg,dog\n"))
    assert "dog" == labels(relabel(data, table(tmp_path, "path,label\nb.jpg,dog\n"))[0])[2]


def test_copies_with_another_label_are_noted(tmp_path):
    data = manifest(ids=np.array(["a" * 16, "a" * 16 + "-2", "b" * 16, "c" * 16]))
    path = table(tmp_path, f"id,label\n{'a' * 16},eel\n{'b' * 16},eel\n")
    _, report = relabel(data, path)
    assert any("1 changed images have copies" in note for note in report.notes)


def two_heads(root=Path("/data")):
    tags = np.array([[1, 0], [0, 1], [np.nan, np.nan], [1, 0.25]], np.float32)
    data = manifest(root)
    return replace(data, heads=(*data.heads, Head("tags", "multi", ("big", "old"), tags)))


def test_label_columns_go_to_the_heads_of_their_names(tmp_path):
    path = table(tmp_path, "path,tags,label\nin/0.jpg,big;old,dog\nin/2.jpg,,eel\nin/1.jpg,old,\n")
    result, report = relabel(two_heads(), path, delimiter=";")
    assert ["dog", "dog", "eel", None] == labels(result)
    assert [[1, 1], [0, 1]] == result.heads[1].targets[:2].tolist()
    assert np.isnan(result.heads[1].targets[2]).all()
    assert (3, 1, 2) == (report.changed, report.same, report.blank)
    assert {
        "label: cat -> dog": 1,
        "label: cat -> eel": 1,
        "tags: big -> big;old": 1,
    } == report.moves
    only, _ = relabel(two_heads(), path, head="label")
    assert np.array_equal(only.heads[1].targets, two_heads().heads[1].targets, equal_nan=True)
    other = table(tmp_path, "path,x\nin/0.jpg,dog\n")
    with pytest.raises(DataError, match="which label column"):
        relabel(two_heads(), other, column="x")
    with pytest.raises(ConfigError, match="no such label column") as caught:
        relabel(two_heads(), path, head="tag")
    assert "did you mean 'tags'?" == caught.value.hint


def test_list_of_several_labels_fills_all_heads(tmp_path):
    write_list(tmp_path / "new.lst", [ListRow(0, (1.0, 0.0, 1.0), "in/0.jpg")])
    result, _ = relabel(two_heads(), tmp_path / "new.lst")
    assert "dog" == labels(result)[0]
    assert [0, 1] == result.heads[1].targets[0].tolist()
    write_list(tmp_path / "new.lst", [ListRow(0, (1.0, 0.0), "in/0.jpg")])
    with pytest.raises(DataError, match="another number of labels"):
        relabel(two_heads(), tmp_path / "new.lst")


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_overlay_file_applies_and_takes_back(form, tmp_path):
    data = two_heads()
    text = "path,tags,label\nin/0.jpg,big;new,dog\nin/3.jpg,old,ant\nin/1.jpg,,\n"
    path = table(tmp_path, text, "t.csv")
    result, report = relabel(data, path, delimiter=";", new_classes=True, clear_blank=True)
    assert ("big", "old", "new") == result.heads[1].classes
    write_overlay(report.overlay, tmp_path / f"o.{form}")
    overlay = read_overlay(tmp_path / f"o.{form}")
    assert (data.hash, result.hash) == (overlay.before, overlay.after)
    assert result.hash == apply_overlay(data, overlay).hash
    again, applied = relabel(data, tmp_path / f"o.{form}")
    assert result.hash == again.hash
    assert (report.changed, report.moves) == (applied.changed, applied.moves)
    assert ("ant", "new") == applied.new_classes
    back = apply_overlay(result, overlay.reversed())
    assert data.hash == back.hash
    assert np.array_equal(data.heads[1].targets, back.heads[1].targets, equal_nan=True)
    with pytest.raises(DataError, match="other classes"):
        apply_overlay(result, overlay)


@given(
    old=st.lists(st.sampled_from([*CLASSES, None]), min_size=1, max_size=12),
    wanted=st.lists(
        st.tuples(st.integers(0, 11), st.sampled_from([*CLASSES, "new", None])), max_size=12
    ),
)
@settings(max_examples=60)
def test_any_change_can_be_taken_back(old, wanted, tmp_path_factory):
    data = manifest(labels=old)
    asked = {row: label for row, label in wanted if row < len(old)}
    if not asked:
        return
    rows = "".join(f"in/{row}.jpg,{label or ''}\n" for row, label in asked.items())
    folder = tmp_path_factory.mktemp("any")
    path = table(folder, "path,label\n" + rows)
    result, report = relabel(data, path, new_classes=True, clear_blank=True)
    assert [asked.get(row, label) for row, label in enumerate(old)] == labels(result)
    assert sum(asked[row] != old[row] for row in asked) == report.changed
    write_overlay(report.overlay, folder / "o.jsonl")
    assert data.hash == apply_overlay(result, read_overlay(folder / "o.jsonl").reversed()).hash


def test_overlay_of_other_labels_is_refused(tmp_path):
    path = table(tmp_path, "path,label\nin/0.jpg,dog\n")
    result, report = relabel(manifest(), path)
    with pytest.raises(DataError, match="1 of 1 labels are not as") as caught:
        apply_overlay(result, report.overlay)
    assert "--reverse" in caught.value.hint
    with pytest.raises(DataError, match="not as the overlay"):
        apply_overlay(manifest().select(np.array([1, 2])), report.overlay)
    with pytest.raises(DataError, match="no overlay"):
        read_overlay(path)
    write_overlay(report.overlay, tmp_path / "o.csv")
    text = (tmp_path / "o.csv").read_text()
    table(tmp_path, text.replace(",dog", ",dgo"), "o.csv")
    with pytest.raises(DataError, match="not one of its classes"):
        read_overlay(tmp_path / "o.csv")
    table(tmp_path, text.replace('"overlay": 1', '"overlay": 2'), "o.csv")
    with pytest.raises(DataError, match="another version"):
        read_overlay(tmp_path / "o.csv")


def test_wrong_tables_are_refused(tmp_path):
    for text, what in (
        ("path,label\n", "no rows"),
        ("path,x\nin/0.jpg,1\n", "no label column"),
        ("path,label\n,cat\n", "names no image"),
        ("a,label\n1,cat\n", "no image path column"),
    ):
        with pytest.raises(DataError, match=what):
            relabel(manifest(), table(tmp_path, text))
    with pytest.raises(DataError, match="not a table of labels"):
        relabel(manifest(), table(tmp_path, "x", "new.xlsx"))
    with pytest.raises(DataError, match="no column 'y'"):
        relabel(manifest(), table(tmp_path, "path,label\nin/0.jpg,cat\n"), column="y")
