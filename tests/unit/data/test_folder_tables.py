"""Folders with a table: Hugging Face's image folders, and images beside exactly one table."""

from __future__ import annotations

import json

import pytest

from discern.base.errors import DataError
from discern.data.manifest_files import write_manifest
from discern.data.scan import DataRequest, scan_data
from discern.data.ways_in import WayIn, list_source


@pytest.fixture
def flat(tmp_path, save_image):
    """A folder of six images without class folders."""
    root = tmp_path / "pets"
    for number in range(6):
        save_image(root / f"{number}.jpg", number)
    return root


def write_rows(path, column="file_name", names=None, **more):
    names = names or [f"{n}.jpg" for n in range(6)]
    rows = [
        {column: name, "label": "ab"[n % 2], **{k: v[n] for k, v in more.items()}}
        for n, name in enumerate(names)
    ]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_hugging_face_folder_with_metadata(flat, name):
    write_rows(flat / name)
    listing = list_source(str(flat))
    assert (["a", "b"] * 3, "pets") == (listing.labels, listing.name)
    assert listing.layout.startswith("Hugging Face image folder, table of 6 rows")


def test_hugging_face_splits_with_metadata_in_each(tmp_path, save_image):
    for split in ("train", "test"):
        for number in range(6):
            save_image(tmp_path / "hf" / split / f"{number}.jpg", number)
        write_rows(tmp_path / "hf" / split / "metadata.jsonl")
    listing = list_source(str(tmp_path / "hf"))
    assert [2] * 6 + [0] * 6 == listing.split.tolist()
    assert ["a", "b"] * 6 == listing.labels
    assert {"test/0.jpg", "train/5.jpg"} < set(listing.locations.paths.tolist())
    (tmp_path / "hf" / "test" / "metadata.jsonl").unlink()
    with pytest.raises(DataError, match="no metadata") as caught:
        list_source(str(tmp_path / "hf"))
    assert "test" == caught.value.got


def test_one_metadata_file_over_split_folders(tmp_path, save_image):
    names = [f"{split}/{n}.jpg" for split in ("train", "test") for n in range(3)]
    for number, name in enumerate(names):
        save_image(tmp_path / "hf" / name, number)
    write_rows(tmp_path / "hf" / "metadata.csv", names=names)
    listing = list_source(str(tmp_path / "hf"))
    assert ([0, 0, 0, 2, 2, 2], ["a", "b"] * 3) == (listing.split.tolist(), listing.labels)


def test_metadata_without_labels_leaves_them_to_the_folders(class_folders):
    paths = sorted(str(path.relative_to(class_folders)) for path in class_folders.rglob("*.jpg"))
    text = "file_name,license\n" + "".join(f"{path},free\n" for path in paths)
    (class_folders / "metadata.csv").write_text(text)
    assert ["cat"] * 6 + ["dog"] * 6 == list_source(str(class_folders)).labels


def test_metadata_that_names_a_missing_image_is_an_error(flat):
    write_rows(flat / "metadata.csv", names=[f"{n}.jpg" for n in range(1, 8)])
    with pytest.raises(DataError, match="2 of 7 images") as caught:
        list_source(str(flat))
    assert "6.jpg, 7.jpg" == caught.value.got


@pytest.mark.parametrize("column", ["filename", "image", "path"])
def test_flat_folder_with_one_table(flat, column):
    write_rows(flat / "labels.csv", column)
    (flat / "notes.csv").write_text("who,when\nme,today\n")
    listing = list_source(str(flat))
    assert ["a", "b"] * 3 == listing.labels
    assert "table of 6 rows, label column 'label'" == listing.layout


def test_images_in_one_folder_beside_their_table(tmp_path, save_image):
    for number in range(6):
        save_image(tmp_path / "d" / "images" / f"{number}.jpg", number)
    write_rows(tmp_path / "d" / "labels.csv")
    listing = list_source(str(tmp_path / "d"))
    assert (["a", "b"] * 3, "images") == (listing.labels, listing.root.name)


def test_images_that_the_table_leaves_out_are_counted(flat):
    write_rows(flat / "labels.csv", names=["0.jpg", "1.jpg"])
    assert "4 images in the folder are not in the table" in list_source(str(flat)).notes


def test_two_tables_that_name_the_images_are_an_error(flat):
    write_rows(flat / "one.csv")
    write_rows(flat / "two.jsonl")
    with pytest.raises(DataError, match="several tables") as caught:
        list_source(str(flat))
    assert "one.csv, two.jsonl" == caught.value.got


def test_tables_called_like_splits_are_splits(flat):
    write_rows(flat / "train.csv", names=[f"{n}.jpg" for n in range(4)])
    write_rows(flat / "valid.csv", names=["4.jpg", "5.jpg"])
    listing = list_source(str(flat))
    assert ([0] * 4 + [1] * 2, ["a", "b"] * 3) == (listing.split.tolist(), listing.labels)


def test_class_folders_with_a_stray_table_stay_class_folders(class_folders):
    (class_folders / "labels.csv").write_text("path,label\ncat/00.jpg,x\n")
    listing = list_source(str(class_folders))
    assert {"cat", "dog"} == set(listing.labels)
    assert ("beside the images, not read: labels.csv",) == listing.notes


def test_headless_table_in_a_flat_folder(flat):
    (flat / "meta.csv").write_text("".join(f"{n}.jpg,{n % 2}\n" for n in range(6)))
    assert ["0", "1"] * 3 == list_source(str(flat)).labels


def test_flat_folder_without_a_table_has_no_classes(flat):
    listing = list_source(str(flat))
    assert ([None] * 6, "images without classes, 6 files") == (listing.labels, listing.layout)


def test_manifest_in_the_folder_of_its_images_is_to_be_named(flat):
    write_rows(flat / "labels.csv")
    scanned = scan_data(DataRequest(train=str(flat), split=None))
    (flat / "labels.csv").unlink()
    write_manifest(scanned.manifest, flat / "all.parquet")
    with pytest.raises(DataError, match="holds a manifest") as caught:
        list_source(str(flat))
    assert str(flat / "all.parquet") == caught.value.where
    assert [None] * 6 == list_source(str(flat), way=WayIn(needs_labels=False)).labels


def test_unreadable_table_stops_only_those_who_need_it(flat):
    (flat / "broken.csv").write_bytes("path,label\n0.jpg,Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8"):
        list_source(str(flat))
    listing = list_source(str(flat), way=WayIn(needs_labels=False))
    assert ([None] * 6, True) == (listing.labels, "broken.csv, line 2" in listing.notes[0])
    write_rows(flat / "labels.csv")
    listing = list_source(str(flat))
    assert (["a", "b"] * 3, True) == (listing.labels, "broken.csv, line 2" in listing.notes[0])
