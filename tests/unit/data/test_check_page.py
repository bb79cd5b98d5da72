"""The check's page: whole, offline, escaped, bounded."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from discern.data import check_page
from discern.data.check import check_data
from discern.data.check_page import render_check_page, write_check_page
from discern.data.check_size_chart import sizes_svg
from discern.data.scan import DataRequest

EVIL = "<img src=x onerror=alert(1)>&\"'"


class Page(HTMLParser):
    """Tags with their attributes, and whether all are closed."""

    VOID = frozenset({"meta", "link", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.wrong = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def save(path, number, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


@pytest.fixture
def dirty(tmp_path):
    """Two classes, one with a name that is an attack; one of each trouble that the page shows."""
    root = tmp_path / "data"
    evil = EVIL.replace("/", "")
    for number in range(24):
        save(root / "train" / (evil, "dog")[number % 2] / f"{number}.jpg", number)
        save(root / "val" / (evil, "dog")[number % 2] / f"{number}.jpg", 100 + number)
    first = next((root / "train" / "dog").iterdir())
    (root / "val" / evil / "leak.jpg").write_bytes(first.read_bytes())
    (root / "train" / "dog" / f"{evil}.jpg").write_bytes(first.read_bytes()[:-400])
    save(root / "train" / "dog" / "tiny.png", 300, (9, 9))
    return root


def report_of(root):
    return check_data(DataRequest(train=str(root), threads=1))


def test_page_is_well_formed_and_escapes_every_text(dirty):
    text = render_check_page(report_of(dirty))
    page = Page(text)
    assert [] == page.wrong == page.open
    assert "<img src=x" not in text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text


def test_page_fetches_and_runs_nothing(dirty):
    text = render_check_page(report_of(dirty))
    page = Page(text)
    metas = [attributes for tag, attributes in page.tags if tag == "meta"]
    contents = [attributes.get("content", "") for attributes in metas]
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'" in contents
    assert "script" not in {tag for tag, _ in page.tags}
    sources = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert sources
    assert all(source.startswith("data:") for source in sources)


def test_page_shows_copies_side_by_side_and_what_cannot_be_read(dirty):
    text = render_check_page(report_of(dirty))
    assert "Same image, different labels (1)" in text
    assert "Same image in two splits (1)" in text
    group = re.search(r"<div class='group'>(.*?)</div></div>", text, re.DOTALL)
    assert group is not None
    pictures = text.count("data:image/jpeg")
    # Two copies, once as a conflict and once as a leak, and the tiny image: 5 figures.
    assert 5 == pictures
    assert "image file is truncated" in text
    assert "9 x 9 pixels" in text


def test_page_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(check_page, "_PICTURES", 4)
    monkeypatch.setattr(check_page, "_GROUPS", 3)
    root = tmp_path / "data"
    for number in range(12):
        path = save(root / ("cat", "dog")[number % 2] / f"{number}.jpg", number)
        (path.parent / f"copy{number}.jpg").write_bytes(path.read_bytes())
    text = render_check_page(report_of(root))
    assert 4 == text.count("data:image/jpeg")
    assert "and 9 more groups" in text
    assert "not shown" in text


def test_many_classes_show_both_ends_and_fold_the_rest(tmp_path):
    root = tmp_path / "data"
    for number in range(40):
        save(root / f"class{number:02d}" / "a.jpg", number, (16, 16))
    text = render_check_page(report_of(root))
    assert "The 10 largest and the 10 smallest of 40" in text
    assert "<details><summary>All 40 classes</summary>" in text


def test_thumbnails_are_pictures_of_their_images(dirty, tmp_path):
    write_check_page(report_of(dirty), tmp_path / "out" / "check.html")
    text = (tmp_path / "out" / "check.html").read_text()
    data = base64.b64decode(re.search(r"data:image/jpeg;base64,([^']+)", text)[1])
    with Image.open(io.BytesIO(data)) as image:
        assert (96, 72) == image.size


def test_an_image_gone_meanwhile_leaves_the_page_whole(dirty):
    report = report_of(dirty)
    for path in dirty.rglob("leak.jpg"):
        path.unlink()
    assert "cannot be read" in render_check_page(report)


def test_folder_without_classes_or_faults_has_a_page(tmp_path):
    save(tmp_path / "flat" / "a.jpg", 1)
    text = render_check_page(report_of(tmp_path / "flat"))
    assert [] == Page(text).wrong
    assert "1</div><p>of 1 images are read" in text


def test_sizes_are_joined_to_few_dots():
    draw = np.random.default_rng(0)
    sizes = draw.integers(400, 500, (20_000, 2)).astype(np.int32)
    sizes[0] = 0
    picture = sizes_svg(sizes)
    counts = [1 if n is None else int(n.replace(",", ""))
              for n in (m[1] for m in re.finditer(r"<title>([\d,]+) image", picture))]  # fmt: skip
    assert 19_999 == sum(counts)
    assert len(counts) < 12_544
    assert "" == sizes_svg(np.zeros((3, 2), dtype=np.int32))
    assert "1 image of about 1 x 1" in sizes_svg(np.ones((1, 2), dtype=np.int32))
