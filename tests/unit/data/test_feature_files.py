"""Features in files: what is written is read, row by row, and nothing else is taken for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from discern.base.errors import DataError
from discern.data.feature_files import (
    FeatureOrigin,
    FeatureTable,
    join_feature_tables,
    read_feature_table,
    rows_file,
    write_feature_table,
)
from discern.data.manifest import Head


def _table(count: int = 4, width: int = 3) -> FeatureTable:
    rng = np.random.default_rng(0)
    codes = np.array([0, 1, -1, 1] * count, dtype=np.int64)[:count]
    return FeatureTable(
        features=rng.normal(size=(count, width)).astype(np.float32),
        ids=np.array([f"id{k}" for k in range(count)]),
        paths=np.array([f"a/{k}.png" for k in range(count)]),
        split=np.array([0, 2, -1, 1] * count, dtype=np.int8)[:count],
        heads=(Head("label", "single", ("cat", "dog"), codes),),
        origin=FeatureOrigin(
            model="m", model_hash="ab", layer="features", classes={"label": ["cat", "dog"]}
        ),
    )


@pytest.mark.parametrize("name", ["f.parquet", "f.npy"])
def test_what_is_written_is_read(tmp_path: Path, name: str) -> None:
    table = _table()
    write_feature_table(tmp_path / name, table)
    read = read_feature_table(tmp_path / name)
    assert np.array_equal(table.features, read.features)
    assert table.ids.tolist() == read.ids.tolist()
    assert table.paths.tolist() == read.paths.tolist()
    assert table.split.tolist() == read.split.tolist()
    assert table.origin == read.origin
    assert [0, 1, -1, 1] == read.head().targets.tolist()
    assert ("cat", "dog") == read.head("label").classes


def test_a_bare_array_has_numbers_for_names(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.eye(3))
    read = read_feature_table(tmp_path / "x.npy")
    assert ["0", "1", "2"] == read.ids.tolist()
    assert "" == read.origin.model_hash
    with pytest.raises(DataError, match="no labels"):
        read.head()


def test_an_array_that_is_not_its_rows_is_refused(tmp_path: Path) -> None:
    write_feature_table(tmp_path / "f.npy", _table())
    np.save(tmp_path / "f.npy", np.zeros((4, 3), np.float32))
    with pytest.raises(DataError, match="SHA-256"):
        read_feature_table(tmp_path / "f.npy")
    assert rows_file(tmp_path / "f.npy").name == "f.rows.parquet"


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="suffix"):
        write_feature_table(tmp_path / "f.csv", _table())
    with pytest.raises(DataError, match="no such file"):
        read_feature_table(tmp_path / "f.npy")
    np.save(tmp_path / "flat.npy", np.zeros(3))
    with pytest.raises(DataError, match="no features"):
        read_feature_table(tmp_path / "flat.npy")
    (tmp_path / "f.npy").write_bytes(b"nothing")
    with pytest.raises(DataError, match="cannot be read"):
        read_feature_table(tmp_path / "f.npy")


def test_tables_of_one_kind_are_joined() -> None:
    table = _table()
    joined = join_feature_tables([table, table.select(np.array([2, 0]))])
    assert ["id0", "id1", "id2", "id3", "id2", "id0"] == joined.ids.tolist()
    assert [0, 1, -1, 1, -1, 0] == joined.head().targets.tolist()
    other = replace(table, origin=FeatureOrigin(model_hash="cd", layer="features"))
    with pytest.raises(DataError, match="model"):
        join_feature_tables([table, other])


def test_an_empty_table_is_kept(tmp_path: Path) -> None:
    empty = _table().select(np.array([], dtype=np.int64))
    write_feature_table(tmp_path / "f.parquet", empty)
    assert (0, 3) == read_feature_table(tmp_path / "f.parquet").features.shape
