"""Zips: read in place where stored, converted once where compressed."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from discern.base.errors import DataError
from discern.data.archives import is_archive, list_archive
from discern.data.sources import FileSource
from discern.data.zip_files import list_zip


def jpeg(number):
    stream = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


MEMBERS = {f"{label}/{n}.jpg": jpeg(n) for n in range(3) for label in ("dog", "cat")}
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]


@pytest.fixture
def write_zip(tmp_path):
    def write(members, method=zipfile.ZIP_DEFLATED, name="pets.zip", before=b""):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", method) as archive:
            for inside, data in members.items():
                archive.writestr(inside, data)
        (tmp_path / name).write_bytes(before + stream.getvalue())
        return tmp_path / name

    return write


def cached():
    return list((Path(os.environ["DISCERN_CACHE"]) / "containers").glob("*"))


def contents(listing):
    source = FileSource(listing)
    return {source._locations.paths[k]: source.read(k) for k in range(len(listing))}


@pytest.mark.parametrize("method", METHODS)
def test_every_image_has_its_bytes_class_and_sorted_place(write_zip, method):
    listing = list_zip(write_zip(MEMBERS | {"readme.txt": b"x"}, method))
    assert sorted(MEMBERS) == listing.locations.paths.tolist()
    assert MEMBERS == contents(listing)
    assert ["cat"] * 3 + ["dog"] * 3 == listing.labels
    assert (0 if method == zipfile.ZIP_STORED else 1) == len(cached())


def test_stored_images_are_spans_of_the_zip_itself(write_zip):
    path = write_zip(MEMBERS, zipfile.ZIP_STORED, before=b"a program that unpacks itself")
    listing = list_zip(path)
    assert (str(path),) == listing.locations.container_names
    assert MEMBERS == contents(listing)


def test_one_compressed_image_converts_all_once_until_the_zip_changes(tmp_path):
    path = tmp_path / "pets.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, data) in enumerate(MEMBERS.items()):
            archive.writestr(name, data, zipfile.ZIP_DEFLATED if number == 4 else None)
    first = list_zip(path)
    assert MEMBERS == contents(first) == contents(list_zip(path))
    assert 1 == len(cached())
    os.utime(path, ns=(1, 1))
    assert MEMBERS == contents(list_zip(path))
    assert 2 == len(cached())


def test_compressed_files_that_are_no_images_do_not_matter(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
        archive.writestr("notes.txt", b"x" * 999, zipfile.ZIP_DEFLATED)
    list_zip(tmp_path / "pets.zip")
    assert [] == cached()


def test_split_folders_below_an_outer_folder(write_zip):
    names = [f"pets/{split}/{label}/1.jpg" for split in ("train", "test") for label in "ab"]
    listing = list_archive(write_zip({name: jpeg(1) for name in names}))
    assert [2, 2, 0, 0] == listing.split.tolist()
    assert ["a", "b", "a", "b"] == listing.labels
    assert "pets/ around" in listing.notes[0]


def test_what_the_macs_archiver_adds_is_left_out(write_zip):
    listing = list_zip(write_zip(MEMBERS | {"__MACOSX/cat/._1.jpg": b"x", "cat/.DS_Store": b"x"}))
    assert 6 == len(listing)


def test_empty_class_folder_is_told(write_zip):
    with pytest.raises(DataError, match="class folder has no images") as caught:
        list_zip(write_zip(MEMBERS | {"fish/": b""}))
    assert caught.value.where.endswith("pets.zip:fish")


def test_wrong_sum_is_told_when_the_images_are_converted(write_zip):
    path = write_zip({"cat/1.jpg": np.random.default_rng(0).bytes(5000)})
    data = bytearray(path.read_bytes())
    data[2500] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match="damaged") as caught:
        list_zip(path)
    assert caught.value.where.endswith("pets.zip: cat/1.jpg")
    assert [] == cached()


@pytest.mark.parametrize("name", ["../x.jpg", "/etc/x.jpg", "cat/../../x.jpg", "C:/x.jpg"])
def test_name_that_leads_out_is_refused(write_zip, name):
    with pytest.raises(DataError, match="leads out"):
        list_zip(write_zip(MEMBERS | {name: b"x"}))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_images_of_one_name_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        archive.writestr("cat/1.jpg", jpeg(1))
        archive.writestr("cat/1.jpg", jpeg(2))
    with pytest.raises(DataError, match="the same name"):
        list_zip(tmp_path / "pets.zip")


def test_links_are_left_out_and_counted(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        info = zipfile.ZipInfo("cat/link.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("cat/1.jpg", jpeg(1))
    listing = list_zip(tmp_path / "pets.zip")
    assert (1, "1 links or special") == (len(listing), listing.notes[0][:18])


def patched(path, signature, place, value):
    data = bytearray(path.read_bytes())
    start = data.index(signature) + place
    data[start : start + len(value)] = value
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("signature", "place", "value", "match"),
    [
        (b"PK\x01\x02", 8, b"\x01", "encrypted"), (b"PK\x01\x02", 10, b"\x09", "method"),
        (b"PK\x03\x04", 0, b"XXXX", "does not fit"), (b"PK\x03\x04", 30, b"x", "does not fit"),
        (b"PK\x03\x04", 26, b"\xff\xff", "does not fit"),
        (b"PK\x01\x02", 42, b"\xff\xff\xff\x00", "does not fit"),
        (b"PK\x01\x02", 24, struct.pack("<I", 1 << 31 | 1), "two sizes"),
        (b"PK\x01\x02", 24, struct.pack("<I", 3), "two sizes"),
        (b"PK\x05\x06", 0, b"XXXX", "damaged or cut off"),
    ],
)  # fmt: skip
def test_forged_directories_are_refused(write_zip, signature, place, value, match):
    path = write_zip(MEMBERS, zipfile.ZIP_STORED)
    with pytest.raises(DataError, match=match):
        list_zip(patched(path, signature, place, value))


def test_zip_of_more_than_65535_entries_is_read(write_zip):
    members = dict.fromkeys((f"{n % 10}/{n}.jpg" for n in range(66_000)), jpeg(1))
    listing = list_zip(write_zip(members, zipfile.ZIP_STORED))
    assert 66_000 == len(listing)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(METHODS))
def test_damaged_zips_give_our_own_errors_only(write_zip, data, method):
    path = write_zip(MEMBERS, method)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(len(whole) // 2, len(whole)))])
    try:
        outcome = list_zip(path)
    except DataError as error:
        outcome = error
    assert str(path) in outcome.where if isinstance(outcome, DataError) else len(outcome) <= 6


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a.zip", True), ("a.tar", True), ("a.TGZ", True), ("a.tar.gz", True), ("a.tar.xz", True),
        ("a.tar.bz2", True), ("a.gz", False), ("a.csv", False), ("zip", False), ("a.rec", False),
    ],
)  # fmt: skip
def test_archives_are_known_by_their_names(name, wanted):
    assert wanted == is_archive(Path(name))
