from pathlib import Path

import numpy as np
import pytest

from discern.base.errors import ConfigError
from discern.data.catalyst_tables import split_dataframe
from discern.data.fold_choice import FoldChoice, choose_folds, split_by_folds
from discern.data.manifest import SPLITS, Head, Locations, Manifest
from discern.data.table_files import read_table


def manifest_of(targets, fold=None, split=None):
    count = len(targets)
    return Manifest(
        ids=np.array([f"{n:016x}" for n in range(count)]),
        locations=Locations.files([f"{n}.png" for n in range(count)]),
        heads=(Head("label", "single", ("a", "b"), np.array(targets, dtype=np.int64)),),
        split=np.array(split or [-1] * count, dtype=np.int8),
        root=Path(),
        layout="test",
        fold=None if fold is None else np.array(fold, dtype=np.int32),
    )


def splits(manifest, **choice):
    found, note = split_by_folds(manifest, FoldChoice(**choice))
    return [SPLITS[code] if code >= 0 else None for code in found.split], note


def test_folds_of_the_column_become_splits():
    manifest = manifest_of([0, 1] * 3, fold=[0, 0, 1, 1, 2, 2])
    found, note = splits(manifest, train=(0,), val=(1,), test=(2,))
    assert ["train"] * 2 + ["val"] * 2 + ["test"] * 2 == found
    assert "folds: train 0; val 1; test 2" == note


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"train": (0, 1)}, ["train", "train", "val"]),
        ({"val": (1,)}, ["train", "val", "train"]),
        ({"train": (0,), "val": (1,)}, ["train", "val", None]),
        ({"test": (2,)}, ["train", "train", "test"]),
    ],
)
def test_what_is_not_named_is_what_is_left(choice, expected):
    assert expected == splits(manifest_of([0, 1, 0], fold=[0, 1, 2]), **choice)[0]


def test_given_test_images_are_never_trained_on():
    manifest = manifest_of([0, 1, 0, 1], fold=[0, 1, 0, -1], split=[2, -1, -1, 0])
    assert ["test", "val", "train", "train"] == splits(manifest, train=(0,))[0]


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        ({"train": (5,)}, "no such fold"),
        ({"train": (0,), "val": (0,)}, "a fold is in two splits"),
        ({"train": (0, 1, 2)}, "no fold is left for val"),
        ({"val": (0, 1, 2)}, "no fold is left for train"),
        ({"made": 3, "val": (0,)}, "the data has a fold column already"),
    ],
)
def test_folds_that_cannot_be(choice, told):
    with pytest.raises(ConfigError) as caught:
        splits(manifest_of([0, 1, 0], fold=[0, 1, 2]), **choice)
    assert told == caught.value.what


def test_config_without_folds_chooses_none():
    assert choose_folds(None, None, None, None, 42) is None
    with pytest.raises(ConfigError):
        choose_folds(None, None, None, 5, 42)
    with pytest.raises(ConfigError) as caught:
        splits(manifest_of([0, 1]), val=(0,))
    assert "the data has no fold column" == caught.value.what


@pytest.mark.feature("CA-25")
def test_made_folds_are_those_of_catalysts_tool(tmp_path):
    labels = [0, 1, 1, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0]
    table = tmp_path / "raw.csv"
    rows = [f"{'ab'[label]},{n}.png" for n, label in enumerate(labels)]
    table.write_text("\n".join(["tag,filepath", *rows]) + "\n")
    (tmp_path / "tag2class.json").write_text('{"a": 0, "b": 1}')
    split_dataframe(
        in_csv=table,
        out_csv=tmp_path / "dataset.csv",
        tag2class=tmp_path / "tag2class.json",
        tag_column="tag",
        class_column="class",
        train_folds="0,1,2,3",
    )
    theirs = [int(cell) for cell in read_table(tmp_path / "dataset.csv").columns["fold"]]
    choice = choose_folds([0, 1, 2, 3], [4], None, 5, 42)
    found, _ = split_by_folds(manifest_of(labels), choice)
    assert theirs == found.fold.tolist()
    assert ["val" if f == 4 else "train" for f in theirs] == [SPLITS[c] for c in found.split]
