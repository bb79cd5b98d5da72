"""The parity page is true: 289 ids, no unknown mark, not stale."""

from __future__ import annotations

from collections import Counter

import pytest
from feature_marks import (
    PAGE,
    Feature,
    Mark,
    ParityError,
    find_marks,
    marks_of,
    read_features,
    write_page,
)


def test_all_289_ids_are_listed_once():
    ids = [feature.id for feature in read_features()]
    assert len(set(ids)) == 289
    systems = Counter(identifier.partition("-")[0] for identifier in ids)
    assert systems == {"MX": 71, "LA": 38, "CA": 56, "LB": 53, "ML": 35, "PP": 36}


def test_every_feature_has_a_title():
    assert [] == [feature.id for feature in read_features() if len(feature.title) < 5]


def test_parity_page_is_current():
    expected = write_page(read_features(), find_marks())
    assert PAGE.read_text(encoding="utf-8") == expected, (
        "docs/parity.md is stale: python tests/parity/write_parity.py"
    )


def test_marks_are_found_on_functions_and_methods():
    text = (
        "@pytest.mark.slow\n@pytest.mark.feature('MX-01', 'LA-04')\ndef test_a(): ...\n"
        "class TestB:\n    @pytest.mark.feature('MX-01')\n    def test_c(self): ...\n"
    )
    assert marks_of(text, "tests/test_x.py") == [
        Mark("MX-01", "tests/test_x.py::test_a", "slow"),
        Mark("LA-04", "tests/test_x.py::test_a", "slow"),
        Mark("MX-01", "tests/test_x.py::TestB::test_c", ""),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "@pytest.mark.feature(NAME)\ndef test_a(): ...",
        "@pytest.mark.feature()\ndef test_a(): ...",
        "@pytest.mark.feature('MX-01')\ndef helper(): ...",
        "@pytest.mark.skip('later')\n@pytest.mark.feature('MX-01')\ndef test_a(): ...",
        "pytestmark = pytest.mark.feature('MX-01')",
        "covers = pytest.mark.feature\n@covers('MX-01')\ndef test_a(): ...",
    ],
)
def test_mark_that_cannot_be_read_is_refused(text):
    with pytest.raises(ParityError, match=r"tests/test_x\.py:\d"):
        marks_of(text, "tests/test_x.py")


FEATURES = [Feature("MX-01", "One", ""), Feature("MX-28", "Two", "not ported")]


def test_mark_with_unknown_id_is_refused():
    with pytest.raises(ParityError, match="unknown feature id 'MX-99'"):
        write_page(FEATURES, [Mark("MX-99", "tests/test_x.py::test_a", "")])


def test_mark_on_an_excluded_feature_is_refused():
    with pytest.raises(ParityError, match="MX-28 is out of scope"):
        write_page(FEATURES, [Mark("MX-28", "tests/test_x.py::test_a", "")])


def test_page_tells_covered_excluded_and_open():
    page = write_page(
        [*FEATURES, Feature("MX-02", "Three", "")],
        [Mark("MX-01", "tests/test_x.py::test_a", "slow")],
    )
    assert "| MX | 3 | 1 | 1 | 1 |" in page
    assert "| MX-01 | One | `tests/test_x.py::test_a` (slow) |" in page
    assert "| MX-02 | Three | open |" in page
    assert "| MX-28 | Two | not applicable: not ported |" in page


@pytest.mark.parametrize(
    "row",
    [
        "MX-01,One,done,\n",
        "MX-01,One,open,but\n",
        "MX-01,One,not_applicable,\n",
        "MX-01,One,open,\n" * 2,
    ],
)
def test_faulty_feature_list_is_refused(tmp_path, row):
    path = tmp_path / "features.csv"
    path.write_text("id,title,status,reason\n" + row)
    with pytest.raises(ParityError, match="MX-01"):
        read_features(path)
