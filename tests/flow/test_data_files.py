"""`discern data get|extract`: files come in whole and safely, or not at all."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Mapping
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from discern_process import discern, make_images
from PIL import Image


def _png(red: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (red, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


PETS = {f"pets/{name}/{n}.png": _png(20 * n + place) for place, name in enumerate(("ant", "bee"))
        for n in range(4)}  # fmt: skip


def write_tar(path: Path, files: Mapping[str, bytes], link: str = "") -> Path:
    """A tar (compressed by its name) of these files, and a link to /etc/passwd if one is named."""
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(entry)
    return path


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """A zip of these files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def files_below(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


# ---- extract ----


@pytest.mark.feature("ML-19")
@pytest.mark.parametrize("name", ["pets.tar", "pets.tgz", "pets.tar.gz", "pets.zip"])
def test_archive_of_every_kind_is_unpacked_whole(tmp_path: Path, name: str) -> None:
    (write_zip if name.endswith(".zip") else write_tar)(tmp_path / name, PETS)
    ended = discern("data", "extract", name, "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert (8, "pets", "pets/pets") == tuple(
        ended.object[key] for key in ("files", "folder", "data")
    )
    assert PETS == files_below(tmp_path / "pets")
    again = discern("data", "extract", name, "--json", cwd=tmp_path)
    assert (1, "the folder to write is not empty") == (again.code, again.error["what"])
    assert PETS == files_below(tmp_path / "pets")


@pytest.mark.feature("ML-19")
@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("evil", ["../evil.png", "pets/../../evil.png", "/evil.png"])
def test_entry_that_leads_out_of_the_archive_is_refused(
    tmp_path: Path, kind: str, evil: str
) -> None:
    archive = tmp_path / f"pets.{kind}"
    (write_zip if kind == "zip" else write_tar)(archive, {**PETS, evil: _png(0)})
    ended = discern("data", "extract", archive, "--out", tmp_path / "out", "--json")
    assert (1, "data") == (ended.code, ended.error["kind"])
    assert (str(archive), evil) == (ended.error["where"], ended.error["got"])
    assert [archive] == list(tmp_path.iterdir())


def test_links_are_refused_or_left_out(tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "pets.tar", PETS, link="pets/ant/link.png")
    ended = discern("data", "extract", archive, "--out", tmp_path / "out", "--json")
    assert (1, "pets/ant/link.png") == (ended.code, ended.error["got"])
    assert "--skip-links" in (ended.error["hint"] or "")
    assert not (tmp_path / "out").exists()
    ended = discern("data", "extract", archive, "--out", tmp_path / "out", "--skip-links", "--json")
    assert (0, 8, 1) == (ended.code, ended.object["files"], ended.object["skipped"])
    assert PETS == files_below(tmp_path / "out")


@pytest.mark.feature("ML-19")
def test_ten_thousand_files_are_unpacked(tmp_path: Path) -> None:
    many = {f"{n % 2}/{n}.png": b"%d" % n for n in range(10_000)}
    archive = write_zip(tmp_path / "many.zip", many)
    ended = discern("data", "extract", archive, "--out", tmp_path / "out", "--json")
    assert (0, 10_000) == (ended.code, ended.object["files"]), ended.stderr
    assert many == files_below(tmp_path / "out")


def test_file_that_is_no_archive_and_one_cut_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.tar").write_text("no archive")
    whole = write_tar(tmp_path / "whole.tgz", PETS).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(whole[: len(whole) // 2])
    before = files_below(tmp_path)
    for name in ("text.tar", "cut.tgz"):
        ended = discern("data", "extract", name, "--out", "out", "--json", cwd=tmp_path)
        assert (1, "data", name) == (ended.code, ended.error["kind"], ended.error["where"])
    assert before == files_below(tmp_path)


# ---- get ----


def test_digits_come_without_a_download_as_class_folders(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    given = load_digits()
    ended = discern("data", "get", "digits", "--out", "digits", "--json", cwd=tmp_path)
    assert (0, 1797) == (ended.code, ended.object["files"]), ended.stderr
    images = sorted((tmp_path / "digits").rglob("*.png"))
    assert 1797 == len(images)
    wanted = sorted(
        (int(label), (pixels * 255 / 16).round().astype(np.uint8).tobytes())
        for pixels, label in zip(given.images, given.target, strict=True)
    )
    found = sorted(
        (int(path.parent.name), np.asarray(Image.open(path)).tobytes()) for path in images
    )
    assert wanted == found
    again = discern("data", "get", "digits", "--out", "digits", "--json", cwd=tmp_path)
    assert (0, True) == (again.code, again.object["already"])


@pytest.mark.feature("ML-24")
def test_known_set_is_written_as_train_and_test_folders(shared_data: Path, tmp_path: Path) -> None:
    for name in ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"):
        assert (shared_data / "mnist" / name).is_file()
    out = tmp_path / "mnist"
    ended = discern("data", "get", "mnist", "--root", shared_data / "mnist", "--out", out, "--json")
    assert 0 == ended.code, ended.stderr
    assert {"train": 60_000, "test": 10_000} == ended.object["splits"]
    digits = list("0123456789")
    for split, counts in (
        ("train", (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949)),
        ("test", (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009)),
    ):
        assert digits == sorted(path.name for path in (out / split).iterdir() if path.is_dir())
        assert counts == tuple(len(list((out / split / digit).iterdir())) for digit in digits)


def test_unknown_set_and_one_that_cannot_be_downloaded_leave_nothing(tmp_path: Path) -> None:
    ended = discern("data", "get", "mnst", "--json", cwd=tmp_path)
    assert "there is no such set to get" == ended.error["what"]
    assert "mnist" in (ended.error["expected"] or "")
    ended = discern("data", "get", "cifar10", "--root", "nowhere", "--json", cwd=tmp_path)
    assert 1 == ended.code
    assert "nowhere" in f"{ended.error['where']}{ended.error['got']}{ended.error['what']}"
    assert [] == list(tmp_path.iterdir())


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Requests are not told."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """(folder, address) of a server on this machine."""
    folder = tmp_path_factory.mktemp("served")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.feature("LA-35")
def test_archive_of_an_address_is_hashed_unpacked_and_checked(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    digest = hashlib.sha256(write_tar(folder / "pets.tar.gz", PETS).read_bytes()).hexdigest()
    ended = discern(
        "data", "get", f"{address}/pets.tar.gz", "--sha256", digest, "--expect", "pets/ant/*.png",
        "--json", cwd=tmp_path,
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    assert (8, digest, "pets/pets") == tuple(
        ended.object[key] for key in ("files", "sha256", "data")
    )
    assert PETS == files_below(tmp_path / "pets")
    read = discern("data", "scan", ended.object["data"], "--json", cwd=tmp_path)
    assert {"ant": 4, "bee": 4} == read.object["classes"]


@pytest.mark.feature("LA-35")
def test_wrong_hash_missing_file_and_way_out_are_refused(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, address = served
    write_tar(folder / "good.tar", PETS)
    write_tar(folder / "slip.tar", {**PETS, "../evil.png": _png(0)})
    for name, flags, got in (
        ("good.tar", ("--sha256", "0" * 64), hashlib.sha256((folder / "good.tar").read_bytes())),
        ("good.tar", ("--expect", "pets/wasp/*"), "bee"),
        ("slip.tar", (), "../evil.png"),
        ("none.tar", (), "404"),
    ):
        out = ("--out", tmp_path / "data" / "out")
        ended = discern("data", "get", f"{address}/{name}", *flags, *out, "--json")
        assert (1, "data") == (ended.code, ended.error["kind"])
        text = got if isinstance(got, str) else got.hexdigest()
        assert text in (ended.error["got"] or "")
        assert not files_below(tmp_path)


# ---- what is interrupted ----


def test_folder_that_holds_something_is_not_written_over(tmp_path: Path) -> None:
    make_images(tmp_path / "mine", each=1)
    before = files_below(tmp_path)
    ended = discern("data", "get", "digits", "--out", tmp_path / "mine", "--json")
    assert (1, str(tmp_path / "mine")) == (ended.code, ended.error["where"])
    assert before == files_below(tmp_path)
