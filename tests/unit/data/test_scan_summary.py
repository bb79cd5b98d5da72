"""The report of `discern data scan`: what there is, and what is wrong with it."""

from __future__ import annotations

import json

import pytest

from discern.base.errors import DataError
from discern.data.scan import DataRequest, scan_report


def report(data, **options):
    return scan_report(DataRequest(train=str(data), **options)).record()


def test_class_folders(class_folders):
    record = report(class_folders)
    assert {"cat": 6, "dog": 6} == record["classes"]
    assert (12, 12, 0, 0) == (
        record["files"],
        record["images"],
        record["unreadable"],
        record["unlabeled"],
    )
    assert {"smallest": [6, 8], "median": [6, 8], "largest": [6, 8]} == record["sizes"]
    assert (3, "class folders, 12 files", []) == (
        record["channels"],
        record["layout"],
        record["problems"],
    )
    assert record == json.loads(json.dumps(record))


def test_folder_without_classes(tmp_path, save_image):
    for number in range(4):
        save_image(tmp_path / f"{number}.jpg", number)
    record = report(tmp_path)
    assert ({}, 4, 4) == (record["classes"], record["images"], record["unlabeled"])


def test_every_fault_is_a_problem_of_its_kind(class_folders, tmp_path):
    (class_folders / "cat" / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (class_folders / "wolf").mkdir()
    (class_folders / "dog" / "dead.jpg").symlink_to(tmp_path / "nowhere")
    (class_folders / "dog" / "loop").symlink_to(class_folders)
    record = report(class_folders)
    assert (13, 1) == (record["images"], record["unreadable"])
    found = {(problem["kind"], problem["path"]) for problem in record["problems"]}
    assert found == {
        ("unreadable", "cat/cut.jpg"),
        ("empty", "wolf"),
        ("link", "dog/dead.jpg"),
        ("link", "dog/loop"),
    }
    assert all(problem["text"] for problem in record["problems"])


def test_table_without_labels_and_with_missing_files(class_folders):
    table = class_folders / "t.csv"
    table.write_text("path\ncat/00.jpg\ncat/gone.jpg\n")
    record = report(table)
    assert (1, 1) == (record["images"], record["unlabeled"])
    assert [("missing", "cat/gone.jpg")] == [(p["kind"], p["path"]) for p in record["problems"]]
    table.write_text("path\ncat/gone.jpg\n")
    record = report(table)
    assert (0, None, None) == (record["images"], record["sizes"], record["channels"])


def test_several_questions(class_folders):
    table = class_folders / "t.csv"
    table.write_text("path,color,size\ncat/00.jpg,red,big\ncat/02.jpg,red,\n")
    record = report(table, label=["color", "size"])
    assert {"color/red": 2, "size/big": 1} == record["classes"]


def test_splits_and_files_of_containers(tmp_path, save_image, shared_data):
    record = report(shared_data / "flowers12" / "flowers12.tar")
    assert ({"train": 720, "test": 240}, 1, 960) == (
        record["splits"],
        record["files"],
        record["images"],
    )
    assert {80} == set(record["classes"].values())
    record = report("digits")
    assert (1, 1797, 1) == (record["files"], record["images"], record["channels"])


def test_separate_test_data(class_folders, tmp_path, save_image):
    save_image(tmp_path / "other" / "wolf" / "1.jpg", 77)
    record = report(class_folders, test=str(tmp_path / "other"))
    assert {"train": 12, "test": 1} == record["splits"]
    assert {"cat": 6, "dog": 6, "wolf": 1} == record["classes"]


def test_nothing_that_can_be_read_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no images"):
        report(tmp_path)
