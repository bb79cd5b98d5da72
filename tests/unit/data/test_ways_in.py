"""Every way in is found by what lies there, named in one line, and refused in full form."""

from __future__ import annotations

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from discern.base.errors import DataError
from discern.data.recordio import ImageHeader, RecordWriter, pack
from discern.data.scan import DataRequest, scan_data, scan_report
from discern.data.sources import FileSource, open_source
from discern.data.ways_in import WayIn, list_source


def jpeg(number):
    draw = np.random.default_rng(number)
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


def write_records(path, numbers, first=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    with RecordWriter(path) as writer:
        for number in numbers:
            writer.write(pack(ImageHeader(0, float(number % 2), first + number, 0), jpeg(number)))
    return path


def write_shard(path, numbers):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for number in numbers:
            for name, data in (
                (f"{number:04d}.jpg", jpeg(number)),
                (f"{number:04d}.cls", str(number % 2).encode()),
            ):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


def images(listing):
    source = FileSource(listing)
    return [source.read(k) for k in range(len(source))]


@pytest.mark.feature("CA-01")
def test_several_roots_are_one_data_set(tmp_path, save_image):
    for root, names in (("a", ("cat", "dog")), ("b", ("dog", "ant"))):
        for number, name in enumerate(names):
            save_image(tmp_path / root / name / "1.jpg", number)
    listing = list_source(f"{tmp_path / 'a'},{tmp_path / 'b'}")
    wanted = ["a/cat/1.jpg", "a/dog/1.jpg", "b/ant/1.jpg", "b/dog/1.jpg"]
    assert wanted == listing.locations.paths.tolist()
    assert ["cat", "dog", "ant", "dog"] == listing.labels
    assert listing.layout == "2 sources: class folders, 2 files"


def test_folder_with_a_comma_is_one_folder(tmp_path, save_image):
    for name in ("a", "b"):
        save_image(tmp_path / "x,y" / name / "1.jpg")
    assert ["a", "b"] == list_source(str(tmp_path / "x,y")).labels


def test_missing_one_of_several_is_named(class_folders):
    with pytest.raises(DataError, match="no such data") as caught:
        list_source(f"{class_folders},{class_folders}x")
    assert f"{class_folders}x" == caught.value.got
    with pytest.raises(DataError, match="empty between commas"):
        list_source(f"{class_folders},")


@pytest.mark.feature("MX-30")
def test_record_file_and_a_folder_of_them(tmp_path):
    one = write_records(tmp_path / "one.rec", range(5))
    listing = list_source(str(one))
    assert ["0", "1", "0", "1", "0"] == listing.labels
    assert [jpeg(n) for n in range(5)] == images(listing)
    write_records(tmp_path / "many" / "a.rec", range(3))
    write_records(tmp_path / "many" / "b.rec", range(3, 7), 100)
    listing = list_source(str(tmp_path / "many"))
    assert [jpeg(n) for n in range(7)] == images(listing)
    assert ["0", "1", "0", "1", "0", "1", "0"] == listing.labels


def test_record_with_the_magic_inside_is_read_whole(tmp_path):
    picture = bytearray(jpeg(1))
    comment = b"\xff\xfe" + (2 + 38).to_bytes(2, "big") + b"\x0a\x23\xd7\xce" * 9 + b"xx"
    picture[2:2] = comment
    with RecordWriter(tmp_path / "m.rec") as writer:
        for number in range(3):
            header = ImageHeader(0, float(number % 2), number, 0)
            writer.write(pack(header, bytes(picture) if number == 1 else jpeg(number)))
    listing = list_source(str(tmp_path / "m.rec"))
    assert [jpeg(0), bytes(picture), jpeg(2)] == images(listing)


def test_cut_record_file_is_refused_or_serves_what_lies_before(tmp_path):
    path = write_records(tmp_path / "one.rec", range(12))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="cut short"):
        scan_data(DataRequest(train=str(path)))
    scanned = scan_data(DataRequest(train=str(path), on_bad_image="skip"))
    assert 11 == len(scanned.manifest)
    assert any("byte" in note for note in scanned.notes)
    assert 11 == scan_report(DataRequest(train=str(path))).images


def test_labels_of_records_from_a_list(tmp_path):
    path = write_records(tmp_path / "one.rec", range(4))
    rows = "".join(f"{n}\t{1 - n % 2:.6f}\t{n}.jpg\n" for n in range(4))
    (tmp_path / "new.lst").write_text(rows)
    listing = list_source(str(path), way=WayIn(lst=str(tmp_path / "new.lst")))
    assert ["1", "0", "1", "0"] == listing.labels


def test_what_is_said_in_vain_is_noted(class_folders):
    way = WayIn(lst="new.lst", class_index="n.json")
    notes = list_source(str(class_folders), way=way).notes
    assert (True, True) == ("new.lst labels records" in notes[0], "n.json is for" in notes[1])


def test_list_file_names_images(tmp_path, save_image):
    for number in range(4):
        save_image(tmp_path / "img" / f"{number}.jpg", number)
    rows = "".join(f"{n}\t{n % 2:.6f}\timg/{n}.jpg\n" for n in range(4))
    (tmp_path / "a.lst").write_text(rows)
    assert ["0", "1", "0", "1"] == list_source(str(tmp_path / "a.lst")).labels
    (tmp_path / "lists").mkdir()
    (tmp_path / "a.lst").rename(tmp_path / "lists" / "a.lst")
    listing = list_source(str(tmp_path / "lists" / "a.lst"), root=str(tmp_path))
    assert tmp_path == listing.root


def test_shards_one_and_a_folder_of_them(tmp_path):
    one = write_shard(tmp_path / "s" / "set-000000.tar", range(4))
    assert [jpeg(n) for n in range(4)] == images(list_source(str(one)))
    write_shard(tmp_path / "s" / "set-000001.tar", range(4, 6))
    listing = list_source(str(tmp_path / "s"))
    assert ["0", "1", "0", "1", "0", "1"] == listing.labels
    assert [jpeg(n) for n in range(6)] == images(listing)


def test_zip_is_read_like_its_folder(class_folders, tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as archive:
        for path in sorted(class_folders.rglob("*.jpg")):
            archive.write(path, path.relative_to(class_folders))
    wanted = scan_data(DataRequest(train=str(class_folders))).manifest.hash
    assert wanted == scan_data(DataRequest(train=str(tmp_path / "pets.zip"))).manifest.hash


def test_folder_that_holds_one_archive_only_is_that_archive(class_folders, tmp_path):
    (tmp_path / "d").mkdir()
    with tarfile.open(tmp_path / "d" / "pets.tar", "w") as archive:
        archive.add(class_folders, ".")
    assert {"cat", "dog"} == set(list_source(str(tmp_path / "d")).labels)
    (tmp_path / "d" / "names.csv").write_text("number,name\n0,cat\n")
    listing = list_source(str(tmp_path / "d"))
    assert ("beside pets.tar, not read: names.csv",) == listing.notes
    (tmp_path / "d" / "more.tar").write_bytes((tmp_path / "d" / "pets.tar").read_bytes())
    with pytest.raises(DataError, match="no images in the folder") as caught:
        list_source(str(tmp_path / "d"))
    assert "more.tar" in caught.value.hint


def test_wrong_ways_in_tell_what_is_looked_for(tmp_path, save_image):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in the folder") as caught:
        list_source(str(tmp_path / "empty"))
    assert "an empty folder" == caught.value.got
    assert "CLASS/image.jpg" in caught.value.expected
    assert ".rec" in caught.value.expected
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(DataError) as caught:
        list_source(str(tmp_path / "empty"))
    assert "a.txt" == caught.value.got
    picture = save_image(tmp_path / "x.jpg")
    with pytest.raises(DataError, match="not a kind of data") as caught:
        list_source(str(picture))
    assert "discern predict" in caught.value.hint
    assert ".parquet" in caught.value.expected


@pytest.mark.parametrize(
    ("name", "hint"),
    [("x.idx", "name the .rec"), ("x.xlsx", "CSV"), ("x.json", ".jsonl"), ("x.pkl", "run code"),
     ("x.npy", ".npz"), ("x.txt", ".lst")],
)  # fmt: skip
def test_near_misses_get_a_hint(tmp_path, name, hint):
    (tmp_path / name).write_text("0\t0\n")
    with pytest.raises(DataError, match="not a kind of data") as caught:
        list_source(str(tmp_path / name))
    assert hint in caught.value.hint


def test_address_is_not_a_source():
    with pytest.raises(DataError, match="not from addresses") as caught:
        list_source("https://example.org/pets.zip")
    assert "discern data get https://example.org/pets.zip" in caught.value.hint


@pytest.mark.feature("PP-19")
def test_ready_split_folders_flat_folder_and_class_folders_are_accepted(tmp_path, save_image):
    lines = ["path,label"]
    for number in range(6):
        label = "ab"[number % 2]
        split = ("train", "val", "test")[number // 2]
        save_image(tmp_path / "ready" / split / label / f"{number}.jpg", number)
        save_image(tmp_path / "classes" / label / f"{number}.jpg", number)
        save_image(tmp_path / "flat" / f"{number}.jpg", number)
        lines.append(f"{number}.jpg,{label}")
    (tmp_path / "flat" / "labels.csv").write_text("\n".join(lines) + "\n")
    for name in ("ready", "classes", "flat"):
        listing = list_source(str(tmp_path / name))
        names = [path[-5] for path in listing.locations.paths.tolist()]
        found = dict(zip(names, listing.labels, strict=True))
        assert {"0": "a", "1": "b", "2": "a", "3": "b", "4": "a", "5": "b"} == found
    assert [0, 0, 1, 1, 2, 2] == sorted(list_source(str(tmp_path / "ready")).split.tolist())


def test_numbered_shards_between_braces(tmp_path):
    for shard in range(3):
        write_shard(tmp_path / f"set-{shard:03d}.tar", range(2 * shard, 2 * shard + 2))
    listing = list_source(str(tmp_path / "set-{000..001}.tar"))
    assert [jpeg(n) for n in range(4)] == images(listing)
    with pytest.raises(DataError, match="no such data") as caught:
        list_source(str(tmp_path / "set-{002..003}.tar"))
    assert caught.value.got.endswith("set-003.tar")
    with pytest.raises(DataError, match="no range"):
        list_source(str(tmp_path / "set-{3..1}.tar"))


def test_split_folders_of_shards_and_of_records(tmp_path):
    write_shard(tmp_path / "s" / "train" / "0.tar", range(4))
    write_shard(tmp_path / "s" / "val" / "0.tar", range(4, 6))
    listing = list_source(str(tmp_path / "s"))
    assert ([0] * 4 + [1] * 2, ["0", "1"] * 3) == (listing.split.tolist(), listing.labels)
    write_records(tmp_path / "r" / "train" / "a.rec", range(3))
    write_records(tmp_path / "r" / "test" / "a.rec", range(3, 5))
    listing = list_source(str(tmp_path / "r"))
    assert [2, 2, 0, 0, 0] == listing.split.tolist()
    assert [jpeg(n) for n in (3, 4, 0, 1, 2)] == images(listing)


@pytest.mark.feature("MX-30")
def test_records_of_a_folder_are_the_same_data_set(class_folders, tmp_path):
    files = sorted(class_folders.rglob("*.jpg"))
    with RecordWriter(tmp_path / "pets.rec") as writer:
        for number, file in enumerate(files):
            header = ImageHeader(0, float(file.parent.name == "dog"), number, 0)
            writer.write(pack(header, file.read_bytes()))
    (tmp_path / "pets_classes.txt").write_text("cat\ndog\n")
    folder, records = (
        scan_data(DataRequest(train=str(source))).manifest
        for source in (class_folders, tmp_path / "pets.rec")
    )
    assert folder.hash == records.hash
    one, two = open_source(folder), open_source(records)
    assert [one.read(k) for k in range(12)] == [two.read(k) for k in range(12)]


def test_containers_beside_images_are_noted(class_folders):
    write_records(class_folders / "packed.rec", range(2))
    listing = list_source(str(class_folders))
    assert (12, ("beside the images, not read: packed.rec",)) == (len(listing), listing.notes)


# ---- several label columns, end to end ----


@pytest.fixture
def shapes(tmp_path, save_image):
    """A table of 24 images with a color, a shape and tags."""
    lines = ["path,color,shape,tags"]
    for number in range(24):
        save_image(tmp_path / "img" / f"{number}.png", number)
        shape = "" if number == 5 else ("round", "flat", "long")[number % 3]
        tags = ("new;big", "new", "")[number % 3] if number < 18 else "old"
        lines.append(f"img/{number}.png,{('red', 'blue')[number % 2]},{shape},{tags}")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "t.csv"


CHOICE = ["color", "shape", {"tags": {"kind": "multi", "delimiter": ";", "empty": "none"}}]


def test_two_questions_and_tags_become_three_heads(shapes):
    manifest = scan_data(DataRequest(train=str(shapes), label=CHOICE)).manifest
    color, shape, tags = manifest.heads
    assert ("color", "single", ("blue", "red")) == (color.name, color.kind, color.classes)
    assert np.int64 == shape.targets.dtype
    assert [1, 0, 1] == color.targets[:3].tolist()
    assert -1 == shape.targets[5]
    assert ("tags", "multi", ("big", "new", "old")) == (tags.name, tags.kind, tags.classes)
    assert np.float32 == tags.targets.dtype
    assert [[1, 1, 0], [0, 1, 0], [0, 0, 0]] == tags.targets[:3].tolist()
    assert {"train", "val", "test"} == set(manifest.counts())
    assert 24 == sum(manifest.sizes().values())
    reds = sum(counts["color/red"] for counts in manifest.counts().values())
    assert 12 == reds


def test_given_splits_draw_val_from_train_by_combination(shapes):
    lines = shapes.read_text().splitlines()
    splits = ["split", *("test" if n % 4 == 3 else "train" for n in range(24))]
    shapes.write_text("\n".join(f"{a},{b}" for a, b in zip(lines, splits, strict=True)) + "\n")
    manifest = scan_data(DataRequest(train=str(shapes), label=CHOICE)).manifest
    assert (6, 18) == (len(manifest.positions("test")), 24 - len(manifest.positions("test")))
    assert 0 < len(manifest.positions("val")) < 9


def test_one_of_the_columns_is_a_plain_manifest(shapes):
    manifest = scan_data(DataRequest(train=str(shapes), label="color")).manifest
    assert ("label", ("blue", "red")) == (manifest.head.name, manifest.classes)


def test_listed_classes_order_each_column(shapes):
    classes = {"color": ("red", "blue"), "shape": ("round", "long", "flat")}
    request = DataRequest(train=str(shapes), label=["color", "shape"], classes=classes)
    manifest = scan_data(request).manifest
    assert [("red", "blue"), ("round", "long", "flat")] == [h.classes for h in manifest.heads]
    assert [0, 1, 0] == manifest.heads[0].targets[:3].tolist()


def test_class_that_train_lacks_is_named_in_any_column(shapes, tmp_path):
    (tmp_path / "v.csv").write_text("path,color,shape,tags\nimg/0.png,red,round,odd\n")
    request = DataRequest(train=str(shapes), test=str(tmp_path / "v.csv"), label=CHOICE)
    with pytest.raises(DataError, match="the training images do not have") as caught:
        scan_data(request)
    assert ("odd", str(tmp_path / "v.csv")) == (caught.value.got, caught.value.where)


def test_separate_test_table_has_the_same_heads(shapes, tmp_path):
    (tmp_path / "v.csv").write_text("path,tags,shape,color\nimg/0.png,big,flat,blue\n")
    request = DataRequest(train=str(shapes), test=str(tmp_path / "v.csv"), label=CHOICE)
    manifest = scan_data(request).manifest
    (row,) = manifest.positions("test")
    answers = [head.targets[row].tolist() for head in manifest.heads]
    assert [0, 0, [1.0, 0.0, 0.0]] == answers
    assert "img/0.png" in open_source(manifest).name(int(row))


def test_image_without_any_label_is_refused_and_rare_classes_are_noted(shapes):
    text = shapes.read_text()
    shapes.write_text(text.replace("img/3.png,blue,round,new;big", "img/3.png,,,"))
    spec = ["color", "shape"]
    with pytest.raises(DataError, match="1 images have no class") as caught:
        scan_data(DataRequest(train=str(shapes), label=spec))
    assert "img/3.png" == caught.value.got
    shapes.write_text(text.replace("img/3.png,blue,round", "img/3.png,pink,round"))
    notes = scan_data(DataRequest(train=str(shapes), label=spec)).notes
    assert "'color' has classes of fewer than 3 images: pink" in notes


@pytest.mark.parametrize("form", [".csv", ".jsonl", ".parquet"])
def test_manifest_of_several_heads_is_data(shapes, tmp_path, form):
    from discern.data.manifest_files import write_manifest

    first = scan_data(DataRequest(train=str(shapes), label=CHOICE)).manifest
    write_manifest(first, tmp_path / f"m{form}")
    again = scan_data(DataRequest(train=str(tmp_path / f"m{form}"))).manifest
    assert first.hash == again.hash
    assert [head.name for head in first.heads] == [head.name for head in again.heads]
