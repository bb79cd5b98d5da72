"""Records as data: files and folders, labels, class names, lists over them, parts, damage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import ConfigError, DataError
from discern.data.image_lists import make_lists
from discern.data.manifest import NO_SPLIT
from discern.data.record_data import (
    find_record_files,
    is_records,
    list_records,
    part_records,
    record_image,
)
from discern.data.record_files import ListRow, build_index, read_list, write_list
from discern.data.recordio import (
    MAGIC,
    ImageHeader,
    MXIndexedRecordIO,
    RecordReader,
    encode_record,
    pack,
)
from discern.data.scan import DataRequest, scan_data
from discern.data.shard_index import PackedSet, write_packed_set
from discern.data.sources import open_source

IMAGES = (b"image_00", b"AAAA" + MAGIC + b"BB", MAGIC, b"", b"image" + MAGIC * 3)


def write_rec(path, labels, images=IMAGES, numbers=None, index=True):
    """Records with these labels (a number, or a list of them), in the order of `images`."""
    numbers = range(len(labels)) if numbers is None else numbers
    path.parent.mkdir(parents=True, exist_ok=True)
    record = MXIndexedRecordIO(path.with_suffix(".idx"), path, "w")
    for place, (label, number) in enumerate(zip(labels, numbers, strict=True)):
        image = images[place % len(images)]
        record.write_idx(number, pack(ImageHeader(0, label, number, 0), image))
    record.close()
    if not index:
        path.with_suffix(".idx").unlink()
    return path


def images_of(listing):
    views = [RecordReader(listing.root / n).view for n in listing.locations.container_names]
    where = listing.locations
    rows = zip(where.containers, where.offsets.tolist(), where.lengths.tolist(), strict=True)
    return [record_image(views[container], offset, length) for container, offset, length in rows]


@pytest.mark.feature("MX-30")
@pytest.mark.parametrize("index", [True, False], ids=["idx", "no idx"])
def test_one_file_gives_every_image_with_its_label(tmp_path, index):
    path = write_rec(tmp_path / "pets.rec", [2, 0, 1, 0, 2], index=index)
    listing = list_records(path)
    assert ["2", "0", "1", "0", "2"] == listing.labels
    assert list(IMAGES) == images_of(listing)
    assert ["0", "1", "2", "3", "4"] == listing.locations.paths.tolist()
    assert (True, "pets", tmp_path) == (listing.numeric, listing.name, listing.root)
    assert ("pets.rec",) == listing.locations.container_names
    expected = "1 record file, 5 images, " + ("1 with index" if index else "no index")
    assert expected == listing.layout


def test_spans_are_whole_records_with_their_padding(tmp_path):
    listing = list_records(write_rec(tmp_path / "a.rec", [0, 0], [b"12345678", b"123"]))
    # 8 of head, 24 of header, the image, and zeros up to a multiple of 4.
    assert [0, 40] == listing.locations.offsets.tolist()
    assert [40, 36] == listing.locations.lengths.tolist()
    assert 76 == (tmp_path / "a.rec").stat().st_size


@pytest.mark.feature("MX-30")
def test_folder_of_files_gives_all_of_them(tmp_path):
    write_rec(tmp_path / "set" / "b.rec", [1, 1], IMAGES[3:])
    write_rec(tmp_path / "set" / "a.rec", [0, 2, 0], IMAGES[:3], index=False)
    (tmp_path / "set" / ".hidden.rec").write_bytes(b"no record")
    (tmp_path / "set" / "folder.rec").mkdir()
    listing = list_records(tmp_path / "set")
    assert ["0", "2", "0", "1", "1"] == listing.labels
    assert list(IMAGES) == images_of(listing)
    assert ["a.rec/0", "a.rec/1", "a.rec/2", "b.rec/0", "b.rec/1"] == (
        listing.locations.paths.tolist()
    )
    assert "2 record files, 5 images, 1 with index" == listing.layout
    assert (NO_SPLIT,) * 5 == tuple(listing.split)
    assert ["a.rec", "b.rec"] == [file.name for file in find_record_files(tmp_path / "set")]


def test_names_of_lists_are_splits_if_all_files_have_them(tmp_path):
    for name in ("x_0_train", "x_1_train", "x_val", "x_test"):
        write_rec(tmp_path / "set" / f"{name}.rec", [0])
    assert [0, 0, 2, 1] == list_records(tmp_path / "set").split.tolist()
    assert [NO_SPLIT] == list_records(tmp_path / "set" / "x_val.rec").split.tolist()
    write_rec(tmp_path / "set" / "more.rec", [0])
    assert [NO_SPLIT] * 5 == list_records(tmp_path / "set").split.tolist()


def test_what_is_taken_for_records(tmp_path):
    path = write_rec(tmp_path / "set" / "a.REC", [0])
    assert is_records(path)
    assert is_records(tmp_path / "set")
    assert not is_records(tmp_path)
    assert not is_records(tmp_path / "set" / "a.idx")
    with pytest.raises(DataError, match="no record files"):
        list_records(tmp_path)
    with pytest.raises(DataError, match="cannot be opened"):
        list_records(tmp_path / "none.rec")


@pytest.mark.feature("MX-54")
@pytest.mark.parametrize(
    ("labels", "heads"),
    [
        ([[1], [0], [2]], [("single", ("0", "1", "2"), [1, 0, 2])]),
        ([[0, 1], [1, 1], [0, 0]], [("multi", ("0", "1"), [[0, 1], [1, 1], [0, 0]])]),
        (
            [[0, 5], [1, 5], [2, 7]],
            [("single", ("0", "1", "2"), [0, 1, 2]), ("single", ("5", "7"), [0, 0, 1])],
        ),
        (
            [[0, 1, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0]],
            [
                (
                    "multi",
                    ("0", "1", "2", "3", "4"),
                    [[0, 1, 0, 0, 1], [1, 1, 0, 0, 0], [0, 0, 0, 1, 0]],
                )
            ],
        ),
    ],
    ids=["1 label", "2 labels", "2 questions", "5 labels"],
)
def test_several_labels_come_back(tmp_path, labels, heads):
    listing = list_records(write_rec(tmp_path / "a.rec", labels))
    found = [(head.kind, head.classes, head.targets.tolist()) for head in listing.heads]
    assert heads == found
    assert list(IMAGES[:3]) == images_of(listing)


def test_label_that_is_unknown_among_several_is_missing(tmp_path):
    path = write_rec(tmp_path / "a.rec", [[0, 1], [float("nan"), 1], [float("nan")] * 2])
    (column,) = list_records(path).heads
    assert ("multi", ["1", "1", None]) == (column.kind, column.texts())
    assert [[False, False], [True, False], [True, True]] == np.isnan(column.targets).tolist()


def test_records_with_different_numbers_of_labels_are_refused(tmp_path):
    path = write_rec(tmp_path / "a.rec", [[1, 0], [1]])
    with pytest.raises(DataError, match="different numbers of labels") as caught:
        list_records(path)
    assert "1" == caught.value.where


@pytest.mark.parametrize("name", ["x_classes.txt", "x_0_train_classes.txt", "synset.txt"])
def test_classes_are_named_by_a_file_beside(tmp_path, name):
    (tmp_path / name).write_text("cat\ndog\nhen\n")
    listing = list_records(write_rec(tmp_path / "x_0_train.rec", [1, 0, -1]))
    assert (["dog", "cat", None], ("cat", "dog", "hen")) == (listing.labels, listing.classes)
    assert listing.layout.endswith(f"names in {name}")


def test_several_labels_are_named_by_a_file_beside(tmp_path):
    (tmp_path / "classes.txt").write_text("wet\nred\n")
    listing = list_records(write_rec(tmp_path / "a.rec", [[0, 1], [1, 1]]))
    assert ["red", "wet;red"] == listing.labels
    (tmp_path / "classes.txt").write_text("wet\nred\nold\n")
    with pytest.raises(DataError, match="names do not fit"):
        list_records(tmp_path / "a.rec")


def test_files_with_different_class_names_are_refused(tmp_path):
    for name in ("x", "y"):
        write_rec(tmp_path / f"{name}.rec", [0])
        (tmp_path / f"{name}_classes.txt").write_text(f"only {name}\n")
    with pytest.raises(DataError, match="different class names"):
        list_records(tmp_path)
    (tmp_path / "y_classes.txt").write_text("only x\n")
    assert ("only x",) == list_records(tmp_path).classes


def test_class_number_without_a_name_is_refused(tmp_path):
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match="no class numbers") as caught:
        list_records(write_rec(tmp_path / "a.rec", [0, 2]))
    assert ("1", "2", "0 to 1") == (caught.value.where, caught.value.got, caught.value.expected)


@pytest.mark.feature("MX-35")
def test_two_labels_swapped_in_the_list_are_swapped_in_the_data(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0, 1, 2], numbers=[20, 10, 30])
    before = path.read_bytes()
    rows = [ListRow(10, (0.0,), "b"), ListRow(20, (1.0,), "a"), ListRow(30, (2.0,), "c")]
    write_list(tmp_path / "other.lst", [*rows, ListRow(40, (9.0,), "not packed")])
    assert ["0", "1", "2"] == list_records(path).labels
    listing = list_records(path, tmp_path / "other.lst")
    assert ["1", "0", "2"] == listing.labels
    assert listing.layout.endswith("labels from other.lst")
    assert before == path.read_bytes()


@pytest.mark.feature("MX-35")
def test_list_can_give_more_labels_than_the_records_have(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0, 1])
    write_list(tmp_path / "a.lst", [ListRow(0, (0.0, 1.0), "a"), ListRow(1, (1.0, 1.0), "b")])
    assert [[0, 1], [1, 1]] == list_records(path, tmp_path / "a.lst").heads[0].targets.tolist()


def test_list_that_does_not_fit_the_records_is_refused(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0, 1, 2])
    write_list(tmp_path / "a.lst", [ListRow(1, (0.0,), "b")])
    with pytest.raises(DataError, match="no label for 2 of 3 records") as caught:
        list_records(path, tmp_path / "a.lst")
    assert "ids 0, 2" == caught.value.got
    two = [ListRow(0, (0.0,), "a"), ListRow(0, (1.0,), "a")]
    write_list(tmp_path / "a.lst", two)
    with pytest.raises(DataError, match="two labels for one id"):
        list_records(path, tmp_path / "a.lst")
    same = write_rec(tmp_path / "b.rec", [0, 1], numbers=[5, 5])
    write_list(tmp_path / "a.lst", [ListRow(5, (0.0,), "a")])
    with pytest.raises(DataError, match="records share one"):
        list_records(same, tmp_path / "a.lst")


def test_lines_of_the_list_that_were_skipped_are_noted(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0])
    (tmp_path / "a.lst").write_text("0\t3\ta.jpg\nbroken\n")
    (note,) = list_records(path, tmp_path / "a.lst").notes
    assert note.startswith("1 lines of a.lst were skipped: line 2")


def test_index_that_disagrees_is_refused_by_key(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0, 1, 2])
    idx = tmp_path / "a.idx"
    idx.write_text(idx.read_text().replace("2\t", "2\t1"))
    with pytest.raises(DataError, match="first at key 2") as caught:
        list_records(path)
    assert str(idx) == caught.value.where
    build_index(path, idx)
    assert 3 == len(list_records(path))


@pytest.mark.parametrize("index", [True, False], ids=["idx", "no idx"])
def test_cut_file_is_refused_or_served_up_to_the_cut(tmp_path, index):
    path = write_rec(tmp_path / "a.rec", [0, 1, 0], [b"12345678"], index=index)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short") as caught:
        list_records(path)
    assert f"{path}, byte 80" == caught.value.where
    listing = list_records(path, on_damage="stop")
    assert ["0", "1"] == listing.labels
    (note,) = listing.notes
    assert f"the record file is cut short: only 2 records before {path}, byte 80 are served" == note
    assert (("damaged", "a.rec", note),) == listing.faults


def test_record_that_is_no_image_is_told_with_its_byte(tmp_path):
    (tmp_path / "a.rec").write_bytes(
        encode_record(pack(ImageHeader(0, 0.0, 1, 0), b"x")) + encode_record(b"record_0")
    )
    with pytest.raises(DataError, match="no image header") as caught:
        list_records(tmp_path / "a.rec")
    assert f"{tmp_path / 'a.rec'}, byte 36" == caught.value.where


def test_empty_file_has_no_images(tmp_path):
    (tmp_path / "a.rec").write_bytes(b"")
    with pytest.raises(DataError, match="no records"):
        list_records(tmp_path / "a.rec")


def test_header_with_the_magic_in_it_is_read(tmp_path):
    number = int.from_bytes(MAGIC, "little")  # as the id, at byte 8 of the header
    path = write_rec(tmp_path / "a.rec", [3, [1, 0]][:1], [b"image"], numbers=[number])
    listing = list_records(path)
    assert ([str(number)], ["3"]) == (listing.locations.paths.tolist(), listing.labels)
    assert [b"image"] == images_of(listing)


def test_number_has_both_of_its_halves(tmp_path):
    data = encode_record(pack(ImageHeader(0, 0.0, 1, 2), b"image"))
    (tmp_path / "a.rec").write_bytes(data)
    assert [str(2 << 64 | 1)] == list_records(tmp_path / "a.rec").locations.paths.tolist()


@given(st.binary(max_size=9), st.lists(st.sampled_from([MAGIC, b"a", b"abcd"]), max_size=9))
def test_image_comes_back_out_of_its_span(front, pieces):
    image = front + b"".join(pieces)
    for label in (1.0, [1.0, 2.0, 3.0]):
        record = encode_record(pack(ImageHeader(0, label, 9, 0), image))
        data = encode_record(b"before") + record + encode_record(b"after")
        assert image == record_image(data, 16, len(record))


def test_span_of_another_length_is_refused(tmp_path):
    data = encode_record(pack(ImageHeader(0, 0.0, 1, 0), b"image"))
    with pytest.raises(DataError, match="another length"):
        record_image(data, 0, len(data) - 4, "a.rec")
    with pytest.raises(DataError, match="cut short") as caught:
        record_image(data[:-4], 0, len(data), "a.rec")
    assert "a.rec, byte 0" == caught.value.where


@pytest.mark.feature("MX-30")
def test_folder_and_the_records_and_list_made_of_it_are_the_same_images(class_folders, tmp_path):
    make_lists(tmp_path / "out" / "pets", class_folders, recursive=True)
    rows = read_list(tmp_path / "out" / "pets.lst").rows
    record = MXIndexedRecordIO(tmp_path / "out" / "pets.idx", tmp_path / "out" / "pets.rec", "w")
    for row in rows:
        image = (class_folders / row.path).read_bytes()
        record.write_idx(row.id, pack(ImageHeader(0, row.labels[0], row.id, 0), image))
    record.close()
    facts = []
    for data in (class_folders, tmp_path / "out" / "pets.rec"):
        manifest = scan_data(DataRequest(train=str(data))).manifest
        source = open_source(manifest)
        images = [source.read(row) for row in range(len(manifest))]
        labels = [manifest.classes[target] for target in manifest.targets]
        facts.append(sorted(zip(manifest.ids, labels, manifest.split, images, strict=True)))
    assert 12 == len(facts[0])
    assert facts[0] == facts[1]


@pytest.mark.feature("MX-34")
@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 40])
def test_parts_are_disjoint_and_their_union_is_complete(tmp_path, num_parts):
    for name, count in (("a", 6), ("b", 1), ("c", 9)):
        write_rec(tmp_path / f"{name}.rec", [0] * count, index=name == "b")
    (tmp_path / "bb.rec").write_bytes(b"")
    parts = [part_records(tmp_path, num_parts, index) for index in range(num_parts)]
    where = list_records(tmp_path).locations
    expected = [
        (tmp_path / where.container_names[container], offset, length)
        for container, offset, length in zip(
            where.containers, where.offsets.tolist(), where.lengths.tolist(), strict=True
        )
    ]
    assert expected == [tuple(place) for part in parts for place in part]


@pytest.mark.feature("MX-34")
def test_parts_are_equal_spans_of_bytes(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0] * 10, [b"12345678"])  # 40 bytes each
    assert [0, 40, 80, 120] == [p.offset for p in part_records(path, 3, 0)]  # up to 136
    assert [160, 200, 240] == [p.offset for p in part_records(path, 3, 1)]  # up to 272
    assert [280, 320, 360] == [p.offset for p in part_records(path, 3, 2)]


@pytest.mark.feature("MX-34")
def test_parts_begin_at_multiples_of_four(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0] * 11, [b"123"])  # 36 bytes each
    # 396 / 7 is 56.6, which becomes 60: part 4 is bytes 240 to 299; with 57 it would end at 284.
    assert [252, 288] == [place.offset for place in part_records(path, 7, 4)]


def test_part_that_is_not_there_is_refused(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0])
    for num_parts, index in ((0, 0), (2, 2), (2, -1)):
        with pytest.raises(ConfigError):
            part_records(path, num_parts, index)


def test_part_does_not_pass_over_damage(tmp_path):
    path = write_rec(tmp_path / "a.rec", [0] * 3)
    path.write_bytes(b"\0\0\0\0" + path.read_bytes())
    with pytest.raises(DataError, match="damaged"):
        part_records(path, 2, 0)


def test_our_own_packed_record_names_heads_and_splits(tmp_path):
    write_rec(tmp_path / "one.rec", [[1, 0, 1], [-1, 1, 1]])
    write_rec(tmp_path / "two.rec", [[0, 0, 0]])
    heads = (
        {"name": "color", "kind": "single", "classes": ["red", "blue"]},
        {"name": "tags", "kind": "multi", "classes": ["old", "wet"]},
    )
    files = {"one.rec": "train", "two.rec": "test"}
    write_packed_set(
        tmp_path, PackedSet(format="rec", heads=heads, files=files, images=3, request="")
    )
    listing = list_records(tmp_path)
    color, tags = listing.heads
    assert ["blue", None, "red"] == color.texts()
    assert (("old", "wet"), ["wet", "old;wet", ""]) == (tags.classes, tags.texts())
    assert [0, 0, 2] == listing.split.tolist()
    write_rec(tmp_path / "two.rec", [[0, 0]])
    with pytest.raises(DataError, match="disagree"):
        list_records(tmp_path / "two.rec")


def test_progress_tells_bytes_of_all_files(tmp_path):
    sizes = [write_rec(tmp_path / f"{n}.rec", [0] * 2000).stat().st_size for n in range(2)]
    seen = []
    list_records(tmp_path, progress=lambda *now: seen.append(now))
    assert (sum(sizes), sum(sizes)) == seen[-1]
    assert [True] * len(seen) == [total == sum(sizes) for _, total in seen]
    assert sorted(seen) == seen
    assert len(seen) > 2
