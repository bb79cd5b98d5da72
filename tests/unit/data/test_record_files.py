"""`.idx` and `.lst` files: their bytes, rebuilding an index, one that disagrees, lists as data."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.record_files import (
    IndexEntry,
    ListRow,
    build_index,
    check_index,
    format_list,
    list_lst,
    read_index,
    read_list,
    write_index,
    write_list,
)
from discern.data.recordio import MAGIC, ImageHeader, MXIndexedRecordIO, pack


def write_images(folder, numbers, keys=None):
    """A .rec of records with these ids, and its .idx as im2rec writes it."""
    record = MXIndexedRecordIO(folder / "a.idx", folder / "a.rec", "w")
    for place, number in enumerate(numbers):
        key = number if keys is None else keys[place]
        record.write_idx(key, pack(ImageHeader(0, 1.0, number, 0), b"i" * (8 + number)))
    record.close()
    return folder / "a.rec", folder / "a.idx"


@pytest.mark.feature("MX-56")
def test_rebuilt_index_counts_and_has_the_original_offsets(tmp_path):
    rec, idx = write_images(tmp_path, [3, 0, 2, 1])
    original = [entry.offset for entry in read_index(idx)]
    seen = []
    report = build_index(rec, tmp_path / "b.idx", progress=lambda *now: seen.append(now))
    assert {"path": str(tmp_path / "b.idx"), "records": 4} == report.record()
    entries = read_index(tmp_path / "b.idx")
    assert ([0, 1, 2, 3], original) == tuple(map(list, zip(*entries, strict=True)))
    assert (rec.stat().st_size,) * 2 == seen[-1]


@pytest.mark.feature("MX-56")
def test_index_file_is_key_tab_offset_newline(tmp_path):
    record = MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w")
    record.write_idx(9, b"record_0")
    record.write_idx(4, b"AAAA" + MAGIC + b"BB")
    record.write_idx(5, b"record_2")
    record.close()
    assert b"9\t0\n4\t16\n5\t40\n" == (tmp_path / "a.idx").read_bytes()
    build_index(tmp_path / "a.rec")
    assert b"0\t0\n1\t16\n2\t40\n" == (tmp_path / "a.idx").read_bytes()


def test_index_of_a_cut_file_is_not_written(tmp_path):
    rec, idx = write_images(tmp_path, [0, 1])
    idx.unlink()
    rec.write_bytes(rec.read_bytes()[:-1])
    with pytest.raises(DataError, match="cut short"):
        build_index(rec, idx)
    assert not idx.exists()


@given(st.lists(st.tuples(st.integers(0, 2**64), st.integers(0, 2**40))))
def test_index_comes_back(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("index") / "a.idx"
    write_index(path, entries)
    assert [IndexEntry(*entry) for entry in entries] == read_index(path)


@pytest.mark.parametrize("line", ["7", "7\t1\t2", "a\t0", "0\tx", "", "7 0"])
def test_line_that_is_no_index_entry_is_named(tmp_path, line):
    (tmp_path / "a.idx").write_text(f"0\t0\n{line}\n1\t8\n")
    with pytest.raises(DataError, match="line of the index") as caught:
        read_index(tmp_path / "a.idx")
    assert f"{tmp_path / 'a.idx'}:2" == caught.value.where


@pytest.mark.parametrize("keys", [None, [0, 1, 2], [70, 71, 72]], ids=["ids", "counter", "own"])
def test_index_that_agrees_passes(tmp_path, keys):
    rec, idx = write_images(tmp_path, [2, 0, 1], keys)
    assert 3 == check_index(rec, idx)
    lines = idx.read_text().splitlines(keepends=True)
    idx.write_text("".join(lines[::-1]))  # the order of lines means nothing
    assert 3 == check_index(rec, idx)


def test_index_of_text_keys_passes(tmp_path):
    record = MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w", key_type=str)
    for key in ("cat", "dog"):
        record.write_idx(key, b"no image")
    record.close()
    assert 2 == check_index(tmp_path / "a.rec", tmp_path / "a.idx")


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        ("2\t0\n0\t40\n1\t84\n", "first at key 0"),  # an offset that is no record's
        ("2\t0\n0\t44\n1\t9000\n", "first at key 1"),
        ("2\t0\n0\t44\n1\t84\n3\t128\n", "first at key 3"),  # a record too many
        ("0\t0\n2\t44\n1\t84\n", "first at key 0"),  # two ids exchanged
        ("2\t0\n9\t44\n1\t84\n", "first at key 9"),  # an id that no record has
        ("0\t0\n1\t44\n7\t84\n", "first at key 7"),  # a counter that jumps
        ("2\t0\n0\t44\n", "leaves out a record"),
        ("2\t0\n0\t44\n1\t84\n5\t44\n", "first at key 5"),  # a record twice
        ("70\t0\n71\t44\n72\t84\n73\t44\n", "first at key 73"),
        ("", "leaves out a record"),
    ],
)
def test_index_that_disagrees_names_the_first_wrong_key(tmp_path, lines, text):
    rec, idx = write_images(tmp_path, [2, 0, 1])  # payloads of 34, 32 and 33 bytes, 8 of head
    assert "2\t0\n0\t44\n1\t84\n" == idx.read_text()
    idx.write_text(lines)
    with pytest.raises(DataError, match=text):
        check_index(rec, idx)


ROWS = [ListRow(12, (3.0,), "cat/a b.jpg"), ListRow(0, (0.5, -1.0, 2.0), "ünï/1.png")]


@pytest.mark.feature("MX-54")
def test_list_has_six_decimals_and_the_path_last(tmp_path):
    write_list(tmp_path / "a.lst", ROWS)
    expected = "12\t3.000000\tcat/a b.jpg\n0\t0.500000\t-1.000000\t2.000000\tünï/1.png\n"
    assert expected.encode() == (tmp_path / "a.lst").read_bytes()
    assert tuple(ROWS) == read_list(tmp_path / "a.lst").rows


def test_bytes_of_a_name_that_is_not_utf8_survive(tmp_path):
    data = b"0\t1.000000\tcat/\xff.jpg\n"
    (tmp_path / "a.lst").write_bytes(data)
    assert data == format_list(read_list(tmp_path / "a.lst").rows)


@given(
    st.lists(
        st.builds(
            ListRow,
            st.integers(0, 2**64),
            st.lists(st.integers(-1000, 1000).map(lambda n: n / 8), min_size=1, max_size=4).map(
                tuple
            ),
            st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1),
        )
    )
)
def test_list_comes_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("list") / "a.lst"
    write_list(path, rows)
    assert (tuple(rows), ()) == (read_list(path).rows, read_list(path).skipped)


def test_lenient_reader_strips_fields_and_reports_what_it_skips(tmp_path):
    lines = [
        "1\t2\ta.jpg",
        " 3 \t 4.5 \t b c.jpg ",
        "5\tx.jpg",
        "",
        "six\t1\td.jpg",
        "7\tno\te.jpg",
    ]
    (tmp_path / "a.lst").write_text("\r\n".join([*lines, "8\t1\tf.jpg"]))
    found = read_list(tmp_path / "a.lst")
    rows = (ListRow(1, (2.0,), "a.jpg"), ListRow(3, (4.5,), "b c.jpg"), ListRow(8, (1.0,), "f.jpg"))
    assert rows == found.rows
    assert ["line 3", "line 4", "line 5", "line 6"] == [text[:6] for text in found.skipped]


@pytest.mark.parametrize("name", ["a\tb.jpg", "a\nb.jpg", "a\rb.jpg", " a.jpg", "a.jpg "])
def test_name_that_breaks_a_line_is_refused_before_writing(tmp_path, name):
    with pytest.raises(DataError, match="does not fit into a list") as caught:
        write_list(tmp_path / "a.lst", [*ROWS, ListRow(1, (0.0,), name)])
    assert repr(name) == caught.value.got
    assert [] == list(tmp_path.iterdir())


@pytest.fixture
def pets(tmp_path, save_image):
    for number in range(4):
        save_image(tmp_path / "images" / f"{number}.jpg", number)
    return tmp_path


def write_pets(folder, labels):
    rows = [ListRow(n, tuple(map(float, row)), f"{n}.jpg") for n, row in enumerate(labels)]
    write_list(folder / "images" / "pets.lst", rows)
    return folder / "images" / "pets.lst"


def test_list_as_data_has_numbers_for_classes(pets):
    listing = list_lst(write_pets(pets, [[0], [2], [0], [-1]]))
    assert ["0", "2", "0", None] == listing.labels
    assert (True, pets / "images", "pets") == (listing.numeric, listing.root, listing.name)
    assert ["0.jpg", "1.jpg", "2.jpg", "3.jpg"] == listing.locations.paths.tolist()


@pytest.mark.parametrize("name", ["pets_classes.txt", "classes.txt", "synset.txt"])
def test_names_beside_the_list_name_the_classes(pets, name):
    (pets / "images" / name).write_text("cat\nn02 dog, hound\nhen\n")
    listing = list_lst(write_pets(pets, [[0], [1], [0], [1]]))
    assert ["cat", "n02 dog, hound", "cat", "n02 dog, hound"] == listing.labels
    assert ("cat", "n02 dog, hound", "hen") == listing.classes
    assert listing.layout.endswith(f"names in {name}")


def test_list_elsewhere_reads_images_from_root(pets):
    lst = write_pets(pets, [[0]] * 4).rename(pets / "moved.lst")
    assert pets / "images" == list_lst(lst, pets / "images").root
    with pytest.raises(DataError, match="4 of 4 images that the list names are not there"):
        list_lst(lst)


@pytest.mark.feature("MX-54")
def test_columns_of_zeros_and_ones_are_one_question_with_several_labels(pets):
    (column,) = list_lst(write_pets(pets, [[0, 1], [1, 1], [0, 0], [1, 0]])).heads
    assert ("multi", ("0", "1")) == (column.kind, column.classes)
    assert [[0, 1], [1, 1], [0, 0], [1, 0]] == column.targets.tolist()


@pytest.mark.feature("MX-54")
def test_columns_of_other_numbers_are_a_question_each(pets):
    heads = list_lst(write_pets(pets, [[0, 5], [1, 5], [2, 7], [0, -1]])).heads
    assert ["label_0", "label_1"] == [column.name for column in heads]
    assert [["0", "1", "2", "0"], ["5", "5", "7", None]] == [column.texts() for column in heads]


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ([[0], [1.5], [0], [1]], "1 labels are no class numbers"),
        ([[0], [-2], [0], [1]], "1 labels are no class numbers"),
        ([[0], [1, 2], [0], [1]], "different numbers of labels"),
    ],
)
def test_labels_that_are_no_classes_are_refused_by_name(pets, labels, text):
    with pytest.raises(DataError, match=text) as caught:
        list_lst(write_pets(pets, labels))
    assert "1.jpg" == caught.value.where


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("cat\n", "no class numbers"),
        ("cat\n\ndog\n", "no name"),
        ("cat\ncat\n", "same name"),
        (" \n", "is empty"),
    ],
)
def test_bad_class_names_are_refused(pets, names, text):
    (pets / "images" / "classes.txt").write_text(names)
    with pytest.raises(DataError, match=text):
        list_lst(write_pets(pets, [[0], [1], [0], [1]]))


def test_list_without_a_row_says_what_its_lines_were(tmp_path):
    (tmp_path / "a.lst").write_text("a.jpg\n")
    with pytest.raises(DataError, match="names no images") as caught:
        list_lst(tmp_path / "a.lst")
    assert "line 1: 1 of at least 3 fields: 'a.jpg'" == caught.value.got


def test_skipped_lines_of_a_list_are_noted(pets):
    lst = write_pets(pets, [[0], [1], [0], [1]])
    lst.write_text(lst.read_text() + "broken\n")
    (note,) = list_lst(lst).notes
    assert ("skipped-line", "pets.lst", "line 5: 1 of at least 3 fields: 'broken'") == (
        list_lst(lst).faults[0]
    )
    assert note.startswith("1 lines of pets.lst were skipped: line 5")


def test_lenient_list_leaves_out_what_is_not_there_and_tells_it(pets):
    lst = write_pets(pets, [[0], [1], [0], [1], [1]])
    listing = list_lst(lst, lenient=True)
    assert (4, ["0", "1", "0", "1"]) == (len(listing), listing.labels)
    text = "the list pets.lst names it, but it is not there"
    assert (("missing", "4.jpg", text),) == listing.faults
