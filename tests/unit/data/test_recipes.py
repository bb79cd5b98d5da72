"""Recipes: exact counts and packed files on small data of the same shape."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import ConfigError, DataError
from discern.data.packing import pack
from discern.data.recipes import RECIPES, follow_recipe, recipe
from discern.data.record_data import list_records
from discern.data.record_files import ListRow, list_lst, write_list
from discern.data.recordio import RecordReader, unpack
from discern.data.scan import DataRequest, scan_data


def quality_tables(quality):
    """Pillow's tables for a quality: the ones that all libjpeg encoders share."""
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG", quality=quality)
    return Image.open(stream).quantization


def images(path):
    with RecordReader(path) as reader:
        return [Image.open(io.BytesIO(unpack(payload)[1])) for _, payload in reader]


@pytest.mark.feature("MX-45")
def test_caltech_takes_sixty_a_class_and_packs_at_256_and_95(tmp_path, save_image):
    sizes = {"001.ak47": 62, "002.flag": 65}
    for place, (name, count) in enumerate(sizes.items()):
        for number in range(count):
            path = tmp_path / "data" / name / f"{number:04d}.jpg"
            save_image(path, number + 1000 * place, size=(12, 8))
    manifest = scan_data(DataRequest(train=str(tmp_path / "data"), split=None)).manifest
    chosen = recipe("caltech-256")
    assert (256, 95) == (chosen.pack.resize, chosen.pack.quality)
    result, report = follow_recipe(chosen, manifest)
    assert dict.fromkeys(sizes, 60) == report.split.counts["train"]
    assert {"001.ak47": 2, "002.flag": 5} == report.split.counts["val"]
    assert {"train": 120, "val": 7} == report.images
    assert any("256 or 257 classes, the data has 2" in note for note in report.notes)
    val = result.select(result.positions("val"))
    pack(val, tmp_path / "out", chosen.pack)
    files = sorted(path.name for path in (tmp_path / "out").glob("*.rec"))
    assert ["caltech-256-60_val.rec"] == files
    packed = images(tmp_path / "out" / files[0])
    assert 7 == len(packed)
    assert {(384, 256)} == {image.size for image in packed}
    assert quality_tables(95) == packed[0].quantization


def test_a_class_too_small_for_caltech_is_named(tmp_path):
    digits = scan_data(DataRequest(train="digits", split=None)).manifest
    few = np.concatenate(
        [np.flatnonzero(digits.targets == k)[: 60 if k else 80] for k in range(10)]
    )
    with pytest.raises(DataError, match="too few") as caught:
        follow_recipe(recipe("caltech-256"), digits.select(few))
    assert "class '1'" == caught.value.where


@pytest.mark.feature("MX-46")
def test_imagenet_val_keeps_the_lists_order_and_labels_at_256_and_90(tmp_path, save_image):
    rows = []
    for place, number in enumerate([5, 2, 9, 1]):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        save_image(tmp_path / "val" / f"{number}.jpg", number, size=(8, 14)).rename(
            tmp_path / "val" / name
        )
        rows.append(ListRow(number, (float(place % 3),), name))
    write_list(tmp_path / "val.lst", rows)
    (tmp_path / "classes.txt").write_text("tench\ngoldfish\nshark\n")
    listing = list_lst(tmp_path / "val.lst", root=tmp_path / "val")
    folder = scan_data(DataRequest(train=str(tmp_path / "val"), split=None)).manifest
    order = [folder.locations.paths.tolist().index(str(p)) for p in listing.locations.paths]
    head = replace(folder.heads[0], classes=listing.classes, targets=listing.heads[0].targets)
    manifest = replace(folder.select(np.array(order)), heads=(head,))
    chosen = recipe("imagenet-val")
    result, report = follow_recipe(chosen, manifest)
    assert {"val": 4} == report.images
    assert any("50,000 images, the data has 4" in note for note in report.notes)
    pack(result, tmp_path / "out", chosen.pack)
    packed = list_records(tmp_path / "out" / "imagenet1k_val.rec")
    assert ["tench", "goldfish", "shark", "tench"] == packed.labels
    found = images(tmp_path / "out" / "imagenet1k_val.rec")
    assert {(256, 448)} == {image.size for image in found}
    assert quality_tables(90) == found[0].quantization


def test_imagenet_11k_drops_small_classes_and_holds_out_fifty():
    digits = scan_data(DataRequest(train="digits", split=None)).manifest
    sizes = [500, 499, 700, 3, 95]
    count = sum(sizes)
    targets = np.repeat(np.arange(5), sizes)
    rows = np.arange(count) % len(digits)
    base = digits.select(rows)
    head = replace(base.heads[0], classes=tuple("abcde"), targets=targets)
    manifest = replace(base, ids=np.array([f"{n:016x}" for n in range(count)]), heads=(head,))
    result, report = follow_recipe(recipe("imagenet-11k"), manifest)
    assert ("a", "c") == result.classes
    assert {"b": 499, "d": 3, "e": 95} == report.split.dropped
    assert {"train": {"a": 450, "c": 650}, "val": {"a": 50, "c": 50}} == report.split.counts
    assert () == report.notes
    assert any("dropped" in line for line in report.lines())


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_tell_what_they_do(name):
    chosen = recipe(name)
    assert chosen.record() == json.loads(json.dumps(chosen.record()))
    assert 256 == chosen.record()["pack"]["resize"]
    assert "MXNet" in "\n".join(chosen.lines())


def test_unknown_recipe_is_refused_with_the_nearest_name():
    with pytest.raises(ConfigError, match="unknown recipe") as caught:
        recipe("caltech256")
    assert "caltech-256" in caught.value.hint
