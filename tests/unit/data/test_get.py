"""Getting sets and addresses: exact layouts, nothing half done, nothing unchecked."""

from __future__ import annotations

import csv
import gzip
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.catalog import CatalogData, read_catalog
from discern.data.folders import list_folder
from discern.data.get import direct_url, get_data
from discern.data.get_layouts import folder_layout, write_layout

SOURCE = str(Path(__file__).resolve().parents[3] / "src")


def idx_bytes(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes())


def write_idx_set(folder, count):
    folder.mkdir()
    draw = np.random.default_rng(0)
    arrays = {}
    for prefix, number in (("train", count), ("t10k", count // 2)):
        images = draw.integers(0, 256, (number, 28, 28), dtype=np.uint8)
        labels = (np.arange(number) % 10).astype(np.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{prefix}-{kind}-ubyte.gz").write_bytes(idx_bytes(array))
            arrays[f"{prefix}-{kind}"] = array
    return arrays


def names_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.feature("ML-24")
def test_idx_set_becomes_class_folders_of_its_very_pixels(tmp_path):
    arrays = write_idx_set(tmp_path / "root", 40)
    told = []
    report = get_data(
        "fashion-mnist",
        tmp_path / "out",
        root=str(tmp_path / "root"),
        progress=lambda *pair: told.append(pair),
    )
    labels = arrays["train-labels-idx1"].tolist()
    folders = [
        "T-shirt_top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag",
        "Ankle boot",
    ]  # fmt: skip
    wanted = [f"train/{folders[label]}/{n:05d}.png" for n, label in enumerate(labels)]
    wanted += [f"test/{folders[label]}/{n:05d}.png" for n, label in enumerate(labels[:20])]
    assert sorted(wanted) == names_in(tmp_path / "out")
    with Image.open(tmp_path / "out/train/Dress/00013.png") as image:
        assert ("L", "PNG") == (image.mode, image.format)
        assert np.array_equal(arrays["train-images-idx3"][13], np.asarray(image))
    assert {"train": 40, "test": 20} == report.splits
    assert (60, 60) == told[-1]
    assert folders == report.record()["classes"]
    listing = list_folder(report.data)
    assert (set(folders), 20) == (set(listing.labels), int((listing.split == 2).sum()))


@pytest.mark.feature("ML-24")
def test_the_real_mnist_layout_has_every_image_in_its_place(shared_data):
    layout = folder_layout(read_catalog("mnist", str(shared_data / "mnist")))
    assert {"train": 60_000, "test": 10_000} == layout.counts
    assert ["train/5/00000.png", "train/0/00001.png"] == layout.names[:2]
    assert ["test/7/00000.png", "test/2/00001.png"] == layout.names[60_000:60_002]
    assert 70_000 == len(set(layout.names))
    assert 5_923 == sum(name.startswith("train/0/") for name in layout.names)


def test_color_sets_keep_their_channels(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    targets = np.array([1, 0, 1, 1])
    data = CatalogData("x", ("a", "b/c"), {"train": pixels}, {"train": targets}, "x")
    write_layout(data, folder_layout(data), tmp_path, threads=2)
    assert ["train/a/00001.png", *(f"train/b_c/0000{n}.png" for n in (0, 2, 3))] == names_in(
        tmp_path
    )
    with Image.open(tmp_path / "train/b_c/00003.png") as image:
        assert np.array_equal(pixels[3], np.asarray(image))


@pytest.mark.feature("ML-24")
def test_digits_keep_every_fifth_of_a_class_for_test(tmp_path):
    report = get_data("digits", tmp_path / "out")
    assert {"train": 1442, "test": 355} == report.splits
    tests = [name for name in names_in(tmp_path / "out") if name.startswith("test/0/")]
    zeros = np.flatnonzero(read_catalog("digits", None).targets["all"] == 0)
    assert [f"test/0/{number:05d}.png" for number in zeros[4::5]] == tests


@pytest.mark.feature("ML-24")
def test_iris_is_the_table_of_150_flowers(tmp_path):
    report = get_data("iris", tmp_path / "out")
    assert ["iris.csv"] == names_in(tmp_path / "out")
    assert tmp_path / "out" / "iris.csv" == report.data
    with open(report.data, newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert [
        "sepal_length_cm",
        "sepal_width_cm",
        "petal_length_cm",
        "petal_width_cm",
        "species",
    ] == rows[0]
    assert ["5.1", "3.5", "1.4", "0.2", "setosa"] == rows[1]
    assert ["5.9", "3.0", "5.1", "1.8", "virginica"] == rows[150]
    assert 151 == len(rows)
    assert 50 == sum(row[4] == "versicolor" for row in rows)


def test_what_is_there_already_is_left_and_told(tmp_path):
    write_idx_set(tmp_path / "root", 20)
    options = {"out": tmp_path / "out", "root": str(tmp_path / "root")}
    assert not get_data("mnist", **options).already
    stamp = (tmp_path / "out/train/0/00000.png").stat().st_mtime_ns
    assert get_data("mnist", **options).already
    assert stamp == (tmp_path / "out/train/0/00000.png").stat().st_mtime_ns
    (tmp_path / "out/train/0/00000.png").unlink()
    with pytest.raises(DataError, match="not empty"):
        get_data("mnist", **options)


KILLED = """
import os, signal, sys
from discern.data import get_layouts
from discern.data.folders import list_folder
from discern.data.get import get_data
get_layouts._BLOCK = 500
def progress(done, total):
    if done >= 1250:
        os.kill(os.getpid(), signal.SIGKILL)
get_data("mnist", sys.argv[2], root=sys.argv[1], threads=2, progress=progress)
"""


def killed(root, out):
    command = [sys.executable, "-c", KILLED, str(root), str(out)]
    child = subprocess.run(command, env={**os.environ, "PYTHONPATH": SOURCE}, check=False)
    assert -signal.SIGKILL == child.returncode
    assert not out.exists()


def test_killed_writer_leaves_no_folder_and_the_next_one_goes_on(tmp_path):
    arrays = write_idx_set(tmp_path / "root", 2000)
    killed(tmp_path / "root", tmp_path / "out")
    told = []
    report = get_data(
        "mnist",
        tmp_path / "out",
        root=str(tmp_path / "root"),
        progress=lambda *pair: told.append(pair),
    )
    assert 1000 == report.record()["resumed"]
    assert (1250, 3000) == told[0]
    assert 3000 == len(names_in(tmp_path / "out"))
    assert ["out", "root"] == sorted(entry.name for entry in tmp_path.iterdir())
    for number in (0, 999, 1000, 1999):
        with Image.open(tmp_path / f"out/train/{number % 10}/{number:05d}.png") as image:
            assert np.array_equal(arrays["train-images-idx3"][number], np.asarray(image))


def test_leftovers_of_another_set_are_not_mixed_in(tmp_path):
    write_idx_set(tmp_path / "root", 2000)
    killed(tmp_path / "root", tmp_path / "out")
    report = get_data("digits", tmp_path / "out")
    assert (0, 1797) == (report.resumed, len(names_in(tmp_path / "out")))


@pytest.mark.parametrize(
    ("name", "match", "hint"),
    [("mnits", "no such set", "mnist"), ("pets.tar", "no such set", "data extract pets.tar")],
)
def test_unknown_names_are_told_with_what_was_meant(tmp_path, monkeypatch, name, match, hint):
    monkeypatch.chdir(tmp_path)
    Path("pets.tar").write_bytes(b"")
    with pytest.raises(DataError, match=match) as caught:
        get_data(name, tmp_path / "out")
    assert hint in caught.value.hint


def test_missing_originals_are_told_and_nothing_is_left(tmp_path):
    with pytest.raises(DataError, match="files of cifar10 are not there"):
        get_data("cifar10", tmp_path / "out", root=str(tmp_path))
    assert [] == list(tmp_path.iterdir())


class Files(http.server.BaseHTTPRequestHandler):
    """Serves `server.files` by path."""

    def do_GET(self):
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def site():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.files, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def tgz(members):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


CIFAR = {"CIFAR10/train.csv": b"a.jpg,1\n", "CIFAR10/train/a.jpg": b"x", "CIFAR10/t/b.jpg": b"y"}


def cache():
    return [entry for entry in Path(os.environ["DISCERN_CACHE"]).rglob("*") if entry.is_file()]


@pytest.mark.feature("LA-35")
@pytest.mark.parametrize(
    "path", ["/CIFAR10.tar.gz", "/get.php?file=1", "/download", "/a%20b.tgz?x=1"]
)
def test_address_is_downloaded_checked_and_unpacked(site, tmp_path, path):
    body = site.files[path] = tgz(CIFAR)
    told = []
    report = get_data(
        site.url + path,
        tmp_path / "out",
        sha256=hashlib.sha256(body).hexdigest(),
        expect=["train.csv", "CIFAR10/train/*.jpg"],
        progress=lambda *pair: told.append(pair),
    )
    assert sorted(CIFAR) == names_in(tmp_path / "out")
    assert tmp_path / "out" / "CIFAR10" == report.data
    assert (3, hashlib.sha256(body).hexdigest()) == (report.files, report.record()["sha256"])
    assert (len(body), len(body)) == told[-1]
    assert [] == cache()


@pytest.mark.feature("LA-35")
def test_archive_that_leads_out_is_refused(site, tmp_path):
    site.files["/a.tgz"] = tgz(CIFAR | {"../evil.jpg": b"x"})
    with pytest.raises(DataError, match="leads out"):
        get_data(f"{site.url}/a.tgz", tmp_path / "data" / "out")
    assert [] == names_in(tmp_path)


@pytest.mark.feature("LA-35")
def test_missing_expected_file_undoes_all(site, tmp_path):
    site.files["/a.tgz"] = tgz(CIFAR)
    with pytest.raises(DataError, match="expected file is not in") as caught:
        get_data(f"{site.url}/a.tgz", tmp_path / "out", expect=["train.csv", "eval.csv"])
    assert "eval.csv" == caught.value.expected
    assert "train.csv" in caught.value.got
    assert [] == names_in(tmp_path)


def test_archive_without_data_undoes_all(site, tmp_path):
    site.files["/a.tgz"] = tgz({"setup.py": b"", "README": b""})
    with pytest.raises(DataError, match="no images and no tables"):
        get_data(f"{site.url}/a.tgz", tmp_path / "out")
    assert [] == names_in(tmp_path)


def test_verified_download_that_could_not_be_unpacked_is_not_fetched_twice(site, tmp_path):
    body = site.files["/a.tgz"] = tgz(CIFAR)
    options = {"sha256": hashlib.sha256(body).hexdigest(), "out": tmp_path / "out"}
    with pytest.raises(DataError):
        get_data(f"{site.url}/a.tgz", expect=["none.csv"], **options)
    assert 3 == get_data(f"{site.url}/a.tgz", **options).files
    assert ["/a.tgz"] == site.asked
    assert [] == cache()


@pytest.mark.parametrize("name", ["labels.csv", "train-images-idx3-ubyte.gz", "set.npz"])
def test_other_files_come_as_they_are(site, tmp_path, name):
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a.npy", b"x")
    bodies = {"csv": b"path,label\n", ".gz": idx_bytes(np.zeros((2, 3), np.uint8))}
    site.files[f"/{name}"] = bodies.get(name[-3:], zipped.getvalue())
    report = get_data(f"{site.url}/{name}", tmp_path / "out")
    assert tmp_path / "out" / name == report.data
    assert site.files[f"/{name}"] == report.data.read_bytes()


@pytest.mark.parametrize("path", ["/pets.zip", "/pets", "/pets.html"])
def test_web_page_in_place_of_data_is_told(site, tmp_path, path):
    site.files[path] = b"<!DOCTYPE html><html>Please log in</html>"
    with pytest.raises(DataError) as caught:
        get_data(site.url + path, tmp_path / "out")
    assert "page" in f"{caught.value.got} {caught.value.hint}"
    assert [] == names_in(tmp_path)


def test_taken_folder_is_told_and_left_alone(site, tmp_path):
    site.files["/a.tgz"] = tgz(CIFAR)
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="not empty"):
        get_data(f"{site.url}/a.tgz", tmp_path)
    assert ["mine.txt"] == names_in(tmp_path)
    assert [] == site.asked


@pytest.mark.parametrize(
    "url",
    [
        "https://drive.google.com/file/d/1a_B-c/view?usp=sharing",
        "https://drive.google.com/open?id=1a_B-c",
        "https://drive.google.com/uc?export=download&id=1a_B-c",
    ],
)
def test_share_links_of_drive_lead_to_the_file(url):
    assert "id=1a_B-c&export=download" in direct_url(url)
    assert "https://example.org/a.zip" == direct_url("https://example.org/a.zip")
