"""Points of features, and small pictures on one sheet."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from discern.base.errors import ConfigError, DataError
from discern.track.projector_files import Sprite, write_projector
from discern.worker.projection import sampled_rows
from discern.workflows.projection import project, sprite_sheet


def test_points_are_the_principal_axes_and_the_same_each_time() -> None:
    features = np.random.default_rng(0).normal(size=(30, 6)).astype(np.float32)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    expected = PCA(3, svd_solver="full").fit_transform(scaled)
    points = project(features, "pca")
    assert np.allclose(np.abs(expected), np.abs(points), atol=1e-3)
    assert (30, 2) == project(features, "tsne").shape
    assert np.array_equal(project(features, "tsne"), project(features, "tsne"))
    with pytest.raises(ConfigError, match="no such projection"):
        project(features, "map")
    with pytest.raises(DataError, match="too few"):
        project(features[:3], "pca")


@pytest.mark.feature("CA-07")
def test_files_of_the_projector_have_a_row_and_a_picture_each(tmp_path) -> None:
    pictures = [np.full((8, 8, 3), 40 * k, dtype=np.uint8) for k in range(5)]
    vectors = np.arange(10, dtype=np.float32).reshape(5, 2)
    rows = [(f"id{k}", "a") for k in range(5)]
    sprite = Sprite(sprite_sheet(pictures, 16), 16)
    config = write_projector(tmp_path, vectors, ("id", "tag"), rows, sprite=sprite)
    assert "single_image_dim: 16\n    single_image_dim: 16" in config.read_text()
    sheet = np.asarray(Image.open(tmp_path / "projector/embeddings.png"))
    assert (48, 48, 3) == sheet.shape
    assert [0, 40, 80, 120, 160] == [int(sheet[k // 3 * 16, k % 3 * 16, 0]) for k in range(5)]
    assert 6 == len((tmp_path / "projector/embeddings.tsv").read_text().splitlines())
    with pytest.raises(ConfigError, match="do not fit"):
        sprite_sheet(pictures, 4096)


def test_sampled_rows_are_evenly_spread() -> None:
    assert [0, 2, 5, 7] == sampled_rows(10, 4).tolist()
    assert list(range(10)) == sampled_rows(10, None).tolist()
