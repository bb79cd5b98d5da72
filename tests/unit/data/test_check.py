"""The check finds what was planted, says nothing of sound data, and is never stopped by any."""

from __future__ import annotations

import csv
import io
import json
import struct
import tarfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from discern.base.errors import ConfigError, DataError
from discern.data.check import CheckOptions, check_data
from discern.data.check_findings import KINDS, read_quarantine, rows_to_keep
from discern.data.scan import DataRequest, scan_data


def picture(number, size=(80, 60), mode="RGB"):
    """A smooth colored picture of its own: no two numbers look alike."""
    draw = np.random.default_rng(number)
    small = draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


def encoded(image, kind="JPEG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def put(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.fixture
def sound(tmp_path):
    """Two classes of 12 different photos."""
    root = tmp_path / "pets"
    for number in range(24):
        put(root / ("cat", "dog")[number % 2] / f"{number:02d}.jpg", encoded(picture(number)))
    return root


def check(source, options=None, **request):
    return check_data(DataRequest(train=str(source), threads=2, **request), options)


def kinds_of(report, path):
    return {finding.kind for finding in report.findings if path in finding.paths}


def only(report, kind):
    (finding,) = report.of_kind(kind)
    return finding


def test_sound_data_has_no_findings(sound):
    report = check(sound)
    assert () == report.findings
    assert {"all": {"cat": 12, "dog": 12}} == report.class_counts
    record = json.loads(json.dumps(report.record(), allow_nan=False))
    assert [24, 24, {"cat": 12, "dog": 12}, 0, []] == [
        record[key] for key in ("files", "images", "classes", "unreadable", "problems")
    ]
    assert report.passes(strict=True)
    assert "nothing found" == report.summary_lines()[-1]


def bomb():
    """A PNG that says it has 900 million pixels."""

    def chunk(kind, body):
        mark = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + mark

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def flipped(data):
    """The same PNG with pixel data spoiled behind its check sum."""
    place = data.index(b"IDAT") + 40
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


UNREADABLE = {
    "empty.jpg": (b"", "zero-bytes"),
    "cut.jpg": (encoded(picture(900))[:-700], "truncated"),
    "cut.png": (encoded(picture(901), "PNG")[:-700], "truncated"),
    "cut.webp": (encoded(picture(902), "WEBP")[:-100], "truncated"),
    "cut.gif": (encoded(picture(903), "GIF")[:-300], "truncated"),
    "spoiled.png": (flipped(encoded(picture(904), "PNG")), "corrupt"),
    "noise.jpg": (np.random.default_rng(0).bytes(5000), "corrupt"),
    "nul.jpg": (bytes(4000), "corrupt"),
    "drawing.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "wrong-extension"),
    "page.jpg": (b"\n<!DOCTYPE html><html><body>404</body></html>", "wrong-extension"),
    "pointer.jpg": (b"version https://git-lfs.github.com/spec/v1\noid x", "wrong-extension"),
    "bomb.png": (bomb(), "huge"),
}


@pytest.mark.feature("PP-04")
def test_unreadable_files_are_told_by_kind_and_never_stop_the_check(sound):
    for name, (data, _) in UNREADABLE.items():
        put(sound / "cat" / name, data)
    report = check(sound)
    told = {name: kinds_of(report, f"cat/{name}") for name in UNREADABLE}
    assert {name: {kind} for name, (_, kind) in UNREADABLE.items()} == told
    assert [36, 24, 12] == [report.files, report.files - report.unreadable, report.unreadable]
    assert 12 == report.count("error")
    assert report.passes(strict=False)
    assert not report.passes(strict=True)
    assert len(UNREADABLE) == len(report.quarantine())


def test_an_eps_named_png_is_called_what_it_is(sound):
    put(sound / "cat" / "drawing.png", UNREADABLE["drawing.png"][0])
    assert "EPS" in only(check(sound), "wrong-extension").text


@pytest.mark.parametrize("cut", [3, 64, 1000])
def test_a_jpeg_cut_anywhere_is_truncated(sound, cut):
    data = encoded(picture(950, (320, 240)), quality=95)
    put(sound / "dog" / "cut.jpg", data[:-cut])
    assert {"truncated"} == kinds_of(check(sound), "dog/cut.jpg")


def test_damage_that_the_decoder_mends_is_a_warning(sound):
    data = bytearray(encoded(picture(951, (320, 240)), quality=95))
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(4).bytes(300)
    put(sound / "dog" / "hole.jpg", bytes(data))
    png = encoded(picture(952), "PNG")
    put(sound / "dog" / "no_end.png", png[:-12])
    report = check(sound)
    assert {"damaged"} == kinds_of(report, "dog/hole.jpg") == kinds_of(report, "dog/no_end.png")
    assert 0 == report.unreadable
    assert ["dog/hole.jpg", "dog/no_end.png"] == [row[0] for row in report.quarantine()]


def lab_picture():
    image = picture(960)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    return ImageCms.profileToProfile(image, srgb, lab, outputMode="LAB")


def deep_png():
    values = np.random.default_rng(5).integers(0, 65536, (60, 80), dtype=np.uint16)
    return encoded(Image.fromarray(values), "PNG")


ODD = {
    "ink.jpg": (lambda: encoded(picture(961, mode="CMYK")), "CMYK"),
    "palette.png": (lambda: encoded(picture(962, mode="P"), "PNG"), "palette"),
    "alpha.png": (lambda: encoded(picture(963, mode="RGBA"), "PNG"), "transparency"),
    "grey_alpha.png": (lambda: encoded(picture(964, mode="LA"), "PNG"), "transparency"),
    "bits.png": (lambda: encoded(picture(965, mode="1"), "PNG"), "one bit"),
    "deep.png": (deep_png, "16 bit"),
    "lab.tif": (lambda: encoded(lab_picture(), "TIFF"), "LAB"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_modes_are_noted_and_read(sound, name):
    make, word = ODD[name]
    put(sound / "cat" / name, make())
    report = check(sound)
    finding = only(report, "odd-mode")
    assert (f"cat/{name}",) == finding.paths
    assert word in finding.text
    assert ["note", 0] == [finding.severity, report.unreadable]


def test_png_named_jpg_is_readable_but_told(sound):
    put(sound / "cat" / "really.jpg", encoded(picture(966), "PNG"))
    report = check(sound)
    finding = only(report, "wrong-extension")
    assert ["warning", "a PNG image named .jpg"] == [finding.severity, finding.text]
    assert [] == report.quarantine()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_turned_images_are_told_with_their_upright_size(sound, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    name = f"turned.{kind.lower()}"
    put(sound / "cat" / name, encoded(picture(967, (90, 60)), kind, exif=exif))
    report = check(sound)
    assert (f"cat/{name}",) == only(report, "exif-rotated").paths
    row = report.images.paths.index(f"cat/{name}")
    assert [90, 60] == report.images.sizes[row].tolist()


def test_a_turned_copy_is_a_near_duplicate_of_the_upright_one(sound):
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = picture(968, (160, 120))
    put(sound / "cat" / "upright.png", encoded(upright, "PNG"))
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    put(sound / "cat" / "turned.jpg", encoded(turned, quality=95, exif=exif))
    assert {"cat/turned.jpg", "cat/upright.png"} == set(only(check(sound), "near-duplicate").paths)


def test_equal_bytes_are_grouped_and_all_but_one_go(sound):
    data = encoded(picture(970))
    for place in ("cat/x1.jpg", "cat/x2.jpg", "cat/x3.jpg"):
        put(sound / place, data)
    report = check(sound)
    assert ("cat/x1.jpg", "cat/x2.jpg", "cat/x3.jpg") == only(report, "exact-duplicate").paths
    expected = [
        ("cat/x2.jpg", "exact-duplicate", "same bytes as cat/x1.jpg"),
        ("cat/x3.jpg", "exact-duplicate", "same bytes as cat/x1.jpg"),
    ]
    assert expected == report.quarantine()
    assert [{"how": "exact", "paths": ["cat/x1.jpg", "cat/x2.jpg", "cat/x3.jpg"]}] == (
        report.record()["duplicates"]
    )


def test_same_image_under_two_labels_is_a_conflict(sound):
    image = picture(971, (320, 240))
    put(sound / "cat" / "same.jpg", encoded(image))
    put(sound / "dog" / "same.jpg", encoded(image))
    put(sound / "dog" / "smaller.jpg", encoded(image.resize((160, 120))))
    report = check(sound)
    exact, near = report.of_kind("label-conflict")
    assert ["error", "same bytes, labels cat and dog"] == [exact.severity, exact.text]
    assert "warning" == near.severity
    assert {"cat/same.jpg", "dog/same.jpg", "dog/smaller.jpg"} == set(near.paths)
    assert {"cat/same.jpg", "dog/same.jpg"} == {row[0] for row in report.quarantine()}


@pytest.fixture
def split_data(tmp_path):
    """train and test of two classes with 12 photos each."""
    root = tmp_path / "data"
    for number in range(48):
        name = ("cat", "dog")[number % 2]
        put(root / ("train", "test")[number // 24] / name / f"{number}.jpg",
            encoded(picture(number)))  # fmt: skip
    return root


def test_leaks_between_splits_are_found_and_the_train_copy_goes(split_data):
    report = check(split_data)
    assert () == report.findings
    image = picture(980, (320, 240))
    put(split_data / "train" / "cat" / "leak.jpg", encoded(image))
    put(split_data / "test" / "cat" / "leak.jpg", encoded(image))
    put(split_data / "train" / "dog" / "near.png", encoded(picture(981, (320, 240)), "PNG"))
    put(split_data / "test" / "dog" / "near.jpg", encoded(picture(981, (320, 240)), quality=60))
    report = check(split_data)
    exact, near = report.of_kind("leakage")
    assert ["error", "same bytes in test and train"] == [exact.severity, exact.text]
    assert {"train/cat/leak.jpg", "test/cat/leak.jpg"} == set(exact.paths)
    assert "warning" == near.severity
    assert {"train/dog/near.png", "test/dog/near.jpg"} == set(near.paths)
    assert ["train/cat/leak.jpg", "train/dog/near.png"] == [row[0] for row in report.quarantine()]


def test_leaks_between_separate_sources_are_found(sound, tmp_path):
    other = tmp_path / "held"
    put(other / "cat" / "a.jpg", (sound / "cat" / "00.jpg").read_bytes())
    put(other / "dog" / "b.jpg", encoded(picture(982)))
    report = check(sound, test=str(other))
    assert {str(other / "cat/a.jpg"), str(sound / "cat/00.jpg")} == set(
        only(report, "leakage").paths
    )
    assert {"train": {"cat": 12, "dog": 12}, "test": {"cat": 1, "dog": 1}} == report.class_counts


@pytest.mark.feature("PP-03")
def test_classes_of_val_that_train_lacks_are_errors(split_data):
    put(split_data / "test" / "bird" / "b.jpg", encoded(picture(983)))
    for path in (split_data / "test" / "dog").iterdir():
        path.unlink()
    (split_data / "test" / "dog").rmdir()
    unknown, absent = check(split_data).of_kind("class-mismatch")
    assert ["error", "warning"] == [unknown.severity, absent.severity]
    assert "bird" in unknown.text
    assert "dog" in absent.text


@pytest.mark.feature("PP-03")
def test_one_class_folder_is_told(tmp_path):
    for number in range(12):
        put(tmp_path / "val" / "all" / f"{number}.jpg", encoded(picture(number)))
    assert "all" in only(check(tmp_path / "val"), "one-class").text


def test_folder_without_classes_is_checked(tmp_path):
    for number in range(5):
        put(tmp_path / "flat" / f"{number}.jpg", encoded(picture(number)))
    put(tmp_path / "flat" / "cut.jpg", encoded(picture(9))[:-600])
    report = check(tmp_path / "flat")
    assert [6, 1, 0] == [report.files, report.unreadable, len(report.classes)]
    assert {"truncated", "unlabeled"} == set(report.kinds())
    assert "note" == only(report, "unlabeled").severity


def test_empty_class_folder_is_told_and_the_rest_checked(sound):
    (sound / "bird").mkdir()
    report = check(sound)
    assert ("bird",) == only(report, "empty-class").paths
    assert 24 == report.files


def test_files_left_out_for_their_names_are_told(sound):
    put(sound / "cat" / "photo", encoded(picture(984)))
    put(sound / "cat" / "phone.heic", b"\0\0\0\x18ftypheic" + bytes(40))
    put(sound / "cat" / "notes.txt", b"nothing to see")
    put(sound / "cat" / ".hidden", encoded(picture(985)))
    found = check(sound).of_kind("ignored-file")
    assert {("cat/photo",), ("cat/phone.heic",)} == {finding.paths for finding in found}


def test_small_and_unequal_classes(sound):
    put(sound / "bird" / "only.jpg", encoded(picture(986)))
    report = check(sound)
    small = only(report, "small-class")
    assert "error" == small.severity
    assert "bird has 1 image" in small.text
    assert "12 to 1" in only(report, "class-imbalance").text


def test_case_twins(sound):
    for number in range(12):
        put(sound / "Cat " / f"{number}.jpg", encoded(picture(1000 + number)))
    assert "classes Cat  and cat" == only(check(sound), "case-twin").text


def write_table(root, order):
    with open(root / "list.csv", "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerows([("image_path", "label"), *order])
    return root / "list.csv"


@pytest.mark.feature("PP-06")
def test_a_list_ordered_by_label_is_warned_of_and_a_shuffled_one_not(tmp_path):
    rows = []
    for number in range(40):
        put(tmp_path / f"{number}.jpg", encoded(picture(number, (40, 40))))
        rows.append((f"{number}.jpg", "cat" if number < 20 else "dog"))
    finding = only(check(write_table(tmp_path, rows)), "label-runs")
    assert ["warning", True] == [finding.severity, finding.text.startswith("2 runs")]
    np.random.default_rng(0).shuffle(rows)
    assert [] == check(write_table(tmp_path, rows)).of_kind("label-runs")


def test_files_that_a_table_names_in_vain_are_missing(tmp_path):
    rows = []
    for number in range(24):
        put(tmp_path / f"{number}.jpg", encoded(picture(number, (40, 40))))
        rows.append((f"{number}.jpg", ("cat", "dog")[number % 2]))
    report = check(write_table(tmp_path, [*rows, ("gone.jpg", "cat"), ("lost.jpg", "dog")]))
    finding = only(report, "missing")
    assert ["error", ("gone.jpg", "lost.jpg")] == [finding.severity, finding.paths]
    assert 24 == report.files


def test_several_label_columns_are_counted_apart(tmp_path):
    lines = ["image_path,color,shape"]
    for number in range(24):
        put(tmp_path / f"{number}.jpg", encoded(picture(number, (40, 40))))
        lines.append(f"{number}.jpg,{('red', 'blue')[number % 2]},{('cube', 'ball')[number // 22]}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    report = check(tmp_path / "list.csv", label=["color", "shape"])
    expected = {"color/blue": 12, "color/red": 12, "shape/ball": 2, "shape/cube": 22}
    assert expected == report.classes
    assert "shape/ball" in only(report, "small-class").text


def test_a_link_that_leads_nowhere_is_told(sound):
    (sound / "cat" / "lost.jpg").symlink_to(sound / "nowhere.jpg")
    assert ("cat/lost.jpg",) == only(check(sound), "link").paths


def test_tiny_and_long_images(sound):
    put(sound / "cat" / "icon.png", encoded(picture(987, (8, 8)), "PNG"))
    put(sound / "cat" / "strip.png", encoded(picture(988, (600, 60)), "PNG"))
    report = check(sound)
    assert ("cat/icon.png",) == only(report, "tiny").paths
    assert ("cat/strip.png",) == only(report, "aspect-outlier").paths


def test_grey_among_color_however_stored(sound):
    put(sound / "cat" / "grey.jpg", encoded(picture(989, mode="L")))
    put(sound / "dog" / "grey_as_rgb.jpg", encoded(picture(990, mode="L").convert("RGB")))
    finding = only(check(sound), "grey-among-color")
    assert {"cat/grey.jpg", "dog/grey_as_rgb.jpg"} == set(finding.paths)


def test_a_class_that_is_grey_while_others_are_not_is_a_warning(sound):
    for path in (sound / "cat").iterdir():
        path.write_bytes(encoded(Image.open(path).convert("L")))
    warning, note = check(sound).of_kind("grey-among-color")
    assert ["warning", "note"] == [warning.severity, note.severity]
    assert "class cat" in warning.text


def test_blank_images_are_told_and_are_no_near_duplicates(sound):
    for shade in (100, 101):
        put(sound / "cat" / f"{shade}.jpg", encoded(Image.new("RGB", (80, 60), (shade,) * 3)))
    report = check(sound)
    assert 2 == len(report.of_kind("blank"))
    assert [] == report.of_kind("near-duplicate")


def test_embeddings_find_what_looks_do_not(sound):
    draw = np.random.default_rng(0)
    embeddings = draw.normal(size=(24, 32)).astype(np.float32)
    embeddings[20] = embeddings[3] * 2
    report = check(sound, CheckOptions(embeddings=embeddings))
    finding = only(report, "near-duplicate")
    paths = report.images.paths
    assert (paths[3], paths[20]) == finding.paths
    assert [("embedding", (3, 20))] == [(group.how, group.rows) for group in report.groups]
    with pytest.raises(DataError, match="another number of images"):
        check(sound, CheckOptions(embeddings=embeddings[:5]))


def test_options_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="out of range"):
        CheckOptions(near_distance=40)


def test_archive_is_checked_in_place_and_its_names_are_those_inside(sound, tmp_path):
    put(sound / "cat" / "cut.jpg", encoded(picture(991))[:-600])
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        archive.add(sound, arcname=".")
    report = check(tmp_path / "pets.tar.gz")
    assert ("cat/cut.jpg",) == only(report, "truncated").paths
    assert 25 == report.files


def test_built_in_pixels_are_checked():
    report = check("digits")
    assert 0 == report.unreadable
    assert 10 == len(report.classes)
    assert [] == report.of_kind("near-duplicate")
    assert any("too little detail" in note for note in report.notes)


def test_quarantine_list_round_trip_and_refusals(sound, tmp_path):
    put(sound / "cat" / 'a "b", c.jpg', b"")
    put(sound / "cat" / "=1.jpg", encoded(picture(992))[:-600])
    report = check(sound)
    path = tmp_path / "out" / "quarantine.csv"
    assert 2 == report.write_quarantine(path)
    assert {'cat/a "b", c.jpg': "zero-bytes", "cat/=1.jpg": "truncated"} == read_quarantine(path)
    assert 26 == len(list(sound.rglob("*.jpg"))), "nothing is deleted"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="not a quarantine list"):
        read_quarantine(path)
    path.write_text("path,kind,reason\nx\n")
    with pytest.raises(DataError, match="damaged"):
        read_quarantine(path)


def test_a_quarantine_list_takes_its_images_out_of_a_manifest(sound, tmp_path):
    for name in ("x1.jpg", "x2.jpg"):
        put(sound / "cat" / name, encoded(picture(993)))
    check(sound).write_quarantine(tmp_path / "out.csv")
    left_out = read_quarantine(tmp_path / "out.csv")
    manifest = scan_data(DataRequest(train=str(sound), split=None)).manifest
    rows, unmatched = rows_to_keep(manifest, {**left_out, "cat/gone.jpg": "missing"})
    kept = manifest.select(rows)
    assert 25 == len(kept.ids)
    assert "cat/x2.jpg" not in kept.locations.paths.tolist()
    assert ["cat/gone.jpg"] == unmatched
    assert () == check(sound).groups[1:]
    whole = {str(sound / "cat" / "x2.jpg"): "exact-duplicate"}
    assert 25 == len(rows_to_keep(manifest, whole)[0])


def test_summary_is_short_worst_first_and_shows_five_paths_at_most(sound):
    for number in range(30):
        put(sound / "cat" / f"cut{number}.jpg", encoded(picture(number + 2000))[:-600])
        put(sound / "dog" / f"alpha{number}.png", encoded(picture(number + 3000, mode="RGBA"),
            "PNG"))  # fmt: skip
    put(sound / "dog" / "empty.jpg", b"")
    lines = check(sound).summary_lines()
    assert len(lines) <= 25
    order = [line.split()[1] for line in lines if line.startswith(("error", "warning", "note"))]
    assert ["zero-bytes", "truncated", "odd-mode"] == order
    assert 4 == sum("cut" in line and line.startswith("    ") for line in lines)
    assert "    and 26 more" in lines


def test_progress_counts_every_image(sound):
    seen = []
    check_data(
        DataRequest(train=str(sound)), progress=lambda done, total: seen.append((done, total))
    )
    assert (24, 24) == seen[-1]


def test_threads_do_not_change_the_report(sound):
    for name, (data, _) in UNREADABLE.items():
        put(sound / "cat" / name, data)
    reports = [
        check_data(DataRequest(train=str(sound), threads=threads)).record() | {"seconds": 0}
        for threads in (1, 4)
    ]
    assert reports[0] == reports[1]


def test_every_kind_has_severity_title_and_hint():
    for kind in KINDS.values():
        assert kind.severity in ("error", "warning", "note")
        assert kind.title
        assert kind.hint


def test_real_flowers_have_copies_in_train_and_test(shared_data):
    report = check(shared_data / "flowers12" / "flowers12.tar")
    exact = [set(f.paths) for f in report.of_kind("exact-duplicate")]
    assert [{"train/iris/image_0422.jpg", "train/iris/image_0469.jpg"}] == exact
    assert 20 <= len(report.of_kind("leakage")) <= 30
    assert [] == report.of_kind("label-conflict"), "near pairs agree on the species"
