"""Folders of class folders: what is found, in which order, and what is refused."""

from __future__ import annotations

import pytest

from discern.base.errors import DataError
from discern.data.folders import list_folder, list_images


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
