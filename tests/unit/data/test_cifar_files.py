"""CIFAR files as Python 2 wrote them, damaged ones, and ones without their class names."""

import io
import pickle
import struct
import tarfile

import numpy as np
import pytest

from discern.base.errors import DataError
from discern.data.catalog import read_catalog
from discern.data.cifar_files import CIFAR100_CLASSES, batch_arrays, read_batch

RNG = np.random.default_rng(1)


def rows_of(count):
    return RNG.integers(0, 256, (count, 3072)).astype(np.uint8)


def short(text):
    return b"U" + bytes([len(text)]) + text


def python2_batch(rows, labels):
    """What Python 2's cPickle wrote at protocol 2: byte strings, and numpy's old module names."""
    content = rows.tobytes()
    numbers = b"".join(b"K" + bytes([label]) for label in labels)
    dtype = b"cnumpy\ndtype\nq\x08" + short(b"u1") + b"K\x00K\x01\x87R(K\x03" + short(b"|")
    dtype += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x05cnumpy\nndarray\nq\x06K\x00\x85"
    array += short(b"b") + b"\x87R(K\x01" + b"M" + struct.pack("<H", len(rows)) + b"M\x00\x0c\x86"
    array += dtype + b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
    return (
        b"\x80\x02}q\x01(" + short(b"labels") + b"q\x03]q\x04(" + numbers + b"e"
        + short(b"data") + array + b"u."
    )  # fmt: skip


def test_batch_as_python_2_wrote_it_gives_its_arrays():
    rows = rows_of(3)
    data = python2_batch(rows, [5, 0, 9])
    assert np.array_equal(rows, pickle.loads(data, encoding="bytes")[b"data"])  # a sound example
    images, labels = batch_arrays(read_batch(data, "b"), "b", "labels")
    assert np.array_equal(rows.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1), images)
    assert [5, 0, 9] == labels.tolist()


@pytest.mark.parametrize(
    "label", [b"x", "3", 1.5, None, True, -1, 100, 2**70, [1]], ids=lambda value: repr(value)[:9]
)
def test_label_that_is_no_class_number_is_refused_by_name(label):
    batch = read_batch(pickle.dumps({b"data": rows_of(1), b"labels": [label]}, 2), "batch_1")
    with pytest.raises(DataError, match="no class number") as caught:
        batch_arrays(batch, "batch_1", "labels")
    assert "batch_1" == caught.value.where


def test_deeply_nested_key_is_refused():
    data = b"\x80\x02}(" + b"N" + b"\x85" * 200_000 + b"K\x01u."
    with pytest.raises(DataError, match="something else than arrays"):
        read_batch(data, "deep")


def test_shape_beyond_any_size_is_refused():
    rows = rows_of(1)
    good = pickle.dumps({b"data": rows}, 2)
    shape = b"K\x01M\x00\x0c\x86"
    assert 1 == good.count(shape)
    with pytest.raises(DataError, match="not a CIFAR batch"):
        read_batch(good.replace(shape, b"\x8a\x0a" + b"\x7f" * 10 + b"K\x01\x86"), "b")


@pytest.mark.parametrize("dtype", [np.int64, np.float32, np.object_])
def test_only_arrays_of_bytes_are_read(dtype):
    with pytest.raises(DataError, match="something else than arrays"):
        read_batch(pickle.dumps({b"data": np.zeros((1, 3072), dtype)}, 2), "b")


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("form", ["archive", "folder", "binary archive", "binary folder"])
def test_cifar100_takes_fine_labels_and_known_names_when_the_file_of_names_lacks(tmp_path, form):
    rows = rows_of(2)
    if form.startswith("binary"):
        folder, names = "cifar-100-binary", ("train.bin", "test.bin")
        content = b"".join(
            bytes([7, fine]) + row.tobytes() for fine, row in zip((99, 3), rows, strict=True)
        )
    else:
        folder, names = "cifar-100-python", ("train", "test")
        batch = {b"data": rows, b"coarse_labels": [7, 7], b"fine_labels": [99, 3]}
        content = pickle.dumps(batch, 2)
    if form.endswith("archive"):
        with tarfile.open(tmp_path / f"{folder}.tar.gz", "w:gz") as archive:
            for name in names:
                add(archive, f"{folder}/{name}", content)
    else:
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_bytes(content)
    data = read_catalog("cifar100", str(tmp_path))
    assert [99, 3] == data.targets["train"].tolist()
    assert CIFAR100_CLASSES == data.classes
    assert "worm" == data.classes[99]
    assert "bear" == data.classes[3]
    assert np.array_equal(rows.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1), data.pixels["test"])


def test_member_larger_than_any_original_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("discern.data.catalog._LARGEST_MEMBER", 100)
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        add(archive, "cifar-10-batches-py/data_batch_1", bytes(101))
    with pytest.raises(DataError, match="too large"):
        read_catalog("cifar10", str(tmp_path))
