"""Arrays of pixels: .npz by the names of its arrays, idx and CIFAR files named directly."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.array_files import list_npz
from discern.data.catalog import read_catalog
from discern.data.manifest_files import read_manifest, write_manifest
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import open_source
from discern.data.ways_in import list_source


def pixels(count, shape=(8, 6, 3), seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def save(path, **arrays):
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "Y_train", "X_test", "Y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_x", "train_y", "test_x", "test_y"),
    ],
)
def test_splits_go_by_the_names(tmp_path, names):
    train, test = pixels(6), pixels(3, seed=1)
    labels = np.arange(6) % 2, np.array([[1], [0], [1]])
    arrays = dict(zip(names, (train, labels[0], test, labels[1]), strict=True))
    listing = list_npz(save(tmp_path / "a.npz", **arrays))
    assert [0] * 6 + [2] * 3 == listing.split.tolist()
    assert ["0", "1"] * 3 + ["1", "0", "1"] == listing.labels
    assert listing.numeric
    got = [listing.arrays[name] for name in listing.locations.container_names]
    assert np.array_equal(train, got[0])
    assert np.array_equal(test, got[1])


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("x", "y"), ("data", "target"), ("X", "y")]
)
def test_unsplit_arrays_and_names_of_classes(tmp_path, names):
    arrays = {names[0]: pixels(4, (5, 5)), names[1]: np.array([1, 0, 1, 1])}
    path = save(tmp_path / "a.npz", **arrays, classes=np.array(["dog", "ant"]), seed=np.array(3))
    listing = list_npz(path)
    assert (["ant", "dog", "ant", "ant"], ("dog", "ant")) == (listing.labels, listing.classes)
    assert [-1] * 4 == listing.split.tolist()
    assert ("arrays that were left out: seed",) == listing.notes
    assert (4, 5, 5, 1) == next(iter(listing.arrays.values())).shape


def test_names_as_labels_channels_first_and_wide_integers(tmp_path):
    images = pixels(2, (3, 9, 7))
    path = save(tmp_path / "a.npz", images=images.astype(np.int64), labels=np.array(["b", "a"]))
    listing = list_npz(path)
    assert ["b", "a"] == listing.labels
    assert np.array_equal(images.transpose(0, 2, 3, 1), next(iter(listing.arrays.values())))


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_arrays_of_16_bit_and_of_any_channels_keep_their_values(tmp_path, channels):
    train = np.random.default_rng(0).integers(0, 65536, (6, 9, 8, channels), dtype=np.uint16)
    test = train[:3] % 256  # as deep as the others, though no value shows it
    answers = {"y_train": [0, 1] * 3, "y_test": [0, 1, 0]}
    path = save(tmp_path / "a.npz", x_train=train, x_test=test.astype(np.int32), **answers)
    got = list(list_npz(path).arrays.values())
    assert [np.uint16, np.uint16] == [array.dtype for array in got]
    assert np.array_equal(train, got[0])
    assert np.array_equal(test, got[1])
    facts = scan_data(DataRequest(train=str(path))).facts
    assert channels == facts.channels


def test_many_channels_may_come_first(tmp_path):
    images = pixels(2, (5, 9, 7))
    listing = list_npz(save(tmp_path / "a.npz", images=images, labels=[0, 1]))
    assert np.array_equal(images.transpose(0, 2, 3, 1), next(iter(listing.arrays.values())))


def test_columns_of_labels_are_several_an_image(tmp_path):
    labels = np.array([[1, 0, 1], [0, 0, 0]])
    (head,) = list_npz(save(tmp_path / "a.npz", images=pixels(2), labels=labels)).heads
    assert ("multi", ("0", "1", "2"), labels.tolist()) == (
        head.kind,
        head.classes,
        head.targets.tolist(),
    )


@pytest.mark.parametrize(
    ("arrays", "what", "told"),
    [
        ({"a": np.zeros(3), "b": np.zeros(3)}, "not called", "a [3], b [3]"),
        ({"images": pixels(2).astype(np.float32) / 255, "labels": [0, 1]}, "0 to 255", "float32"),
        ({"images": pixels(2).astype(np.int64) * 300, "labels": [0, 1]}, "0 to 255", "int64"),
        ({"images": pixels(2, (4, 4, 5, 3)), "labels": [0, 1]}, "no shape", "[2, 4, 4, 5, 3]"),
        ({"images": pixels(1, (4, 4, 2000)), "labels": [0]}, "no shape", "[1, 4, 4, 2000]"),
        ({"images": pixels(2, ()), "labels": [0, 1]}, "no shape", "[2]"),
        ({"images": pixels(0), "labels": []}, "no shape", "[0, 8, 6, 3]"),
        ({"images": pixels(2), "labels": [0, 1, 1]}, "belong together", "[3]"),
        ({"images": pixels(2), "labels": [0.5, 1]}, "neither", "float64"),
        ({"images": pixels(2), "labels": [[1, 2], [0, 1]]}, "not 0 and 1", "int64"),
        ({"images": pixels(2), "labels": [0, 2], "classes": ["a", "b"]}, "do not fit", "label 2"),
    ],
)
def test_arrays_that_cannot_be_images_are_refused(tmp_path, arrays, what, told):
    with pytest.raises(DataError, match=what) as caught:
        list_npz(save(tmp_path / "a.npz", **arrays))
    assert told in caught.value.got


def test_objects_are_never_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("code in the file was run",))

    images = np.array([Trap(), Trap()], dtype=object)
    path = tmp_path / "a.npz"
    np.savez(path, images=images, labels=np.array([0, 1]))
    with pytest.raises(DataError, match="could run code"):
        list_npz(path)


@given(
    shape=st.tuples(
        st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])
    ),
    seed=st.integers(0, 99),
    names=st.booleans(),
)
@settings(max_examples=30)
def test_any_images_and_labels_come_back(shape, seed, names, tmp_path_factory):
    draw = np.random.default_rng(seed)
    images = draw.integers(0, 256, shape, dtype=np.uint8)
    labels = draw.integers(0, 5, shape[0])
    given_labels = np.array([f"é{label}" for label in labels]) if names else labels
    path = save(tmp_path_factory.mktemp("npz") / "a.npz", images=images, labels=given_labels)
    listing = list_npz(path)
    assert np.array_equal(images, next(iter(listing.arrays.values())))
    assert [str(label) for label in given_labels] == listing.labels


@given(data=st.binary(max_size=200))
@settings(max_examples=50)
def test_any_other_bytes_are_an_error(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    path.write_bytes(data)
    with pytest.raises(DataError):
        list_npz(path)


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_cut_off_file_is_an_error(tmp_path, keep):
    path = save(tmp_path / "a.npz", images=pixels(20), labels=np.zeros(20, np.int64))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError, match="cannot be read"):
        list_npz(path)


def idx(array):
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """Four idx files under names of their own, two of them gzipped."""
    root = tmp_path / "signs"
    root.mkdir()
    for prefix, count, zipped in (("train", 8, True), ("t10k", 4, False)):
        images, labels = pixels(count, (5, 4), count), np.arange(count, dtype=np.uint8) % 2
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx(array)
            path = root / f"{prefix}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)
    return root


def test_folder_of_idx_files_needs_no_name(idx_folder):
    listing = list_source(str(idx_folder))
    assert [0] * 8 + [2] * 4 == listing.split.tolist()
    assert ["0", "1"] * 6 == listing.labels
    assert listing.layout.startswith("idx files train-images-idx3-ubyte.gz, t10k")
    source = open_source(scan_data(DataRequest(train=str(idx_folder))).manifest)
    assert np.array_equal(pixels(4, (5, 4), 4)[1][..., None], source.read(9))


def test_one_idx_file_brings_its_labels(idx_folder):
    path = idx_folder / "t10k-images-idx3-ubyte"
    assert ["0", "1", "0", "1"] == list_source(str(path)).labels
    with pytest.raises(DataError, match="not the one of the images"):
        list_source(str(idx_folder / "t10k-labels-idx1-ubyte"))
    (idx_folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="not beside") as caught:
        list_source(str(path))
    assert "t10k-labels-idx1-ubyte" == caught.value.expected


def cifar_records(count, seed):
    draw = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.uint8) % 10
    return np.concatenate([labels[:, None], draw.integers(0, 256, (count, 3072), np.uint8)], axis=1)


def test_cifar_files_need_no_name(tmp_path):
    root = tmp_path / "planes"
    root.mkdir()
    for number in range(1, 6):
        (root / f"data_batch_{number}.bin").write_bytes(cifar_records(10, number).tobytes())
    (root / "test_batch.bin").write_bytes(cifar_records(10, 9).tobytes())
    listing = list_source(str(root))
    assert (50, 10) == ((listing.split == 0).sum(), (listing.split == 2).sum())
    assert "truck" == listing.labels[-1]
    one = list_source(str(root / "data_batch_3.bin"))
    assert (10, "9") == (len(one), one.labels[-1])
    wanted = cifar_records(10, 3)[4, 1:].reshape(3, 32, 32).transpose(1, 2, 0)
    assert np.array_equal(wanted, next(iter(one.arrays.values()))[4])


def test_manifest_of_arrays_finds_its_pixels_again(tmp_path):
    path = save(tmp_path / "a.npz", x=pixels(12), y=np.arange(12) % 2)
    first = scan_data(DataRequest(train=str(path))).manifest
    write_manifest(first, tmp_path / "m.parquet")
    again = scan_data(DataRequest(train=str(tmp_path / "m.parquet"))).manifest
    assert first.hash == again.hash == read_manifest(tmp_path / "m.parquet").hash
    assert np.array_equal(pixels(12)[7], open_source(again).read(7))


def test_manifest_of_a_built_in_set_finds_its_pixels_again(tmp_path):
    first = scan_data(DataRequest(train="digits")).manifest
    write_manifest(first, tmp_path / "m.parquet")
    again = scan_data(DataRequest(train=str(tmp_path / "m.parquet"))).manifest
    assert first.hash == again.hash
    assert np.array_equal(open_source(first).read(5), open_source(again).read(5))


def test_real_files_without_a_name_are_the_built_in_set(shared_data):
    listing = list_source(str(shared_data / "mnist"))
    data = read_catalog("mnist", str(shared_data / "mnist"))
    assert [str(label) for label in data.targets["test"]] == listing.labels[60_000:]
    assert np.array_equal(data.pixels["train"], next(iter(listing.arrays.values())))
