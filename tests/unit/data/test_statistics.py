"""A data set in numbers: counts, sizes, formats, mean and std."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from discern.data.images import Preprocess
from discern.data.manifest import Head
from discern.data.scan import DataRequest, scan_data
from discern.data.sources import measure_mean_std, open_source
from discern.data.statistics import describe


def scanned(root):
    return scan_data(DataRequest(train=str(root), split=None))


@pytest.fixture
def mixed(tmp_path, save_image):
    """Five images of other sizes, modes and formats in two classes."""
    root = tmp_path / "data"
    save_image(root / "a" / "1.jpg", 1, size=(40, 20))
    save_image(root / "a" / "2.png", 2, size=(20, 40))
    save_image(root / "a" / "3.jpg", 3, size=(30, 30))
    save_image(root / "b" / "4.png", 4, size=(50, 10), mode="L")
    (root / "b" / "5.jpg").write_bytes((root / "a" / "1.jpg").read_bytes())
    return root


def test_counts_sizes_and_formats(mixed):
    data = scanned(mixed)
    found = describe(data.manifest)
    assert 5 == found.images
    assert {"none": 5} == found.splits
    assert {"a": 3, "b": 2} == found.heads[0].classes
    assert 1.5 == found.heads[0].imbalance
    assert {"landscape": 3, "portrait": 1, "square": 1} == found.shapes
    assert {"RGB": 4, "L": 1} == found.modes
    assert {"JPEG": 3, "PNG": 2} == found.formats
    assert (20, 40, 50) == (found.width.least, found.width.median, found.width.largest)
    assert (10, 20, 40) == (found.height.least, found.height.median, found.height.largest)
    assert (10, 30) == (found.short_side.least, found.short_side.largest)
    assert (0.5, 2, 5) == (found.aspect.least, found.aspect.median, found.aspect.largest)
    assert sum(path.stat().st_size for path in mixed.rglob("*.*g")) == found.total_bytes
    assert (1, 1) == (found.copies, found.grey)
    assert found.record() == json.loads(json.dumps(found.record(), allow_nan=False))


def test_mean_and_std_are_those_that_training_measures(tmp_path, save_image):
    for number in range(6):
        save_image(tmp_path / "d" / "ab"[number % 2] / f"{number}.png", number, size=(32, 24))
    manifest = scanned(tmp_path / "d").manifest
    found = describe(manifest, threads=2).measured
    assert (6, 24, 32, 3) == (found.images, found.height, found.width, found.channels)
    same = Preprocess(height=24, width=32, channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    mean, std = measure_mean_std(open_source(manifest), np.arange(6), same)
    assert mean == pytest.approx(found.mean, abs=2e-6)
    assert std == pytest.approx(found.std, abs=2e-6)
    pixels = [np.asarray(Image.open(p)) for p in (tmp_path / "d").rglob("*.png")]
    assert np.mean(pixels) / 255 == pytest.approx(np.mean(found.mean), abs=2e-6)


def test_mean_is_of_train_images_and_counts_are_by_split(tmp_path):
    root = tmp_path / "data"
    for split, value in (("train", 0), ("test", 255)):
        (root / split / "a").mkdir(parents=True)
        for number in range(3):
            color = Image.new("RGB", (20, 20), (value, value, number))
            color.save(root / split / "a" / f"{number}.png")
    found = describe(scanned(root))
    assert {"train": 3, "test": 3} == found.splits
    assert {"train": {"a": 3}, "test": {"a": 3}} == found.heads[0].splits
    assert (0, 0) == found.measured.mean[:2]


def test_grey_data_is_measured_in_one_channel_at_the_chosen_size(tmp_path, save_image):
    for number in range(3):
        save_image(tmp_path / "g" / "a" / f"{number}.png", number, size=(90, 100), mode="L")
    found = describe(scanned(tmp_path / "g")).measured
    assert (128, 128, 1) == (found.height, found.width, found.channels)
    assert 1 == len(found.mean)


def test_damaged_images_are_listed_and_left_out(mixed):
    manifest = scanned(mixed).manifest
    (mixed / "a" / "1.jpg").write_bytes(b"no image")
    whole = (mixed / "a" / "2.png").read_bytes()
    (mixed / "a" / "2.png").write_bytes(whole[: len(whole) // 2])
    (mixed / "a" / "3.jpg").unlink()
    found = describe(manifest)
    assert {"a/1.jpg", "a/2.png", "a/3.jpg"} == {path for path, _ in found.unreadable}
    assert 5 == found.images
    assert 2 == found.measured.images
    assert any("unreadable 3" in line for line in found.lines())


def test_nothing_readable_gives_no_spreads(mixed):
    manifest = scanned(mixed).manifest
    for path in mixed.rglob("*.*g"):
        path.unlink()
    found = describe(manifest)
    assert 5 == len(found.unreadable)
    assert found.width is None
    assert found.measured is None
    assert found.record()["bytes"] is None
    assert found.lines()


def test_problems_of_the_scan_are_among_the_unreadable(mixed):
    (mixed / "b" / "bad.jpg").write_bytes(b"bad")
    request = DataRequest(train=str(mixed), split=None, on_bad_image="skip")
    found = describe(scan_data(request))
    assert ["b/bad.jpg"] == [path for path, _ in found.unreadable]
    assert 5 == found.images


def test_built_in_digits_are_arrays_of_pixels():
    manifest = scan_data(DataRequest(train="digits", split=None)).manifest
    found = describe(manifest, measure=False)
    assert {"raw pixels": 1797} == found.formats
    assert (8, 8) == (found.width.least, found.height.largest)
    assert found.measured is None


def test_label_columns_groups_and_folds_are_counted(mixed):
    manifest = scanned(mixed).manifest
    tags = np.array([[1, 0], [1, 0], [0, 0], [np.nan, np.nan], [1, 0]], np.float32)
    data = replace(
        manifest,
        heads=(*manifest.heads, Head("tags", "multi", ("x", "y"), tags)),
        group=np.array(["p", "p", "q", "", ""]),
        fold=np.array([0, 1, 1, -1, 0], np.int32),
    )
    found = describe(data, measure=False)
    assert {"x": 3, "y": 0} == found.heads[1].classes
    assert (1, ("y",)) == (found.heads[1].unlabeled, found.heads[1].empty)
    assert (2, 2) == (found.groups, found.folds)
    assert any("1 classes without images" in line for line in found.lines())


def test_lines_name_the_largest_and_smallest_of_many_classes(mixed):
    manifest = scanned(mixed).manifest
    names = tuple(f"c{n:02d}" for n in range(40))
    head = Head("label", "single", names, np.array([0, 0, 1, 2, 39]))
    line = describe(replace(manifest, heads=(head,)), measure=False).lines()[2]
    assert "40 classes: c00 2, c01 1" in line
    assert "c20" not in line


def test_progress_reaches_the_end(mixed):
    calls = []
    describe(scanned(mixed), progress=lambda done, total: calls.append((done, total)))
    assert (10, 10) == calls[-1]
    assert calls == sorted(calls)


def test_photos_of_the_shared_data(shared_data):
    request = DataRequest(
        train=str(shared_data / "hymenoptera" / "hymenoptera_200.tar"), split=None
    )
    found = describe(scan_data(request), measure=False)
    assert {"train": 120, "val": 80} == found.splits
    assert {"train": {"ants": 60, "bees": 60}, "val": {"ants": 40, "bees": 40}} == found.heads[
        0
    ].splits
    assert {"RGB": 200} == found.modes
    assert 0 == found.copies
