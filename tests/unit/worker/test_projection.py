"""`discern project`: rows that are sampled, and what is written of each."""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from discern.base.console import Console
from discern.config.request import Request
from discern.data.catalog import read_catalog
from discern.data.feature_files import FeatureOrigin, FeatureTable, write_feature_table
from discern.data.manifest import Head
from discern.data.scan import DataRequest, scan_data
from discern.worker.projection import projection_verb


@pytest.mark.feature("CA-08")
def test_sampled_features_keep_the_labels_and_pictures_of_their_own_rows(tmp_path) -> None:
    """Row k has the feature (k, k squared), the label k mod 3 and the id of k."""
    numbers = np.arange(20)
    table = FeatureTable(
        features=np.stack([numbers, numbers**2], axis=1).astype(np.float32),
        ids=np.array([f"id{k}" for k in numbers]),
        paths=np.array([f"{k}.png" for k in numbers]),
        split=np.full(20, -1, dtype=np.int8),
        heads=(Head("tag", "single", ("a", "b", "c"), (numbers % 3).astype(np.int64)),),
    )
    write_feature_table(tmp_path / "f.parquet", table)
    arguments = {
        "features": str(tmp_path / "f.parquet"), "out": str(tmp_path / "out"), "methods": ["pca"],
        "num_rows": 6, "img_size": 0, "data": None,
    }  # fmt: skip
    projection_verb(Request(verb="project", arguments=arguments), Console(quiet=True))
    vectors = np.fromfile(tmp_path / "out/projector/embeddings.bytes", "<f4").reshape(-1, 2)
    lines = (tmp_path / "out/projector/embeddings.tsv").read_text().splitlines()
    told = [dict(zip(lines[0].split("\t"), line.split("\t"), strict=True)) for line in lines[1:]]
    drawn = pq.read_table(tmp_path / "out/coordinates.parquet").to_pylist()
    expected = [0, 3, 6, 10, 13, 16]
    assert expected == vectors[:, 0].astype(int).tolist()
    assert [f"id{k}" for k in expected] == [row["id"] for row in told]
    assert ["abc"[k % 3] for k in expected] == [row["tag"] for row in told]
    assert [row["id"] for row in told] == [row["id"] for row in drawn]
    across = [row["pca_x"] for row in drawn]
    assert across in (sorted(across), sorted(across, reverse=True))


def test_the_built_in_digits_are_drawn_without_being_named(tmp_path):
    digits = read_catalog("digits", None)
    manifest = scan_data(DataRequest(train="digits", split=None, needs_labels=False)).manifest
    rows = np.array([5, 3, 1700, 11])
    table = FeatureTable(
        features=np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32),
        ids=manifest.ids[rows],
        paths=np.array([f"digits/all#{row}" for row in rows]),
        split=np.full(4, -1, dtype=np.int8),
        heads=(),
        origin=FeatureOrigin(root=str(tmp_path)),
    )
    write_feature_table(tmp_path / "f.parquet", table)
    for side in (8, 0):
        out = tmp_path / str(side)
        arguments = {
            "features": str(tmp_path / "f.parquet"), "out": str(out), "methods": ["pca"],
            "num_rows": None, "img_size": side, "data": None,
        }  # fmt: skip
        projection_verb(Request(verb="project", arguments=arguments), Console(quiet=True))
        assert int(side > 0) == len(list(out.glob("projector/*.png")))
    (file,) = tmp_path.glob("8/projector/*.png")
    with Image.open(file) as sheet:
        first = np.asarray(sheet.convert("L"))[:8, :8]
    assert np.abs(first.astype(int) - digits.pixels["all"][5, :, :, 0].astype(int)).max() <= 1
