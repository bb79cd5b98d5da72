"""`discern data pack|verify|unpack|index`: packed files are exact, checked, and train the same."""

from __future__ import annotations

import io
import json
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from discern_process import QUICK, Ended, discern, environment, make_images, picture, write_table
from PIL import Image

MAGIC = bytes.fromhex("0a23d7ce")


@dataclass(frozen=True)
class Packed:
    """A folder of train and test images, and what `data pack` made of it."""

    images: Path
    made: dict[str, tuple[Path, Ended]]

    def folder(self, kind: str) -> Path:
        return self.made[kind][0]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    root = tmp_path_factory.mktemp("packed")
    make_images(root / "pets" / "train", each=12)
    make_images(root / "pets" / "test", each=4, first=50)
    made = {}
    for kind in ("shards", "rec", "folder"):
        ended = discern(
            "data", "pack", root / "pets", "--to", kind, "--out", root / kind, "--json",
            env={"DISCERN_CACHE": str(root / "cache")},
        )  # fmt: skip
        assert 0 == ended.code, ended.stderr
        made[kind] = (root / kind, ended)
    return Packed(root / "pets", made)


def tree(folder: Path) -> dict[str, bytes]:
    """Every image below a folder, by its place."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*.jpg"))
    }


def records(content: bytes) -> Iterator[tuple[int, float, int, bytes]]:
    """(offset, label, id, image) of each record, read by the table of features 6.1 and 6.2."""
    place = 0
    while place < len(content):
        magic, word = content[place : place + 4], *struct.unpack_from("<I", content, place + 4)
        assert (MAGIC, 0) == (magic, word >> 29)
        payload = content[place + 8 : place + 8 + word]
        flag, label, number, high = struct.unpack_from("<IfQQ", payload)
        assert (0, 0) == (flag, high)
        yield place, label, number, payload[24:]
        place += 8 + word + -word % 4


@pytest.mark.feature("MX-52")
def test_record_file_list_and_index_are_as_documented(packed: Packed) -> None:
    folder = packed.folder("rec")
    report = packed.made["rec"][1].object
    assert ("rec", 32, []) == (report["format"], report["images"], report["problems"])
    assert [("data_train.rec", "train", 24), ("data_test.rec", "test", 8)] == [
        (file["name"], file["split"], file["images"]) for file in report["files"]
    ]
    found = list(records((folder / "data_test.rec").read_bytes()))
    lines = [line.split("\t") for line in (folder / "data_test.lst").read_text().splitlines()]
    assert [f"{number}\t{place}" for place, _, number, _ in found] == (
        (folder / "data_test.idx").read_text().splitlines()
    )
    assert [(number, f"{label:.6f}") for _, label, number, _ in found] == [
        (int(number), label) for number, label, _ in lines
    ]
    for (_, label, _, image), (_, _, name) in zip(found, lines, strict=True):
        assert (packed.images / name).read_bytes() == image
        assert ("ant", "bee")[int(label)] == Path(name).parent.name
    assert ["ant", "bee"] == (folder / "data_classes.txt").read_text().split()


def test_shards_are_plain_tar_files_of_images_and_classes(packed: Packed) -> None:
    report = packed.made["shards"][1].object
    assert 32 == report["images"]
    original = tree(packed.images)
    seen: list[bytes] = []
    for file in report["files"]:
        with tarfile.open(packed.folder("shards") / file["name"]) as archive:
            names = archive.getnames()
            assert 2 * file["images"] == len(names)
            for name in (name for name in names if name.endswith(".jpg")):
                image = archive.extractfile(name)
                label = archive.extractfile(f"{name.removesuffix('.jpg')}.cls")
                assert image is not None
                assert label is not None
                seen.append(image.read())
                place = next(at for at, data in original.items() if data == seen[-1])
                assert str(("ant", "bee").index(place.split("/")[1])) == label.read().decode()
    assert sorted(original.values()) == sorted(seen)


@pytest.mark.feature("MX-30")
def test_folder_shards_and_records_train_to_the_same_score(packed: Packed, tmp_path: Path) -> None:
    scores = []
    for data in (packed.images, packed.folder("shards"), packed.folder("rec")):
        ended = discern("train", data, *QUICK, "--json", "--runs", tmp_path / "runs")
        assert 0 == ended.code, ended.stderr
        metrics = ended.object["metrics"]
        assert ("test", 8) == (metrics["split"], metrics["count"])
        scores.append((metrics["accuracy"], metrics["loss"]))
        model = ended.object["path"]
    assert scores == [scores[0]] * 3
    one = packed.folder("rec") / "data_test.rec"  # a file instead of a directory of them
    ended = discern("eval", model, one, "--device", "cpu", "--json")
    metrics = ended.object["metrics"]
    assert (8, *scores[0]) == (metrics["count"], metrics["accuracy"], metrics["loss"])


@pytest.mark.parametrize("kind", ["shards", "rec"])
def test_unpacked_images_are_the_same_bytes(packed: Packed, tmp_path: Path, kind: str) -> None:
    ended = discern("data", "unpack", packed.folder(kind), "--out", tmp_path / "out", "--json")
    assert 0 == ended.code, ended.stderr
    assert (32, True) == (ended.object["images"], ended.object["verified"])
    assert ["ant", "bee"] == ended.object["classes"]
    assert tree(packed.images) == tree(tmp_path / "out")


def test_packed_folder_keeps_every_byte(packed: Packed) -> None:
    assert tree(packed.images) == tree(packed.folder("folder"))


@pytest.mark.parametrize(
    ("kind", "file"),
    [("shards", "test-00000.tar"), ("rec", "data_test.rec"), ("folder", "test/bee/51.jpg")],
)
def test_flipped_byte_is_named(packed: Packed, tmp_path: Path, kind: str, file: str) -> None:
    sound = discern("data", "verify", packed.folder(kind), "--json")
    assert (0, True, []) == (sound.code, sound.object["sound"], sound.object["problems"])
    assert 32 == sound.object["images"]
    copy = shutil.copytree(packed.folder(kind), tmp_path / "copy")
    original = (packed.images / "test/bee/51.jpg").read_bytes()
    content = bytearray((copy / file).read_bytes())
    place = content.index(original) + len(original) // 2
    content[place] ^= 1
    (copy / file).write_bytes(content)
    ended = discern("data", "verify", copy, "--json")
    assert (3, False) == (ended.code, ended.object["sound"])
    (problem,) = ended.object["problems"]
    assert "damaged-image" == problem["kind"]
    assert problem["path"].startswith(str(copy / file))
    assert problem["path"] in ended.stderr
    if kind == "folder":
        return
    # what is damaged is not unpacked, and nothing is left of the attempt
    ended = discern("data", "unpack", copy, "--out", tmp_path / "out", "--json")
    assert (1, problem["path"]) == (ended.code, ended.error["where"])
    assert ["copy"] == sorted(path.name for path in tmp_path.iterdir())


def test_missing_shard_is_named(packed: Packed, tmp_path: Path) -> None:
    copy = shutil.copytree(packed.folder("shards"), tmp_path / "copy")
    (copy / "test-00000.tar").unlink()
    ended = discern("data", "verify", copy, "--json")
    assert 3 == ended.code
    assert [("missing", str(copy / "test-00000.tar"))] == [
        (problem["kind"], problem["path"]) for problem in ended.object["problems"]
    ]


@pytest.mark.feature("MX-56")
def test_index_written_anew_equals_the_first(packed: Packed, tmp_path: Path) -> None:
    copy = shutil.copytree(packed.folder("rec"), tmp_path / "copy")
    first = (copy / "data_test.idx").read_bytes()
    (copy / "data_test.idx").unlink()
    ended = discern("data", "index", copy / "data_test.rec", "--json")
    assert 0 == ended.code, ended.stderr
    assert 8 == ended.object["records"]
    assert first == (copy / "data_test.idx").read_bytes()
    # a record file is needed, and nothing is written for another
    page = tmp_path / "page.rec"
    page.write_bytes(b"<html>no records</html>\n")
    ended = discern("data", "index", page, "--json")
    assert (1, "data") == (ended.code, ended.error["kind"])
    assert "0a 23 d7 ce" == ended.error["expected"]
    assert not page.with_suffix(".idx").exists()


def test_index_that_disagrees_is_refused_and_the_way_out_named(
    packed: Packed, tmp_path: Path
) -> None:
    copy = shutil.copytree(packed.folder("rec"), tmp_path / "copy")
    lines = (copy / "data_test.idx").read_text().splitlines()
    (copy / "data_test.idx").write_text("\n".join([lines[0], "1\t12", *lines[2:]]) + "\n")
    ended = discern("data", "scan", copy, "--json")
    assert (1, str(copy / "data_test.idx")) == (ended.code, ended.error["where"])
    assert "data index" in (ended.error["hint"] or "")


def test_record_file_that_is_cut_short_is_refused_with_the_byte(
    packed: Packed, tmp_path: Path
) -> None:
    copy = shutil.copytree(packed.folder("rec"), tmp_path / "copy")
    content = (copy / "data_test.rec").read_bytes()
    last = list(records(content))[-1][0]
    (copy / "data_test.rec").write_bytes(content[: last + 40])
    ended = discern("data", "split", copy, "--out", tmp_path / "split.csv", "--json")
    assert 1 == ended.code
    assert f"{copy / 'data_test.rec'}, byte {last}" == ended.error["where"]
    assert not (tmp_path / "split.csv").exists()
    ended = discern("data", "scan", copy, "--json")  # which tells what can be served
    assert (0, 31) == (ended.code, ended.object["images"])
    (problem,) = ended.object["problems"]
    assert f"byte {last}" in problem["text"]


def _long_sides(folder: Path) -> set[int]:
    return {max(Image.open(path).size) for path in folder.rglob("*.jpg")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of colored 60 x 40 photos, two of them stored turned by the camera."""
    root = make_images(tmp_path / "photos", each=4, size=(60, 40))
    turned = Image.Exif()
    turned[274] = 6
    for label, name in enumerate(("ant", "bee")):
        picture(label, 9, (60, 40)).save(root / name / "turned.jpg", exif=turned)
    return root


@pytest.mark.feature("CA-05", "PP-22")
def test_folder_of_a_longest_side_is_upright_gray_and_without_exif(
    photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    ended = discern(
        "data", "pack", photos, "--to", "folder", "--out", out, "--max-size", "32",
        "--clear-exif", "--grayscale", "--json",
    )  # fmt: skip
    assert (0, 10) == (ended.code, ended.object["images"]), ended.stderr
    assert {32} == _long_sides(out)
    shapes = {path.name: Image.open(path).size for path in out.rglob("*.jpg")}
    assert ((32, 21), (21, 32)) == (shapes["00.jpg"], shapes["turned.jpg"])
    for path in out.rglob("*.jpg"):
        with Image.open(path) as image:
            assert ("L", {}) == (image.mode, dict(image.getexif()))


@pytest.mark.feature("MX-52", "PP-04")
def test_one_corrupt_file_among_ten_is_named_and_nine_packed(photos: Path, tmp_path: Path) -> None:
    (photos / "bee" / "03.jpg").write_bytes(b"no image")
    refused = discern("data", "pack", photos, "--to", "rec", "--out", tmp_path / "out", "--json")
    assert (1, str(photos)) == (refused.code, refused.error["where"])
    assert "bee/03.jpg" in (refused.error["got"] or "")
    assert not (tmp_path / "out").exists()
    ended = discern(
        "data", "pack", photos, "--to", "rec", "--out", tmp_path / "out", "--json",
        "--on-bad-image", "skip", "--resize", "24", "--num-thread", "2",
    )  # fmt: skip
    assert (0, 9, 1) == (ended.code, ended.object["images"], ended.object["skipped"])
    assert ["bee/03.jpg"] == [problem["path"] for problem in ended.object["problems"]]
    assert "left out: bee/03.jpg" in ended.stderr
    found = list(records((tmp_path / "out" / "data.rec").read_bytes()))
    sizes = [Image.open(io.BytesIO(image)).size for *_, image in found]
    assert (9, {(36, 24), (24, 36)}) == (len(found), set(sizes))


@pytest.mark.feature("MX-53")
def test_png_is_packed_without_a_quality(photos: Path, tmp_path: Path) -> None:
    ended = discern(
        "data", "pack", photos, "--to", "folder", "--out", tmp_path / "out",
        "--encoding", ".png", "--center-crop", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    images = sorted((tmp_path / "out").rglob("*.png"))
    assert (10, {("PNG", (40, 40))}) == (
        len(images),
        {(image.format, image.size) for image in map(Image.open, images)},
    )


@pytest.mark.feature("MX-54")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_labels_an_image_come_back_from_records(
    photos: Path, tmp_path: Path, count: int
) -> None:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.glob("ant/0*.jpg"))
    rows = [
        {"path": name, **{f"kind{k}": f"v{(number + k) % 2}" for k in range(count)}}
        for number, name in enumerate(names)
    ]
    table = write_table(photos / "labels.csv", rows)
    labels = [part for k in range(count) for part in ("--label", f"kind{k}")]
    ended = discern(
        "data", "pack", table, *labels, "--to", "rec", "--pack-label", "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    listed = [line.split("\t") for line in (tmp_path / "out/data.lst").read_text().splitlines()]
    wanted = {row["path"]: [row[f"kind{k}"] for k in range(count)] for row in rows}
    assert 4 == len(listed)
    for _, *values, name in listed:
        assert wanted[Path(name).as_posix()] == [f"v{int(float(value))}" for value in values]
    written = discern("data", "scan", tmp_path / "out", "--out", tmp_path / "back.jsonl", "--json")
    assert 0 == written.code, written.stderr
    lines = (tmp_path / "back.jsonl").read_text().splitlines()
    back = [json.loads(line) for line in lines if "discern" not in json.loads(line)]
    names = [f"kind{k}" for k in range(count)] if count > 1 else ["label"]  # the one needs no name
    assert sorted(wanted.values()) == sorted([row[name] for name in names] for row in back)


def test_finished_pack_is_not_written_over(packed: Packed, photos: Path) -> None:
    before = tree(packed.folder("folder"))
    ended = discern("data", "pack", photos, "--to", "folder", "--out", packed.folder("folder"),
                    "--json")  # fmt: skip
    assert (1, str(packed.folder("folder"))) == (ended.code, ended.error["where"])
    assert before == tree(packed.folder("folder"))


@pytest.mark.parametrize(
    ("flags", "where"),
    [(("--to", "zip"), "zip"), (("--quality", "0"), "0"), (("--recipe", "caltech"), "caltech")],
)
def test_packing_that_cannot_be_is_refused_before_it_begins(
    photos: Path, tmp_path: Path, flags: tuple[str, str], where: str
) -> None:
    ended = discern("data", "pack", photos, "--out", tmp_path / "out", *flags, "--json")
    assert (2, "config") == (ended.code, ended.error["kind"])
    assert where in (ended.error["got"] or "")
    assert ended.error["expected"]
    assert not (tmp_path / "out").exists()


def _hear_interrupts() -> None:
    """What a shell starts in the background ignores SIGINT, and so do its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_interrupted_pack_is_told_not_read_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    # Enlarged, so that the pack cannot be over before the signal comes.
    command = [
        "data", "pack", "digits", "--to", "folder", "--max-size", "128", "--out", str(out), "--json"
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "discern.cli.main", *command],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
        preexec_fn=_hear_interrupts,
    ) as child:  # fmt: skip
        until = time.monotonic() + 60
        while not list(out.glob("*/*.png")) and time.monotonic() < until:
            time.sleep(0.001)
        child.send_signal(signal.SIGINT)
        stdout, stderr = child.communicate(timeout=60)
    ended = Ended(child.returncode, stdout, stderr)
    assert (130, "interrupted") == (ended.code, ended.error["kind"]), stderr
    # a part of the data is not taken for the whole
    for use in (("data", "scan", out), ("data", "verify", out)):
        refused = discern(*use, "--json")
        assert (1, str(out)) == (refused.code, refused.error["where"])
        assert "the pack in this folder is unfinished" == refused.error["what"]
    again = discern(*command)
    assert (0, 1797) == (again.code, again.object["images"]), again.stderr
    assert 1797 == discern("data", "verify", out, "--json").object["images"]


def test_a_list_keeps_its_ids_and_one_of_other_records_is_refused(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", ("ant", "bee"), each=8)
    discern("data", "list", "l1", "pets", "--recursive", cwd=tmp_path)
    ended = discern(
        "data", "pack", "l1.lst", "--root", "pets", "--to", "rec", "--out", "kept", cwd=tmp_path
    )
    assert 0 == ended.code, ended.stderr
    lines = (tmp_path / "l1.lst").read_text().splitlines()
    assert lines == (tmp_path / "kept/data.lst").read_text().splitlines()
    keys = [line.split("\t")[0] for line in (tmp_path / "kept/data.idx").read_text().splitlines()]
    assert [line.split("\t")[0] for line in lines] == keys
    content = (tmp_path / "kept/data.rec").read_bytes()
    assert [int(key) for key in keys] == [number for _, _, number, _ in records(content)]
    # Labels by the list's ids find their images.
    swapped = [line.replace("\t0.", "\t9.").replace("\t1.", "\t0.") for line in lines]
    swapped = [line.replace("\t9.", "\t1.") for line in swapped]
    (tmp_path / "other.lst").write_text("\n".join(swapped) + "\n")
    scanned = discern(
        "data", "scan", "kept/data.rec", "--lst", "other.lst", "--out", "m.csv", cwd=tmp_path
    )
    assert 0 == scanned.code, scanned.stderr
    # A list with the same ids for other images is not believed.
    rest = [line.partition("\t")[2] for line in lines]
    shifted = [f"{key}\t{text}" for key, text in zip(keys, rest[1:] + rest[:1], strict=True)]
    (tmp_path / "shifted.lst").write_text("\n".join(shifted) + "\n")
    refused = discern(
        "data", "scan", "kept/data.rec", "--lst", "shifted.lst", "--json", cwd=tmp_path
    )
    assert (1, "the list numbers other records than these") == (
        refused.code,
        refused.error["what"],
    )
