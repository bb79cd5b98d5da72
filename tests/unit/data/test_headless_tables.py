"""Tables without a header: path and label, single quotes, several files."""

from __future__ import annotations

import pytest

from discern.base.errors import DataError
from discern.data.headless_tables import is_headless, list_headless
from discern.data.ways_in import list_source


@pytest.fixture
def lambda_tables(tmp_path, save_image):
    """`a/train.csv` with 3 rows and `b/more.csv` with 2, paths from their own folders."""
    tables = []
    for folder, file, count in (("a", "train.csv", 3), ("b", "more.csv", 2)):
        rows = []
        for number in range(count):
            save_image(tmp_path / folder / "img" / f"{number}.jpg", number)
            rows.append(f"img/{number}.jpg,{number % 2 + 1}")
        (tmp_path / folder / file).write_text("\n".join(rows) + "\n")
        tables.append(tmp_path / folder / file)
    return tables


@pytest.mark.feature("LA-10")
def test_two_tables_give_the_images_of_both(lambda_tables):
    listing = list_source(",".join(map(str, lambda_tables)))
    assert 3 + 2 == len(listing)
    assert ["1", "2", "1", "1", "2"] == listing.labels
    assert listing.heads[0].numeric
    wanted = ["a/img/0.jpg", "a/img/1.jpg", "a/img/2.jpg", "b/img/0.jpg", "b/img/1.jpg"]
    assert wanted == listing.locations.paths.tolist()


@pytest.mark.feature("LA-10")
def test_single_quotes_hold_a_comma(tmp_path, save_image):
    save_image(tmp_path / "a,b.jpg")
    save_image(tmp_path / "it's.jpg")
    (tmp_path / "t.csv").write_text("'a,b.jpg',3\nit's.jpg,7\n")
    listing = list_source(str(tmp_path / "t.csv"))
    assert ["a,b.jpg", "it's.jpg"] == listing.locations.paths.tolist()
    assert ["3", "7"] == listing.labels


def test_double_quotes_names_and_a_byte_order_mark(tmp_path, save_image):
    save_image(tmp_path / "a,b.jpg")
    (tmp_path / "t.csv").write_text('\ufeff"a,b.jpg",cat\n', encoding="utf-8")
    listing = list_source(str(tmp_path / "t.csv"))
    assert (["a,b.jpg"], ["cat"]) == (listing.locations.paths.tolist(), listing.labels)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("a.jpg,1\n", True), ("'a,b.PNG',1\n", True), ("path,label\na.jpg,1\n", False), ("", False),
     ("tag,filepath\n", False), ('"x.jpeg",1', True)],
)  # fmt: skip
def test_header_is_told_from_an_image(tmp_path, text, wanted):
    (tmp_path / "t.csv").write_text(text)
    assert wanted == is_headless(tmp_path / "t.csv")


def test_row_of_another_form_and_missing_image_are_errors(tmp_path, save_image):
    save_image(tmp_path / "a.jpg")
    (tmp_path / "t.csv").write_text("a.jpg,1\na.jpg,1,2\n")
    with pytest.raises(DataError, match="not a path and a label") as caught:
        list_headless(tmp_path / "t.csv")
    assert "line 2" in caught.value.where
    (tmp_path / "t.csv").write_text("a.jpg,1\nb.jpg,1\n")
    with pytest.raises(DataError, match="1 of 2 images") as caught:
        list_headless(tmp_path / "t.csv")
    assert "b.jpg" == caught.value.got
