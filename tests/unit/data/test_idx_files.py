"""The idx files of a set in their forms and places; what is missing is named."""

import gzip
import hashlib
import struct

import numpy as np
import pytest

from discern.base.errors import DataError
from discern.data.catalog import BUILT_IN, read_catalog

NAMES = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_set(folder, plain=(), leave=(), labels=(0, 9)):
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        if name in leave:
            continue
        array = np.zeros((2, 28, 28), np.uint8) if "images" in name else np.uint8(labels)
        if name in plain:
            (folder / f"{name}-ubyte").write_bytes(idx(array))
        else:
            (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(idx(array)))


def test_set_of_which_some_files_are_unzipped_is_read(tmp_path):
    write_set(tmp_path / "mnist", plain=("train-images-idx3", "t10k-labels-idx1"))
    assert [0, 9] == read_catalog("mnist", str(tmp_path)).targets["test"].tolist()


def test_only_the_lacking_file_is_named_with_the_folder_of_the_others(tmp_path):
    write_set(tmp_path / "fashion_mnist", leave=("t10k-labels-idx1",))
    with pytest.raises(DataError) as caught:
        read_catalog("fashion-mnist", str(tmp_path))
    assert "t10k-labels-idx1-ubyte.gz" == caught.value.expected
    assert str(tmp_path / "fashion_mnist") == caught.value.where


def test_archive_of_something_else_is_not_offered(tmp_path):
    (tmp_path / "flowers12.tar").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_catalog("mnist", str(tmp_path))
    assert "flowers12" not in caught.value.hint


def test_label_beyond_the_classes_is_refused(tmp_path):
    write_set(tmp_path, labels=(0, 10))
    with pytest.raises(DataError, match="out of range"):
        read_catalog("mnist", str(tmp_path))


def test_unknown_set_offers_the_nearest():
    with pytest.raises(DataError) as caught:
        read_catalog("fashion-mnits", None)
    assert "fashion-mnist" in caught.value.hint
    assert ", ".join(BUILT_IN) == caught.value.expected


def test_the_real_fashion_mnist_has_its_known_content(shared_data):
    data = read_catalog("fashion-mnist", str(shared_data))
    assert [6000] * 10 == np.bincount(data.targets["train"]).tolist()
    assert [1000] * 10 == np.bincount(data.targets["test"]).tolist()
    original = gzip.decompress(
        (shared_data / "fashion_mnist" / "t10k-images-idx3-ubyte.gz").read_bytes()
    )
    assert (
        hashlib.sha256(original[16:]).hexdigest()
        == hashlib.sha256(data.pixels["test"].tobytes()).hexdigest()
    )
