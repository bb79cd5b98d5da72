"""The index: its steps as scikit-learn does them, its neighbors as brute force finds them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler, normalize

from discern.base.errors import ConfigError, DataError
from discern.data.feature_files import FeatureOrigin, FeatureTable
from discern.data.manifest import Head
from discern.workflows.index import approximate, exact_search
from discern.workflows.index.approximate import Choice, Trial, judge
from discern.workflows.index.exact_search import search_exact
from discern.workflows.index.image_index import Index


def make_table(count: int = 60, width: int = 12, seed: int = 0, prefix: str = "id") -> FeatureTable:
    """Three classes around three centers, drawn without overlap."""
    rng = np.random.default_rng(seed)
    codes = np.arange(count) % 3
    centers = np.random.default_rng(99).normal(size=(3, width)) * 4
    features = (centers[codes] + rng.normal(size=(count, width))).astype(np.float32)
    return FeatureTable(
        features=features,
        ids=np.array([f"{prefix}{k}" for k in range(count)]),
        paths=np.array([f"{prefix}/{k}.png" for k in range(count)]),
        split=np.zeros(count, dtype=np.int8),
        heads=(Head("label", "single", ("a", "b", "c"), codes.astype(np.int64)),),
        origin=FeatureOrigin(
            model="m", model_hash="ab", layer="features", classes={"label": ["a", "b", "c"]}
        ),
    )


@pytest.mark.feature("CA-09")
def test_steps_are_those_of_scikit_learn(tmp_path: Path) -> None:
    table = make_table(count=80)
    scaled = StandardScaler().fit_transform(table.features.astype(np.float64))
    fitted = PCA(5, svd_solver="full").fit(scaled)
    index = Index.build(table, pca=5)
    assert index.explained_variance == pytest.approx(fitted.explained_variance_ratio_.sum(), 1e-5)
    expected = normalize(fitted.transform(scaled))
    signs = np.sign((expected * index.vectors).sum(axis=0))
    assert np.allclose(expected * signs, index.vectors, atol=1e-4)
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    assert np.array_equal(index.vectors, again.vectors)
    assert {"index.json", "pca.npy", "pipeline.safetensors", "rows.parquet"} == {
        path.name for path in (tmp_path / "index").iterdir()
    }
    found = again.search(table.features[:4], 3)
    assert np.array_equal(index.search(table.features[:4], 3).rows, found.rows)


def test_exact_search_is_a_sort_of_all_products(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1003, 8)).astype(np.float32)
    queries = rng.normal(size=(7, 8)).astype(np.float32)
    monkeypatch.setattr(exact_search, "_GROUP", 16)
    monkeypatch.setattr(exact_search, "_QUERIES", 3)
    values, rows = search_exact(vectors, queries, 10)
    products = queries @ vectors.T
    expected = np.argsort(-products, axis=1, kind="stable")[:, :10]
    assert np.array_equal(expected, rows)
    assert np.allclose(np.take_along_axis(products, expected, 1), values, atol=1e-5)


@pytest.mark.parametrize(
    ("metric", "distance"),
    [
        ("l2", lambda cosine: np.sqrt(2 - 2 * cosine)),
        ("cosine", lambda cosine: 1 - cosine),
        ("angular", np.arccos),
    ],
)
def test_distances_are_of_the_metric(metric, distance) -> None:
    table = make_table()
    index = Index.build(table, metric=metric)
    found = index.search_rows([4], 3)
    cosines = index.vectors @ index.vectors[4]
    cosines[4] = -2
    expected = np.argsort(-cosines, kind="stable")[:3]
    assert expected.tolist() == found.rows[0].tolist()
    assert np.allclose(distance(cosines[expected]), found.distances[0], atol=1e-3)


@pytest.mark.feature("CA-10")
def test_recall_equals_brute_force() -> None:
    table = make_table(90, seed=1)
    noisy = np.random.default_rng(2).permutation(table.heads[0].targets)
    head = replace(
        table.heads[0], targets=np.where(np.arange(90) % 4, table.heads[0].targets, noisy)
    )
    index = Index.build(replace(table, heads=(head,)), pca=4)
    queries = make_table(30, seed=3, prefix="q")
    found = index.recall(queries)
    vectors = index.reduction.apply(queries.features)
    order = np.argsort(-(vectors @ index.vectors.T), axis=1, kind="stable")
    right = head.targets[order] == queries.heads[0].targets[:, None]
    for k in (1, 3, 5, 10):
        assert right[:, :k].any(axis=1).mean() == pytest.approx(found.by_rank[k])
    assert (30, 0) == (found.queries, found.own_left_out)
    assert 90 == index.recall(replace(table, heads=(head,))).own_left_out


def test_other_class_numbers_are_matched_by_name() -> None:
    index = Index.build(make_table())
    queries = make_table(9, seed=5, prefix="q")
    turned = Head("label", "single", ("c", "b", "z", "a"), np.array([3, 1, 0] * 3))
    assert 1.0 == index.recall(replace(queries, heads=(turned,))).by_rank[1]
    unknown = Head("label", "single", ("z",), np.zeros(9, dtype=np.int64))
    assert 0.0 == index.recall(replace(queries, heads=(unknown,))).by_rank[10]


def test_features_of_another_model_or_class_order_are_refused() -> None:
    table = make_table()
    index = Index.build(table)
    for change, words in (
        ({"model_hash": "cd"}, "another model"),
        ({"layer": "blocks.3"}, "another layer"),
        ({"classes": {"label": ["b", "a", "c"]}}, "another order"),
        ({"model_hash": ""}, "another model"),
    ):
        other = replace(table, origin=replace(table.origin, **change))
        with pytest.raises(DataError, match=words):
            index.recall(other)
        with pytest.raises(DataError, match=words):
            index.add(other)


def test_bad_features_are_refused() -> None:
    table = make_table()
    broken = table.features.copy()
    broken[7, 3] = np.nan
    with pytest.raises(DataError, match="not finite") as caught:
        Index.build(replace(table, features=broken))
    assert "row 7" == caught.value.where
    with pytest.raises(DataError, match="one image is no index"):
        Index.build(table.select(np.array([0])))
    with pytest.raises(ConfigError, match="principal axes"):
        Index.build(table, pca=13)
    with pytest.raises(DataError, match="another width"):
        Index.build(table).search(np.zeros((1, 3), dtype=np.float32))


def test_rows_are_added_and_removed_without_a_new_fit() -> None:
    index = Index.build(make_table(), pca=4)
    more = make_table(6, seed=7, prefix="new")
    grown = index.add(more)
    assert (66, index.reduction) == (len(grown), grown.reduction)
    assert 60 == grown.search(more.features[:1], 1).rows[0, 0]
    with pytest.raises(DataError, match="already"):
        grown.add(more)
    smaller = grown.remove(["id0", "new/5.png", "3"])
    assert 63 == len(smaller)
    assert not {"id0", "id3", "new5"} & set(smaller.table.ids.tolist())
    kept = smaller.row_of("new0")
    assert np.array_equal(grown.vectors[60], smaller.vectors[kept])


def test_near_duplicates_and_outliers() -> None:
    table = make_table(30, width=20)
    features = table.features.copy()
    features[5] = features[20] = features[2] + 1e-4
    features[11] = -60.0
    index = Index.build(replace(table, features=features))
    assert [2, 5, 20] == index.near_duplicates(0.999)[0]
    assert 11 == index.outliers(3)[0][0]


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    Index.build(make_table()).save(folder)
    with pytest.raises(DataError, match="no index"):
        Index.open(tmp_path)
    (folder / "pca.npy").write_bytes(b"x")
    with pytest.raises(DataError, match="SHA-256"):
        Index.open(folder)
    record = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(record | {"version": 99}))
    with pytest.raises(DataError, match="version"):
        Index.open(folder)


def test_the_approximate_way_needs_recall_and_speed() -> None:
    good = Trial(recall=0.995, probes=2, rate=9000.0, exact_rate=2000.0)
    assert judge(good).approximate
    assert not judge(replace(good, recall=0.9899)).approximate
    assert not judge(replace(good, rate=1999.0)).approximate
    assert "0.9950" in judge(good).reason


def test_without_faiss_exact_is_taken_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "have_faiss", lambda: False)
    monkeypatch.setattr(approximate, "LEAST_ROWS", 10)
    index = Index.build(make_table())
    assert "faiss is not installed: discern[ann]" == index.choice.reason
    with pytest.raises(ConfigError, match="needs faiss"):
        Index.build(make_table(), way="approximate")


def test_cells_are_asked_kept_and_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("faiss")
    monkeypatch.setattr(approximate.Trial, "passes", property(lambda self: True))
    table = make_table(600)
    index = Index.build(table, way="approximate")
    assert index.choice.approximate
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index").add(make_table(6, seed=8, prefix="new"))
    found = again.search(table.features[:50], 1).rows[:, 0]
    assert list(range(50)) == found.tolist()
    assert 606 == len(again)


def test_an_index_that_grows_large_is_tried_then_and_not_at_every_change(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []

    def reject(vectors, way):
        tried.append(len(vectors))
        trial = Trial(recall=0.5, probes=1, rate=1.0, exact_rate=2.0, images=len(vectors))
        return judge(trial), None

    small = Index.build(make_table(20), way="auto")
    asked = Index.build(make_table(20), way="exact")
    monkeypatch.setattr(approximate, "choose_search", reject)
    large = small.add(make_table(10, seed=8, prefix="b"))
    assert "tried on 30 images" in large.choice.reason
    larger = large.add(make_table(10, seed=9, prefix="c"))
    assert [30] == tried
    assert large.choice == larger.choice
    larger.add(make_table(20, seed=10, prefix="d"))
    assert [30, 60] == tried
    assert asked.choice == asked.add(make_table(50, seed=11, prefix="e")).choice


def test_cells_without_faiss_are_kept_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(approximate, "have_faiss", lambda: False)
    cells = approximate.Cells(centers=np.eye(3, dtype=np.float32), cell=np.zeros(9, np.int32))
    before = Choice(approximate=False, reason="no faiss")
    choice, kept = approximate.choose_again(np.ones((9, 3), np.float32), cells, before)
    assert (False, True) == (choice.approximate, kept is cells)
    assert "not installed here" in choice.reason
