"""Unpacking: whole or not at all, only files and folders, nothing outside."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import signal
import stat
import subprocess
import sys
import tarfile
import time
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.archive_names import Limits, NameCheck, safe_name
from discern.data.extract import extract_archive

FILES = {"cat/1.jpg": b"one", "cat/2.jpg": b"two" * 5000, "dog/deep/3.txt": b""}


def tar_bytes(members, form=tarfile.PAX_FORMAT):
    """A tar of (name, bytes | None for a folder | (type, link target))."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, value in members:
            member = tarfile.TarInfo()
            member.name = name
            if value is None:
                member.type = tarfile.DIRTYPE
            elif isinstance(value, tuple):
                member.type, member.linkname = value
            else:
                member.size = len(value)
                member.mode = 0o6777
            archive.addfile(member, io.BytesIO(value) if isinstance(value, bytes) else None)
    return stream.getvalue()


def zip_bytes(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, value in members:
            info = zipfile.ZipInfo()
            info.filename = info.orig_filename = name
            info.compress_type = method
            info.external_attr = 0o106777 << 16
            archive.writestr(info, value)
    return stream.getvalue()


def zstd_bytes(data):
    import pyarrow as pa

    return pa.compress(data, codec="zstd", asbytes=True)


PACKERS = {
    "a.tar": tar_bytes,
    "a.tar.gz": lambda members: gzip.compress(tar_bytes(members)),
    "a.tgz": lambda members: gzip.compress(tar_bytes(members)),
    "a.tar.bz2": lambda members: bz2.compress(tar_bytes(members)),
    "a.tar.xz": lambda members: lzma.compress(tar_bytes(members)),
    "a.tar.zst": lambda members: zstd_bytes(tar_bytes(members)),
    "a.zip": zip_bytes,
}
TAR_AND_ZIP = pytest.mark.parametrize("form", ["a.tar", "a.zip"])


@pytest.fixture
def pack(tmp_path):
    def write(form, members):
        path = tmp_path / form
        path.write_bytes(PACKERS[form](list(members)))
        return path

    return write


def tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def refused(path, tmp_path, match, **options):
    """Extraction raises, and nothing but the archive is there."""
    before = sorted(tmp_path.rglob("*")), sorted(tmp_path.parent.iterdir())
    with pytest.raises(DataError, match=match) as caught:
        extract_archive(path, tmp_path / "out", **options)
    assert before == (sorted(tmp_path.rglob("*")), sorted(tmp_path.parent.iterdir()))
    return caught.value


@pytest.mark.parametrize("form", PACKERS)
def test_every_kind_unpacks_to_the_same_files(pack, tmp_path, form):
    told = []
    report = extract_archive(
        pack(form, FILES.items()), tmp_path / "out", progress=lambda *pair: told.append(pair)
    )
    assert FILES == tree(tmp_path / "out")
    assert (3, 3, 15_003) == (report.files, report.folders, report.unpacked_bytes)
    assert report.archive.stat().st_size == told[-1][0] == told[-1][1]
    assert sorted(told) == told


@TAR_AND_ZIP
def test_only_plain_modes_come_out(pack, tmp_path, form):
    before = os.umask(0o022)
    try:
        extract_archive(pack(form, FILES.items()), tmp_path / "out")
    finally:
        os.umask(before)
    assert 0o644 == stat.S_IMODE((tmp_path / "out/cat/1.jpg").stat().st_mode)
    assert 0o755 == stat.S_IMODE((tmp_path / "out/cat").stat().st_mode)


def test_content_decides_the_kind_not_the_name(pack, tmp_path):
    path = pack("a.zip", FILES.items()).rename(tmp_path / "a.tar.gz")
    assert 3 == extract_archive(path, tmp_path / "out").files


EVIL = [
    "../x.jpg", "/etc/x.jpg", "cat/../../x.jpg", "cat\\..\\x.jpg", "C:/x.jpg", "c:x.jpg", "..",
    "\\\\host\\share\\x.jpg", "\uff0e\uff0e/x.jpg", "\u2025/x.jpg", "cat/\u2024\u2024/x.jpg",
    "\uff0fetc/x.jpg", "\uff23\uff1a/x.jpg", "cat/.. /x.jpg", "cat/.../x.jpg", "//x.jpg",
]  # fmt: skip


@TAR_AND_ZIP
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.feature("ML-19")
@pytest.mark.feature("LA-35")
def test_names_that_lead_out_are_refused(pack, tmp_path, form, name):
    error = refused(pack(form, [("cat/1.jpg", b"x"), (name, b"evil")]), tmp_path, "leads out")
    assert str(tmp_path / form) == error.where


@TAR_AND_ZIP
@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("cat/a\nb.jpg", "control"), ("cat/\x1b[31m.jpg", "control"), ("cat/\x85.jpg", "control"),
        ("CON", "device of Windows"), ("cat/aux.jpg", "device of Windows"),
        ("cat/" + "x" * 241, "too long"), ("a/" * 33 + "x", "too deep"),
        ("ä" * 121, "too long"), (("y" * 200 + "/") * 6 + "x", "too deep"),
    ],
)  # fmt: skip
def test_names_that_make_trouble_later_are_refused(pack, tmp_path, form, name, match):
    refused(pack(form, [(name, b"x")]), tmp_path, match)


def test_nul_and_undecodable_bytes_in_names_are_refused(tmp_path):
    path = tmp_path / "a.zip"
    path.write_bytes(zip_bytes([("cat/x_.jpg", b"x")]).replace(b"x_.jpg", b"x\0.jpg"))
    refused(path, tmp_path, "leads out|fit")
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes([("cat/\udcff.jpg", b"x")], tarfile.GNU_FORMAT))
    refused(path, tmp_path, "not UTF-8")


@pytest.mark.parametrize(
    "name", ["Quercus sp./1.jpg", "犬\uff0f猫/1.jpg", "concrete/1.jpg", "..a/b..c"]
)
def test_unusual_names_that_harm_nobody_pass(pack, tmp_path, name):
    extract_archive(pack("a.zip", [(name, b"x")]), tmp_path / "out")
    assert {name: b"x"} == tree(tmp_path / "out")


@TAR_AND_ZIP
def test_names_come_out_composed(pack, tmp_path, form):
    extract_archive(
        pack(form, [(unicodedata.normalize("NFD", "kühe/é.jpg"), b"x")]), tmp_path / "o"
    )
    assert [unicodedata.normalize("NFC", "kühe/é.jpg")] == list(tree(tmp_path / "o"))


@TAR_AND_ZIP
@pytest.mark.parametrize(
    ("first", "second", "match"),
    [
        ("cat/1.jpg", "cat/1.jpg", "the same name"), ("cat/1.jpg", "cat/1.JPG", "only in case"),
        ("cat/1.jpg", "Cat/2.jpg", "only in case"), ("straße/1", "STRASSE/2", "only in case"),
        ("é/1.jpg", "e\u0301/1.jpg", "the same name"), ("cat./1.jpg", "cat/2.jpg", "dots at the"),
        ("cat", "cat/1.jpg", "both"), ("cat/1.jpg", "cat", "both"),
        ("./cat/1.jpg", "cat//1.jpg", "the same name"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_names_that_meet_are_refused(pack, tmp_path, form, first, second, match):
    refused(pack(form, [(first, b"x"), (second, b"y")]), tmp_path, match)


def test_folder_named_twice_is_one_folder(pack, tmp_path):
    members = [("cat/", None), ("cat/1.jpg", b"x"), ("./cat", None), ("./", None)]
    report = extract_archive(pack("a.tar", members), tmp_path / "out")
    assert (1, 1) == (report.files, report.folders)


SPECIAL = [
    ("cat/link.jpg", (tarfile.SYMTYPE, "/etc/passwd")), ("cat/hard.jpg", (tarfile.LNKTYPE, "a")),
    ("cat/pipe", (tarfile.FIFOTYPE, "")), ("cat/disk", (tarfile.BLKTYPE, "")),
    ("cat/tty", (tarfile.CHRTYPE, "")),
]  # fmt: skip


@pytest.mark.parametrize("special", SPECIAL)
def test_links_and_devices_are_refused_and_counted(pack, tmp_path, special):
    path = pack("a.tar", [("cat/1.jpg", b"x"), special, special, ("cat/2.jpg", b"y")])
    error = refused(path, tmp_path, "2 links or special")
    assert special[0] in error.got


def test_links_can_be_left_out_and_are_listed(pack, tmp_path):
    through = [("dir", (tarfile.SYMTYPE, str(tmp_path))), ("cat/1.jpg", b"x")]
    path = pack("a.tar", [*through, *SPECIAL])
    report = extract_archive(path, tmp_path / "out", skip_links=True)
    assert {"cat/1.jpg": b"x"} == tree(tmp_path / "out")
    assert 6 == report.record()["skipped"]
    assert "cat/hard.jpg" in report.record()["skipped_entries"]


def test_writing_through_a_link_of_the_archive_writes_nothing_outside(pack, tmp_path):
    path = pack("a.tar", [("dir", (tarfile.SYMTYPE, str(tmp_path))), ("dir/evil", b"x")])
    refused(path, tmp_path, "links")
    extract_archive(path, tmp_path / "out", skip_links=True)
    assert not (tmp_path / "evil").exists()
    assert {"dir/evil": b"x"} == tree(tmp_path / "out")


def test_link_in_a_zip_is_refused(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("cat/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    refused(tmp_path / "a.zip", tmp_path, "1 links")


@pytest.mark.parametrize("form", ["a.tar.gz", "a.tar.xz", "a.tar.zst", "a.zip"])
def test_bombs_are_refused(pack, tmp_path, form):
    path = pack(form, [("cat/1.jpg", bytes(90 << 20))])
    assert path.stat().st_size < 200_000
    refused(path, tmp_path, "grows too large")


def test_sparse_bomb_is_refused_while_it_is_written(tmp_path):
    huge = sparse_tar(tmp_path, size=80 << 20)
    assert huge.stat().st_size < 100_000
    refused(huge, tmp_path, "grows too large")


@pytest.mark.parametrize("form", PACKERS)
@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(entries=2), "too many"), (Limits(entry_bytes=14_000), "a file .* too large"),
        (Limits(total_bytes=15_002), "too large when unpacked"),
    ],
)  # fmt: skip
def test_limits_hold_for_every_kind(pack, tmp_path, form, limits, match):
    refused(pack(form, FILES.items()), tmp_path, match, limits=limits)


def test_full_disk_is_foreseen(pack, tmp_path, monkeypatch):
    usage = type("usage", (), {"free": (64 << 20) + 100})
    monkeypatch.setattr("discern.data.extract.shutil.disk_usage", lambda _: usage)
    refused(pack("a.zip", FILES.items()), tmp_path, "too large when unpacked")


@pytest.mark.parametrize("form", PACKERS)
def test_every_cut_is_an_error_and_leaves_nothing(pack, tmp_path, form):
    noise = np.random.default_rng(0).bytes(3000)
    path = pack(form, [(f"cat/{number}.jpg", noise) for number in range(3)])
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) if form == "a.tar" else len(whole)
    for length in (0, 1, 100, 512, 2048, 3584, 4096, 8192, end - 5, end - 1):
        path.write_bytes(whole[: min(length, end - 1)])
        refused(path, tmp_path, None)


@pytest.mark.parametrize("form", ["a.tar.gz", "a.tar.bz2", "a.tar.xz", "a.zip"])
def test_wrong_sum_is_an_error(pack, tmp_path, form):
    path = pack(form, [("cat/1.jpg", np.random.default_rng(0).bytes(5000))])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    refused(path, tmp_path, "damaged")


def test_damaged_header_in_the_middle_does_not_end_the_archive(pack, tmp_path):
    path = pack("a.tar", [("1.jpg", b"x"), ("2.jpg", b"x"), ("3.jpg", b"x")])
    data = bytearray(path.read_bytes())
    data[1024] ^= 1
    path.write_bytes(data)
    refused(path, tmp_path, "header")


def test_joined_tars_are_told(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(tar_bytes([("1.jpg", b"x")]) + tar_bytes([("2.jpg", b"x")]))
    refused(path, tmp_path, "more data")


def test_encrypted_zip_is_told(tmp_path):
    data = bytearray(zip_bytes(FILES.items()))
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        data[data.index(mark) + place] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path, "encrypted")


def test_zip_entries_that_share_bytes_are_refused(tmp_path):
    data = bytearray(zip_bytes([("a.jpg", b"x" * 999), ("b.jpg", b"x" * 999)], zipfile.ZIP_STORED))
    second = data.rindex(b"PK\x01\x02")
    data[second + 42 : second + 46] = bytes(4)  # the second entry's data are the first one's
    data[second + 46 : second + 47] = b"a"
    (tmp_path / "a.zip").write_bytes(data)
    refused(tmp_path / "a.zip", tmp_path, "share bytes")


def sparse_tar(tmp_path, size, version="gnu"):
    """Made by GNU tar: 4 kB of data, a hole, 4 kB of data."""
    (tmp_path / "holes.jpg").write_bytes(b"")
    with open(tmp_path / "holes.jpg", "r+b") as stream:
        stream.write(b"a" * 4096)
        stream.seek(size - 4096)
        stream.write(b"b" * 4096)
    form = ["-H", "gnu"] if version == "gnu" else ["-H", "posix", f"--sparse-version={version}"]
    command = ["tar", "-S", *form, "-cf", "a.tar", "holes.jpg"]
    subprocess.run(command, cwd=tmp_path, check=True)
    (tmp_path / "holes.jpg").unlink()
    return tmp_path / "a.tar"


@pytest.mark.parametrize("version", ["gnu", "0.0", "0.1", "1.0"])
def test_files_with_holes_come_out_whole(tmp_path, version):
    path = sparse_tar(tmp_path, 1 << 20, version)
    assert path.stat().st_size < 100_000
    extract_archive(path, tmp_path / "out")
    wanted = b"a" * 4096 + bytes((1 << 20) - 8192) + b"b" * 4096
    assert wanted == (tmp_path / "out/holes.jpg").read_bytes()


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_come_out_right(tmp_path, form):
    name = "ü" * 100 + "/" + "y" * 180 + "/1.jpg"
    (tmp_path / "a.tar").write_bytes(tar_bytes([(name, b"x")], form))
    extract_archive(tmp_path / "a.tar", tmp_path / "out")
    assert {name: b"x"} == tree(tmp_path / "out")


def test_zip_names_in_unmarked_utf8_are_read(tmp_path):
    data = zip_bytes([("kuehe/1.jpg", b"x")]).replace(b"kuehe", "küho".encode())
    (tmp_path / "a.zip").write_bytes(data)
    extract_archive(tmp_path / "a.zip", tmp_path / "out")
    assert ["küho/1.jpg"] == list(tree(tmp_path / "out"))


@pytest.mark.feature("ML-19")
@TAR_AND_ZIP
def test_ten_thousand_files_work(pack, tmp_path, form):
    members = [(f"class{n % 10}/{n:05d}.jpg", b"%d" % n) for n in range(10_000)]
    report = extract_archive(pack(form, members), tmp_path / "out")
    assert (10_000, 10) == (report.files, report.folders)
    assert b"1234" == (tmp_path / "out/class4/01234.jpg").read_bytes()


def test_the_folder_to_name_as_data_is_the_innermost_single_one(pack, tmp_path):
    members = [("pets/v1/cat/1.jpg", b"x"), ("pets/v1/dog/2.jpg", b"x"), ("__MACOSX/._pets", b"")]
    report = extract_archive(pack("a.zip", members), tmp_path / "out")
    assert tmp_path / "out/pets/v1" == report.data


def test_archives_inside_stay_closed_and_are_listed(pack, tmp_path):
    report = extract_archive(pack("a.tar", [("more.zip", zip_bytes([]))]), tmp_path / "out")
    assert ("more.zip",) == report.nested


def test_folder_with_something_in_it_is_left_alone(pack, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine").write_text("x")
    refused(pack("a.tar", FILES.items()), tmp_path, "not empty")
    (tmp_path / "out/mine").unlink()
    assert 3 == extract_archive(tmp_path / "a.tar", tmp_path / "out").files


def test_what_the_check_raises_undoes_all(pack, tmp_path):
    def check(folder):
        assert (folder / "cat/1.jpg").exists()
        raise DataError("labels.csv is missing")

    refused(pack("a.tar", FILES.items()), tmp_path, "labels.csv", check=check)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"<!DOCTYPE html><html>", "no archive"), (b"", "no archive"), (b"Rar!\x1a\x07", "rar"),
        (b"7z\xbc\xaf\x27\x1c", "7z"), (b"x" * 3000, "no archive"),
    ],
)  # fmt: skip
def test_other_files_are_told_apart(tmp_path, content, match):
    (tmp_path / "a.zip").write_bytes(content)
    error = refused(tmp_path / "a.zip", tmp_path, match)
    assert ("web page" in (error.hint or "")) == (b"html" in content)


KILLED = """
import sys
from discern.data.extract import extract_archive
extract_archive(sys.argv[1], sys.argv[2], progress=lambda done, total: print(done, flush=True))
"""


def test_killed_extraction_leaves_no_target_and_the_next_one_cleans_up(pack, tmp_path):
    noise = np.random.default_rng(0).bytes(20_000)
    path = pack("a.tar.gz", [(f"cat/{n}.jpg", noise) for n in range(1000)])
    command = [sys.executable, "-c", KILLED, str(path), str(tmp_path / "out")]
    source = str(Path(__file__).resolve().parents[3] / "src")
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": source}
    )
    child.stdout.readline()  # something is written
    child.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == child.wait()
    child.stdout.close()
    left = sorted(entry.name for entry in tmp_path.iterdir())
    assert 2 == len(left)
    assert "out" not in left
    extract_archive(path, tmp_path / "out")
    assert ["a.tar.gz", "out"] == sorted(entry.name for entry in tmp_path.iterdir())
    assert 1000 == len(tree(tmp_path / "out"))


def test_two_extractions_to_one_folder_do_not_mix(pack, tmp_path):
    path = pack("a.tar", FILES.items())

    def second(_):
        with pytest.raises(DataError, match="another process"):
            extract_archive(path, tmp_path / "out")

    assert 3 == extract_archive(path, tmp_path / "out", check=second).files


NAMES = st.text(
    st.sampled_from(
        [
            "a",
            "B",
            ".",
            "/",
            "\\",
            " ",
            "\0",
            "é",
            "e",
            "\u0301",
            "\uff0e",
            "\uff0f",
            ":",
            "C",
            "\n",
        ]
    ),
    max_size=12,
)


@given(NAMES)
def test_any_name_is_refused_or_stays_inside(name):
    try:
        safe = safe_name(name, Path("a.tar"))
    except DataError:
        return
    assert not safe.startswith("/")
    assert not {"", ".", ".."} & set(safe.split("/")) or not safe
    assert safe_name(safe, Path("a.tar")) == safe == unicodedata.normalize("NFC", safe)


@given(st.lists(NAMES, max_size=6))
def test_names_that_pass_the_check_are_apart_in_any_case(names):
    check, kept = NameCheck(Path("a.tar")), []
    for name in names:
        try:
            safe = safe_name(name, Path("a.tar"))
            check.add(safe)
        except DataError:
            continue
        kept.append(safe.casefold())
    assert len(kept) == len(set(kept))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["a.tar", "a.tar.gz", "a.zip"]))
def test_damaged_archives_give_our_own_errors_only(tmp_path, data, form):
    whole = bytearray(PACKERS[form]([*FILES.items(), ("x" * 120 + "/ü", b"long")]))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, min(len(whole), 6000) - 1))
        whole[place] = data.draw(st.integers(0, 255))
    folder = tmp_path / f"{time.monotonic_ns()}"
    folder.mkdir()
    (folder / form).write_bytes(whole)
    try:
        extract_archive(folder / form, folder / "out", limits=Limits(total_bytes=1 << 20))
    except DataError:
        assert [form] == [entry.name for entry in folder.iterdir()]
    else:
        assert (folder / "out").is_dir()
