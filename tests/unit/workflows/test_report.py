"""The report folder: figures as scikit-learn's, a safe page that works offline, atomic writing."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from sklearn import metrics

from discern.base.errors import DataError, RunError
from discern.training.scores import score_record, table_from_logits
from discern.workflows.report import ReportContent, write_report

FILES = {
    "report.json",
    "per_class.csv",
    "confusion.csv",
    "confusion.png",
    "curves.png",
    "predictions.csv",
    "predictions.parquet",
    "index.html",
}
EVIL = "<script>alert('x')</script>"


def make_content(num_classes=10, count=300, names=None, gain=2.5, **changes):
    rng = np.random.default_rng(5)
    targets = rng.integers(0, num_classes, count)
    logits = rng.normal(size=(count, num_classes)).astype(np.float32)
    logits[np.arange(count), targets] += gain
    table = table_from_logits(
        logits, targets, classes=names or tuple(f"class {k}" for k in range(num_classes))
    )
    steps = np.arange(0, 3000, 2)
    values = {
        "title": "demo/fast-1",
        "table": table,
        "names": [f"images/{row}.png" for row in range(count)],
        "ids": [f"{row:016x}" for row in range(count)],
        "metrics": {"split": "test", **score_record(table)},
        "curves": {
            "train/loss": (steps, 2.0 / (1 + steps / 100)),
            "val/loss": (np.array([1000, 2000]), np.array([0.3, np.nan])),
        },
        "facts": {"split": "drawn at random"},
        "config_text": "seed: 0\n",
        "commands": ("discern predict demo/fast-1 IMAGE.jpg",),
        "thumbnail": lambda position: np.full((20, 30, 3), position % 256, np.uint8),
    }
    return ReportContent(**{**values, **changes})


def written(tmp_path, content):
    write_report(tmp_path / "report", content)
    return tmp_path / "report"


def page_of(folder):
    return (folder / "index.html").read_text(encoding="utf-8")


def read_csv(path):
    with open(path, encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


class Links(HTMLParser):
    """Every tag, and every attribute that could fetch something."""

    def __init__(self):
        super().__init__()
        self.tags, self.fetched = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "href", "srcset", "data")]


@pytest.mark.parametrize("num_classes", [1, 2, 10, 60, 130])
def test_report_holds_every_file_for_any_number_of_classes(tmp_path, num_classes):
    folder = written(tmp_path, make_content(num_classes))
    assert {path.name for path in folder.iterdir()} == FILES
    for name in ("confusion.png", "curves.png"):
        Image.open(folder / name).verify()


def test_figures_equal_scikit_learn(tmp_path):
    content = make_content()
    folder = written(tmp_path, content)
    true, predicted = content.table.targets, content.table.predicted
    expected = metrics.precision_recall_fscore_support(true, predicted)
    rows = read_csv(folder / "per_class.csv")
    for place, key in enumerate(("precision", "recall", "f1", "support")):
        np.testing.assert_allclose(expected[place], [float(row[key]) for row in rows], atol=1e-6)
    with open(folder / "confusion.csv", encoding="utf-8", newline="") as stream:
        matrix = [[int(cell) for cell in row[1:]] for row in list(csv.reader(stream))[1:]]
    assert metrics.confusion_matrix(true, predicted).tolist() == matrix
    record = json.loads((folder / "report.json").read_text())
    assert metrics.accuracy_score(true, predicted) == record["metrics"]["accuracy"]


def test_predictions_table_has_a_row_per_image(tmp_path):
    content = make_content()
    folder = written(tmp_path, content)
    rows = read_csv(folder / "predictions.csv")
    table = pq.read_table(folder / "predictions.parquet").to_pylist()
    assert len(rows) == len(table) == 300
    row, top = table[7], content.table.top_classes[7]
    assert row["image"] == "images/7.png"
    assert row["id"] == f"{7:016x}"
    assert row["true"] == f"class {content.table.targets[7]}"
    assert [row["predicted"], *(row[f"class{k}"] for k in range(2, 6))] == [
        f"class {number}" for number in top
    ]
    assert row["correct"] == bool(content.table.correct[7])
    assert row["probability"] == pytest.approx(content.table.top_probabilities[7, 0], abs=1e-6)
    assert [r["predicted"] for r in rows] == [r["predicted"] for r in table]


def test_page_fetches_nothing_and_runs_nothing(tmp_path):
    page = page_of(written(tmp_path, make_content(names=(EVIL, *(f"c{k}" for k in range(9))))))
    links = Links()
    links.feed(page)
    assert "script" not in links.tags
    assert links.fetched
    assert all(value.startswith("data:") for value in links.fetched)
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_every_text_is_escaped(tmp_path):
    content = make_content(
        names=(EVIL, "a&b", "'q'", *(f"c{k}" for k in range(7))),
        title=EVIL,
        facts={EVIL: EVIL},
        environment={EVIL: EVIL},
        warnings=(EVIL,),
        commands=(EVIL,),
        config_text=EVIL,
    )
    page = page_of(written(tmp_path, content))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_class_names_never_become_formulas_or_mathematics(tmp_path):
    names = ("=1+1", "$\\frac$", "a$b$", "@x", "日本")
    folder = written(tmp_path, make_content(5, names=names))
    assert [row["class"] for row in read_csv(folder / "per_class.csv")][:2] == ["'=1+1", names[1]]
    kept = set(pq.read_table(folder / "predictions.parquet")["true"].to_pylist())
    assert kept == set(names)


def test_headline_states_accuracy_interval_and_count(tmp_path):
    content = make_content()
    page = page_of(written(tmp_path, content))
    scores = content.metrics
    assert f"{100 * scores['accuracy']:.1f}<small>%</small>" in page
    interval = f"{100 * scores['accuracy_low']:.1f} to {100 * scores['accuracy_high']:.1f}%"
    assert interval in page
    assert "of 300 test images" in page


def test_warning_stands_in_page_and_record(tmp_path):
    folder = written(tmp_path, make_content(warnings=("Chosen on the test images",)))
    assert "Chosen on the test images" in page_of(folder)
    record = json.loads((folder / "report.json").read_text())
    assert record["warnings"] == ["Chosen on the test images"]


def test_gallery_shows_the_24_worst_mistakes_as_small_pictures(tmp_path):
    content = make_content(gain=0.5)
    page = page_of(written(tmp_path, content))
    wrong = np.flatnonzero(~content.table.correct)
    worst = wrong[np.argsort(-content.table.losses[wrong], kind="stable")][:24]
    shown = re.findall(r"<figure title='images/(\d+)\.png'>", page)
    assert [str(row) for row in worst] == shown
    pictures = re.findall(r"<img alt='' src='data:image/png;base64,([^']+)'", page)
    assert len(pictures) == 24
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0])))
    assert max(image.size) == 96
    assert image.getpixel((0, 0)) == (worst[0] % 256,) * 3


def test_image_that_is_gone_leaves_a_note_not_a_failure(tmp_path):
    def gone(position):
        raise DataError("the image cannot be read", where=str(position))

    assert "cannot be read now" in page_of(written(tmp_path, make_content(thumbnail=gone)))


def test_no_mistake_is_said(tmp_path):
    page = page_of(written(tmp_path, make_content(gain=50)))
    assert "No image was mistaken." in page
    assert "Worst mistakes" not in page


def test_matrix_has_a_cell_per_kind_of_answer(tmp_path):
    content = make_content(6)
    page = page_of(written(tmp_path, content))
    matrix = metrics.confusion_matrix(content.table.targets, content.table.predicted)
    off = matrix - np.diag(np.diag(matrix))
    assert len(re.findall(r"<rect class='e'", page)) == np.count_nonzero(off)
    row, column = np.unravel_index(off.argmax(), off.shape)
    assert f"class {row} taken for class {column}: {off.max()} (" in page


def test_many_classes_get_pairs_instead_of_a_matrix(tmp_path):
    page = page_of(written(tmp_path, make_content(130, count=900)))
    assert "<svg class='matrix'" not in page
    assert "Most confused" in page
    assert "All 130 classes" in page


def test_long_curves_are_thinned_and_gaps_left_out(tmp_path):
    page = page_of(written(tmp_path, make_content()))
    lines = re.findall(r"class='line (\w+)' points='([^']+)'", page)
    assert [name for name, _ in lines] == ["train", "val"]
    assert [len(points.split()) for _, points in lines] == [400, 1]
    assert "nan" not in page


def test_report_without_curves_and_with_unlabeled_images(tmp_path):
    content = make_content()
    targets = content.table.targets.copy()
    targets[:20] = -1
    table = table_from_logits(content.table.logits, targets, classes=content.table.classes)
    folder = written(
        tmp_path,
        make_content(table=table, metrics={"split": "val", **score_record(table)}, curves={}),
    )
    assert {path.name for path in folder.iterdir()} == FILES - {"curves.png"}
    rows = read_csv(folder / "predictions.csv")
    assert [rows[0]["true"], rows[0]["loss"], rows[0]["correct"]] == ["", "", ""]
    assert "of 280 val images" in page_of(folder)


def test_older_report_is_replaced_whole(tmp_path):
    folder = written(tmp_path, make_content())
    written(tmp_path, make_content(curves={}, title="second"))
    assert "curves.png" not in {path.name for path in folder.iterdir()}
    assert "second" in page_of(folder)
    assert [folder] == list(tmp_path.iterdir())


def test_failure_keeps_the_older_report(tmp_path):
    folder = written(tmp_path, make_content())
    broken = make_content(facts={"bad": float("nan")}, title="second")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_report(folder, broken)
    assert "demo/fast-1" in page_of(folder)
    assert [folder] == list(tmp_path.iterdir())


def test_folder_of_another_kind_is_not_overwritten(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.txt").write_text("x")
    with pytest.raises(RunError, match="something else"):
        write_report(tmp_path / "report", make_content())


def test_names_must_fit_the_table():
    with pytest.raises(ValueError, match="299 names for 300 images"):
        ReportContent(
            title="x", table=make_content().table, names=["a"] * 299, ids=["b"] * 300, metrics={}
        )


@pytest.mark.parametrize("rows", [5, 300])
def test_answers_that_are_no_numbers_do_not_stop_the_report(tmp_path, rows):
    table = make_content().table
    probabilities, losses = table.top_probabilities.copy(), table.losses.copy()
    probabilities[:rows] = losses[:rows] = np.nan
    losses[-1] = np.inf
    table = replace(table, top_probabilities=probabilities, losses=losses, logits=None)
    scores = {"split": "test", **score_record(table)}
    folder = written(tmp_path, make_content(table=table, metrics=scores))

    def refuse(word):
        raise AssertionError(word)

    record = json.loads((folder / "report.json").read_text(), parse_constant=refuse)
    assert record["metrics"]["loss"] is None
    assert (record["calibration"] is None) == (rows == 300)
    assert "" == read_csv(folder / "predictions.csv")[0]["probability"]
    assert "nan" not in page_of(folder)


def test_two_hundred_classes_and_one_image(tmp_path):
    folder = written(tmp_path, make_content(200, count=1))
    assert "All 200 classes" in page_of(folder)
    assert 200 == len(read_csv(folder / "per_class.csv"))
