"""Tar archives: read in place, only regular files, nothing that leads out."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.archives import list_tar, plain_tar
from discern.data.sources import FileSource


def jpeg(number):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def add(archive, name, data=None, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    member.size = len(data or b"")
    archive.addfile(member, io.BytesIO(data) if data else None)


@pytest.fixture
def write_tar(tmp_path):
    def write(members, name="pets.tar"):
        with tarfile.open(tmp_path / name, "w:gz" if name.endswith("gz") else "w") as archive:
            for member in members:
                add(archive, *member)
        return tmp_path / name

    return write


MEMBERS = [(f"./{label}/{n}.jpg", jpeg(n)) for n in range(3) for label in ("dog", "cat")]


@pytest.mark.parametrize("name", ["pets.tar", "pets.tar.gz", "pets.tgz"])
def test_every_image_has_its_bytes_class_and_sorted_place(write_tar, name):
    listing = list_tar(write_tar(MEMBERS, name))
    wanted = sorted(member[0][2:] for member in MEMBERS)
    assert wanted == listing.locations.paths.tolist()
    assert ["cat"] * 3 + ["dog"] * 3 == listing.labels
    source = FileSource(listing)
    assert [jpeg(n) for n in (0, 1, 2, 0, 1, 2)] == [source.read(k) for k in range(6)]


@pytest.mark.feature("ML-17")
def test_split_folders_inside_an_archive(write_tar):
    names = [f"{split}/{label}/1.jpg" for split in ("train", "test") for label in ("cat", "dog")]
    listing = list_tar(write_tar([(name, jpeg(1)) for name in names]))
    assert [2, 2, 0, 0] == listing.split.tolist()


def test_compressed_archive_is_decompressed_once_until_it_changes(write_tar):
    path = write_tar(MEMBERS, "pets.tar.gz")
    first = plain_tar(path)
    stamp = first.stat().st_mtime_ns
    assert first == plain_tar(path)
    assert stamp == plain_tar(path).stat().st_mtime_ns
    os.utime(path, ns=(1, 1))
    assert first != plain_tar(path)


def test_links_and_special_entries_are_skipped_and_counted(write_tar):
    odd = [
        ("cat/link.jpg", None, tarfile.SYMTYPE, "/etc/passwd"),
        ("cat/hard.jpg", None, tarfile.LNKTYPE, "cat/0.jpg"),
        ("cat/pipe.jpg", None, tarfile.FIFOTYPE),
    ]
    listing = list_tar(write_tar(MEMBERS + odd))
    assert 6 == len(listing)
    assert "3 links or special entries" in listing.notes[0]


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "cat/../../x.jpg", "cat\\..\\x.jpg"])
def test_name_that_leads_out_is_refused(write_tar, name):
    with pytest.raises(DataError, match="leads out") as caught:
        list_tar(write_tar([*MEMBERS, (name, jpeg(0))]))
    assert name == caught.value.got


def test_hidden_members_are_left_out(write_tar):
    hidden = [("cat/._1.jpg", jpeg(0)), (".git/a.jpg", jpeg(0))]
    assert 6 == len(list_tar(write_tar(MEMBERS + hidden)))


@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_cut_off_compressed_archive_is_an_error_and_leaves_no_copy(write_tar, keep, tmp_path):
    noise = np.random.default_rng(0).bytes(20_000)
    path = write_tar([*MEMBERS, ("cat/9.jpg", noise)], "pets.tar.gz")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    with pytest.raises(DataError):
        list_tar(path)
    assert [] == list((Path(os.environ["DISCERN_CACHE"]) / "containers").iterdir())


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz"])
def test_what_is_no_archive_is_an_error(tmp_path, name):
    (tmp_path / name).write_bytes(b"not an archive at all" * 100)
    with pytest.raises(DataError):
        list_tar(tmp_path / name)


def test_decompression_bomb_is_refused(tmp_path):
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(50_000_000)))
    with pytest.raises(DataError, match="too large"):
        list_tar(tmp_path / "x.tar.gz")


def test_archive_without_images_is_an_error(write_tar):
    with pytest.raises(DataError, match="no images"):
        list_tar(write_tar([("readme.txt", b"x")]))
