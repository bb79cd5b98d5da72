"""`discern data scan|check|stats|preview` and `discern bench io`: what is told is what there is."""

from __future__ import annotations

import csv
import shutil
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from discern_process import Ended, discern, make_images, picture
from PIL import Image

PROBLEM = ["kind", "path", "text"]


def smooth(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of large soft spots, unlike that of any other seed."""
    spots = np.random.default_rng(seed).integers(0, 255, (6, 8, 3)).astype(np.uint8)
    return Image.fromarray(spots).resize(size, Image.Resampling.BICUBIC)


def _huge_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be of this many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


# ---- check: every planted fault is found ----


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight sound photos each, and sixteen more, most with something the matter."""
    root = tmp_path_factory.mktemp("faulty") / "pets"
    for label, name in enumerate(("ant", "bee")):
        (root / name).mkdir(parents=True)
        for number in range(8):
            smooth(100 * label + number).save(root / name / f"{number:02d}.jpg", quality=92)
    ant, bee = root / "ant", root / "bee"
    (ant / "cut.jpg").write_bytes((ant / "01.jpg").read_bytes()[:600])
    (ant / "empty.jpg").write_bytes(b"")
    (ant / "noise.jpg").write_bytes(np.random.default_rng(5).bytes(900))
    smooth(900).save(ant / "png.jpg", format="PNG")
    (ant / "drawing.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    (ant / "bomb.png").write_bytes(_huge_png(30_000, 30_000))
    smooth(901, (5, 4)).save(ant / "tiny.png")
    smooth(902).convert("CMYK").save(bee / "inks.jpg")
    smooth(903).convert("P").save(bee / "palette.png")
    turned = Image.Exif()
    turned[274] = 6
    smooth(905).save(bee / "turned.jpg", exif=turned)
    shutil.copy(ant / "02.jpg", ant / "same.jpg")
    shutil.copy(ant / "03.jpg", bee / "other.jpg")
    smooth(4).resize((80, 60), Image.Resampling.BICUBIC).save(ant / "near.jpg", quality=60)
    (root / "Ant").mkdir()
    for number in range(3):
        smooth(950 + number).save(root / "Ant" / f"{number}.jpg")
    return root


@pytest.fixture(scope="module")
def checked(faulty: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """How a strict check of the faulty images ended, and the folder of what it wrote."""
    out = tmp_path_factory.mktemp("checked")
    ended = discern(
        "data", "check", faulty, "--strict", "--page", out / "page.html",
        "--quarantine", out / "leave_out.csv", "--json",
        env={"DISCERN_CACHE": str(out / "cache")},
    )  # fmt: skip
    return ended, out


PLANTED = {
    "truncated": {"ant/cut.jpg"},
    "zero-bytes": {"ant/empty.jpg"},
    "corrupt": {"ant/noise.jpg"},
    "wrong-extension": {"ant/png.jpg", "ant/drawing.png"},
    "huge": {"ant/bomb.png"},
    "tiny": {"ant/tiny.png"},
    "odd-mode": {"bee/inks.jpg", "bee/palette.png"},
    "exif-rotated": {"bee/turned.jpg"},
    "exact-duplicate": {"ant/02.jpg", "ant/same.jpg", "ant/03.jpg", "bee/other.jpg"},
    "label-conflict": {"ant/03.jpg", "bee/other.jpg"},
    "near-duplicate": {"ant/04.jpg", "ant/near.jpg"},
}


@pytest.mark.feature("PP-04")
def test_every_planted_fault_is_found_and_nothing_else(checked: tuple[Ended, Path]) -> None:
    ended, _ = checked
    assert 3 == ended.code, ended.stderr
    found: dict[str, set[str]] = {}
    for problem in ended.object["problems"]:
        assert set(PROBLEM) <= set(problem)
        found.setdefault(problem["kind"], set()).add(problem["path"])
    of_classes = {"case-twin", "class-imbalance", "small-class"}
    assert PLANTED == {kind: paths for kind, paths in found.items() if kind not in of_classes}
    assert "case-twin" in found


def test_counts_of_a_check_are_those_of_the_files(
    faulty: Path, checked: tuple[Ended, Path]
) -> None:
    told = checked[0].object
    files = sum(path.is_file() for path in faulty.rglob("*"))
    # cut, empty, noise, drawing and bomb cannot be read
    assert (files, files - 5, 5) == (told["files"], told["images"], told["unreadable"])
    assert {"Ant", "ant", "bee"} == set(told["classes"])


@pytest.mark.feature("PP-04")
def test_list_to_leave_out_names_the_damaged_and_deletes_nothing(
    faulty: Path, checked: tuple[Ended, Path]
) -> None:
    rows = list(csv.DictReader((checked[1] / "leave_out.csv").read_text().splitlines()))
    listed = {row["path"]: row["kind"] for row in rows}
    damaged = {"ant/cut.jpg", "ant/empty.jpg", "ant/noise.jpg", "ant/drawing.png", "ant/bomb.png"}
    assert damaged <= set(listed)
    assert "label-conflict" == listed["bee/other.jpg"]
    assert 1 == len({"ant/02.jpg", "ant/same.jpg"} & set(listed))  # one of each is kept
    assert all((faulty / name).is_file() for name in listed)


def test_page_of_a_check_stands_alone(checked: tuple[Ended, Path]) -> None:
    page = (checked[1] / "page.html").read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert all(f"ant/{name}" in page for name in ("cut.jpg", "empty.jpg", "same.jpg"))
    assert "data:image/" in page
    assert "src=http" not in page.replace('"', "")


def test_faults_alone_do_not_fail_a_check_that_is_not_strict(faulty: Path) -> None:
    ended = discern("data", "check", faulty, "--no-near")
    assert 0 == ended.code
    assert "truncated" in ended.stdout
    assert "ant/cut.jpg" in ended.stdout


def test_strict_check_of_sound_data_passes(tmp_path: Path) -> None:
    for label, name in enumerate(("ant", "bee")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(12):
            smooth(40 * label + number).save(tmp_path / "pets" / name / f"{number}.jpg")
    ended = discern("data", "check", tmp_path / "pets", "--strict", "--json")
    assert (0, []) == (ended.code, ended.object["problems"]), ended.stdout
    assert (24, 24, 0) == tuple(ended.object[key] for key in ("files", "images", "unreadable"))


def test_image_in_train_and_test_is_a_leak(tmp_path: Path) -> None:
    make_images(tmp_path / "pets" / "train", each=6)
    make_images(tmp_path / "pets" / "test", each=3, first=20)
    shutil.copy(tmp_path / "pets/train/ant/00.jpg", tmp_path / "pets/test/ant/20.jpg")
    ended = discern("data", "check", tmp_path / "pets", "--no-near", "--strict", "--json")
    assert 3 == ended.code
    leaks = {p["path"] for p in ended.object["problems"] if p["kind"] == "leakage"}
    assert {"train/ant/00.jpg", "test/ant/20.jpg"} == leaks


def test_real_flowers_hold_the_one_pair_of_equal_bytes(shared_data: Path) -> None:
    ended = discern(
        "data", "check", shared_data / "flowers12" / "flowers12.tar", "--no-near", "--json"
    )
    assert (0, 960, 0) == (ended.code, ended.object["images"], ended.object["unreadable"])
    assert [80] * 12 == list(ended.object["classes"].values())
    assert {"train/iris/image_0422.jpg", "train/iris/image_0469.jpg"} == {
        problem["path"] for problem in ended.object["problems"]
    }


def test_classes_of_validation_that_train_lacks_are_told(tmp_path: Path) -> None:
    make_images(tmp_path / "pets" / "train", each=6)
    make_images(tmp_path / "pets" / "val", ("ant", "bee", "wasp"), each=3, first=20)
    ended = discern("data", "check", tmp_path / "pets", "--no-near", "--strict", "--json")
    assert 3 == ended.code
    assert any("wasp" in problem["text"] for problem in ended.object["problems"])


# ---- scan ----


def test_scan_counts_what_opens_and_names_what_does_not(faulty: Path) -> None:
    ended = discern("data", "scan", faulty, "--json")
    assert 0 == ended.code
    told = ended.object
    assert {"files", "images", "classes", "unreadable", "problems"} <= set(told)
    files = sum(path.is_file() for path in faulty.rglob("*"))
    assert (files, 5) == (told["images"], told["unreadable"])
    assert set(PROBLEM) <= set(told["problems"][0])
    assert {"ant/bomb.png", "ant/cut.jpg", "ant/drawing.png", "ant/empty.jpg", "ant/noise.jpg"} == {
        problem["path"] for problem in told["problems"]
    }
    assert f"data     {told['layout']}\n" in ended.stderr


@pytest.mark.feature("MX-32")
def test_size_classes_and_counts_are_found_without_a_flag(tmp_path: Path) -> None:
    make_images(tmp_path / "pets", each=5, size=(40, 24))
    make_images(tmp_path / "pets", ("wasp",), each=1, size=(80, 60))
    ended = discern("data", "scan", tmp_path / "pets", "--json")
    told = ended.object
    assert {"ant": 5, "bee": 5, "wasp": 1} == told["classes"]
    assert (11, 11, 3) == (told["files"], told["images"], told["channels"])
    sizes = {"smallest": [24, 40], "median": [24, 40], "largest": [60, 80]}
    assert sizes == told["sizes"]


def test_scan_of_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for data, what in (
        ("pets", "there are no images in the folder"),
        ("pet", "there is no such data"),
    ):
        ended = discern("data", "scan", data, "--out", "m.csv", "--json", cwd=tmp_path)
        assert (1, what) == (ended.code, ended.error["what"])
        assert ended.error["expected"]
    assert "'pets'" in (ended.error["hint"] or "")
    ended = discern("data", "scan", "pets", "--recursiv", "--json", cwd=tmp_path)
    assert (2, "no such flag: --recursiv") == (ended.code, ended.error["what"])
    assert ["pets"] == [path.name for path in tmp_path.iterdir()]


# ---- stats ----


def test_statistics_are_those_of_the_pixels(tmp_path: Path) -> None:
    root = make_images(tmp_path / "pets", each=6, size=(24, 24))
    for path in root.glob("*/*.jpg"):  # lossless, so that the means can be counted here
        Image.open(path).save(path.with_suffix(".png"))
        path.unlink()
    ended = discern("data", "stats", root, "--json")
    assert 0 == ended.code, ended.stderr
    told = ended.object
    pixels = np.stack([np.asarray(Image.open(path)) for path in sorted(root.glob("*/*.png"))])
    rgb = pixels.reshape(-1, 3) / 255
    assert (12, 24, 24, 3) == tuple(
        told["measured"][key] for key in ("images", "height", "width", "channels")
    )
    assert told["measured"]["mean"] == pytest.approx(rgb.mean(0), abs=2e-4)
    assert told["measured"]["std"] == pytest.approx(rgb.std(0), abs=2e-4)
    assert {"ant": 6, "bee": 6} == told["heads"][0]["classes"]
    assert ({"PNG": 12}, {"RGB": 12}) == (told["formats"], told["modes"])
    sizes = [path.stat().st_size for path in root.glob("*/*.png")]
    assert (sum(sizes), max(sizes)) == (told["total_bytes"], told["bytes"]["largest"])
    text = discern("data", "stats", root).stdout
    assert f"{rgb.mean(0)[0]:.3f}"[:4] in text


def test_statistics_of_damaged_data_need_leave_to_skip(faulty: Path) -> None:
    ended = discern("data", "stats", faulty, "--json")
    assert (1, "5 of 32 images cannot be read") == (ended.code, ended.error["what"])
    assert "--on-bad-image skip" in (ended.error["hint"] or "")
    ended = discern("data", "stats", faulty, "--on-bad-image", "skip", "--json")
    assert (0, 27, 5) == (ended.code, ended.object["images"], len(ended.object["unreadable"]))


# ---- preview ----


def _preview(data: Path, out: Path, *flags: str) -> Ended:
    return discern(
        "data", "preview", data, "--out", out, "--model", "mlp", "--device", "cpu", *flags, "--json"
    )


def test_preview_shows_eight_images_twice_as_png(tmp_path: Path) -> None:
    for name in ("red", "blue"):
        (tmp_path / "plain" / name).mkdir(parents=True)
        for number in range(8):
            image = Image.new("RGB", (40, 40), name)
            image.save(tmp_path / "plain" / name / f"{number}.png")
    out = tmp_path / "seen.png"
    ended = _preview(tmp_path / "plain", out, "--img-size", "96", "--augment", "none")
    assert 0 == ended.code, ended.stderr
    assert (str(out), 8, 0) == (
        ended.object["out"], len(ended.object["names"]), ended.object["crop_loss"],
    )  # fmt: skip
    with Image.open(out) as image:
        assert "PNG" == image.format
        pixels = np.asarray(image.convert("RGB")).astype(int)
    plain = [np.abs(pixels - color).max(-1) <= 2 for color in ((255, 0, 0), (0, 0, 255))]
    # four of each color, as trained and as scored, each at the network's size
    assert [4 * 2 * 96 * 96] * 2 == [int(found.sum()) for found in plain]


def test_preview_warns_of_what_the_crop_cuts_off(tmp_path: Path) -> None:
    data = make_images(tmp_path / "pets", each=8, size=(80, 40))
    flags = ("--img-size", "40", "--crop-pct", "1")
    ended = _preview(data, tmp_path / "a.png", *flags, "--fit", "crop")
    assert 0.5 == pytest.approx(ended.object["crop_loss"])
    assert "the crop cuts off 50%" in ended.stderr
    assert "--fit pad" in ended.stderr
    ended = _preview(data, tmp_path / "b.png", *flags, "--fit", "pad")
    assert 0 == ended.object["crop_loss"]
    assert "cuts off" not in ended.stderr


def test_preview_of_nothing_writes_nothing(tmp_path: Path) -> None:
    ended = _preview(tmp_path / "none", tmp_path / "seen.png")
    assert (1, "there is no such data") == (ended.code, ended.error["what"])
    assert [] == list(tmp_path.iterdir())


# ---- bench io ----


def _decoders(rows: Sequence[dict[str, object]]) -> list[tuple[object, object, object]]:
    return [(row["container"], row["decoder"], row["workers"]) for row in rows]


def test_speed_of_reading_is_told_by_container_decoder_and_threads(tmp_path: Path) -> None:
    data = make_images(tmp_path / "pets", each=4, size=(96, 80))
    packed = discern("data", "pack", data, "--out", tmp_path / "packed")
    assert 0 == packed.code, packed.stderr
    for path in sorted(data.glob("*/*.jpg")):  # a folder without classes is enough
        path.rename(data / f"{path.parent.name}{path.name}")
    for name in ("ant", "bee"):
        (data / name).rmdir()
    ended = discern(
        "bench", "io", data, tmp_path / "packed", "--rounds", "2", "--images", "8",
        "--workers", "0,1", "--decoders", "mixed,pillow", "--img-size", "32", "--json",
    )  # fmt: skip
    assert 0 == ended.code, ended.stderr
    rows = ended.object["results"]
    assert {
        (container, decoder, workers)
        for container in ("pets", "packed")
        for decoder in ("mixed", "pillow")
        for workers in (0, 1)
    } == set(_decoders(rows))
    for row in rows:
        assert 8 == row["images"]
        for speed in (row["images_per_cpu_s"], row["images_per_s"]):
            assert 0 < speed["min"] <= speed["median"] <= speed["max"]
        assert row["binds"] in ("read", "decode", "augment", "copy", "wait")


def test_speed_of_an_unknown_decoder_is_refused(tmp_path: Path) -> None:
    picture(0, 0).save(tmp_path / "one.png")
    ended = discern("bench", "io", tmp_path, "--decoders", "fastest", "--json")
    assert (2, "fastest") == (ended.code, ended.error["got"])
