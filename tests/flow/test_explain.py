"""`discern explain` as a user runs it."""

from pathlib import Path

import pytest
from discern_process import QUICK, discern, make_images
from PIL import Image


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    make_images(root / "pets")
    quick = ("--model", "lenet", *QUICK[2:])
    ended = discern("train", "pets", *quick, "--runs", "runs", "--name", "one", cwd=root)
    assert 0 == ended.code, ended.stderr
    return root


def test_overlays_a_page_and_a_record_are_written(folder):
    ended = discern(
        "explain", "one", "pets", "--runs", "runs", "--out", "why", "--json", cwd=folder
    )
    assert 0 == ended.code, ended.stderr
    rows = ended.object["images"]
    images = [path for path in Path(folder / "pets").rglob("*") if path.is_file()]
    assert len(images) == len(rows)
    for row in rows:
        with Image.open(folder / "why" / row["overlay"]) as picture:
            assert min(picture.size) >= 224
        assert 0 < row["probability"] <= 1
    assert (folder / "why" / "index.html").read_text().count("<figure>") == len(rows)
    named = {row["image"]: row["class"] for row in rows}
    answered = discern("predict", "one", "pets", "--runs", "runs", "--json", cwd=folder)
    assert {row["image"]: row["class"] for row in answered.object["predictions"]} == named


def test_a_class_that_is_not_there_is_refused_before_anything_is_written(folder):
    ended = discern(
        "explain", "one", "pets", "--runs", "runs", "--class", "dgo", "--out", "no", "--json",
        cwd=folder,
    )  # fmt: skip
    assert 2 == ended.code
    assert "no such class" in ended.error["what"]
    assert not (folder / "no").exists()
