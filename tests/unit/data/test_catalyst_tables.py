"""Catalyst's tables: the bytes that its own tools write with pandas 3.1 and scikit-learn 1.9."""

from __future__ import annotations

import csv
import json

import pytest

from discern.base.errors import ConfigError, DataError
from discern.data.catalyst_tables import split_dataframe, tag2label

RAW = """tag,filepath
ants,ants/0.jpg
ants,ants/1.jpg
ants,ants/2.jpg
ants,ants/3.jpg
ants,ants/4.jpg
ants,ants/5.jpg
bees,bees/0.jpg
bees,bees/1.jpg
bees,bees/2.jpg
bees,bees/3.jpg
bees,bees/4.jpg
"""
# StratifiedKFold(5, shuffle=True, random_state=42), as Catalyst calls it.
FOLDS = [0, 0, 4, 1, 3, 2, 3, 1, 2, 0, 4]
SHUFFLED = """tag,filepath,fold
ants,ants/5.jpg,0
ants,ants/0.jpg,0
bees,bees/3.jpg,0
bees,bees/4.jpg,1
ants,ants/2.jpg,1
ants,ants/1.jpg,2
bees,bees/2.jpg,2
ants,ants/4.jpg,3
bees,bees/1.jpg,3
ants,ants/3.jpg,4
bees,bees/0.jpg,4
"""


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A work folder with data/dataset/{ants,bees}: the tools look at names only."""
    for name, count in (("bees", 5), ("ants", 6)):
        folder = tmp_path / "data" / "dataset" / name
        folder.mkdir(parents=True)
        for number in range(count):
            (folder / f"{number}.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def label(**changes):
    given = {
        "in_dirs": "./data/dataset",
        "out_dataset": "data/dataset_raw.csv",
        "out_labeling": "data/tag2cls.json",
    }
    return tag2label(**(given | changes))


def split(**changes):
    given = {
        "in_csv": "./data/dataset_raw.csv",
        "tag2class": "./data/tag2cls.json",
        "tag_column": "tag",
        "class_column": "class",
        "n_folds": 5,
        "train_folds": "0,1,2,3",
        "out_csv": "./data/dataset.csv",
    }
    return split_dataframe(**(given | changes))


def rows(path):
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.feature("CA-02")
def test_folder_gives_catalysts_table_and_class_numbers(data):
    report = label()
    assert RAW == (data / "dataset_raw.csv").read_text()
    assert '{\n    "ants": 0,\n    "bees": 1\n}' == (data / "tag2cls.json").read_text()
    assert "Num classes:  2" == report.lines()[0]
    assert 11 == report.record()["rows"]


@pytest.mark.feature("CA-03")
def test_folds_and_their_four_files_are_catalysts(data):
    label()
    report = split()
    lines = RAW.splitlines()
    numbered = [
        f"{line},{int(line.startswith('bees'))},{fold}"
        for line, fold in zip(lines[1:], FOLDS, strict=True)
    ]
    header = f"{lines[0]},class,fold"
    parts = {
        "": numbered,
        "_train": [line for line in numbered if not line.endswith("4")],
        "_valid": [line for line in numbered if line.endswith("4")],
        "_infer": [],
    }
    for name, wanted in parts.items():
        text = "\n".join([header, *wanted]) + "\n"
        assert text == (data / f"dataset{name}.csv").read_text()
    assert [11, 9, 2, 0] == list(report.files.values())
    assert {"0": 3, "1": 2, "2": 2, "3": 2, "4": 2} == report.record()["folds"]


def test_both_spellings_of_the_number_of_folds_are_one_option(data):
    label()
    split(out_csv="data/a.csv")
    split(n_folds=None, num_folds=5, out_csv="data/b")
    assert (data / "a.csv").read_bytes() == (data / "b.csv").read_bytes()
    assert (data / "a_train.csv").read_bytes() == (data / "b_train.csv").read_bytes()
    with pytest.raises(ConfigError, match="one option"):
        split(num_folds=4)


def test_without_a_class_column_rows_are_shuffled_and_cut(data):
    label()
    split(tag2class=None, tag_column=None, class_column=None, train_folds="0,1", valid_folds="2")
    assert SHUFFLED == (data / "dataset.csv").read_text()
    lines = SHUFFLED.splitlines()
    wanted = "\n".join([lines[0], *lines[-4:]]) + "\n"
    assert wanted == (data / "dataset_infer.csv").read_text()


def test_same_seed_gives_the_same_files_and_another_others(data):
    label()
    files = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        split(out_csv=f"data/{name}.csv", seed=seed)
        files.append((data / f"{name}.csv").read_bytes())
    assert files[0] == files[1]
    assert files[0] != files[2]


@pytest.mark.feature("CA-01")
def test_several_roots_keep_their_last_folder_as_prefix(data):
    for name in ("one", "two"):
        (data / name / "cat").mkdir(parents=True)
        (data / name / "cat" / "1.jpg").touch()
    report = label(in_dirs="./data/one,./data/two/")
    wanted = "tag,filepath\ncat,one/cat/1.jpg\ncat,two/cat/1.jpg\n"
    assert wanted == (data / "dataset_raw.csv").read_text()
    assert {"cat": 0} == report.classes


def test_folders_below_are_listed_only_if_asked(data):
    deep = data / "dataset" / "ants" / "deep"
    deep.mkdir()
    (deep / "x.jpg").touch()
    (deep / "loop").symlink_to(data / "dataset" / "ants")
    (data / "dataset" / "ants" / ".hidden.jpg").touch()
    (data / "dataset" / "empty").mkdir()
    flat = label(tag_column="class")
    assert 11 == flat.rows
    assert "class,filepath\n" == (data / "dataset_raw.csv").read_text()[:15]
    assert any("no files in empty" in note for note in flat.notes)
    assert 12 == label(recursive=True).rows
    paths = [row["filepath"] for row in rows(data / "dataset_raw.csv")]
    assert "ants/deep/x.jpg" in paths


def test_awkward_names_are_quoted_as_pandas_quotes_them(data):
    folder = data / "dataset" / 'b"e, é'
    folder.mkdir()
    (folder / "1 x.jpg").touch()
    (folder / "read.me").touch()
    report = label()
    text = (data / "dataset_raw.csv").read_text(encoding="utf-8")
    assert '"b""e, é","b""e, é/1 x.jpg"\n' in text
    assert '    "b\\"e, \\u00e9": 1,\n' in (data / "tag2cls.json").read_text()
    assert any("read.me" in note for note in report.notes)


def test_table_of_tags_gets_a_row_for_each(data):
    table = 'tag,filepath,n\n"cat,dog",a.jpg,1\ndog,"b,2.jpg",2\n'
    (data / "tags.csv").write_text(table)
    report = label(in_dirs=None, in_csv="data/tags.csv", tag_delim=",")
    wanted = 'tag,filepath,n\ncat,a.jpg,1\ndog,a.jpg,1\ndog,"b,2.jpg",2\n'
    assert wanted == (data / "dataset_raw.csv").read_text()
    assert {"cat": 0, "dog": 1} == report.classes


def test_numbers_of_a_table_are_ordered_by_value_and_names_by_code_point(data):
    (data / "n.csv").write_text("tag,filepath\n10,a.jpg\n2,b.jpg\n")
    report = label(in_dirs=None, in_csv="data/n.csv")
    assert ["2", "10"] == list(report.classes)
    for name in ("10", "2"):
        (data / "numbers" / name).mkdir(parents=True)
        (data / "numbers" / name / "a.jpg").touch()
    assert ["10", "2"] == list(label(in_dirs="data/numbers").classes)


def test_classes_called_na_or_007_stay_classes(data):
    for name in ("NA", "007"):
        (data / "odd" / name).mkdir(parents=True)
        for number in range(5):
            (data / "odd" / name / f"{number}.jpg").touch()
    label(in_dirs="data/odd")
    split()
    assert {"NA", "007"} == {row["tag"] for row in rows(data / "dataset.csv")}
    assert {"007": 0, "NA": 1} == json.loads((data / "tag2cls.json").read_text())


def test_small_class_is_noted_by_name(data):
    (data / "dataset" / "wasps").mkdir()
    (data / "dataset" / "wasps" / "1.jpg").touch()
    label()
    report = split(tag2class=None, class_column="tag")
    assert any("wasps" in note for note in report.notes)
    with pytest.raises(DataError, match="as many rows"):
        split(n_folds=7)


@pytest.mark.parametrize(
    ("changes", "kind", "what"),
    [
        ({"train_folds": "0,5"}, ConfigError, "no such fold"),
        ({"train_folds": "a"}, ConfigError, "not a list"),
        ({"n_folds": 1}, ConfigError, "too few"),
        ({"class_column": None}, ConfigError, "--tag-column|column of tags"),
        ({"tag_column": "tga"}, DataError, "no column 'tga'"),
        ({"tag2class": "data/none.json"}, DataError, "cannot be read"),
        ({"in_csv": "data/none.csv"}, DataError, "cannot be read"),
    ],
)
def test_wrong_split_is_refused_before_anything_is_written(data, changes, kind, what):
    label()
    with pytest.raises(kind, match=what):
        split(**changes)
    assert not (data / "dataset.csv").exists()


def test_class_without_a_number_is_named(data):
    label()
    (data / "tag2cls.json").write_text('{"ants": 0, "beez": 1}')
    with pytest.raises(DataError, match="no number") as caught:
        split()
    assert "bees" == caught.value.got
    assert "did you mean 'beez'?" == caught.value.hint


def test_wrong_source_is_refused(data):
    with pytest.raises(ConfigError, match="folders or from a table"):
        label(in_csv="data/x.csv")
    with pytest.raises(DataError, match="no such folder"):
        label(in_dirs="data/none")
    (data / "bare").mkdir()
    with pytest.raises(DataError, match="no files"):
        label(in_dirs="data/bare")
