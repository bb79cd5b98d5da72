"""Tables: columns found by name, labels, splits, and what is missing."""

from __future__ import annotations

import json
import math

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


def test_several_label_columns_are_a_head_each(folder):
    rows = [(path, label, size) for (path, label), size in zip(ROWS, "sml", strict=True)]
    table = write(folder / "t.csv", ("path", "breed", "size"), rows)
    for choice in (["breed", "size"], "breed,size"):
        listing = list_table(table, choice)
        assert [("breed", "single"), ("size", "single")] == [
            (head.name, head.kind) for head in listing.heads
        ]
        assert ["dog", "cat", "dog"] == listing.labels == listing.heads[0].texts()
        assert ["s", "m", "l"] == listing.heads[1].texts()
    assert "label columns 'breed', 'size'" in listing.layout


TAGS = ["old; red", "red", ""]


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_tags_between_delimiters_are_one_multi_head(folder, form):
    rows = [(path, tags) for (path, _), tags in zip(ROWS, TAGS, strict=True)]
    table = write(folder / f"t{form}", ("path", "tags"), rows)
    (head,) = list_table(table, {"tags": {"kind": "multi", "delimiter": ";"}}).heads
    assert ("tags", "multi", ("old", "red")) == (head.name, head.kind, head.classes)
    assert [[1, 1], [0, 1]] == head.targets[:2].tolist()
    assert all(math.isnan(value) for value in head.targets[2])
    spec = {"tags": {"kind": "multi", "delimiter": ";", "empty": "none"}}
    assert [0, 0] == list_table(table, spec).heads[0].targets[2].tolist()


@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_lists_in_cells_are_tags(folder, form):
    rows = [(path, tags) for (path, _), tags in zip(ROWS, (["a", "b"], [], ["b"]), strict=True)]
    (head,) = list_table(write(folder / f"t{form}", ("path", "label"), rows)).heads
    assert ("multi", [[1, 1], [0, 0], [0, 1]]) == (head.kind, head.targets.tolist())


def test_tags_without_a_delimiter_are_refused_with_the_row(folder):
    rows = [(path, tags) for (path, _), tags in zip(ROWS, ("a", "a|b", "b"), strict=True)]
    table = write(folder / "t.csv", ("path", "tags"), rows)
    with pytest.raises(DataError, match="between the labels") as caught:
        list_table(table, {"tags": {"kind": "multi"}})
    assert "row 2, column 'tags'" in caught.value.where


HOT = [(*row, *cells) for row, cells in zip(ROWS, ((1, 0, 0), (0, 1, 1), (0, 0, 0)), strict=True)]


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_columns_of_0_and_1_are_one_multi_head(folder, form):
    rows = [(row[0], *row[2:]) for row in HOT]
    (head,) = list_table(write(folder / f"t{form}", ("path", "cat", "dog", "bird"), rows)).heads
    assert ("label", "multi", ("cat", "dog", "bird")) == (head.name, head.kind, head.classes)
    assert [[1, 0, 0], [0, 1, 1], [0, 0, 0]] == head.targets.tolist()


def test_named_columns_of_0_and_1_beside_a_label(folder):
    rows = [(row[0], row[1], *row[2:4], "") for row in HOT]
    rows[2] = (*rows[2][:2], "0.25", "", "")
    table = write(folder / "t.csv", ("path", "label", "cat", "dog", "x"), rows)
    choice = ["label", {"pets": {"kind": "multi", "columns": ["dog", "cat"]}}]
    label, pets = list_table(table, choice).heads
    assert ["dog", "cat", "dog"] == label.texts()
    assert [[0, 1], [1, 0]] == pets.targets[:2].tolist()
    assert math.isnan(pets.targets[2][0])
    assert 0.25 == pets.targets[2][1]


def test_columns_of_0_and_1_as_one_label_an_image(folder):
    table = write(folder / "t.csv", ("path", "label", "cat", "dog", "bird"), HOT)
    spec = {"pet": {"kind": "single", "columns": ["cat", "dog"]}}
    (head,) = list_table(table, spec).heads
    assert ["cat", "dog", None] == head.texts()
    spec["pet"]["columns"].append("bird")
    with pytest.raises(DataError, match="several labels") as caught:
        list_table(table, spec)
    assert ("dog, bird", True) == (caught.value.got, "row 2" in caught.value.where)


@pytest.mark.parametrize("value", ["yes", "2", "-1", "nan"])
def test_other_cell_in_a_class_column_is_told_by_row_and_column(folder, value):
    rows = [(*row[:3], value) if n == 1 else row[:4] for n, row in enumerate(HOT)]
    table = write(folder / "t.csv", ("path", "label", "cat", "dog"), rows)
    with pytest.raises(DataError, match="not 0 or 1") as caught:
        list_table(table, {"pets": {"columns": ["cat", "dog"], "kind": "multi"}})
    assert "row 2, column 'dog'" in caught.value.where


def test_numbers_with_gaps_are_whole_numbers(folder):
    rows = [(ROWS[0][0], 3.0), (ROWS[1][0], None), (ROWS[2][0], 10.0)]
    listing = list_table(write(folder / "t.parquet", ("path", "label"), rows))
    assert (["3", None, "10"], True) == (listing.labels, listing.numeric)


@pytest.mark.parametrize(
    ("column", "value"),
    [("fold", "1.5"), ("fold", "-2"), ("weight", ""), ("weight", "-1"), ("weight", "inf")],
)
def test_impossible_value_is_told_by_column_and_row(folder, column, value):
    rows = [(*row, value if n == 1 else 1) for n, row in enumerate(ROWS)]
    table = write(folder / "t.csv", ("path", "label", column), rows)
    with pytest.raises(DataError, match=f"column '{column}'") as caught:
        list_table(table)
    assert caught.value.where.endswith("row 2")


def test_empty_group_fold_and_split_are_none(folder):
    rows = [(*row, "train" if n else "", "", "") for n, row in enumerate(ROWS)]
    listing = list_table(write(folder / "t.csv", ("path", "label", "split", "fold", "group"), rows))
    assert [-1, 0, 0] == listing.split.tolist()
    assert [-1, -1, -1] == listing.fold.tolist()
    assert ["", "", ""] == listing.group.tolist()
    assert ("1 of 3 rows are in no split and are not used",) == listing.notes


def test_row_without_a_path_is_an_error(folder):
    with pytest.raises(DataError, match="names no image") as caught:
        list_table(write(folder / "t.csv", ("path", "label"), [*ROWS, ("", "cat")]))
    assert "row 4" in caught.value.where


def test_repeated_rows_are_merged_and_counted(folder):
    rows = [*ROWS, ROWS[1], ("img/../img/1.jpg", "dog")]
    listing = list_table(write(folder / "t.csv", ("path", "label"), rows))
    assert ([row[0] for row in ROWS], ["dog", "cat", "dog"]) == (
        listing.locations.paths.tolist(),
        listing.labels,
    )
    assert ("2 of 5 rows of t.csv name an image again and were merged",) == listing.notes


@pytest.mark.parametrize(
    ("names", "more", "what"),
    [
        (("path", "label"), ("cat",), "label 'label'"),
        (("path", "label", "split"), ("dog", "test"), "split"),
        (("path", "label", "fold"), ("dog", "2"), "fold"),
        (("path", "label", "group"), ("dog", "x"), "group"),
    ],
)
def test_rows_of_one_image_that_disagree_are_named(folder, names, more, what):
    common = {"split": "train", "fold": "1", "group": "a"}
    rows = [(*row, *(common[name] for name in names[2:])) for row in ROWS]
    with pytest.raises(DataError, match=what) as caught:
        list_table(write(folder / "t.csv", names, [*rows, ("img/1.jpg", *more)]))
    assert caught.value.where.endswith("rows 1 and 4")
    assert "img/1.jpg" in caught.value.got


def test_one_row_a_tag_adds_up(folder):
    rows = [("img/1.jpg", "a"), ("img/2.jpg", "b"), ("img/1.jpg", "b")]
    table = write(folder / "t.csv", ("path", "tag"), rows)
    with pytest.raises(DataError, match="differ in their label 'tag'") as caught:
        list_table(table)
    assert "multi" in caught.value.hint
    (head,) = list_table(table, {"tag": {"kind": "multi"}}).heads
    assert (("a", "b"), [[1, 1], [0, 1]]) == (head.classes, head.targets.tolist())


def test_missing_files_and_labels_are_noted_when_lenient(folder):
    rows = [*ROWS, ("gone.jpg", "cat")]
    table = write(folder / "t.csv", ("path", "x"), rows)
    listing = list_table(table, needs_labels=False, lenient=True)
    assert (3, [None] * 3) == (len(listing), listing.labels)
    assert [("missing", "gone.jpg")] == [fault[:2] for fault in listing.faults]


def test_paths_from_another_folder(folder, tmp_path):
    (tmp_path / "lists").mkdir()
    table = write(tmp_path / "lists" / "t.csv", ("path", "label"), ROWS)
    with pytest.raises(DataError, match="3 of 3 images"):
        list_table(table)
    assert tmp_path == list_table(table, root=tmp_path).root


def test_paths_from_the_only_folder_beside_that_has_them(folder, save_image):
    rows = [(path.removeprefix("img/"), label) for path, label in ROWS]
    table = write(folder / "t.csv", ("path", "label"), rows)
    assert folder / "img" == list_table(table).root
    for path, _ in ROWS:
        save_image(folder / "twin" / path.removeprefix("img/"))
    with pytest.raises(DataError, match="not there"):
        list_table(table)


def test_windows_paths_get_a_hint(folder):
    rows = [(path.replace("/", "\\"), label) for path, label in ROWS]
    with pytest.raises(DataError) as caught:
        list_table(write(folder / "t.csv", ("path", "label"), rows))
    assert "write the paths with /" in caught.value.hint


def test_column_asked_for_as_label_is_not_its_usual_meaning(folder):
    rows = [(*row, fold) for row, fold in zip(ROWS, "xyx", strict=True)]
    listing = list_table(write(folder / "t.csv", ("path", "label", "fold"), rows), "fold")
    assert (["x", "y", "x"], None) == (listing.labels, listing.fold)


@pytest.mark.parametrize("mark", [";", "\t"])
def test_semicolons_and_tabs_of_spreadsheets(folder, mark):
    rows = "".join(f"{path}{mark}{label},x\n" for path, label in ROWS)
    (folder / "t.csv").write_text(f"path{mark}label\n{rows}")
    assert ["dog,x", "cat,x", "dog,x"] == list_table(folder / "t.csv").labels
