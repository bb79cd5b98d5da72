"""RecordIO: golden bytes, payloads full of the magic, damage, threads, processes, MXNet's names."""

import io
import multiprocessing
import pickle
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from discern.base.errors import ConfigError, DataError, RunError
from discern.data.record_format import walk_spans
from discern.data.recordio import (
    MAGIC,
    RECORD_LIMIT,
    DamagedRecords,
    ImageHeader,
    IRHeader,
    MXIndexedRecordIO,
    MXRecordIO,
    RecordReader,
    RecordWriter,
    encode_record,
    pack,
    pack_header,
    pack_img,
    seek_record,
    unpack,
    unpack_header,
    unpack_img,
)

# Payloads in which the magic, its halves and its neighbors are common.
PIECES = st.sampled_from([MAGIC, MAGIC[:2], MAGIC[2:], b"A", b"AB", b"\0\0\0\0", MAGIC * 2, b""])
RICH = st.lists(PIECES | st.binary(max_size=5), max_size=12).map(b"".join)


def write_records(path, payloads):
    with RecordWriter(path) as writer:
        return [writer.write(payload) for payload in payloads]


@pytest.mark.feature("MX-55")
def test_golden_record_of_eight_bytes():
    assert "0a23d7ce08000000" + b"record_0".hex() == encode_record(b"record_0").hex()


@pytest.mark.feature("MX-55")
def test_golden_record_with_the_magic_inside():
    expected = "0a23d7ce04000020414141410a23d7ce0200006042420000"
    assert expected == encode_record(b"AAAA" + MAGIC + b"BB").hex()


@pytest.mark.feature("MX-55")
def test_nth_record_of_eight_bytes_starts_at_16_n(tmp_path):
    offsets = write_records(tmp_path / "a.rec", [b"record_%d" % n for n in range(5)])
    assert [16 * n for n in range(5)] == offsets


@pytest.mark.feature("MX-55")
def test_golden_header():
    expected = "00000000000080400e0a0000000000000000000000000000"
    assert expected == pack_header(ImageHeader(0, 4.0, 2574, 0)).hex()


def test_magic_at_the_beginning_gives_an_empty_first_part():
    expected = MAGIC + struct.pack("<I", 1 << 29) + MAGIC + struct.pack("<I", 3 << 29 | 4) + b"BBBB"
    assert expected == encode_record(MAGIC + b"BBBB")


def test_three_magics_give_first_middle_middle_and_last_part():
    flags = []
    data = encode_record(MAGIC * 3)
    for place in range(0, len(data), 8):
        assert MAGIC == data[place : place + 4]
        flags.append(struct.unpack_from("<I", data, place + 4)[0])
    assert [1 << 29, 2 << 29, 2 << 29, 3 << 29] == flags


def test_magic_off_the_multiples_of_four_stays():
    payload = b"A" + MAGIC + b"BBB"
    assert MAGIC + struct.pack("<I", 8) + payload == encode_record(payload)


def test_label_of_a_sequence_of_one_is_not_that_of_a_number():
    as_list = pack_header(ImageHeader(0, [4.0], 7, 0))
    assert struct.pack("<IfQQf", 1, 0.0, 7, 0, 4.0) == as_list
    assert 24 == len(pack_header(ImageHeader(9, 4, 7, 0)))


@pytest.mark.parametrize("labels", [[1.0], [0.0, 1.0], [1.5, -2.0, 3.0, 4.0, 5.0]])
def test_labels_come_back(labels):
    payload = pack_header(ImageHeader(0, labels, 3, 1)) + b"image"
    header, begin = unpack_header(payload)
    assert (len(labels), 3, 1) == (header.flag, header.id, header.id2)
    assert labels == header.label.tolist()
    assert b"image" == payload[begin:]


@pytest.mark.parametrize(
    "header",
    [
        ImageHeader(0, [], 1, 0),
        ImageHeader(0, 1.0, -1, 0),
        ImageHeader(0, 1.0, 1 << 64, 0),
        ImageHeader(0, 1e39, 1, 0),
    ],
    ids=["no label", "negative id", "large id", "large label"],
)
def test_header_that_does_not_fit_is_refused(header):
    with pytest.raises(DataError):
        pack_header(header)


@pytest.mark.parametrize(
    "payload", [b"", bytes(23), struct.pack("<IfQQ", 2, 0, 0, 0) + bytes(7)], ids=len
)
def test_payload_shorter_than_its_header_is_refused(payload):
    with pytest.raises(DataError, match=r"header|labels"):
        unpack_header(payload)


def test_record_of_half_a_gigabyte_is_refused():
    assert 1 << 29 == RECORD_LIMIT
    with pytest.raises(DataError, match="too large"):
        encode_record(bytes(1 << 29))  # zeros that are never touched cost no memory


@given(st.lists(RICH, max_size=6))
def test_records_come_back_whatever_they_hold(payloads):
    stream = io.BytesIO()
    writer = RecordWriter(stream)
    offsets = [writer.write(payload) for payload in payloads]
    data = stream.getvalue()
    spans = list(walk_spans(data, "memory"))
    assert offsets == [span.offset for span in spans]
    assert payloads == [span.payload(data) for span in spans]
    assert payloads == [b"".join(parts_by_hand(data, span.offset)) for span in spans]
    assert [len(payload) for payload in payloads] == [span.size for span in spans]
    assert [p[:9] for p in payloads] == [span.front(data, 9) for span in spans]


def parts_by_hand(data, place):
    """A second reader, straight from the format's table."""
    while True:
        word = int.from_bytes(data[place + 4 : place + 8], "little")
        length = word & (1 << 29) - 1
        yield data[place + 8 : place + 8 + length]
        place += 8 + (length + 3) // 4 * 4
        if word >> 29 in (0, 3):
            return
        yield MAGIC


@given(st.lists(RICH, min_size=1, max_size=6), st.integers(0, 200))
def test_seeking_finds_the_next_record_from_anywhere(payloads, position):
    data = b"".join(encode_record(payload) for payload in payloads)
    offsets = [span.offset for span in walk_spans(data, "memory")]
    expected = next((offset for offset in offsets if offset >= position), len(data))
    assert expected == seek_record(data, position)


def test_reader_gives_records_in_order_and_by_offset(tmp_path):
    payloads = [b"one", MAGIC, b"three" + MAGIC * 2, b""]
    offsets = write_records(tmp_path / "a.rec", payloads)
    with RecordReader(tmp_path / "a.rec") as reader:
        assert list(zip(offsets, payloads, strict=True)) == list(reader)
        assert payloads[::-1] == [reader.read_at(offset) for offset in offsets[::-1]]


def test_writer_leaves_nothing_behind_after_an_exception(tmp_path):
    def fail():
        with RecordWriter(tmp_path / "a.rec") as writer:
            writer.write(b"one")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [] == list(tmp_path.iterdir())


def test_writer_goes_on_behind_what_a_stream_holds():
    stream = io.BytesIO(encode_record(b"first"))
    stream.seek(0, io.SEEK_END)
    assert 16 == RecordWriter(stream).write(bytearray(b"second"))
    stream.write(b"x")
    with pytest.raises(DataError, match="cannot begin"):
        RecordWriter(stream)


def test_empty_file_has_no_records(tmp_path):
    assert [] == write_records(tmp_path / "a.rec", [])
    assert [] == list(RecordReader(tmp_path / "a.rec"))


def test_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DataError, match="cannot be opened") as caught:
        RecordReader(tmp_path / "none.rec")
    assert str(tmp_path / "none.rec") == caught.value.where


@pytest.mark.parametrize("size", [17, 24, 27, 31, 40, 47, 52, 55])
def test_cut_file_names_the_byte_or_serves_what_is_before(tmp_path, size):
    path = tmp_path / "cut.rec"
    payloads = [b"record_0", b"record_1", b"AAAA" + MAGIC + b"BB"]
    assert [0, 16, 32] == write_records(path, payloads)
    path.write_bytes(path.read_bytes()[:size])
    sound = [offset for offset, end in ((0, 16), (16, 32), (32, 56)) if end <= size]
    cut = 16 * len(sound)
    with pytest.raises(DamagedRecords, match="cut short") as caught:
        list(RecordReader(path))
    assert (cut, f"{path}, byte {cut}") == (caught.value.offset, caught.value.where)
    reader = RecordReader(path, on_damage="stop")
    assert [(16 * n, payloads[n]) for n in range(len(sound))] == list(reader)
    assert cut == reader.damage.offset


@pytest.mark.parametrize(
    ("place", "value", "text"),
    [
        (16, b"\0", "bytes 00 23 d7 ce at byte 16"),
        (23, b"\x60", "part flag 3 at byte 16"),
        (23, b"\x80", "part flag 4 at byte 16"),
        (7, b"\x20", "part flag 0 at byte 16"),
    ],
)
def test_broken_head_is_told_with_its_byte(tmp_path, place, value, text):
    path = tmp_path / "broken.rec"
    write_records(path, [b"record_0", b"record_1"])
    data = bytearray(path.read_bytes())
    data[place : place + 1] = value
    path.write_bytes(data)
    with pytest.raises(DamagedRecords) as caught:
        list(RecordReader(path))
    assert text == caught.value.got


def test_offset_at_which_no_record_begins_is_an_error(tmp_path):
    write_records(tmp_path / "a.rec", [b"A" + MAGIC + bytes(11)])  # a record, but at byte 9
    reader = RecordReader(tmp_path / "a.rec")
    for offset in (-4, 4, 8, 9, 16, 24, 1000):
        with pytest.raises(DamagedRecords):
            reader.read_at(offset)


def test_unknown_choice_for_damage_is_refused(tmp_path):
    with pytest.raises(ConfigError):
        RecordReader(tmp_path / "a.rec", on_damage="ignore")


def many_records(path, count=200):
    payloads = [b"%d " % n * (n % 7) + MAGIC * (n % 3) for n in range(count)]
    return payloads, write_records(path, payloads)


def test_threads_read_what_one_reads(tmp_path):
    payloads, offsets = many_records(tmp_path / "a.rec")
    reader = RecordReader(tmp_path / "a.rec")
    with ThreadPoolExecutor(4) as pool:
        assert payloads * 5 == list(pool.map(reader.read_at, offsets * 5))


def test_pickled_reader_reads_the_same(tmp_path):
    payloads, _ = many_records(tmp_path / "a.rec", 9)
    copy = pickle.loads(pickle.dumps(RecordReader(tmp_path / "a.rec", on_damage="stop")))
    assert (payloads, "stop") == ([payload for _, payload in copy], copy.on_damage)


# MXNet's names.


def write_indexed(folder, payloads):
    record = MXIndexedRecordIO(folder / "a.idx", folder / "a.rec", "w")
    for key, payload in payloads.items():
        record.write_idx(key, payload)
    record.close()
    return folder / "a.idx", folder / "a.rec"


@pytest.mark.feature("MX-55")
def test_mx_record_io_writes_reads_and_resets(tmp_path):
    path = str(tmp_path / "a.rec")
    record = MXRecordIO(path, "w")
    for number in range(3):
        record.write(b"record_%d" % number)
    record.close()
    record = MXRecordIO(path, "r")
    assert [b"record_0", b"record_1", b"record_2", None] == [record.read() for _ in range(4)]
    record.reset()
    assert b"record_0" == record.read()
    record.close()
    with pytest.raises(RunError, match="not open"):
        record.read()
    MXRecordIO(path, "w").close()
    assert b"" == (tmp_path / "a.rec").read_bytes()


@pytest.mark.feature("MX-55")
def test_mx_indexed_record_io_reads_by_key(tmp_path):
    files = write_indexed(tmp_path, {7: b"record_7", 3: b"record_3", 5: b"record_5"})
    assert b"7\t0\n3\t16\n5\t32\n" == files[0].read_bytes()
    record = MXIndexedRecordIO(*files, "r")
    assert ([7, 3, 5], b"record_5") == (record.keys, record.read_idx(5))
    record.seek(7)
    assert [b"record_7", b"record_3"] == [record.read(), record.read()]
    assert [b"record_7", b"record_3"] == [record.read_idx(7), record.read()]
    with pytest.raises(DataError, match="no record has this key"):
        record.read_idx(4)


def test_mx_writer_tells_the_next_offset_and_takes_text_keys(tmp_path):
    record = MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "w", key_type=str)
    assert 0 == record.tell()
    record.write_idx("cat", b"record_0")
    assert 16 == record.tell()
    record.close()
    again = MXIndexedRecordIO(tmp_path / "a.idx", tmp_path / "a.rec", "r", key_type=str)
    assert b"record_0" == again.read_idx("cat")


def test_mx_reader_does_not_write_and_writer_does_not_read(tmp_path):
    files = write_indexed(tmp_path, {0: b"x"})
    with pytest.raises(RunError):
        MXIndexedRecordIO(*files, "r").write(b"y")
    with pytest.raises(RunError):
        MXRecordIO(tmp_path / "b.rec", "w").read()
    with pytest.raises(ConfigError):
        MXRecordIO(tmp_path / "b.rec", "a")


def in_child(target, *values):
    """What `target` gives in a forked process: `values` are what it inherits, not copies."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=lambda: there.send(target(*values)))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def read_in_order(record):
    try:
        return record.read()
    except RunError as error:
        return error.what


@pytest.mark.feature("MX-55")
def test_forked_process_is_refused_in_order_and_served_by_key(tmp_path):
    files = write_indexed(tmp_path, {0: b"record_0", 1: b"record_1"})
    record = MXIndexedRecordIO(*files, "r")
    assert "a record file is used in order by several processes" == in_child(read_in_order, record)
    assert b"record_1" == in_child(record.read_idx, 1)
    assert b"record_1" == in_child(lambda: (record.seek(1), record.read())[1])
    assert b"record_0" == record.read()


def read_keys(record, keys):
    return [record.read_idx(key) for key in keys]


@pytest.mark.feature("MX-55")
def test_four_workers_read_the_same_set_as_one(tmp_path):
    payloads = {n: b"%d" % n * (n % 5) + MAGIC for n in range(40)}
    record = MXIndexedRecordIO(*write_indexed(tmp_path, payloads), "r")
    found = [in_child(read_keys, record, range(n, 40, 4)) for n in range(4)]
    one = read_keys(record, range(40))
    assert list(payloads.values()) == one
    assert [one[n::4] for n in range(4)] == found


def test_pickled_mx_reader_begins_anew_and_a_writer_is_refused(tmp_path):
    files = write_indexed(tmp_path, {0: b"record_0", 1: b"record_1"})
    record = MXIndexedRecordIO(*files, "r")
    record.read()
    copy = pickle.loads(pickle.dumps(record))
    assert ([0, 1], b"record_0") == (copy.keys, copy.read())
    with pytest.raises(RunError, match="cannot be pickled"):
        pickle.dumps(MXRecordIO(tmp_path / "b.rec", "w"))


@pytest.mark.feature("MX-55")
def test_pack_and_unpack_with_irheader():
    header, image = unpack(pack(IRHeader(0, 4.0, 2574, 0), b"image"))
    assert (IRHeader(0, 4.0, 2574, 0), b"image") == (header, image)
    assert pack((0, 4.0, 2574, 0), b"x") == pack(IRHeader(0, 4.0, 2574, 0), b"x")


RNG = np.random.default_rng(0)
SMOOTH = np.add.outer(np.arange(24) * 4, np.arange(32) * 3)[:, :, None] + np.array([0, 30, 60])


@pytest.mark.feature("MX-53")
@pytest.mark.parametrize("shape", [(6, 8), (6, 8, 3), (6, 8, 4)])
@pytest.mark.parametrize("quality", [95, 1, 9])
def test_png_of_any_quality_comes_back_pixel_for_pixel(shape, quality):
    pixels = RNG.integers(0, 256, shape).astype(np.uint8)
    header, image = unpack_img(pack_img(IRHeader(0, 1.0, 5, 0), pixels, quality, ".png"))
    assert 5 == header.id
    assert np.array_equal(pixels, image)


def test_image_with_one_channel_is_packed_as_grey():
    pixels = RNG.integers(0, 256, (6, 8, 1)).astype(np.uint8)
    image = unpack_img(pack_img(IRHeader(0, 1.0, 5, 0), pixels, img_fmt=".PNG"))[1]
    assert np.array_equal(pixels[:, :, 0], image)


@pytest.mark.feature("MX-55")
def test_jpeg_is_rgb_of_quality_95():
    pixels = SMOOTH.astype(np.uint8)
    payload = pack_img(IRHeader(0, 1.0, 5, 0), pixels)
    with Image.open(io.BytesIO(unpack(payload)[1])) as image:
        assert ("JPEG", "RGB", (32, 24)) == (image.format, image.mode, image.size)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    assert buffer.getvalue() == unpack(payload)[1]
    decoded = unpack_img(payload, 1)[1].astype(int)
    assert np.abs(decoded - pixels).mean() < 3
    assert (24, 32) == unpack_img(payload, 0)[1].shape


def test_images_that_cannot_be_packed_are_refused():
    header = IRHeader(0, 1.0, 5, 0)
    with pytest.raises(DataError, match="not an image array"):
        pack_img(header, np.zeros((4, 4, 2), np.uint8))
    with pytest.raises(DataError, match="not an image array"):
        pack_img(header, np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ConfigError):
        pack_img(header, np.zeros((4, 4, 3), np.uint8), img_fmt=".bmp")
    with pytest.raises(DataError, match=r"damaged|known format"):
        unpack_img(pack(header, b"no image"))
