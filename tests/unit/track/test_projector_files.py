from __future__ import annotations

import numpy as np
import pytest

from discern.track.projector_files import write_projector


def test_tensorboard_parses_config_and_vectors(tmp_path):
    from google.protobuf import text_format
    from tensorboard.plugins.projector import projector_config_pb2

    vectors = np.arange(6, dtype=np.float32).reshape(3, 2)
    path = write_projector(tmp_path, vectors, ("a", "b"), [("x\ty", "1"), ("", "2"), ("ö\n", "3")])
    config = text_format.Parse(path.read_text(), projector_config_pb2.ProjectorConfig())
    (found,) = config.embeddings
    assert [3, 2] == list(found.tensor_shape)
    stored = np.fromfile(tmp_path / found.tensor_path, "<f4").reshape(found.tensor_shape)
    assert np.array_equal(vectors, stored)
    rows = (tmp_path / found.metadata_path).read_text(encoding="utf-8")
    assert "a\tb\nx y\t1\n-\t2\nö\t3\n" == rows


def test_one_column_has_no_heading(tmp_path):
    write_projector(tmp_path, np.zeros((2, 2), np.float32), ("a",), [("x",), ("y",)])
    assert "x\ny\n" == (tmp_path / "projector" / "embeddings.tsv").read_text()


def test_rows_must_be_as_many_as_vectors(tmp_path):
    with pytest.raises(ValueError, match="1 rows for 2 vectors"):
        write_projector(tmp_path, np.zeros((2, 2), np.float32), ("a",), [("x",)])
