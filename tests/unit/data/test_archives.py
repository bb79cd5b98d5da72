"""Tar archives: read in place, only regular files, nothing that leads out."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
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
        method = name.removeprefix("pets.").removeprefix("tar.").replace("tgz", "gz")
        mode = "w" if method == "tar" else f"w:{method}"
        with tarfile.open(tmp_path / name, mode) as archive:
            for member in members:
                add(archive, *member)
        return tmp_path / name

    return write


MEMBERS = [(f"./{label}/{n}.jpg", jpeg(n)) for n in range(3) for label in ("dog", "cat")]


@pytest.mark.parametrize(
    "name", ["pets.tar", "pets.tar.gz", "pets.tgz", "pets.tar.bz2", "pets.tar.xz"]
)
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


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("keep", [0.5, 0.9])
def test_cut_off_compressed_archive_is_an_error_and_leaves_no_copy(write_tar, keep, kind):
    noise = np.random.default_rng(0).bytes(20_000)
    path = write_tar([*MEMBERS, ("cat/9.jpg", noise)], f"pets.tar.{kind}")
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
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(100_000_000)))
    with pytest.raises(DataError, match="too large"):
        list_tar(tmp_path / "x.tar.gz")


def test_archive_without_images_is_an_error(write_tar):
    with pytest.raises(DataError, match="no images"):
        list_tar(write_tar([("readme.txt", b"x")]))


def test_cut_between_two_entries_is_an_error(write_tar):
    path = write_tar(MEMBERS)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"./cat/2.jpg")])
    with pytest.raises(DataError, match="no end mark"):
        list_tar(path)


def test_damaged_header_does_not_end_the_archive_early(write_tar):
    path = write_tar(MEMBERS)
    data = bytearray(path.read_bytes())
    data[data.index(b"./cat/2.jpg") + 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="header"):
        list_tar(path)


def test_two_images_of_one_name_are_refused(write_tar):
    with pytest.raises(DataError, match="the same name"):
        list_tar(write_tar([*MEMBERS, ("cat//1.jpg", jpeg(9))]))


def test_empty_class_folder_is_told(write_tar):
    with pytest.raises(DataError, match="class folder has no images") as caught:
        list_tar(write_tar([*MEMBERS, ("./fish", None, tarfile.DIRTYPE)]))
    assert caught.value.where.endswith("pets.tar:fish")
    with pytest.raises(DataError, match="class folder has no images"):
        list_tar(write_tar([*MEMBERS, ("fish/readme.txt", b"x")]))


def test_empty_class_folder_of_one_split_is_told(write_tar):
    names = [(f"pets/{split}/cat/1.jpg", jpeg(1)) for split in ("train", "test")]
    empty = ("pets/test/fish", None, tarfile.DIRTYPE)
    with pytest.raises(DataError, match="class folder has no images"):
        list_tar(write_tar([*names, empty]))


def test_folder_around_all_classes_is_no_class(write_tar):
    listing = list_tar(write_tar([(f"a/pets/{name[2:]}", data) for name, data in MEMBERS]))
    assert ["cat"] * 3 + ["dog"] * 3 == listing.labels
    assert "a/pets/cat/0.jpg" == listing.locations.paths[0]
    assert "a/pets/ around" in listing.notes[0]


def test_one_class_alone_stays_a_class(write_tar):
    assert ["cat"] == list_tar(write_tar([("cat/1.jpg", jpeg(1))])).labels
    assert [None] == list_tar(write_tar([("1.jpg", jpeg(1))])).labels


def test_image_with_holes_is_read_whole(tmp_path):
    data = jpeg(5) + bytes(1 << 20) + b"end of it"
    with open(tmp_path / "1.bmp", "wb") as stream:
        stream.write(jpeg(5))
        stream.seek(len(data) - 9)
        stream.write(b"end of it")
    subprocess.run(["tar", "-S", "-cf", "pets.tar", "1.bmp"], cwd=tmp_path, check=True)
    assert (tmp_path / "pets.tar").stat().st_size < 100_000
    assert data == FileSource(list_tar(tmp_path / "pets.tar")).read(0)


def test_the_real_archive_of_60000_images(shared_data):
    listing = list_tar(shared_data / "cifar10" / "cifar10_jpeg.tar.gz")
    assert (60_000, 10) == (len(listing), len(set(listing.labels)))
    assert [50_000, 10_000] == [int((listing.split == code).sum()) for code in (0, 2)]
