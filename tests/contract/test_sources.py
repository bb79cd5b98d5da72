"""What every source of images keeps: length, equal reads, threads, names in errors."""

from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.archives import list_tar
from discern.data.images import Preprocess, decode_image
from discern.data.manifest import Head, Locations, Manifest
from discern.data.record_data import list_records
from discern.data.recordio import ImageHeader, RecordWriter, pack
from discern.data.sources import load_resident, measure_mean_std, open_source

COUNT = 24


def pixels(number):
    return np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def png(number):
    stream = io.BytesIO()
    Image.fromarray(pixels(number)).save(stream, "PNG")
    return stream.getvalue()


def manifest(locations, root, arrays=None):
    count = len(locations.paths)
    return Manifest(
        ids=np.array([f"{n:016x}" for n in range(count)]),
        locations=locations,
        heads=(Head("label", "single", ("a", "b"), np.arange(count) % 2),),
        split=np.zeros(count, np.int8),
        root=root,
        layout="a test",
        arrays=arrays or {},
    )


def files(folder):
    for number in range(COUNT):
        (folder / f"{number:02d}.png").write_bytes(png(number))
    return manifest(Locations.files([f"{n:02d}.png" for n in range(COUNT)]), folder)


def container(folder):
    with tarfile.open(folder / "all.tar", "w") as archive:
        for number in range(COUNT):
            member = tarfile.TarInfo(f"a/{number:02d}.png")
            member.size = len(png(number))
            archive.addfile(member, io.BytesIO(png(number)))
    return manifest(list_tar(folder / "all.tar").locations, folder)


def records(folder):
    with RecordWriter(folder / "all.rec") as writer:
        for number in range(COUNT):
            writer.write(pack(ImageHeader(0, float(number % 2), number, 0), png(number)))
    return manifest(list_records(folder / "all.rec").locations, folder)


def array(folder):
    where = Locations(
        np.array([f"{n:05d}" for n in range(COUNT)]),
        np.zeros(COUNT, np.int32),
        np.arange(COUNT),
        np.ones(COUNT, np.int64),
        ("set/train",),
    )
    arrays = {"set/train": np.stack([pixels(n) for n in range(COUNT)])}
    return manifest(where, Path(), arrays)


@pytest.fixture(params=[files, container, records, array])
def described(request, tmp_path, monkeypatch):
    monkeypatch.setenv("DISCERN_CACHE", str(tmp_path / "cache"))
    return request.param(tmp_path)


def as_pixels(data):
    return decode_image(data, channels=3) if isinstance(data, bytes) else data


def test_length_and_every_image(described):
    source = open_source(described)
    assert COUNT == len(source)
    for number in range(COUNT):
        assert np.array_equal(pixels(number), as_pixels(source.read(number)))


def test_a_second_read_gives_the_same(described):
    source = open_source(described)
    assert np.array_equal(as_pixels(source.read(3)), as_pixels(source.read(3)))


def test_two_sources_of_one_manifest_agree(described):
    one, two = open_source(described), open_source(described)
    assert [one.name(k) for k in range(COUNT)] == [two.name(k) for k in range(COUNT)]
    assert np.array_equal(as_pixels(one.read(5)), as_pixels(two.read(5)))


def test_threads_read_what_one_thread_reads(described):
    source = open_source(described)
    positions = list(range(COUNT)) * 20
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda k: as_pixels(source.read(k)), positions))
    assert all(np.array_equal(pixels(k), p) for k, p in zip(positions, got, strict=True))


def test_names_are_distinct_and_follow_a_selection(described):
    names = [open_source(described).name(k) for k in range(COUNT)]
    assert COUNT == len(set(names))
    part = open_source(described.select(np.array([7, 2])))
    assert [names[7], names[2]] == [part.name(0), part.name(1)]
    assert np.array_equal(pixels(2), as_pixels(part.read(1)))


def preprocess(**changes):
    base = {"height": 6, "width": 8, "channels": 3, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    return Preprocess(**(base | changes))


@pytest.mark.parametrize("threads", [1, 3])
def test_resident_array_has_the_images_in_the_order_asked_for(described, threads):
    positions = np.array([5, 0, 23, 5])
    got = load_resident(open_source(described), positions, preprocess(), threads=threads)
    assert np.array_equal(np.stack([pixels(k) for k in positions]), got)


def test_resident_array_is_fitted_like_a_single_image(described):
    wanted = preprocess(height=3, width=3, channels=1, mean=(0.0,), std=(1.0,))
    got = load_resident(open_source(described), np.arange(COUNT), wanted, threads=2)
    assert np.array_equal(wanted.apply(pixels(4)), got[4])


def test_mean_and_std_are_those_of_all_pixels(described):
    positions = np.arange(COUNT)
    mean, std = measure_mean_std(open_source(described), positions, preprocess(), threads=2)
    values = np.stack([pixels(k) for k in positions]).reshape(-1, 3) / 255
    assert np.allclose(values.mean(0), mean, atol=1e-6)
    assert np.allclose(values.std(0), std, atol=1e-6)


def test_sixteen_bit_of_files_and_arrays_is_kept_and_measured(tmp_path):
    deep = np.random.default_rng(0).integers(0, 65536, (COUNT, 6, 8, 1), dtype=np.uint16)
    for number in range(COUNT):
        Image.fromarray(deep[number, :, :, 0]).save(tmp_path / f"{number:02d}.png")
    on_disk = manifest(Locations.files([f"{n:02d}.png" for n in range(COUNT)]), tmp_path)
    where = array(tmp_path).locations
    in_memory = manifest(where, tmp_path, {where.container_names[0]: deep})
    wanted = preprocess(channels=1, mean=(0.0,), std=(1.0,), depth=16)
    for described in (on_disk, in_memory):
        source = open_source(described)
        assert np.array_equal(deep, load_resident(source, np.arange(COUNT), wanted, threads=2))
        mean, std = measure_mean_std(source, np.arange(COUNT), wanted)
        assert np.allclose([deep.mean() / 65535, deep.std() / 65535], [*mean, *std], atol=1e-6)


def test_channels_that_are_not_the_networks_are_an_error_that_names_the_image(tmp_path):
    where = array(tmp_path).locations
    five = np.zeros((COUNT, 6, 8, 5), np.uint8)
    source = open_source(manifest(where, tmp_path, {where.container_names[0]: five}))
    with pytest.raises(DataError, match="other channels") as caught:
        load_resident(source, np.arange(COUNT), preprocess())
    assert (source.name(0), "--channels 5 trains on all of them") == (
        caught.value.where,
        caught.value.hint,
    )


def test_unreadable_image_is_an_error_that_names_it(tmp_path):
    described = files(tmp_path)
    (tmp_path / "07.png").write_bytes(png(7)[:40])
    source = open_source(described)
    with pytest.raises(DataError) as caught:
        load_resident(source, np.arange(COUNT), preprocess(), threads=3)
    assert "07.png" in caught.value.where


def test_file_that_has_gone_is_an_error_that_names_it(tmp_path):
    described = files(tmp_path)
    (tmp_path / "07.png").unlink()
    with pytest.raises(DataError) as caught:
        open_source(described).read(7)
    assert "07.png" in caught.value.where


def test_container_that_has_gone_or_shrunk_is_an_error(tmp_path):
    described = container(tmp_path)
    path = tmp_path / "all.tar"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cut short"):
        open_source(described).read(COUNT - 1)
    path.unlink()
    with pytest.raises(DataError, match="cannot be opened"):
        open_source(described)


def test_record_that_has_shrunk_or_changed_is_an_error_that_names_it(tmp_path):
    described = records(tmp_path)
    path = tmp_path / "all.rec"
    data = path.read_bytes()
    path.write_bytes(data[:-8])
    with pytest.raises(DataError, match="cut short") as caught:
        open_source(described).read(COUNT - 1)
    assert "all.rec" in caught.value.where
    path.write_bytes(bytes(8) + data[8:])
    with pytest.raises(DataError, match="damaged"):
        open_source(described).read(0)
