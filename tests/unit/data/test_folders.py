"""Folders of class folders: what is found, in which order, and what is refused."""

from __future__ import annotations

import pytest

from discern.base.errors import DataError
from discern.data.folders import list_folder, list_images, walk_images


def test_classes_are_the_folders_and_nested_files_belong_to_them(tmp_path, save_image):
    for name in ("dog/b.JPG", "cat/deep/er/a.png", "cat/z.jpeg"):
        save_image(tmp_path / name)
    listing = list_folder(tmp_path)
    assert ["cat/deep/er/a.png", "cat/z.jpeg", "dog/b.JPG"] == listing.locations.paths.tolist()
    assert ["cat", "cat", "dog"] == listing.labels
    assert {-1} == set(listing.split.tolist())


@pytest.mark.feature("ML-17")
@pytest.mark.parametrize("name", ["val", "valid", "validation", "VAL"])
def test_split_folders_give_the_split(tmp_path, save_image, name):
    for split in ("train", name, "test"):
        for label in ("cat", "dog"):
            save_image(tmp_path / split / label / "1.jpg")
    listing = list_folder(tmp_path)
    got = dict(zip(listing.locations.paths.tolist(), listing.split.tolist(), strict=True))
    assert 0 == got["train/cat/1.jpg"]
    assert 1 == got[f"{name}/dog/1.jpg"]
    assert 2 == got["test/dog/1.jpg"]
    assert {"cat", "dog"} == set(listing.labels)


def test_vehicles_with_a_class_called_train_are_classes(tmp_path, save_image):
    for label in ("train", "car", "bus"):
        save_image(tmp_path / label / "1.jpg")
    listing = list_folder(tmp_path)
    assert ["bus", "car", "train"] == listing.labels
    assert {-1} == set(listing.split.tolist())


def test_hidden_files_and_other_files_are_left_out(tmp_path, save_image):
    save_image(tmp_path / "cat" / "1.jpg")
    save_image(tmp_path / "cat" / ".2.jpg")
    save_image(tmp_path / ".cache" / "3.jpg")
    (tmp_path / "cat" / "notes.txt").write_text("x")
    assert ["cat/1.jpg"] == list_images(tmp_path)[0]


def test_links_are_followed_and_loops_and_dead_ends_noted(tmp_path, save_image):
    save_image(tmp_path / "store" / "1.jpg")
    root = tmp_path / "root"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "linked").symlink_to(tmp_path / "store")
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "dead.jpg").symlink_to(tmp_path / "gone")
    paths, _, notes = list_images(root)
    assert ["cat/linked/1.jpg"] == paths
    assert ["cat/loop", "cat/dead.jpg"] == sorted(
        (note.rpartition(": ")[2].rstrip("/") for note in notes), reverse=True
    )


def test_names_are_normalized(tmp_path, save_image):
    save_image(tmp_path / "cafe\u0301" / "1.jpg")
    assert ["caf\u00e9"] == list_folder(tmp_path).labels


@pytest.mark.parametrize("label", ["a,b", 'it\'s "x"', "50 %", "名前", "a;b\t", "-rf", "#1"])
def test_odd_characters_in_names_work(tmp_path, save_image, label):
    save_image(tmp_path / label / "1.jpg")
    assert [label] == list_folder(tmp_path).labels


def test_empty_class_is_an_error_that_names_it(tmp_path, save_image):
    save_image(tmp_path / "cat" / "1.jpg")
    (tmp_path / "wolf").mkdir()
    with pytest.raises(DataError, match="no images") as caught:
        list_folder(tmp_path)
    assert "wolf" in str(caught.value)


def test_empty_class_of_a_split_is_an_error_that_names_it(tmp_path, save_image):
    for split in ("train", "test"):
        save_image(tmp_path / split / "cat" / "1.jpg")
    (tmp_path / "test" / "wolf").mkdir()
    with pytest.raises(DataError) as caught:
        list_folder(tmp_path)
    assert "wolf" in str(caught.value)


def test_folder_without_images_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no images in the folder"):
        list_folder(tmp_path)


def test_root_class_folder_and_file_may_be_links(tmp_path, save_image):
    save_image(tmp_path / "store" / "1.jpg")
    save_image(tmp_path / "other.jpg")
    (tmp_path / "real" / "dog").mkdir(parents=True)
    (tmp_path / "real" / "cat").symlink_to(tmp_path / "store")
    (tmp_path / "real" / "dog" / "2.jpg").symlink_to(tmp_path / "other.jpg")
    (tmp_path / "root").symlink_to(tmp_path / "real")
    listing = list_folder(tmp_path / "root")
    assert ["cat/1.jpg", "dog/2.jpg"] == listing.locations.paths.tolist()
    assert (["cat", "dog"], "root", ()) == (listing.labels, listing.name, listing.faults)


def test_each_loop_is_told_once_however_it_is_met(tmp_path, save_image):
    for name in ("a", "b"):
        save_image(tmp_path / name / f"{name}.jpg")
    (tmp_path / "a" / "to_b").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "to_a").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "self").symlink_to("self")
    tree = walk_images(tmp_path)
    assert ["a/a.jpg", "a/to_b/b.jpg", "b/b.jpg", "b/to_a/a.jpg"] == tree.paths
    assert [("link", "a/to_b/self"), ("link", "a/to_b/to_a")] == [f[:2] for f in tree.faults]


def test_links_that_multiply_end(tmp_path, save_image):
    depth = 24  # 2^24 ways down
    for level in range(depth):
        (tmp_path / "s" / str(level)).mkdir(parents=True)
        for twin in ("x", "y"):
            (tmp_path / "s" / str(level) / twin).symlink_to(tmp_path / "s" / str(level + 1))
    save_image(tmp_path / "s" / str(depth) / "1.jpg")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cat").symlink_to(tmp_path / "s" / "0")
    tree = walk_images(tmp_path / "root")
    assert 0 < len(tree.paths) <= 1000
    assert any("again and again" in fault[2] for fault in tree.faults)


def test_empty_class_is_a_fault_when_lenient(tmp_path, save_image):
    save_image(tmp_path / "cat" / "1.jpg")
    (tmp_path / "wolf").mkdir()
    listing = list_folder(tmp_path, lenient=True)
    assert [("empty", "wolf")] == [fault[:2] for fault in listing.faults]
