"""From what the user names to a manifest: every way in, every refusal, and the real data."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.manifest_files import write_manifest
from discern.data.scan import DataRequest, SplitRule, scan_data


def scan(train, **options):
    return scan_data(DataRequest(train=str(train), **options))


def split_counts(scanned):
    return [len(scanned.manifest.positions(split)) for split in ("train", "val", "test")]


@pytest.mark.feature("MX-32")
@pytest.mark.feature("PP-13")
def test_classes_size_channels_and_count_are_inferred(class_folders):
    scanned = scan(class_folders)
    assert ("cat", "dog") == scanned.manifest.classes
    assert (12, 6, 8, 3) == (
        scanned.facts.count,
        scanned.facts.median_height,
        scanned.facts.median_width,
        scanned.facts.channels,
    )
    assert scanned.facts.all_equal
    assert "pets" == scanned.name
    assert (True, "test") == (scanned.random_split, scanned.reported)
    assert [8, 2, 2] == split_counts(scanned)


def test_a_copy_elsewhere_gives_the_same_hash(class_folders, tmp_path):
    first = scan(class_folders).manifest.hash
    moved = class_folders.rename(tmp_path / "elsewhere")
    assert first == scan(moved).manifest.hash


def test_second_scan_reads_no_image_and_finds_a_changed_one(class_folders, save_image):
    first = scan(class_folders)
    blocked = class_folders / "cat" / "00.jpg"
    data, status = blocked.read_bytes(), blocked.stat()
    blocked.write_bytes(bytes(len(data)))
    os.utime(blocked, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert first.manifest.hash == scan(class_folders).manifest.hash
    save_image(blocked, number=99)
    assert first.manifest.hash != scan(class_folders).manifest.hash


def test_damaged_scan_cache_is_made_again(class_folders):
    first = scan(class_folders).manifest.hash
    for path in (Path(os.environ["DISCERN_CACHE"]) / "scans").iterdir():
        path.write_text('{"version": 2, "images": {"cat')
    assert first == scan(class_folders).manifest.hash


def test_progress_ends_at_the_number_of_images(class_folders):
    calls = []
    request = DataRequest(train=str(class_folders))
    scan_data(request, lambda done, total: calls.append((done, total)))
    assert (12, 12) == calls[-1]


def break_images(root):
    good = (root / "cat" / "00.jpg").read_bytes()
    (root / "cat" / "cut.jpg").write_bytes(good[: len(good) // 2])
    (root / "dog" / "empty.jpg").write_bytes(b"")
    (root / "dog" / "text.png").write_bytes(b"hello")
    return {"cat/cut.jpg", "dog/empty.jpg", "dog/text.png"}


def test_broken_images_are_listed_and_refused(class_folders):
    bad = break_images(class_folders)
    with pytest.raises(DataError, match="3 of 15 images cannot be read") as caught:
        scan(class_folders)
    assert all(name in caught.value.got for name in bad)


def test_broken_images_are_skipped_and_reported_when_asked(class_folders):
    bad = break_images(class_folders)
    scanned = scan(class_folders, on_bad_image="skip")
    assert bad == {problem.path for problem in scanned.problems}
    assert 12 == len(scanned.manifest) == scanned.facts.count


def test_mixed_sizes_and_modes_work(class_folders, save_image):
    save_image(class_folders / "cat" / "grey.png", 50, size=(30, 20), mode="L")
    Image.new("RGBA", (5, 5)).save(class_folders / "dog" / "clear.png")
    Image.new("CMYK", (5, 5)).save(class_folders / "dog" / "print.tif")
    scanned = scan(class_folders)
    assert (15, False) == (scanned.facts.count, scanned.facts.all_equal)
    assert 3 == scanned.facts.channels


@pytest.mark.parametrize(("grey", "channels"), [(19, 1), (18, 3)])
def test_channels_are_grey_from_95_percent_on(tmp_path, save_image, grey, channels):
    for number in range(20):
        mode = "L" if number < grey else "RGB"
        save_image(tmp_path / "ab"[number % 2] / f"{number}.png", number, mode=mode)
    assert channels == scan(tmp_path).facts.channels


@pytest.mark.feature("CA-01")
@pytest.mark.feature("ML-17")
def test_train_and_test_folders(tmp_path, save_image):
    for number in range(30):
        split = "test" if number % 3 == 2 else "train"
        save_image(tmp_path / split / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    scanned = scan(tmp_path)
    assert [18, 2, 10] == split_counts(scanned)
    assert (False, "test") == (scanned.random_split, scanned.reported)


def test_train_and_val_folders_report_the_val(tmp_path, save_image):
    for number in range(30):
        split = "val" if number % 3 == 2 else "train"
        save_image(tmp_path / split / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    scanned = scan(tmp_path)
    assert [18, 2, 10] == split_counts(scanned)
    assert "val" == scanned.reported


@pytest.mark.feature("PP-03")
def test_class_of_test_that_train_lacks_is_an_error_that_names_it(tmp_path, save_image):
    for number in range(12):
        split = "test" if number % 3 == 2 else "train"
        save_image(tmp_path / split / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    save_image(tmp_path / "test" / "wolf" / "1.jpg", 99)
    with pytest.raises(DataError) as caught:
        scan(tmp_path)
    assert "wolf" in caught.value.got


@pytest.mark.feature("PP-03")
def test_val_from_a_table_is_mapped_by_name(class_folders, tmp_path, save_image):
    rows = [f"{save_image(tmp_path / 'v' / f'{n}.png', 100 + n)},{c}" for n, c in enumerate("dc")]
    names = {"d": "dog", "c": "cat"}
    lines = [f"{row.rpartition(',')[0]},{names[row[-1]]}" for row in rows]
    (tmp_path / "val.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    scanned = scan(class_folders, test=str(tmp_path / "val.csv"))
    tests = scanned.manifest.positions("test")
    assert [1, 0] == scanned.manifest.targets[tests].tolist()


def test_unknown_class_of_a_separate_val_is_an_error(class_folders, tmp_path, save_image):
    save_image(tmp_path / "other" / "wolf" / "1.jpg", 77)
    with pytest.raises(DataError) as caught:
        scan(class_folders, val=str(tmp_path / "other"))
    assert "wolf" in caught.value.got


def test_given_class_order_wins(class_folders):
    scanned = scan(class_folders, classes=("dog", "cat"))
    assert ("dog", "cat") == scanned.manifest.classes
    first = scanned.manifest.locations.paths.tolist().index("cat/00.jpg")
    assert 1 == scanned.manifest.targets[first]


def test_numbered_classes_are_ordered_by_value(tmp_path, save_image):
    for number in range(9):
        save_image(tmp_path / ("2", "10", "1")[number % 3] / f"{number}.jpg", number)
    assert ("1", "2", "10") == scan(tmp_path).manifest.classes


def test_one_class_is_an_error(tmp_path, save_image):
    for number in range(5):
        save_image(tmp_path / "cat" / f"{number}.jpg", number)
    with pytest.raises(DataError, match="nothing to tell apart"):
        scan(tmp_path)


def test_class_under_three_images_is_an_error(class_folders, save_image):
    save_image(class_folders / "wolf" / "1.jpg", 40)
    with pytest.raises(DataError, match="too few") as caught:
        scan(class_folders)
    assert "wolf" in caught.value.where


def test_classes_that_differ_by_case_are_noted(tmp_path, save_image):
    for number in range(6):
        save_image(tmp_path / ("cat", "Cat")[number % 2] / f"{number}.jpg", number)
    assert any("Cat, cat" in note for note in scan(tmp_path).notes)


def test_equal_bytes_get_numbered_ids(class_folders):
    (class_folders / "cat" / "copy.jpg").write_bytes(
        (class_folders / "cat" / "00.jpg").read_bytes()
    )
    manifest = scan(class_folders).manifest
    ids = dict(zip(manifest.locations.paths.tolist(), manifest.ids.tolist(), strict=True))
    assert ids["cat/copy.jpg"] == ids["cat/00.jpg"] + "-2"


@pytest.mark.parametrize("name", ["mnits", "pet"])
def test_unknown_name_offers_the_nearest(class_folders, monkeypatch, name):
    monkeypatch.chdir(class_folders.parent)
    with pytest.raises(DataError, match="no such data") as caught:
        scan(name)
    assert {"mnits": "'mnist'", "pet": "'pets'"}[name] in caught.value.hint


def test_empty_folder_and_foreign_file_are_errors(tmp_path):
    with pytest.raises(DataError, match="no images"):
        scan(tmp_path)
    (tmp_path / "a.pdf").write_bytes(b"x")
    with pytest.raises(DataError, match="not a kind of data"):
        scan(tmp_path / "a.pdf")


def test_archive_is_read_like_its_folder(class_folders, tmp_path):
    with tarfile.open(tmp_path / "pets.tar.gz", "w:gz") as archive:
        for path in class_folders.iterdir():
            archive.add(path, path.name)
    inside, outside = scan(tmp_path / "pets.tar.gz"), scan(class_folders)
    assert outside.manifest.hash == inside.manifest.hash


def test_split_seed_changes_the_split(class_folders, save_image):
    for number in range(20, 60):
        save_image(class_folders / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    codes = [
        scan(class_folders, split=SplitRule(seed=seed)).manifest.split.tolist() for seed in (0, 1)
    ]
    assert codes[0] != codes[1]


REAL = [
    ("flowers12/flowers12.tar", 12, [648, 72, 240], "test"),
    ("hymenoptera/hymenoptera_200.tar", 2, [108, 12, 80], "val"),
]


@pytest.mark.parametrize(("path", "classes", "counts", "reported"), REAL)
def test_real_archives(shared_data, path, classes, counts, reported):
    scanned = scan(shared_data / path)
    assert (classes, 3) == (len(scanned.manifest.classes), scanned.facts.channels)
    assert (counts, reported) == (split_counts(scanned), scanned.reported)
    per_class = {
        tuple(scanned.manifest.counts()[split].values()) for split in ("train", "val", "test")
    }
    assert all(len(set(row)) == 1 for row in per_class)


def test_real_photos_with_a_table(shared_data, tmp_path):
    with tarfile.open(shared_data / "imagenet_samples" / "imagenet_samples_400.tar") as archive:
        names = archive.getnames()[:40]
        archive.extractall(tmp_path, [archive.getmember(name) for name in names], filter="data")
    rows = "".join(f"{name},{name.split('_')[0]}\n" for name in names)
    (tmp_path / "photos.csv").write_text("file_name,wnid\n" + rows)
    scanned = scan(tmp_path / "photos.csv", label="wnid", split=None)
    assert 40 == len(scanned.manifest) == len(scanned.manifest.classes)
    assert np.array_equal(np.full(40, -1), scanned.manifest.split)


@pytest.mark.parametrize("form", [".parquet", ".csv", ".jsonl"])
def test_manifest_is_data(class_folders, tmp_path, form):
    first = scan(class_folders).manifest
    write_manifest(first, tmp_path / f"m{form}")
    assert first.hash == scan(tmp_path / f"m{form}").manifest.hash


def test_other_data_without_the_wanted_split_is_an_error(class_folders, tmp_path, save_image):
    for number in range(12):
        split = "test" if number % 3 == 2 else "train"
        save_image(tmp_path / "o" / split / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
    with pytest.raises(DataError, match="no val"):
        scan(class_folders, val=str(tmp_path / "o"))
