"""Catalyst's tables with their class numbers in a JSON file."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.class_index import read_class_index
from discern.data.tables import list_table
from discern.data.ways_in import list_source

TAGS = ("dog", "cat", "dog")


@pytest.fixture
def catalyst(tmp_path, save_image):
    """`dataset_raw.csv` beside the folder `dataset`, as the guide makes them."""
    lines = ["tag,filepath"]
    for number, tag in enumerate(TAGS):
        save_image(tmp_path / "dataset" / tag / f"{number}.jpg", number)
        lines.append(f"{tag},{tag}/{number}.jpg")
    table = tmp_path / "dataset_raw.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.mark.parametrize("name", ["tag2class.json", "tag2cls.json", "dataset_raw.json", "x.json"])
def test_file_beside_the_table_orders_the_classes(catalyst, name):
    catalyst.with_name(name).write_text(json.dumps({"dog": 0, "cat": 1, "wolf": 2}))
    listing = list_table(catalyst)
    assert (("dog", "cat", "wolf"), list(TAGS)) == (listing.classes, listing.labels)
    assert f"classes by {name}" in listing.layout
    assert catalyst.parent / "dataset" == listing.root


def test_json_that_does_not_fit_is_passed_over(catalyst):
    catalyst.with_name("run.json").write_text(json.dumps({"status": "done"}))
    catalyst.with_name("other.json").write_text(json.dumps({"cat": 0}))
    catalyst.with_name("broken.json").write_text("{")
    assert list_table(catalyst).classes is None


def test_class_and_fold_columns_of_a_split_table(catalyst):
    rows = catalyst.read_text().splitlines()
    text = "\n".join([f"{rows[0]},class,fold", *(f"{row},1,{n}" for n, row in enumerate(rows[1:]))])
    catalyst.write_text(text + "\n")
    listing = list_table(catalyst)
    assert (list(TAGS), [0, 1, 2]) == (listing.labels, listing.fold.tolist())


def test_given_file_names_numbers(catalyst, tmp_path):
    index = tmp_path / "names.json"
    index.write_text(json.dumps({"wolf": 1, "fox": 0}))
    text = catalyst.read_text().replace("dog,", "1,").replace("cat,", "0,")
    catalyst.write_text(text.replace("1,1,", "1,").replace("tag,", "label,"))
    rows = [
        f"{line.partition(',')[0]},{p}"
        for line, p in zip(
            text.splitlines()[1:], ("dog/0.jpg", "cat/1.jpg", "dog/2.jpg"), strict=True
        )
    ]
    catalyst.write_text("label,filepath\n" + "\n".join(rows) + "\n")
    listing = list_table(catalyst, class_index=index)
    assert (["wolf", "fox", "wolf"], ("fox", "wolf")) == (listing.labels, listing.classes)


def test_table_and_file_are_named_together(catalyst, tmp_path):
    index = tmp_path / "far" / "names.json"
    index.parent.mkdir()
    index.write_text(json.dumps({"dog": 0, "cat": 1}))
    listing = list_source(f"{catalyst},{index}")
    assert (("dog", "cat"), list(TAGS)) == (listing.classes, listing.labels)


def test_label_that_a_given_file_lacks_is_named(catalyst, tmp_path):
    (tmp_path / "n.json").write_text(json.dumps({"dog": 0, "cats": 1}))
    with pytest.raises(DataError, match="not in the class file") as caught:
        list_table(catalyst, class_index=tmp_path / "n.json")
    assert ("cat", "did you mean 'cats'?") == (caught.value.got, caught.value.hint)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"a": "b"}', '{"a": true}', '{"a": 0, "b": 2}', '{"a": 1, "b": 2}',
     '{"a": 0, "b": 0}', '{"a": 0, "a": 1}', '{"a": 0.5}', pytest.param("[" * 100_000, id="deep")],
)  # fmt: skip
def test_what_is_no_numbering_is_refused(tmp_path, text):
    (tmp_path / "n.json").write_text(text)
    with pytest.raises(DataError) as caught:
        read_class_index(tmp_path / "n.json")
    assert str(tmp_path / "n.json") == caught.value.where


@given(names=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, unique=True))
@settings(max_examples=30)
def test_any_names_come_back_in_order(names, tmp_path_factory):
    names = list(dict.fromkeys(unicodedata.normalize("NFC", name) for name in names))
    path = tmp_path_factory.mktemp("index") / "n.json"
    pairs = [(name, number) for number, name in enumerate(names)]
    path.write_text(json.dumps(dict(reversed(pairs)), indent=4), encoding="utf-8")
    assert tuple(names) == read_class_index(path)


@given(data=st.binary(max_size=60))
@settings(max_examples=50)
def test_any_other_bytes_are_an_error(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "n.json"
    path.write_bytes(data)
    with pytest.raises(DataError):
        read_class_index(path)
