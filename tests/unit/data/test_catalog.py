import gzip
import http.server
import io
import pickle
import struct
import tarfile
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.catalog import read_catalog
from discern.data.cifar_files import read_batch, read_binary
from discern.data.download import RemoteFile, fetch
from discern.data.idx_files import read_idx

RNG = np.random.default_rng(0)
MD5 = "5d41402abc4b2a76b9719d911017c592"  # of b"hello"


def idx_bytes(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_idx_set(folder, count=12, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        images = RNG.integers(0, 256, (count, 28, 28)).astype(np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            data = idx_bytes(array)
            file = folder / f"{prefix}-{name}-ubyte{suffix}"
            file.write_bytes(gzip.compress(data) if suffix else data)


@given(st.integers(1, 4), st.integers(0, 5), st.booleans())
def test_idx_files_read_back(tmp_path_factory, ndim, side, zipped):
    array = RNG.integers(0, 256, (side,) * ndim).astype(np.uint8)
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    assert np.array_equal(array, read_idx(path))


@pytest.mark.parametrize("damage", ["cut", "long", "magic", "type", "gzip", "empty"])
def test_damaged_idx_files_are_refused_by_name(tmp_path, damage):
    good = idx_bytes(np.zeros((2, 3), np.uint8))
    data = {
        "cut": good[:-1], "long": good + b"x", "magic": b"\1" + good[1:],
        "type": good[:2] + b"\x0d" + good[3:], "gzip": gzip.compress(good)[:-9], "empty": b"",
    }[damage]  # fmt: skip
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(path) == caught.value.where


def test_digits_are_the_real_ones():
    data = read_catalog("digits", None)
    assert (1797, 8, 8, 1) == data.pixels["all"].shape
    assert [178, 182, 177, 183, 181, 182, 181, 179, 174, 180] == np.bincount(
        data.targets["all"]
    ).tolist()
    assert 255 == data.pixels["all"].max()


@pytest.mark.parametrize(("inner", "suffix"), [("", ".gz"), ("fashion_mnist", ".gz"), ("", "")])
def test_idx_sets_are_found_in_the_root(tmp_path, inner, suffix):
    write_idx_set(tmp_path / inner, suffix=suffix)
    data = read_catalog("fashion-mnist", str(tmp_path))
    assert (12, 28, 28, 1) == data.pixels["train"].shape
    assert "Ankle boot" == data.classes[9]


def test_missing_files_are_named_with_a_way_out(tmp_path):
    (tmp_path / "cifar10_jpeg.tar.gz").write_bytes(b"")
    with pytest.raises(DataError) as caught:
        read_catalog("cifar10", str(tmp_path))
    assert "cifar-10-python.tar.gz" in caught.value.expected
    assert "cifar10_jpeg.tar.gz" in caught.value.hint


@pytest.mark.feature("MX-01")
def test_the_real_mnist_is_read(shared_data):
    data = read_catalog("mnist", str(shared_data / "mnist"))
    assert (60000, 28, 28, 1) == data.pixels["train"].shape
    assert (10000,) == data.targets["test"].shape


def cifar_rows(count):
    return RNG.integers(0, 256, (count, 3072)).astype(np.uint8), [k % 10 for k in range(count)]


def python_archive(path):
    names = [b"airplane", *[f"class{k}".encode() for k in range(1, 10)]]
    with tarfile.open(path, "w:gz") as archive:
        for number, file in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
            rows, labels = cifar_rows(4)
            content = pickle.dumps({b"data": rows, b"labels": labels, b"n": number}, protocol=2)
            add(archive, f"cifar-10-batches-py/{file}", content)
        add(archive, "cifar-10-batches-py/batches.meta", pickle.dumps({b"label_names": names}, 2))


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def test_python_batches_are_read_without_unpickling(tmp_path):
    python_archive(tmp_path / "cifar-10-python.tar.gz")
    data = read_catalog("cifar10", str(tmp_path))
    assert (20, 32, 32, 3) == data.pixels["train"].shape
    assert "airplane" == data.classes[0]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
def test_batches_of_every_protocol_give_their_arrays(protocol):
    rows, labels = cifar_rows(3)
    batch = read_batch(pickle.dumps({b"data": rows, b"labels": labels}, protocol=protocol), "b")
    assert np.array_equal(rows, batch["data"])
    assert labels == batch["labels"]


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_batch_with_code_in_it_is_refused_and_runs_nothing(tmp_path, protocol):
    marker = tmp_path / "ran"
    with pytest.raises(DataError, match="something else than arrays"):
        read_batch(pickle.dumps({b"data": Evil(marker)}, protocol=protocol), "evil")
    assert not marker.exists()


@given(st.binary(max_size=200))
def test_any_bytes_give_a_clear_error_or_a_dictionary(data):
    try:
        outcome = read_batch(data, "x")
    except DataError as error:
        outcome = error
    assert isinstance(outcome, dict) or "x" == outcome.where


def test_binary_records_are_planes():
    red = np.arange(3072, dtype=np.uint32).astype(np.uint8)
    images, labels = read_binary(bytes([7]) + red.tobytes(), "b", 1)
    assert [7] == labels.tolist()
    assert np.array_equal(red.reshape(3, 32, 32)[:, 5, 6], images[0, 5, 6])
    with pytest.raises(DataError, match="length"):
        read_binary(b"12", "b", 1)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves /good/hello whole or from an offset, /cut/hello short, /bad/hello wrong."""

    def do_GET(self):
        folder = self.path.split("/")[1]
        self.server.asked.append((folder, self.headers.get("Range")))
        if folder not in ("good", "cut", "bad"):
            self.send_error(404)
            return
        body, start = (b"jello" if folder == "bad" else b"hello"), 0
        given = self.headers.get("Range")
        if given and folder == "good":
            start = int(given.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:2] if folder == "cut" else body[start:])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.asked = []
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def url(server, folder):
    return f"http://127.0.0.1:{server.server_port}/{folder}"


def test_second_mirror_is_tried_when_the_first_has_nothing(server, tmp_path):
    file = RemoteFile("hello", (url(server, "none"), url(server, "good")), MD5)
    assert b"hello" == fetch(file, tmp_path).read_bytes()
    assert ["hello"] == [path.name for path in tmp_path.iterdir()]


def test_a_cut_download_is_gone_on_with(server, tmp_path):
    file = RemoteFile("hello", (url(server, "cut"), url(server, "good")), MD5)
    assert b"hello" == fetch(file, tmp_path).read_bytes()
    assert ("good", "bytes=2-") == server.asked[-1]


def test_a_wrong_sum_is_refused_and_leaves_nothing(server, tmp_path):
    with pytest.raises(DataError, match="could not be downloaded") as caught:
        fetch(RemoteFile("hello", (url(server, "bad"),), MD5), tmp_path)
    assert "MD5" in caught.value.got
    assert [] == list(tmp_path.iterdir())


def test_the_users_mirror_comes_first(server, tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_MIRROR", url(server, "good"))
    fetch(RemoteFile("hello", ("http://127.0.0.1:9/never",), MD5), tmp_path)
    assert [("good", None)] == server.asked


def test_offline_tells_the_way_out(tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(RemoteFile("hello", ("http://127.0.0.1:9",), MD5), tmp_path)
    assert "--root" in caught.value.hint


@pytest.mark.feature("LA-12")
def test_synthetic_images_need_no_disk_and_are_the_same_each_time(tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "nothing"))
    first, second = read_catalog("synthetic", None), read_catalog("synthetic", None)
    assert [256, 64] == [len(pixels) for pixels in first.pixels.values()]
    for split in ("train", "test"):
        assert (first.pixels[split] == second.pixels[split]).all()
        assert (first.targets[split] == second.targets[split]).all()
    assert 10 == len(np.unique(first.targets["test"]))
    assert not (tmp_path / "nothing").exists()
