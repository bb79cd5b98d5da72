"""The three table formats: encodings, damage with its line, and round trips."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discern.base.errors import DataError
from discern.data.table_files import Table, is_table, read_rows, read_table, write_table

FORMS = [".csv", ".tsv", ".jsonl", ".parquet"]
CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize("form", FORMS)
@given(rows=st.lists(st.tuples(CELL, st.none() | CELL), min_size=1, max_size=5))
@settings(max_examples=25)
def test_any_text_survives_the_file(form, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("tables") / f"t{form}"
    columns = {"path": [row[0] for row in rows], "a label": [row[1] for row in rows]}
    write_table(path, Table(columns))
    assert columns == {name: list(values) for name, values in read_table(path).columns.items()}


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5))
@settings(max_examples=50)
def test_rows_between_single_quotes_come_back(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "t.csv"
    stream = io.StringIO(newline="")
    # "\r\n": with "\n" alone, a "\r" in a cell would not be quoted.
    csv.writer(stream, quotechar="'", quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    path.write_bytes(stream.getvalue().encode())
    found = read_rows(path, delimiter=",", quote="'")
    assert [list(row) for row in rows] == [cells for _, cells in found]


@pytest.mark.parametrize("form", FORMS)
@given(
    data=st.binary(max_size=60)
    | st.text(alphabet='{}[]":,;\t\n\r\0a1\\', max_size=40).map(str.encode)
)
@settings(max_examples=100)
def test_any_bytes_are_a_table_or_a_told_error(form, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("bytes") / f"t{form}"
    path.write_bytes(data)
    told, table = str(path), Table({})
    try:
        table = read_table(path)
    except DataError as error:
        told = error.where
    assert str(path) in told
    assert len({len(values) for values in table.columns.values()}) <= 1


def test_deep_nesting_is_an_error(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(DataError, match="not JSON"):
        read_table(tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be"]
)
def test_byte_order_marks_tell_the_encoding(tmp_path, encoding):
    mark = "\ufeff" if encoding.endswith("e") else ""
    for form, text in ((".csv", "path,label\nä.jpg,Bär\n"), (".jsonl", '{"path": "ä.jpg"}\n')):
        path = tmp_path / f"t{form}"
        path.write_bytes((mark + text).encode(encoding))
        assert ["ä.jpg"] == list(read_table(path).columns["path"])


def test_other_encodings_are_refused_with_line_and_byte(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("path,label\na.jpg,Bär\n".encode("latin-1"))
    with pytest.raises(DataError, match="not UTF-8") as caught:
        read_table(path)
    assert f"{path}, line 2" == caught.value.where
    assert "byte 18" in caught.value.got
    assert "Latin-1" in caught.value.hint


def test_nul_byte_is_refused_with_its_line(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"path,label\na.jpg,x\nb.jpg,\0\n")
    with pytest.raises(DataError, match="NUL") as caught:
        read_table(tmp_path / "t.csv")
    assert caught.value.where.endswith("line 3")
    (tmp_path / "u.csv").write_bytes("path,label\n".encode("utf-16-le"))
    with pytest.raises(DataError, match="NUL"):
        read_table(tmp_path / "u.csv")


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("a,b\n1,2\n3\n", "another number of cells", 3),
        ("a,b\n1,2\n3,4,5\n", "another number of cells", 3),
        ('a,b\n"x\ny",2\n3\n', "another number of cells", 4),
        ('a,b\n1,"2\n', "damaged", 2),
        ('a,b\n1,"2"3\n', "damaged", 2),
    ],
)
def test_damaged_row_is_told_by_its_line(tmp_path, text, what, line):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=what) as caught:
        read_table(tmp_path / "t.csv")
    assert caught.value.where.endswith(f"line {line}")


@pytest.mark.parametrize("text", ["[1]\n", "{\n", '{"a": 1}\n{"a": \n'])
def test_line_that_is_no_json_object_is_told(tmp_path, text):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(DataError, match="JSON") as caught:
        read_table(tmp_path / "t.jsonl")
    assert caught.value.where.endswith(f"line {text.count(chr(10))}")


def test_quoted_cells_and_blank_lines(tmp_path):
    (tmp_path / "t.csv").write_text('path,label\n\n"a,b.jpg","say ""x"""\n\n')
    table = read_table(tmp_path / "t.csv")
    assert {"path": ["a,b.jpg"], "label": ['say "x"']} == dict(table.columns)
    rows = read_rows(tmp_path / "t.csv", delimiter=",", quote='"')
    assert [(1, ["path", "label"]), (3, ["a,b.jpg", 'say "x"'])] == rows


def test_missing_file_is_an_error(tmp_path):
    for name in ("no.csv", "no.jsonl", "no.parquet"):
        with pytest.raises(DataError):
            read_table(tmp_path / name)


def test_tables_go_by_their_suffix(tmp_path):
    names = ["a.CSV", "a.ndjson", "a.tsv", "a.parquet", "a.json", "a.xlsx"]
    assert [True] * 4 + [False] * 2 == [is_table(tmp_path / name) for name in names]
