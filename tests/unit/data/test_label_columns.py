"""Label columns: classes by name, several questions, several labels an image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.label_columns import (
    LabelColumn,
    class_order,
    given_classes,
    join_columns,
    join_heads,
    match_columns,
    split_strata,
)
from discern.data.listing import Listing, join_listings
from discern.data.manifest import Head, Locations

NAN = float("nan")
TAG = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4)


def listing(root="/a", count=3, **changes):
    base = {
        "locations": Locations.files([f"{n}.jpg" for n in range(count)]),
        "split": np.full(count, -1, np.int8),
        "root": Path(root),
        "layout": "a test",
        "name": "test",
    }
    return Listing(**(base | changes))


def test_labels_get_numbers_in_the_order_of_names():
    column = LabelColumn.of_labels(["dog", None, "cat", "dog"])
    assert ("cat", "dog") == column.classes
    assert [1, -1, 0, 1] == column.targets.tolist()
    assert ["dog", None, "cat", "dog"] == column.texts()


def test_tags_become_a_row_of_zeros_and_ones_and_nothing_known_is_nan():
    column = LabelColumn.of_tags([["old", "red"], [], None], name="tags")
    assert ("old", "red") == column.classes
    assert np.array_equal([[1, 1], [0, 0], [NAN, NAN]], column.targets, equal_nan=True)
    assert ["old;red", "", None] == column.texts()
    assert [False, False, True] == column.missing().tolist()


@given(st.lists(st.none() | TAG, min_size=1, max_size=8))
def test_any_label_comes_back(labels):
    import unicodedata

    wanted = [None if label is None else unicodedata.normalize("NFC", label) for label in labels]
    assert wanted == LabelColumn.of_labels(labels).texts()


def test_label_that_is_not_listed_is_an_error_that_names_it():
    with pytest.raises(DataError) as caught:
        LabelColumn.of_labels(["cat", "dgo"], classes=("dog", "cat"))
    assert ("dgo", "did you mean 'dog'?") == (caught.value.got, caught.value.hint)
    with pytest.raises(DataError, match="not one of the listed"):
        LabelColumn.of_tags([["x"]], classes=("y",))


def test_listing_of_labels_has_one_head_and_one_of_heads_shows_the_first():
    plain = listing(labels=["b", None, "a"])
    assert [1, -1, 0] == plain.heads[0].targets.tolist()
    heads = (
        LabelColumn.of_labels(["red", "blue", "red"], name="color"),
        LabelColumn.of_tags([["x"], [], None], name="tags"),
    )
    both = listing(heads=heads)
    assert ["red", "blue", "red"] == both.labels
    assert ["blue"] == both.select(np.array([1])).labels
    assert ["tags"] == [head.name for head in both.select(np.array([1])).heads[1:]]


def test_labels_are_changed_by_name_not_by_accident():
    plain = listing(labels=["b", None, "a"])
    assert ["a", "a", "a"] == plain.with_labels(["a", "a", "a"]).labels
    with pytest.raises(ValueError, match="with_labels"):
        replace(plain, labels=["a", "a", "a"])


def test_listed_order_is_kept_and_a_found_one_is_of_the_train_rows():
    listed = LabelColumn.of_labels(["b", "a"], classes=("c", "b", "a"))
    train = np.array([True, False])
    assert ("c", "b", "a") == class_order(listed, None, train, needs_train=True)
    found = LabelColumn.of_labels(["b", "a"])
    assert ("b",) == class_order(found, None, train, needs_train=True)
    assert ("a", "b") == class_order(found, None, ~train & train, needs_train=False)
    assert ("x",) == class_order(found, ("x",), train, needs_train=True)


def test_heads_of_two_sources_are_matched_by_class_name():
    first = LabelColumn.of_labels(["cat", "dog"])
    second = LabelColumn.of_labels(["dog", "dog"], name="breed")
    (head,) = join_heads([(first,), (second.select(np.array([0])),)], [("cat", "dog")])
    assert ("label", [0, 1, 1]) == (head.name, head.targets.tolist())


def test_tag_that_a_source_never_uses_is_absent_but_a_column_that_it_lacks_is_unknown():
    first = LabelColumn.of_tags([["a", "b"]], name="t")
    tags = LabelColumn.of_tags([["b"], None], name="t")
    (head,) = join_heads([(first,), (tags,)], [("a", "b")])
    assert np.array_equal([[1, 1], [0, 1], [NAN, NAN]], head.targets, equal_nan=True)
    hot = replace(tags, ordered=True)
    (head,) = join_heads([(first,), (hot,)], [("a", "b")])
    assert np.array_equal([[1, 1], [NAN, 1], [NAN, NAN]], head.targets, equal_nan=True)


def test_source_without_the_wanted_column_or_of_another_kind_is_an_error():
    color = LabelColumn.of_labels(["red"], name="color")
    shape = LabelColumn.of_labels(["round"], name="shape")
    with pytest.raises(DataError, match="no label column 'shape'") as caught:
        match_columns([(color, shape), (color,)], ["train", "val.csv"])
    assert "val.csv" == caught.value.where
    with pytest.raises(DataError, match="another kind"):
        match_columns([(color,), (LabelColumn.of_tags([["red"]]),)], ["train", "val"])


def test_joined_listings_share_classes_and_the_folder_above():
    one = listing("/data/a", 2, labels=["cat", "dog"])
    two = listing("/data/b", 2, labels=["ant", "cat"])
    both = join_listings([one, two], layout="two", name="x")
    assert ["cat", "dog", "ant", "cat"] == both.labels
    assert (Path("/data"), ["a/0.jpg", "a/1.jpg", "b/0.jpg", "b/1.jpg"]) == (
        both.root,
        both.locations.paths.tolist(),
    )


def test_order_listed_by_every_source_survives_a_join():
    one = LabelColumn.of_labels(["b"], classes=("b", "a"))
    assert ("b", "a") == join_columns([(one,), (one,)])[0].classes
    other = LabelColumn.of_labels(["c"], classes=("c",))
    assert ("a", "b", "c") == join_columns([(one,), (other,)])[0].classes


def test_lists_of_classes_go_by_column():
    color = LabelColumn.of_labels(["red"], name="color")
    shape = LabelColumn.of_labels(["round"], name="shape")
    assert [("r",), None] == given_classes({"color": ["r"]}, (color, shape))
    with pytest.raises(DataError, match="cannot serve several"):
        given_classes(["r"], (color, shape))
    with pytest.raises(DataError, match="not there: 'colour'"):
        given_classes({"colour": ["r"]}, (color, shape))


def test_strata_are_the_classes_of_one_head_and_pooled_combinations_of_several():
    single = Head("label", "single", ("a", "b"), np.array([0, 1, -1]))
    numbers, names = split_strata((single,), np.ones(3, bool))
    assert ([0, 1, -1], ("a", "b")) == (numbers.tolist(), names)
    color = Head("color", "single", ("r", "g"), np.array([0] * 6 + [1, 1, 0, 1, -1]))
    tags = np.array([[1, 0]] * 6 + [[0, 1], [1, 1], [0, 0], [0, 1], [NAN, NAN]], np.float32)
    multi = Head("tags", "multi", ("x", "y"), tags)
    numbers, names = split_strata((color, multi), np.ones(11, bool))
    assert 1 == len(set(numbers[:6].tolist()))
    assert {numbers[6]} == set(numbers[6:10].tolist())  # 2 + 1 + 1 images: pooled
    assert (-1, 2) == (numbers[10], len(names))
    numbers, names = split_strata((color, multi), np.arange(11) < 8)  # two rare ones: not a pool
    assert ([0] * 8 + [-1] * 3, 1) == (numbers.tolist(), len(names))


def test_weight_fold_and_group_of_one_source_stay_in_a_join():
    one = listing(count=2, labels=["a", "b"], weight=np.array([2, 3], np.float32))
    one = replace(one, fold=np.array([1, 0], np.int32), group=np.array(["long", "p"]))
    both = join_listings([one, listing(count=1, labels=["a"])], layout="two", name="x")
    assert ([2, 3, 1], [1, 0, -1], ["long", "p", ""]) == (
        both.weight.tolist(),
        both.fold.tolist(),
        both.group.tolist(),
    )
