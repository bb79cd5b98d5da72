"""Decisions on images: made, written, undone, compared, applied; nothing is lost by a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from discern.base.errors import ConfigError, DataError
from discern.base.files import write_json
from discern.data.deciding import Words, check_taken_over, decide
from discern.data.label_decisions import (
    Decision,
    DecisionHistory,
    DecisionSet,
    apply_decisions,
    differences,
    read_decisions,
    write_decisions,
)
from discern.data.manifest import Head, Locations, Manifest
from discern.data.relabel import relabel
from discern.data.review_queue import (
    IMAGES_FILE,
    RECORD_FILE,
    ReviewedImage,
    images_table,
    read_review,
)
from discern.data.scan import DataRequest, scan_data
from discern.data.table_files import Table, read_table, write_table

CLASSES = ("cat", "dog", "eel")
LABELS = ("cat", "dog", "cat", "eel", "eel", "dog")


def name_of(row):
    return f"{row:016x}"


def manifest(labels=LABELS, **changes):
    base = {
        "ids": np.array([name_of(n) for n in range(len(labels))]),
        "locations": Locations.files([f"in/{n}.jpg" for n in range(len(labels))]),
        "heads": (Head("label", "single", CLASSES, np.array([CLASSES.index(x) for x in labels])),),
        "split": np.array([0, 0, 0, 2, 2, -1], np.int8)[: len(labels)],
        "root": Path("/data"),
        "layout": "class folders",
    }
    return Manifest(**(base | changes))


@pytest.fixture
def review(tmp_path):
    """Six images; the queue is 2 (dog), 0 (nothing suggested), 5 with its copy 1 (eel)."""
    queue = {2: (1, "dog", ()), 0: (2, None, ()), 5: (3, "eel", (name_of(1),))}
    images = [
        ReviewedImage(name_of(n), f"in/{n}.jpg", label, *queue.get(n, (None, None, ())))
        for n, label in enumerate(LABELS)
    ]
    write_table(tmp_path / IMAGES_FILE, images_table(images))
    write_json(tmp_path / RECORD_FILE, {"version": 1, "head": "label", "classes": list(CLASSES)})
    return read_review(tmp_path)


def labels(found):
    head = found.heads[0]
    return [head.classes[code] for code in found.targets]


def test_what_was_decided_is_done_to_the_data(review):
    before, after = decide(
        review, Words(accept=["1,3"], relabel=["in/3.jpg=cat"], drop=[name_of(4)], keep=["2"])
    )
    assert (0, 1) == (before.number, after.number)
    assert {"relabel": 4, "drop": 1, "keep": 1} == after.counts()
    changed, notes = apply_decisions(manifest(), read_decisions(review.folder))
    # Image 4 is gone; 1 is a copy of 5 and was decided with it.
    assert ["cat", "eel", "dog", "cat", "eel"] == labels(changed)
    assert [name_of(n) for n in (0, 1, 2, 3, 5)] == changed.ids.tolist()
    assert notes == [
        "overlay v1: 4 labels changed (2 of train, 1 of test), 1 image left out (1 of test)"
    ]


def test_versions_are_never_replaced_and_undo_goes_back_step_by_step(review):
    history = DecisionHistory.of(review.folder)
    decide(review, Words(accept=["1"], note="first look"))
    first = history.path(1).read_bytes()
    decide(review, Words(drop=["in/4.jpg"]))
    decide(review, Words(relabel=["1=eel"]))
    assert [1, 2, 3] == history.numbers()
    assert first == history.path(1).read_bytes()
    contents = [history.read(number).decisions for number in (1, 2)]
    assert contents[1] == history.undo().decisions
    assert contents[0] == history.undo().decisions
    assert () == history.undo().decisions
    with pytest.raises(ConfigError, match="nothing left to undo"):
        history.undo()
    assert 2 == len(history.restore(3).decisions)
    assert "as v3" == history.newest().note
    with pytest.raises(ConfigError, match="no such version"):
        history.restore(99)
    changed, _ = apply_decisions(manifest(), history.newest())
    assert ["cat", "dog", "eel", "eel", "dog"] == labels(changed)


def test_versions_differ_by_image_and_line(review):
    history = DecisionHistory.of(review.folder)
    decide(review, Words(accept=["1"], keep=["2"]))
    decide(review, Words(relabel=["1=eel"], drop=["in/4.jpg"]))
    told = [one.words() for one in differences(history.read(1), history.read(2))]
    assert ["in/2.jpg: cat -> dog => cat -> eel", "in/4.jpg: undecided => drop"] == told
    one, other = (set(history.path(n).read_text().splitlines()[1:]) for n in (1, 2))
    assert 3 == len(one ^ other)  # one line changed, one added


def test_the_same_again_writes_nothing_and_keep_of_a_changed_label_leaves_it(review):
    decide(review, Words(accept=["1"]))
    _, after = decide(review, Words(accept=["1"]))
    assert 1 == after.number
    _, back = decide(review, Words(keep=["1"]))
    assert {"relabel": 0, "drop": 0, "keep": 1} == back.counts()
    _, none = decide(review, Words(clear=["in/2.jpg"]))
    assert () == none.decisions
    with pytest.raises(DataError, match="no decision on these images"):
        decide(review, Words(clear=["in/2.jpg"]))


def test_an_edited_queue_is_read_by_id_or_path(review, tmp_path):
    edited = tmp_path / "edited.csv"
    edited.write_text(
        "rank,id,path,decision,new_label\n"
        "1,2,in/2.jpg,Accept,\n"  # a spreadsheet has made a number of the id
        f"2,{name_of(0)},moved.jpg,,'=gecko\n"
        f"3,{name_of(5)},in/5.jpg,drop,\n"
        f"4,{name_of(3)},in/3.jpg,,\n"
    )
    with pytest.raises(DataError, match="no such class"):
        decide(review, Words(table=edited))
    _, after = decide(review, Words(table=edited, new_classes=True))
    assert ["=gecko", None, "dog", None] == [d.new for d in after.decisions]
    assert (*CLASSES, "=gecko") == after.new_classes
    changed, _ = apply_decisions(manifest(), after)
    assert ["=gecko", "dog", "eel", "eel"] == [
        changed.heads[0].classes[code] for code in changed.targets
    ]


@pytest.mark.parametrize(
    ("rows", "what"),
    [
        ("ffff,nowhere.jpg,drop,", "1 rows name no image"),
        (f"{name_of(2)},in/2.jpg,delete,", "says no decision"),
        (f"{name_of(2)},in/2.jpg,drop,dog", "says no decision"),
        (f"{name_of(2)},in/2.jpg,relabel,", "says no decision"),
        (f"{name_of(2)},in/2.jpg,relabel,god", "no such class"),
        (f"{name_of(0)},in/0.jpg,accept,", "nothing is suggested"),
        (f"{name_of(2)},a,drop,\r\n{name_of(2)},a,keep,", "decide differently on one image"),
    ],
)
def test_an_edited_queue_with_a_mistake_decides_nothing(review, tmp_path, rows, what):
    edited = tmp_path / "edited.csv"
    edited.write_text(f"id,path,decision,new_label\r\n{name_of(4)},in/4.jpg,drop,\r\n{rows}\r\n")
    with pytest.raises(DataError, match=what):
        decide(review, Words(table=edited))
    assert [] == DecisionHistory.of(review.folder).numbers()


def test_unknown_names_and_two_ways_are_errors(review):
    with pytest.raises(DataError, match="2 names are no images") as error:
        decide(review, Words(accept=["1", "in/9.jpg", "7-9"]))
    assert "in/9.jpg, 7-9" == error.value.got
    with pytest.raises(DataError, match="decided on in two ways"):
        decide(review, Words(accept=["1"], drop=["in/2.jpg"]))
    with pytest.raises(ConfigError, match="IMAGE=CLASS"):
        decide(review, Words(relabel=["1"]))
    with pytest.raises(ConfigError, match="there is no review"):
        read_review(review.folder / "overlay")
    with pytest.raises(ConfigError, match="no decisions yet"):
        read_decisions(review.folder)


def test_decisions_of_a_queue_are_not_lost_by_a_new_review(review):
    queue = review.folder / "queue.csv"
    queue.write_text(f"id,path,decision,new_label\n{name_of(2)},in/2.jpg,accept,\n")
    with pytest.raises(ConfigError, match="1 decisions in the queue would be lost"):
        check_taken_over(review.folder)
    decide(review, Words(table=queue))
    check_taken_over(review.folder)


def test_data_that_is_not_as_it_was_decided_on_is_refused(review):
    _, after = decide(review, Words(accept=["1"], keep=["2"]))
    other = manifest(("cat", "dog", "eel", "eel", "eel", "dog"))
    with pytest.raises(DataError, match="1 of 2 labels are not as") as error:
        apply_decisions(other, after)
    assert "in/2.jpg" == error.value.got
    part, notes = apply_decisions(manifest().select(np.array([0, 1])), after)
    assert ["cat", "dog"] == labels(part)
    assert "1 decisions of the overlay are on images that are not in the data" == notes[1]
    with pytest.raises(DataError, match="no image of the overlay is in the data"):
        apply_decisions(manifest().select(np.array([1, 3])), after)
    head = Head("label", "single", ("cat", "dog", "owl"), np.array([0] * 6))
    with pytest.raises(DataError, match="for other classes"):
        apply_decisions(manifest(heads=(head,)), after)


def test_copies_of_equal_bytes_are_told_apart_by_path():
    ids = np.array(["a" * 16, "a" * 16 + "-2", "b" * 16])
    base = manifest().select(np.arange(3))
    data = Manifest(
        ids=ids, locations=base.locations, heads=base.heads, split=base.split, root=base.root,
        layout=base.layout,
    )  # fmt: skip
    found = DecisionSet(
        number=1, parent=0, head="label", classes=CLASSES, new_classes=CLASSES,
        # The id of another listing, in which this copy came first.
        decisions=(Decision("a" * 16, "in/1.jpg", "drop", "dog"),),
    )  # fmt: skip
    changed, _ = apply_decisions(data, found)
    assert ["in/0.jpg", "in/2.jpg"] == changed.locations.paths.tolist()


def test_a_stored_version_is_read_and_others_are_refused(tmp_path, review):
    stored = tmp_path / "v0007.csv"
    stored.write_text(
        '#discern: {"decisions": 1, "number": 7, "parent": 6, "head": "label", "classes": ["a", '
        '"b"], "new_classes": ["a", "b"], "note": ""}\npath,id,action,old,new\r\n'
        "x.jpg,0123456789abcdef,relabel,a,b\r\n"
    )
    found = read_decisions(stored)
    assert (7, "a -> b") == (found.number, found.decisions[0].words())
    write_decisions(found, tmp_path / "again.csv")
    assert stored.read_bytes() == (tmp_path / "again.csv").read_bytes()
    stored.write_text(stored.read_text().replace('"decisions": 1', '"decisions": 2'))
    with pytest.raises(DataError, match="another version"):
        read_decisions(stored)
    write_table(stored, Table({"id": ["a"]}))
    with pytest.raises(DataError, match="holds no decisions"):
        read_decisions(stored)
    _, after = decide(review, Words(accept=["1"]))
    with pytest.raises(DataError, match="these are decisions of a review"):
        relabel(manifest(), DecisionHistory.of(review.folder).path(after.number))


def test_a_scan_reads_the_overlay_before_it_splits(tmp_path, save_image, review):
    for number in range(12):
        save_image(tmp_path / "images" / "ab"[number // 6] / f"{number}.png", number)
    plain = scan_data(DataRequest(train=str(tmp_path / "images"), split=None)).manifest
    target = tmp_path / "decided.csv"
    write_decisions(
        read_decisions(_one_drop(tmp_path, plain)), target
    )  # a version's file does as well as a folder
    found = scan_data(DataRequest(train=str(tmp_path / "images"), overlay=str(target)))
    assert 11 == len(found.manifest)
    assert {"train", "val", "test"} == set(found.manifest.sizes())
    assert "overlay v1: 0 labels changed, 1 image left out" in found.notes


def _one_drop(folder, plain):
    path = folder / "v1.csv"
    found = DecisionSet(
        number=1, parent=0, head="label", classes=("a", "b"), new_classes=("a", "b"),
        decisions=(Decision(str(plain.ids[0]), "a/0.png", "drop", "a"),),
    )  # fmt: skip
    write_decisions(found, path)
    return path


WRITER = """
import sys, itertools
from discern.data.label_decisions import Decision, DecisionHistory
history = DecisionHistory.of(sys.argv[1])
facts = {"head": "label", "classes": ("a",), "new_classes": ("a",)}
print("ready", flush=True)
for turn in itertools.count(len(history.numbers())):
    many = [Decision(f"{turn:08x}{n:08x}", f"{turn}/{n}.jpg", "keep", "a") for n in range(300)]
    history.add(history.newest(), many, **facts)
"""


def test_kill_while_writing_loses_nothing(tmp_path):
    history = DecisionHistory.of(tmp_path)
    whole = 0
    for delay in (0.05, 0.11, 0.17):
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, env=os.environ
        )
        assert child.stdout is not None
        assert b"ready\n" == child.stdout.readline()
        before = len(history.numbers())
        while len(history.numbers()) == before:
            time.sleep(0.002)
        time.sleep(delay)
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        numbers = history.numbers()
        assert list(range(1, len(numbers) + 1)) == numbers
        assert len(numbers) > whole
        whole = len(numbers)
        # Each version holds all before it and 300 more.
        assert 300 * whole == len(history.newest().decisions)
    assert 300 == len(read_table(history.path(1)).columns["id"])
    history.add(history.newest(), [], note="x")
    history.clear(history.newest(), [history.newest().decisions[0].id])
    assert [] == list(history.folder.glob(".*.tmp-*"))  # swept by the next writer
