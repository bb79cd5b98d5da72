"""Tables: columns found by name, labels, splits, and what is missing."""

from __future__ import annotations

import json

import pytest

from discern.base.errors import DataError
from discern.data.tables import list_table

ROWS = [("img/1.jpg", "dog"), ("img/2.jpg", "cat"), ("img/3.jpg", "dog")]


@pytest.fixture
def folder(tmp_path, save_image):
    for name, _ in ROWS:
        save_image(tmp_path / name)
    return tmp_path


def write(path, names, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(dict(zip(names, r, strict=True))) + "\n" for r in rows))
    elif path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = zip(*rows, strict=True)
        pq.write_table(pa.table(dict(zip(names, map(list, columns), strict=True))), path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(mark.join(map(str, row)) + "\n" for row in [names, *rows]))
    return path


@pytest.mark.parametrize("form", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_each_format_gives_paths_and_labels(folder, form):
    listing = list_table(write(folder / f"t{form}", ("path", "label"), ROWS))
    assert [row[0] for row in ROWS] == listing.locations.paths.tolist()
    assert ["dog", "cat", "dog"] == listing.labels
    assert folder == listing.root
    assert not listing.numeric


@pytest.mark.parametrize("image", ["image_path", "filepath", "file_name", "Filename", "file"])
@pytest.mark.parametrize("label", ["label", "Class", "tag", "target", "category"])
def test_columns_are_found_by_name(folder, image, label):
    assert ["dog", "cat", "dog"] == list_table(write(folder / "t.csv", (image, label), ROWS)).labels


def test_given_label_column_wins(folder):
    rows = [(*row, n) for n, row in enumerate(ROWS)]
    listing = list_table(write(folder / "t.csv", ("path", "label", "breed"), rows), "breed")
    assert ["0", "1", "2"] == listing.labels
    assert listing.numeric


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_optional_columns_are_read(folder, form):
    names = ("path", "label", "split", "fold", "group", "weight")
    parts = [("train", 0, "p1", 1.0), ("valid", 1, "p2", 0.5), ("test", 2, "p1", 2.0)]
    rows = [(*row, *part) for row, part in zip(ROWS, parts, strict=True)]
    listing = list_table(write(folder / f"t{form}", names, rows))
    assert [0, 1, 2] == listing.split.tolist()
    assert [0, 1, 2] == listing.fold.tolist()
    assert ["p1", "p2", "p1"] == listing.group.tolist()
    assert [1.0, 0.5, 2.0] == listing.weight.tolist()


@pytest.mark.parametrize(
    ("names", "what"), [(("picture", "label"), "image"), (("path", "x"), "label")]
)
def test_missing_column_names_those_there_are(folder, names, what):
    with pytest.raises(DataError, match=f"no {what}") as caught:
        list_table(write(folder / "t.csv", names, ROWS))
    assert ", ".join(names) == caught.value.got


def test_wrong_label_column_offers_the_nearest(folder):
    with pytest.raises(DataError, match="no column 'lable'") as caught:
        list_table(write(folder / "t.csv", ("path", "label"), ROWS), "lable")
    assert "did you mean 'label'?" == caught.value.hint


def test_missing_files_are_counted_and_the_first_ten_named(folder):
    rows = [*ROWS, *((f"gone/{n}.jpg", "cat") for n in range(13))]
    with pytest.raises(DataError, match="13 of 16 images") as caught:
        list_table(write(folder / "t.csv", ("path", "label"), rows))
    assert "gone/9.jpg and 3 more" in caught.value.got
    assert "gone/10.jpg" not in caught.value.got


def test_unknown_split_is_an_error_that_names_the_row(folder):
    rows = [(*row, "dev") for row in ROWS]
    with pytest.raises(DataError, match="no such split") as caught:
        list_table(write(folder / "t.csv", ("path", "label", "split"), rows))
    assert "row 1" in caught.value.where


@pytest.mark.parametrize(
    "text",
    [
        "",
        "path,label\n",
        "path,label\nimg/1.jpg\n",
        "path,label\nimg/1.jpg,dog,more\n",
        "path,path\n",
    ],
)
def test_damaged_csv_is_an_error(folder, text):
    (folder / "t.csv").write_text(text)
    with pytest.raises(DataError):
        list_table(folder / "t.csv")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_bytes_that_are_no_table_are_an_error(folder, name):
    (folder / name).write_bytes(b"\xff\xfe\x00path")
    with pytest.raises(DataError):
        list_table(folder / name)


def test_text_that_is_no_number_in_fold_is_an_error(folder):
    rows = [(*row, "first") for row in ROWS]
    with pytest.raises(DataError, match="fold"):
        list_table(write(folder / "t.csv", ("path", "label", "fold"), rows))
