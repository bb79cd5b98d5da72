"""Packing, verifying, unpacking: what comes back, equal bytes, kills, damage, bad images."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import ConfigError, DataError
from discern.data.images import decode_image
from discern.data.manifest import Head, Locations, Manifest, unique_ids
from discern.data.pack_encode import ImagePacker, resample
from discern.data.pack_folders import safe_component
from discern.data.pack_plan import PackOptions
from discern.data.packed_check import verify_packed
from discern.data.packing import pack
from discern.data.record_data import list_records
from discern.data.record_files import check_index, read_list
from discern.data.recordio import RecordReader, unpack
from discern.data.sources import FileSource
from discern.data.tar_shards import list_shards
from discern.data.unpacking import unpack as unpack_data


def photo(number, size=(60, 44), mode="RGB"):
    """Smooth pixels with some texture, as photos have."""
    draw = np.random.default_rng(number)
    shape = (size[1] // 4 + 2, size[0] // 4 + 2) + (() if mode == "L" else (3,))
    coarse = draw.integers(0, 256, shape, dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def pets(root, count=12, ending="jpg", size=(60, 44)):
    """A manifest of `count` photos in cat/ and dog/, with the ids that a scan gives."""
    paths = []
    for number in range(count):
        path = root / ("cat", "dog")[number % 2] / f"{number:02d}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(number, size).save(path)
        paths.append(f"{path.parent.name}/{path.name}")
    return manifest_of(root, paths, [number % 2 for number in range(count)])


def manifest_of(root, paths, targets, split=None):
    digests = [hashlib.sha256((root / path).read_bytes()).hexdigest() for path in paths]
    return Manifest(
        ids=unique_ids(digests),
        locations=Locations.files(paths),
        heads=(Head("label", "single", ("cat", "dog"), np.array(targets, dtype=np.int64)),),
        split=np.full(len(paths), -1, dtype=np.int8) if split is None else np.array(split, np.int8),
        root=root,
        layout="class folders",
    )


def tree(folder):
    """Every file's bytes by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_shards_give_the_images_back(tmp_path):
    manifest = pets(tmp_path / "pets")
    calls = []
    report = pack(manifest, tmp_path / "out", None, lambda done, total: calls.append((done, total)))
    assert 12 == report.images
    assert ["data-00000.tar"] == [file.name for file in report.files]
    assert [(number, 12) for number in range(1, 13)] == calls
    listing = list_shards(tmp_path / "out")
    assert ["cat", "dog"] * 6 == listing.labels
    assert ("cat", "dog") == listing.classes
    source = FileSource(listing)
    for row, path in enumerate(manifest.locations.paths):
        assert (manifest.root / path).read_bytes() == source.read(row)
        assert path == listing.locations.paths[row]
    assert verify_packed(tmp_path / "out").sound
    json.dumps(report.record())


def test_members_are_what_webdataset_readers_expect(tmp_path):
    manifest = pets(tmp_path / "pets", count=2)
    pack(manifest, tmp_path / "out")
    with tarfile.open(tmp_path / "out" / "data-00000.tar") as archive:
        members = archive.getmembers()
        assert [
            "000000000.jpg", "000000000.cls", "000000001.jpg", "000000001.cls"
        ] == [member.name for member in members]  # fmt: skip
        assert b"1" == archive.extractfile("000000001.cls").read()
        assert {(0, 0, 0, 0o644)} == {(m.mtime, m.uid, m.gid, m.mode) for m in members}


def test_shards_are_listed_the_same_without_index(tmp_path):
    manifest = pets(tmp_path / "pets")
    pack(manifest, tmp_path / "out", PackOptions(shard_images=5))
    with_index = list_shards(tmp_path / "out")
    for path in (tmp_path / "out").glob("*.index.json"):
        path.unlink()
    scanned = list_shards(tmp_path / "out")
    assert with_index.labels == scanned.labels
    assert with_index.classes == scanned.classes
    for name in ("containers", "offsets", "lengths"):
        expected = getattr(with_index.locations, name)
        np.testing.assert_array_equal(expected, getattr(scanned.locations, name))


def test_splits_get_shards_of_their_own(tmp_path):
    manifest = pets(tmp_path / "pets").with_split(np.array([0] * 7 + [1] * 3 + [2] * 2, np.int8))
    report = pack(manifest, tmp_path / "out", PackOptions(shard_images=4))
    expected = {
        "train-00000.tar": ("train", 4), "train-00001.tar": ("train", 3),
        "val-00000.tar": ("val", 3), "test-00000.tar": ("test", 2),
    }  # fmt: skip
    assert expected == {file.name: (file.split, file.images) for file in report.files}
    listing = list_shards(tmp_path / "out")
    assert {0: 7, 1: 3, 2: 2} == {code: (listing.split == code).sum() for code in (0, 1, 2)}


def test_shard_bytes_bound_the_size(tmp_path):
    manifest = pets(tmp_path / "pets")
    largest = 12_000
    report = pack(manifest, tmp_path / "out", PackOptions(shard_bytes=largest))
    assert len(report.files) > 1
    assert 12 == sum(file.images for file in report.files)
    ends = 10_240  # tarfile's filling up to whole records
    assert all(file.size <= largest + ends for file in report.files)


@pytest.mark.parametrize("target", ["shards", "rec", "folder"])
def test_equal_bytes_for_any_worker_count(tmp_path, target):
    manifest = pets(tmp_path / "pets")
    trees = []
    for workers in (1, 2, 5):
        out = tmp_path / f"out{workers}"
        options = PackOptions(
            format=target, resize=20, quality=90, shard_images=5, workers=workers, name="x"
        )
        pack(manifest, out, options)
        trees.append(tree(out))
    assert trees[0] == trees[1] == trees[2]
    assert not [name for name in trees[0] if name.startswith(".")]


@pytest.mark.feature("MX-52")
@pytest.mark.parametrize("pass_through", [False, True])
def test_one_corrupt_image_among_ten_gives_nine_records_and_its_name(tmp_path, pass_through):
    manifest = pets(tmp_path / "pets", count=10)
    bad = tmp_path / "pets" / "dog" / "03.jpg"
    bad.write_bytes(bad.read_bytes()[:200])
    refusing = PackOptions(format="rec", pass_through=pass_through)
    with pytest.raises(DataError, match="cannot be packed") as error:
        pack(manifest, tmp_path / "no", refusing)
    assert "dog/03.jpg" in error.value.where
    skipping = PackOptions(format="rec", pass_through=pass_through, on_bad_image="skip")
    report = pack(manifest, tmp_path / "out", skipping)
    assert 9 == report.images
    assert 9 == len(list(RecordReader(tmp_path / "out" / "data.rec")))
    assert ["dog/03.jpg"] == [problem.path for problem in report.problems]
    assert 1 == report.record()["skipped"]
    # Skipping later what was refused first goes on with the same folder.
    assert 9 == pack(manifest, tmp_path / "no", skipping).images
    assert tree(tmp_path / "no") == tree(tmp_path / "out")
    with pytest.raises(DataError, match="cannot be packed"):
        pack(manifest, tmp_path / "out", refusing)


def test_records_list_and_index_agree(tmp_path):
    manifest = pets(tmp_path / "pets")
    pack(manifest, tmp_path / "out", PackOptions(format="rec", name="pets"))
    rec, idx, lst = (tmp_path / "out" / f"pets.{ending}" for ending in ("rec", "idx", "lst"))
    assert 12 == check_index(rec, idx)
    rows = read_list(lst).rows
    for row, (_, payload) in zip(rows, RecordReader(rec), strict=True):
        header, image = unpack(payload)
        assert (0, row.labels[0], row.id, 0) == (*header,)
        assert (manifest.root / row.path).read_bytes() == image
    listing = list_records(rec)
    assert ["cat", "dog"] * 6 == listing.labels
    assert "cat\ndog\n" == (tmp_path / "out" / "pets_classes.txt").read_text()
    assert verify_packed(tmp_path / "out").sound


@pytest.mark.feature("MX-51")
def test_ratios_and_chunks_name_the_files_as_im2rec(tmp_path):
    manifest = pets(tmp_path / "pets", count=20)
    options = PackOptions(format="rec", name="p", chunks=2, train_ratio=0.5, test_ratio=0.2)
    report = pack(manifest, tmp_path / "out", options)
    expected = [("p_0_test.rec", 2), ("p_0_val.rec", 3), ("p_0_train.rec", 5),
                ("p_1_test.rec", 2), ("p_1_val.rec", 3), ("p_1_train.rec", 5)]  # fmt: skip
    assert expected == [(file.name, file.images) for file in report.files]
    assert [0, 1] == [row.id for row in read_list(tmp_path / "out" / "p_0_test.lst").rows]


def test_shuffle_is_im2recs_and_quality_alone_encodes_anew(tmp_path):
    manifest = pets(tmp_path / "pets", count=20)
    pack(manifest, tmp_path / "out", PackOptions(shuffle=True))
    rows = list(range(20))
    random.Random(100).shuffle(rows)
    expected = [str(manifest.locations.paths[row]) for row in rows]
    assert expected == list_shards(tmp_path / "out").locations.paths.tolist()
    small = pack(manifest, tmp_path / "small", PackOptions(quality=20))
    assert small.size < pack(manifest, tmp_path / "as_it_is", PackOptions(quality=95)).size


def test_ratios_are_refused_where_there_are_splits(tmp_path):
    manifest = pets(tmp_path / "pets").with_split(np.zeros(12, dtype=np.int8))
    with pytest.raises(ConfigError, match="splits already"):
        pack(manifest, tmp_path / "out", PackOptions(train_ratio=0.5))


def many_labels(root, count):
    """A manifest whose images have `count` label columns."""
    manifest = pets(root, count=4)
    draw = np.random.default_rng(count)
    heads = tuple(
        Head(f"h{k}", "single", ("a", "b", "c"), draw.integers(0, 3, 4)) for k in range(count)
    )
    return Manifest(ids=manifest.ids, locations=manifest.locations, heads=heads,
                    split=manifest.split, root=root, layout="table")  # fmt: skip


@pytest.mark.feature("MX-54")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_several_labels_come_back(tmp_path, count):
    manifest = many_labels(tmp_path / "pets", count)
    pack(manifest, tmp_path / "rec", PackOptions(format="rec", pack_label=True))
    for row, (_, payload) in enumerate(RecordReader(tmp_path / "rec" / "data.rec")):
        header, _ = unpack(payload)
        labels = [float(head.targets[row]) for head in manifest.heads]
        assert (0 if count == 1 else count) == header.flag
        assert labels == np.atleast_1d(header.label).tolist()
    pack(manifest, tmp_path / "shards")
    for folder, lister in (("rec", list_records), ("shards", list_shards)):
        found = lister(tmp_path / folder).heads
        assert [head.name for head in manifest.heads] == [column.name for column in found]
        for head, column in zip(manifest.heads, found, strict=True):
            np.testing.assert_array_equal(head.targets, column.targets)


def test_without_pack_label_the_first_is_kept_and_the_report_says_so(tmp_path):
    manifest = many_labels(tmp_path / "pets", 3)
    report = pack(manifest, tmp_path / "out", PackOptions(format="rec", pack_label=False))
    assert ("only the first label column, 'h0', is in the records",) == report.notes
    for row, (_, payload) in enumerate(RecordReader(tmp_path / "out" / "data.rec")):
        assert (0, float(manifest.heads[0].targets[row])) == unpack(payload)[0][:2]


def test_tags_and_missing_labels_come_back_from_shards_and_folders(tmp_path):
    manifest = pets(tmp_path / "pets", count=3)
    tags = np.array([[1, 0], [np.nan, np.nan], [1, 1]], dtype=np.float32)
    heads = (
        Head("color", "single", ("blue", "red"), np.array([1, -1, 0])),
        Head("tags", "multi", ("big", "old"), tags),
    )
    manifest = Manifest(ids=manifest.ids, locations=manifest.locations, heads=heads,
                        split=manifest.split, root=manifest.root, layout="table")  # fmt: skip
    pack(manifest, tmp_path / "out")
    color, found = list_shards(tmp_path / "out").heads
    assert [1, -1, 0] == color.targets.tolist()
    np.testing.assert_array_equal(tags, found.targets)
    report = unpack_data(tmp_path / "out", tmp_path / "files")
    assert report.verified
    lines = (tmp_path / "files" / "metadata.jsonl").read_text().splitlines()
    assert [
        {"file_name": "00.jpg", "color": "red", "tags": ["big"]},
        {"file_name": "01.jpg", "color": None, "tags": None},
        {"file_name": "02.jpg", "color": "blue", "tags": ["big", "old"]},
    ] == [json.loads(line) for line in lines]


@pytest.mark.feature("CA-05")
@pytest.mark.parametrize("size", [(60, 44), (30, 80), (20, 12)])
def test_folder_brings_the_longest_side_to_size_with_exif_honored(tmp_path, size):
    (tmp_path / "pets" / "cat").mkdir(parents=True)
    path = tmp_path / "pets" / "cat" / "a.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Camera"
    image = photo(1, size)
    image.save(path, quality=95, exif=exif)
    manifest = manifest_of(tmp_path / "pets", ["cat/a.jpg"], [0])
    pack(manifest, tmp_path / "out", PackOptions(format="folder", max_size=40))
    with Image.open(tmp_path / "out" / "cat" / "a.jpg") as packed:
        assert 40 == max(packed.size)
        assert (size[0] < size[1]) == (packed.width > packed.height)  # turned by its tag
        assert not packed.getexif()
    exact = PackOptions(format="folder", max_size=40, encoding="png")
    pack(manifest, tmp_path / "exact", exact)
    with Image.open(tmp_path / "exact" / "cat" / "a.png") as packed:
        upright = Image.fromarray(decode_image(path.read_bytes(), channels=3))
        expected = upright.resize(packed.size, Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(np.asarray(expected), np.asarray(packed))
    keeping = PackOptions(format="folder", max_size=40, clear_exif=False)
    pack(manifest, tmp_path / "kept", keeping)
    with Image.open(tmp_path / "kept" / "cat" / "a.jpg") as packed:
        assert {0x010F: "Camera"} == dict(packed.getexif())
    pack(manifest, tmp_path / "grey", PackOptions(format="folder", max_size=40, color=0))
    with Image.open(tmp_path / "grey" / "cat" / "a.jpg") as packed:
        assert "L" == packed.mode


@pytest.mark.feature("MX-53")
def test_png_packs_with_default_options(tmp_path):
    manifest = pets(tmp_path / "pets", ending="png")
    pack(manifest, tmp_path / "out", PackOptions(format="rec", encoding="png", pass_through=False))
    for (_, payload), path in zip(
        RecordReader(tmp_path / "out" / "data.rec"), manifest.locations.paths, strict=True
    ):
        image = unpack(payload)[1]
        assert b"\x89PNG" == image[:4]
        expected = decode_image((manifest.root / path).read_bytes(), channels=3)
        np.testing.assert_array_equal(expected, decode_image(image, channels=3))
    small, large = (
        len(ImagePacker(PackOptions(encoding="png", compress_level=level))(expected, "x").data)
        for level in (9, 0)
    )
    assert small < large


@pytest.mark.parametrize(
    ("size", "options", "expected"),
    [
        ((60, 44), {"resize": 20}, (27, 20)),
        ((44, 60), {"resize": 20}, (20, 27)),
        ((60, 44), {"resize": 100}, (136, 100)),
        ((60, 44), {"resize": 20, "center_crop": True}, (20, 20)),
        ((61, 44), {"center_crop": True}, (44, 44)),
        ((1200, 900), {"resize": 50}, (66, 50)),
        ((300, 2), {"resize": 1}, (150, 1)),
        ((300, 2), {"max_size": 20}, (20, 1)),
    ],
)
def test_sizes_are_im2recs(size, options, expected):
    stream = io.BytesIO()
    photo(3, size).save(stream, "JPEG")
    packed = ImagePacker(PackOptions(**options))(stream.getvalue(), "x")
    with Image.open(io.BytesIO(packed.data)) as image:
        assert expected == image.size


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.1, 1.46, 1.9, 2.0, 2.5, 3.7, 8.0])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_scaling_is_near_pillows_antialiased_bilinear(factor, mode):
    image = photo(5, (400, 300), mode)
    size = (round(400 / factor), round(300 / factor))
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR), dtype=int)
    pixels = np.asarray(image).reshape(300, 400, -1)
    result = resample(pixels, size[1], size[0])
    assert (size[1], size[0], 1 if mode == "L" else 3) == result.shape
    difference = np.abs(expected.reshape(result.shape) - result)
    assert difference.mean() < 1.5  # area means: up to 8
    assert difference.max() <= 16


def test_fine_stripes_do_not_alias():
    # 1-pixel stripes shrunk 1.9 times: without antialiasing they beat at full contrast.
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (200, 200))[:, :, None]
    result = resample(stripes, 105, 210)[:, 5:-5]
    assert result.std() < 20


@pytest.mark.parametrize("size", [(1600, 1200), (2050, 1030), (2040, 1020)])
def test_reduced_jpeg_decode_is_near_the_full_one(size):
    stream = io.BytesIO()
    image = photo(9, size)
    image.save(stream, "JPEG", quality=92)
    packed = ImagePacker(PackOptions(resize=100, encoding="png"))(stream.getvalue(), "x")
    with Image.open(io.BytesIO(packed.data)) as result:
        full = Image.open(io.BytesIO(stream.getvalue()))
        expected = full.resize(result.size, Image.Resampling.BILINEAR)
        difference = np.abs(np.asarray(expected, dtype=int) - np.asarray(result))
    assert difference.mean() < 1.5


@pytest.mark.parametrize("mode", ["CMYK", "P", "RGBA", "L", "LA", "1", "I;16"])
def test_odd_modes_are_packed_by_the_rules_of_decoding(tmp_path, mode):
    stream = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64) * 16)
    else:
        image = photo(2, (64, 64)).convert(mode)
    image.save(stream, "TIFF" if mode == "CMYK" else "PNG")
    packed = ImagePacker(PackOptions(encoding="png"))(stream.getvalue(), "x")
    grey = mode in ("L", "LA", "1", "I;16")
    with Image.open(io.BytesIO(packed.data)) as result:
        assert ("L" if grey else "RGB") == result.mode
        expected = decode_image(stream.getvalue(), channels=1 if grey else 3)
        np.testing.assert_array_equal(expected.squeeze(), np.asarray(result))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright_before_they_are_scaled(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    photo(4, (64, 48)).save(stream, "JPEG", quality=95, exif=exif)
    packed = ImagePacker(PackOptions(resize=24, encoding="png"))(stream.getvalue(), "x")
    upright = Image.fromarray(decode_image(stream.getvalue(), channels=3))
    size = (32, 24) if orientation < 5 else (24, 32)
    expected = np.asarray(upright.resize(size, Image.Resampling.BILINEAR), dtype=int)
    with Image.open(io.BytesIO(packed.data)) as result:
        assert np.abs(expected - np.asarray(result)).mean() < 1.5


@pytest.mark.parametrize(("color", "mode"), [(1, "RGB"), (0, "L")])
@pytest.mark.parametrize("source", ["RGB", "L"])
@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_color_is_what_was_asked_for(color, mode, source, form):
    stream = io.BytesIO()
    photo(4, (16, 12), source).save(stream, form)
    packed = ImagePacker(PackOptions(color=color))(stream.getvalue(), "x")
    with Image.open(io.BytesIO(packed.data)) as result:
        assert (form, mode) == (result.format, result.mode)


def test_bytes_that_are_not_those_scanned_are_decoded_first(tmp_path):
    manifest = pets(tmp_path / "pets", count=4)
    changed = tmp_path / "pets" / "cat" / "02.jpg"
    photo(99).save(changed)
    assert 4 == pack(manifest, tmp_path / "one").images
    changed.write_bytes(b"\xff\xd8\xff no image any more")
    with pytest.raises(DataError, match="cannot be packed"):
        pack(manifest, tmp_path / "two")
    changed.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        pack(manifest, tmp_path / "three")


def test_arrays_are_packed_without_loss(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 8, 1), dtype=np.uint8)
    locations = Locations(
        np.array([f"{k:05d}" for k in range(6)]), np.zeros(6, np.int32),
        np.arange(6), np.ones(6, np.int64), ("digits/train",),
    )  # fmt: skip
    manifest = Manifest(
        ids=np.array([f"i{k}" for k in range(6)]), locations=locations,
        heads=(Head("label", "single", ("0", "1"), np.arange(6) % 2),),
        split=np.zeros(6, np.int8), root=tmp_path, layout="digits", arrays={"digits/train": pixels},
    )  # fmt: skip
    pack(manifest, tmp_path / "out")
    source = FileSource(list_shards(tmp_path / "out"))
    for k in range(6):
        np.testing.assert_array_equal(pixels[k], decode_image(source.read(k), channels=1))


def test_the_same_pack_again_does_nothing(tmp_path):
    manifest = pets(tmp_path / "pets")
    first = pack(manifest, tmp_path / "out")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    again = pack(manifest, tmp_path / "out")
    assert (0, 12) == (first.resumed, again.resumed)
    assert first.files == again.files
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}


def test_a_folder_with_something_else_is_refused(tmp_path):
    manifest = pets(tmp_path / "pets")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="not empty") as error:
        pack(manifest, tmp_path / "out")
    assert "thesis.txt" in error.value.got
    pack(manifest, tmp_path / "packed")
    with pytest.raises(DataError, match="another packed data set"):
        pack(manifest, tmp_path / "packed", PackOptions(resize=20))
    assert "years of work" == (tmp_path / "out" / "thesis.txt").read_text()


@pytest.mark.parametrize(
    "options",
    [
        {"format": "shard"}, {"encoding": "webp"}, {"quality": 0}, {"quality": 101},
        {"compress_level": 10}, {"color": 2}, {"chunks": 0}, {"workers": 0}, {"resize": 0},
        {"train_ratio": 1.5}, {"train_ratio": 0.8, "test_ratio": 0.3}, {"shard_bytes": 0},
        {"resize": 5, "max_size": 5}, {"pass_through": True, "resize": 5}, {"name": "a/b"},
        {"on_bad_image": "ignore"}, {"format": "folder", "chunks": 2},
        {"train_ratio": float("nan")},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError):
        PackOptions(**options)


PACK_IN_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_packing import pets_there
from discern.data.packing import pack
from discern.data.pack_plan import PackOptions
pack(pets_there(Path(sys.argv[1])), Path(sys.argv[2]), PackOptions(
    format=sys.argv[4], resize=200, center_crop=True, shard_images=3, workers=2,
    shard_bytes=60_000))
"""


def pets_there(root):
    """The manifest of photos that are on the disk already."""
    paths = sorted(str(path.relative_to(root)) for path in root.rglob("*.jpg"))
    return manifest_of(root, paths, [int(path.startswith("dog")) for path in paths])


@pytest.mark.parametrize("target", ["shards", "rec", "folder"])
def test_killed_pack_goes_on_and_gives_the_same_bytes(tmp_path, target):
    root = tmp_path / "pets"
    pets(root, count=24, size=(640, 480))
    options = PackOptions(
        format=target, resize=200, center_crop=True, shard_images=3, workers=2, shard_bytes=60_000
    )
    pack(pets_there(root), tmp_path / "whole", options)
    here = str(Path(__file__).parent)
    command = [sys.executable, "-c", PACK_IN_CHILD, str(root), str(tmp_path / "cut"), here, target]
    killed = 0
    for parts in (1, 3):
        child = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        )
        state = tmp_path / "cut" / ".packing.json"
        while child.poll() is None:
            if state.exists() and len(json.loads(state.read_text())["parts"]) >= parts:
                child.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        killed += child.wait() == -signal.SIGKILL
    assert killed, "the child was too fast to be killed"
    report = pack(pets_there(root), tmp_path / "cut", options)
    assert 24 == report.images
    assert report.resumed > 0
    assert tree(tmp_path / "whole") == tree(tmp_path / "cut")
    assert verify_packed(tmp_path / "cut").sound


@pytest.mark.parametrize("target", ["shards", "rec", "folder"])
@pytest.mark.parametrize("at", [2, 8, 9, 12])
def test_interrupted_pack_goes_on_from_any_group(tmp_path, target, at):
    manifest = pets(tmp_path / "pets").with_split(np.array([0] * 8 + [2] * 4, np.int8))
    options = PackOptions(format=target, shard_images=3, workers=1)
    pack(manifest, tmp_path / "whole", options)

    def stop(done, total):
        if done == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack(manifest, tmp_path / "cut", options, stop)
    calls = []
    report = pack(manifest, tmp_path / "cut", options, lambda *call: calls.append(call))
    assert 12 == report.images
    assert [(number, 12) for number in range(report.resumed + 1, 13)] == calls
    assert tree(tmp_path / "whole") == tree(tmp_path / "cut")


@pytest.mark.parametrize("target", ["shards", "rec", "folder"])
def test_full_disk_at_any_call_loses_nothing_finished(tmp_path, monkeypatch, target):
    manifest = pets(tmp_path / "pets", count=2, size=(12, 8))
    options = PackOptions(format=target, shard_images=1, workers=1)
    pack(manifest, tmp_path / "whole", options)
    whole = tree(tmp_path / "whole")
    for failing in range(1, 200, 2):
        calls = []
        with monkeypatch.context() as disk:
            for name, real in (("fsync", os.fsync), ("replace", os.replace)):

                def full(*arguments, real=real, calls=calls, failing=failing):
                    calls.append(arguments)
                    if len(calls) == failing:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return real(*arguments)

                disk.setattr(os, name, full)
            with contextlib.suppress(OSError):
                pack(manifest, tmp_path / f"out{failing}", options)
        assert 2 == pack(manifest, tmp_path / f"out{failing}", options).images
        assert whole == tree(tmp_path / f"out{failing}")
        if len(calls) < failing:
            assert failing > 20  # it did fail at every call
            return
    pytest.fail("never done")


@pytest.mark.parametrize("target", ["shards", "rec", "folder"])
def test_split_of_bad_images_only_has_no_file(tmp_path, target):
    manifest = pets(tmp_path / "pets").with_split(np.array([0] * 8 + [2] * 4, np.int8))
    for number in range(8, 12):
        (manifest.root / str(manifest.locations.paths[number])).write_bytes(b"none")
    options = PackOptions(format=target, on_bad_image="skip")
    report = pack(manifest, tmp_path / "out", options)
    assert ["train"] == [file.split for file in report.files]
    assert (8, 4) == (report.images, len(report.problems))
    assert verify_packed(tmp_path / "out").sound


def test_unfinished_pack_of_other_images_is_refused(tmp_path):
    manifest = pets(tmp_path / "pets")
    bad = tmp_path / "pets" / "dog" / "11.jpg"
    bad.write_bytes(b"none")
    options = PackOptions(shard_images=3)
    with pytest.raises(DataError, match="cannot be packed"):
        pack(manifest, tmp_path / "out", options)
    with pytest.raises(DataError, match="unfinished pack"):
        pack(manifest, tmp_path / "out", PackOptions(shard_images=4))


def test_second_packer_is_refused(tmp_path):
    import fcntl

    manifest = pets(tmp_path / "pets", count=2)
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(DataError, match="another process"):
        pack(manifest, tmp_path / "out")
    os.close(handle)


@pytest.mark.parametrize("target", ["shards", "rec"])
def test_verify_names_the_damaged_file_and_image(tmp_path, target):
    manifest = pets(tmp_path / "pets")
    out = tmp_path / "out"
    pack(manifest, out, PackOptions(format=target, shard_images=6))
    file = out / ("data-00001.tar" if target == "shards" else "data.rec")
    report = verify_packed(out)
    assert (True, 12) == (report.sound, report.images)
    data = bytearray(file.read_bytes())
    listing = list_shards(file) if target == "shards" else list_records(file)
    row = 2 if target == "shards" else 8
    place = int(listing.locations.offsets[row]) + 100
    data[place] ^= 1
    file.write_bytes(data)
    report = verify_packed(out)
    assert not report.sound
    key = f"{8:09d}" if target == "shards" else "8"
    assert [("damaged-image", f"{file}:{key}")] == [(p.kind, p.path) for p in report.problems]
    json.dumps(report.record())
    with pytest.raises(DataError, match="damaged"):
        unpack_data(out, tmp_path / "files")
    file.write_bytes(file.read_bytes()[: place - 50])
    cut = [problem.path for problem in verify_packed(out).problems]
    assert f"{file}:{key}" in cut
    assert len(cut) >= 3
    file.unlink()
    assert ["missing"] == [problem.kind for problem in verify_packed(out).problems]


def test_verify_names_a_damaged_label(tmp_path):
    manifest = pets(tmp_path / "pets", count=2)
    pack(manifest, tmp_path / "out")
    file = tmp_path / "out" / "data-00000.tar"
    file.write_bytes(file.read_bytes().replace(b"000000001.cls", b"000000009.cls", 1))
    (problem,) = verify_packed(tmp_path / "out").problems
    assert ("damaged", str(file)) == (problem.kind, problem.path)
    assert "the images are sound" in problem.text


def test_verify_looks_at_folders(tmp_path):
    manifest = pets(tmp_path / "pets")
    pack(manifest, tmp_path / "out", PackOptions(format="folder"))
    assert verify_packed(tmp_path / "out").sound
    (tmp_path / "out" / "cat" / "02.jpg").write_bytes(b"other")
    (tmp_path / "out" / "dog" / "05.jpg").unlink()
    found = {problem.path: problem.kind for problem in verify_packed(tmp_path / "out").problems}
    assert {
        str(tmp_path / "out" / "cat" / "02.jpg"): "damaged-image",
        str(tmp_path / "out" / "dog" / "05.jpg"): "missing",
    } == found


def test_verify_needs_an_index(tmp_path):
    manifest = pets(tmp_path / "pets", count=2)
    pack(manifest, tmp_path / "out")
    (tmp_path / "out" / "data-00000.tar.index.json").unlink()
    with pytest.raises(DataError, match="no index"):
        verify_packed(tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no packed data"):
        verify_packed(tmp_path / "empty")


@pytest.mark.parametrize("target", ["shards", "rec"])
def test_unpack_gives_the_folders_back(tmp_path, target):
    manifest = pets(tmp_path / "pets").with_split(np.array([0] * 8 + [2] * 4, np.int8))
    pack(manifest, tmp_path / "out", PackOptions(format=target))
    report = unpack_data(tmp_path / "out", tmp_path / "files")
    assert (12, ("cat", "dog"), True) == (report.images, report.classes, report.verified)
    unpacked = tree(tmp_path / "files")
    for row, path in enumerate(manifest.locations.paths):
        split = "train" if row < 8 else "test"
        assert (manifest.root / path).read_bytes() == unpacked[f"{split}/{path}"]
    json.dumps(report.record())


def test_unpack_of_others_shards_checks_and_names_safely(tmp_path):
    stream = io.BytesIO()
    photo(1).save(stream, "JPEG")
    members = [("../../evil.jpg", stream.getvalue()), ("../../evil.cls", b"../up"),
               ("b.jpg", stream.getvalue()), ("b.cls", b"CON"),
               ("c/b.jpg", stream.getvalue()), ("c/b.cls", b"CON"),
               ("d.jpg", stream.getvalue())]  # fmt: skip
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "s.tar", "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    report = unpack_data(tmp_path / "in" / "s.tar", tmp_path / "files")
    assert not report.verified
    images = {name for name in tree(tmp_path / "files") if name.endswith(".jpg")}
    assert {"__up/evil.jpg", "_CON/b.jpg", "_CON/b-2.jpg", "d.jpg"} == images
    assert 3 == len(report.notes)  # one key without label, two folders called otherwise
    assert {"in", "files"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cat", "cat"), ("Maine Coon", "Maine Coon"), ("a/b", "a_b"), ("..", "_"), ("", "_"),
        (".hidden", "_hidden"), ("nul.txt", "_nul.txt"), ("end. ", "end"), ("a\x00b", "a_b"),
        ("Ka\u0308fer", "K\u00e4fer"), ("x" * 400, "x" * 200),
    ],
)  # fmt: skip
def test_safe_component(name, expected):
    assert expected == safe_component(name)


def test_photos_are_near_pillows(shared_data):
    source = shared_data / "imagenet_samples" / "imagenet_samples_400.tar"
    packer = ImagePacker(PackOptions(resize=256, encoding="png", compress_level=1, color=1))
    means = []
    with tarfile.open(source) as archive:
        for member in archive.getmembers()[:40]:
            data = archive.extractfile(member).read()
            result = decode_image(packer(data, member.name).data, channels=3)
            full = Image.fromarray(decode_image(data, channels=3))
            expected = full.resize(result.shape[1::-1], Image.Resampling.BILINEAR)
            means.append(np.abs(np.asarray(expected, dtype=int) - result).mean())
    assert np.mean(means) < 1.1  # shown 0.88 over all 400
    assert max(means) < 4.6


@pytest.mark.parametrize("kind", ["shards", "rec"])
def test_a_changed_index_or_list_is_found(tmp_path, kind):
    out = tmp_path / "out"
    pack(pets(tmp_path), out, PackOptions(format=kind))
    assert verify_packed(out).sound
    beside = [path for path in out.iterdir() if path.suffix in (".idx", ".lst")]
    beside += list(out.glob("*.index.json"))
    assert len(beside) >= (1 if kind == "shards" else 3)
    for path in beside:
        content = path.read_bytes()
        place = content.rindex(b"0")
        path.write_bytes(content[:place] + b"1" + content[place + 1 :])
        found = verify_packed(out)
        assert not found.sound
        assert str(path) in {problem.path for problem in found.problems}
        path.write_bytes(content)
        path.unlink()
        if path.name.endswith(".index.json"):
            with pytest.raises(DataError, match="no index"):
                verify_packed(out)
        else:
            assert str(path) in {problem.path for problem in verify_packed(out).problems}
        path.write_bytes(content)


@pytest.mark.feature("PP-05")
@pytest.mark.parametrize("workers", [1, 4])
def test_missing_image_never_hangs_a_pack_and_offsets_grow(tmp_path, workers):
    manifest = pets(tmp_path, count=20)
    gone = str(manifest.locations.paths[7])
    (tmp_path / gone).unlink()
    with pytest.raises(DataError) as caught:
        pack(manifest, tmp_path / "refused", PackOptions(format="rec", workers=workers))
    assert gone in str(caught.value)
    options = PackOptions(format="rec", workers=workers, on_bad_image="skip")
    report = pack(manifest, tmp_path / "out", options)
    assert (19, [gone]) == (report.images, [problem.path for problem in report.problems])
    lines = (tmp_path / "out" / "data.idx").read_text().splitlines()
    keys, offsets = zip(*(map(int, line.split("\t")) for line in lines), strict=True)
    assert [row for row in range(20) if row != 7] == list(keys)
    assert list(offsets) == sorted(set(offsets))
    assert 0 == offsets[0] < offsets[-1]
