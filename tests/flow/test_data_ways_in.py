"""Every way in: what lies there is recognized, named in one line, and counted right."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from discern_process import QUICK, discern, make_images, write_table
from PIL import Image

MAGIC = bytes.fromhex("0a23d7ce")
PLACES = [f"{name}/{n:02d}.jpg" for name in ("ant", "bee") for n in range(3)]
LABELS = [place.split("/", 1)[0] for place in PLACES]


def _flat(root: Path) -> list[bytes]:
    """Six photos 0.jpg to 5.jpg, three of each class; gives their bytes."""
    root.mkdir()
    images = make_images(root.parent / f"{root.name}-made", each=3)
    contents = [(images / place).read_bytes() for place in PLACES]
    for number, content in enumerate(contents):
        (root / f"{number}.jpg").write_bytes(content)
    return contents


def _class_folders(root: Path) -> str:
    make_images(root / "pets", each=3)
    return "pets"


def _several_roots(root: Path) -> str:
    make_images(root / "one", ("ant",), each=3)
    make_images(root / "two", ("ant", "bee"), each=3, first=10)
    for path in (root / "two/ant").iterdir():
        path.unlink()
    (root / "two/ant").rmdir()
    return "one,two"


def _splits(root: Path) -> str:
    make_images(root / "pets/train", each=2)
    make_images(root / "pets/validation", each=1, first=9)
    return "pets"


def _flat_and_table(root: Path) -> str:
    _flat(root / "pets")
    rows = [{"file": f"{n}.jpg", "class": label} for n, label in enumerate(LABELS)]
    write_table(root / "pets/labels.csv", rows)
    return "pets"


def _json_lines(root: Path) -> str:
    _flat(root / "pets")
    rows = [json.dumps({"path": f"pets/{n}.jpg", "label": x}) for n, x in enumerate(LABELS)]
    (root / "table.jsonl").write_text("\n".join(rows))
    return "table.jsonl"


def _parquet(root: Path) -> str:
    import pyarrow as pa
    from pyarrow import parquet

    _flat(root / "pets")
    columns = {"path": [f"pets/{n}.jpg" for n in range(6)], "label": LABELS}
    parquet.write_table(pa.table(columns), root / "table.parquet")
    return "table.parquet"


def _lambda_tables(root: Path) -> str:
    _flat(root / "pets")
    for number in (0, 1):
        lines = [f"'{n}.jpg',{number}\n" for n in range(3 * number, 3 * number + 3)]
        (root / f"pets/part{number}.csv").write_text("".join(lines))
    return "pets/part0.csv,pets/part1.csv"


def _catalyst(root: Path) -> str:
    _flat(root / "pets")
    rows = [{"tag": label, "filepath": f"pets/{n}.jpg"} for n, label in enumerate(LABELS)]
    write_table(root / "dataset.csv", rows)
    (root / "tag2class.json").write_text('{"ant": 0, "bee": 1}')
    return "dataset.csv,tag2class.json"


def _list(root: Path) -> str:
    _flat(root / "pets")
    lines = [f"{n}\t{int(x == 'bee')}.000000\t{n}.jpg\n" for n, x in enumerate(LABELS)]
    (root / "pets/pets.lst").write_text("".join(lines))
    return "pets/pets.lst"


def write_records(path: Path, images: list[bytes], labels: list[float]) -> list[int]:
    """A record file by the table of features 6.1 and 6.2, parts and all; gives the offsets."""
    content, offsets = bytearray(), []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        payload = struct.pack("<IfQQ", 0, label, number, 0) + image
        offsets.append(len(content))
        cuts = [at for at in range(0, len(payload) - 3, 4) if payload[at : at + 4] == MAGIC]
        ends = [*cuts, len(payload)]
        starts = [0, *(at + 4 for at in cuts)]
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            flag = 0 if not cuts else 1 if place == 0 else 3 if end == len(payload) else 2
            content += MAGIC + struct.pack("<I", flag << 29 | end - start) + payload[start:end]
            content += bytes(-(end - start) % 4)
    path.write_bytes(content)
    return offsets


def _embed(image: bytes) -> bytes:
    """The photo with a comment that holds the magic at a multiple of four of the payload."""
    start = image[:2] + b"\xff\xfe" + struct.pack(">H", 2 + 2 + 12)
    return start + b".." + MAGIC + b"...." + MAGIC + image[2:]


def _records(root: Path) -> str:
    write_records(root / "pets.rec", _flat(root / "pets"), [float(x == "bee") for x in LABELS])
    return "pets.rec"


def _records_with_index(root: Path) -> str:
    contents = [_embed(image) for image in _flat(root / "pets")]
    offsets = write_records(root / "pets.rec", contents, [float(x == "bee") for x in LABELS])
    assert (root / "pets.rec").read_bytes().count(MAGIC) == 18  # three parts a record
    (root / "pets.idx").write_text("".join(f"{n}\t{at}\n" for n, at in enumerate(offsets)))
    return "pets.rec"


def _directory_of_records(root: Path) -> str:
    contents = _flat(root / "pets")
    (root / "recs").mkdir()
    for number in (0, 1):
        part = contents[3 * number : 3 * number + 3]
        write_records(root / f"recs/part{number}.rec", part, [float(number)] * 3)
    return "recs"


def _shards(root: Path) -> str:
    contents = _flat(root / "pets")
    for shard in (0, 1):
        with tarfile.open(root / f"pets-{shard:06d}.tar", "w") as archive:
            for n in range(3 * shard, 3 * shard + 3):
                for name, data in (("jpg", contents[n]), ("cls", b"%d" % (n // 3))):
                    entry = tarfile.TarInfo(f"{n:05d}.{name}")
                    entry.size = len(data)
                    archive.addfile(entry, io.BytesIO(data))
    return "pets-{000000..000001}.tar"


def _hugging_face(root: Path) -> str:
    _flat(root / "pets")
    (root / "set").mkdir()
    (root / "pets").rename(root / "set/train")
    rows = [{"file_name": f"{n}.jpg", "label": label} for n, label in enumerate(LABELS)]
    write_table(root / "set/train/metadata.csv", rows)
    return "set"


def _arrays(root: Path) -> str:
    contents = _flat(root / "pets")
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in contents])
    np.savez(root / "pets.npz", images=pixels, labels=np.array(LABELS))
    return "pets.npz"


def _archive(mode: str, name: str) -> Callable[[Path], str]:
    def make(root: Path) -> str:
        images = make_images(root / "pets", each=3)
        if mode == "zip":
            with zipfile.ZipFile(root / name, "w") as packed:
                for place in PLACES:
                    packed.write(images / place, place)
        else:
            with tarfile.open(root / name, mode) as archive:  # type: ignore[call-overload]
                archive.add(images, "pets")
        return name

    return make


NAMES = {"ant": 3, "bee": 3}
NUMBERS = {"0": 3, "1": 3}
WAYS: dict[str, tuple[Callable[[Path], str], dict[str, int], str]] = {
    "class folders": (_class_folders, NAMES, "class folders"),
    "several roots": (_several_roots, NAMES, "class folders"),
    "train and val": (_splits, NAMES, "folders train, val of class folders"),
    "folder and table": (_flat_and_table, NAMES, "table of 6 rows, label column 'class'"),
    "jsonl": (_json_lines, NAMES, "table of 6 rows"),
    "parquet": (_parquet, NAMES, "table of 6 rows"),
    "headless tables": (_lambda_tables, NUMBERS, "without a header"),
    "table and numbers": (_catalyst, NAMES, "table of 6 rows"),
    "list": (_list, NUMBERS, "list of 6 images"),
    "records": (_records, NUMBERS, "1 record file"),
    "records in parts": (_records_with_index, NUMBERS, "with index"),
    "directory of records": (_directory_of_records, NUMBERS, "2 record files"),
    "shards": (_shards, NUMBERS, "tar shard"),
    "metadata": (_hugging_face, NAMES, "Hugging Face"),
    "npz": (_arrays, NAMES, "array"),
    "tar": (_archive("w", "pets.tar"), NAMES, "archive of"),
    "tgz": (_archive("w:gz", "pets.tgz"), NAMES, "archive of"),
    "tar.gz": (_archive("w:gz", "pets.tar.gz"), NAMES, "archive of"),
    "zip": (_archive("zip", "pets.zip"), NAMES, "archive of"),
}


@pytest.mark.parametrize("way", WAYS)
def test_way_in_is_found_named_and_counted(tmp_path: Path, way: str) -> None:
    make, classes, layout = WAYS[way]
    ended = discern("data", "scan", make(tmp_path), "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    told = ended.object
    assert (6, 0, classes) == (told["images"], told["unreadable"], told["classes"])
    assert layout in told["layout"]
    assert 1 == ended.stderr.count(f"data     {told['layout']}\n")


@pytest.mark.feature("CA-01", "ML-17", "PP-19")
def test_ready_folders_are_trained_and_tested_without_a_flag(tmp_path: Path) -> None:
    make_images(tmp_path / "pets/train", each=12)
    make_images(tmp_path / "pets/test", each=5, first=30)
    ended = discern("train", "pets", *QUICK, "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert ("test", 10) == (ended.object["metrics"]["split"], ended.object["metrics"]["count"])
    both = discern("data", "scan", "pets/train,pets/test", "--json", cwd=tmp_path)
    assert ({"ant": 17, "bee": 17}, 34) == (both.object["classes"], both.object["images"])


@pytest.mark.feature("LA-10")
def test_tables_without_headers_are_joined_and_trained(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=10)
    for number, name in enumerate(("ant", "bee")):
        lines = [f"'{name}/{n:02d}.jpg',{number}\n" for n in range(10 - number)]
        (tmp_path / f"pets/{name}.csv").write_text("".join(lines))
    tables = "pets/ant.csv,pets/bee.csv"
    ended = discern("data", "scan", tables, "--json", cwd=tmp_path)
    assert (10 + 9, {"0": 10, "1": 9}) == (ended.object["images"], ended.object["classes"])


@pytest.mark.feature("MX-30")
def test_records_of_others_score_as_their_images(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=10)
    places = [f"{name}/{n:02d}.jpg" for name in ("ant", "bee") for n in range(10)]
    contents = [_embed((tmp_path / "pets" / place).read_bytes()) for place in places]
    for place, content in zip(places, contents, strict=True):
        (tmp_path / "pets" / place).write_bytes(content)
    write_records(tmp_path / "pets.rec", contents, [float(p[:3] == "bee") for p in places])
    (tmp_path / "pets_classes.txt").write_text("ant\nbee\n")
    trained = discern("train", "pets", *QUICK, "--json", cwd=tmp_path)
    assert 0 == trained.code, trained.stderr
    scores = []
    for data in ("pets", "pets.rec"):
        ended = discern(
            "eval", trained.object["path"], data, "--device", "cpu", "--json", cwd=tmp_path
        )
        assert 0 == ended.code, ended.stderr
        metrics = ended.object["metrics"]
        scores.append((metrics["count"], metrics["accuracy"], metrics["loss"]))
    assert scores[0] == scores[1]


def test_several_labels_an_image_come_as_columns_of_0_and_1(tmp_path: Path) -> None:
    _flat(tmp_path / "pets")
    rows: list[dict[str, object]] = []
    for number, tags in enumerate(("red", "red wet", "wet", "dry", "dry red", "red")):
        flags = {name: int(name in tags.split()) for name in ("dry", "red", "wet")}
        rows.append({"path": f"pets/{number}.jpg", **flags})
    write_table(tmp_path / "table.csv", rows)
    ended = discern("data", "scan", "table.csv", "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert (6, {"dry": 2, "red": 4, "wet": 2}) == (ended.object["images"], ended.object["classes"])
    assert "several an image" in ended.object["layout"]


def test_table_with_a_byte_order_mark_and_semicolons_is_read(tmp_path: Path) -> None:
    _flat(tmp_path / "pets")
    lines = ["path;label", *(f"pets/{n}.jpg;{label}" for n, label in enumerate(LABELS))]
    (tmp_path / "table.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    ended = discern("data", "scan", "table.csv", "--json", cwd=tmp_path)
    assert (0, NAMES) == (ended.code, ended.object["classes"]), ended.stderr


@pytest.mark.parametrize("fault", ["missing", "ragged", "nul"])
def test_table_with_a_fault_is_refused_with_its_row(tmp_path: Path, fault: str) -> None:
    _flat(tmp_path / "pets")
    rows = [f"pets/{n}.jpg,{label}" for n, label in enumerate(LABELS)]
    rows[4] = {"missing": "pets/9.jpg,bee", "ragged": "pets/4.jpg,bee,x,y", "nul": "pets/\0,bee"}[
        fault
    ]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    ended = discern("data", "pack", "table.csv", "--out", "out", "--json", cwd=tmp_path)
    assert (1, "data") == (ended.code, ended.error["kind"])
    told = " ".join(text or "" for text in ended.error.values())
    assert "table.csv" in (ended.error["where"] or "")
    assert "pets/9.jpg" in told if fault == "missing" else "6" in told
    assert not (tmp_path / "out").exists()


def test_links_of_a_folder_are_followed_and_faults_told_once(tmp_path: Path) -> None:
    make_images(tmp_path / "real/bee", (".",), each=3)
    make_images(tmp_path / "pets", ("ant",), each=3)
    (tmp_path / "pets/bee").symlink_to(tmp_path / "real/bee")
    (tmp_path / "pets/ant/loop").symlink_to(tmp_path / "pets")
    (tmp_path / "pets/ant/gone.jpg").symlink_to(tmp_path / "nothing.jpg")
    (tmp_path / "way").symlink_to(tmp_path / "pets")
    ended = discern("data", "scan", "way", "--json", cwd=tmp_path)
    assert 0 == ended.code, ended.stderr
    assert NAMES == ended.object["classes"]
    assert 1 == json.dumps(ended.object).count("gone.jpg")
    assert [("link", "ant/gone.jpg"), ("link", "ant/loop")] == sorted(
        (problem["kind"], problem["path"]) for problem in ended.object["problems"]
    )


@pytest.mark.parametrize(
    ("name", "hint"), [("labels.json", ".jsonl"), ("sheet.xlsx", "CSV"), ("set.pkl", ".npz")]
)
def test_file_of_no_kind_is_refused_with_the_kind_to_make(
    tmp_path: Path, name: str, hint: str
) -> None:
    (tmp_path / name).write_bytes(b"\x00\x01")
    ended = discern("data", "scan", name, "--json", cwd=tmp_path)
    assert (1, "data") == (ended.code, ended.error["kind"])
    assert hint in (ended.error["hint"] or "")
    assert ended.error["expected"]
