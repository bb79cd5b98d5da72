"""The folders of labeled and raw images: told apart by content, labels of models in train only."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest

from discern.base.errors import ConfigError, DataError
from discern.data.label_folders import (
    check_dataset,
    check_folders,
    deal_folds,
    read_folders,
    trial_manifest,
    write_dataset,
)
from discern.data.label_ledger import ROUND, GivenLabel, LabelLedger, label_records
from discern.data.label_placing import carry_out, choose_paths
from discern.data.manifest_files import write_manifest
from discern.data.scan import DataRequest, scan_data


@pytest.fixture
def folders(tmp_path, save_image):
    """(clean of 2 x 6, raw of 8) with different images throughout."""
    for label, name in enumerate(("ant", "bee")):
        for number in range(6):
            save_image(tmp_path / "clean" / name / f"{number}.jpg", 100 * label + number)
    for number in range(8):
        save_image(tmp_path / "raw" / "all" / f"{number}.jpg", 500 + number)
    return tmp_path / "clean", tmp_path / "raw"


def labels_of(raw, rows, tag="ant", paths=None, round_=0):
    paths = paths or [f"{tag}/new-{row}.jpg" for row in rows]
    return [
        GivenLabel(
            id=str(raw.ids[row]), source=str(raw.locations.paths[row]), path=path, tag=tag,
            confidence=0.75, round=round_,
        )
        for row, path in zip(rows, paths, strict=True)
    ]  # fmt: skip


@pytest.mark.feature("CA-63")
def test_images_are_told_apart_by_content_not_by_name(folders, save_image):
    clean, raw = folders
    save_image(raw / "other" / "0.jpg", 900)  # the name of another raw image
    shutil.copy(raw / "all" / "1.jpg", raw / "other" / "twice.jpg")
    shutil.copy(clean / "bee" / "3.jpg", raw / "all" / "labeled.jpg")
    (raw / "all" / "broken.jpg").write_bytes(b"none")
    found = read_folders(clean, raw, [])
    assert found.raw.locations.paths.tolist() == [
        *(f"all/{n}.jpg" for n in range(8)),
        "other/0.jpg",
    ]
    assert (found.repeats, found.in_clean) == (1, 1)
    assert [problem.path for problem in found.problems] == ["all/broken.jpg"]
    assert len(set(found.raw.ids.tolist())) == 9


@pytest.mark.feature("CA-63")
def test_validation_is_of_people_alone_and_carries_provenance(folders):
    clean, raw = folders
    found = read_folders(clean, raw, [])
    labels = labels_of(found.raw, range(8), round_=3)
    for held in range(3):
        made = trial_manifest(deal_folds(found.human, 3), held, labels, raw, val_share=0.2)
        assert set(made.split[12:].tolist()) == {0}
        assert set(made.split[:12].tolist()) == {0, 1, 2}
        assert made.origin.tolist() == ["human"] * 12 + ["pseudo:3"] * 8
    assert made.confidence[12:].tolist() == [0.75] * 8
    assert np.isnan(made.confidence[:12]).all()


def test_training_reads_the_splits_and_labels_as_they_are(folders, tmp_path):
    clean, raw = folders
    found = read_folders(clean, raw, [])
    labels = labels_of(found.raw, [2], tag="bee", paths=[None])
    made = trial_manifest(deal_folds(found.human, 3), 2, labels, raw, val_share=0.2)
    write_manifest(made, tmp_path / "trial.parquet")
    read = scan_data(DataRequest(train=str(tmp_path / "trial.parquet"))).manifest
    assert read.hash == made.hash
    assert read.locations.paths[-1] == str(raw / "all" / "2.jpg")


@pytest.mark.feature("CA-62")
def test_the_table_is_catalysts_with_provenance_and_last_fold_of_people(folders, tmp_path):
    clean, raw = folders
    found = read_folders(clean, raw, [])
    labels = labels_of(found.raw, range(8), round_=1)
    write_dataset(tmp_path / "dataset.csv", deal_folds(found.human, 5), labels, raw)
    with open(tmp_path / "dataset.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["tag", "filepath", "class", "fold", "origin", "round", "confidence"]
    assert rows[0] == {
        "tag": "ant", "filepath": "ant/0.jpg", "class": "0", "fold": rows[0]["fold"],
        "origin": "human", "round": "", "confidence": "",
    }  # fmt: skip
    given = [row for row in rows if row["origin"] == "pseudo:1"]
    assert [(row["round"], row["confidence"], row["class"]) for row in given] == [
        ("1", "0.750000", "0")
    ] * 8
    assert "4" not in {row["fold"] for row in given}
    assert {row["origin"] for row in rows if row["fold"] == "4"} == {"human"}
    check_dataset(tmp_path / "dataset.csv")
    (tmp_path / "dataset.csv").write_text("tag,filepath\n")
    with pytest.raises(ConfigError, match="stands where"):
        check_dataset(tmp_path / "dataset.csv")


@pytest.mark.parametrize("mode", ["copy", "link"])
@pytest.mark.feature("CA-62")
def test_labels_are_carried_out_once_and_taken_back(folders, mode):
    clean, raw = folders
    ledger = LabelLedger(clean / ".ledger")
    found = read_folders(clean, raw, [])
    labels = labels_of(found.raw, [0, 1])
    ledger.append(ROUND, {"round": 0, "labels": label_records(labels), "withdrawn": []})
    (clean / "ant").joinpath("new-0.jpg").write_bytes((raw / "all" / "0.jpg").read_bytes())
    assert carry_out(ledger, clean, raw, mode, print) == 1  # as after a kill: one is there already
    assert carry_out(ledger, clean, raw, mode, print) == 0
    assert (clean / "ant" / "new-1.jpg").is_symlink() == (mode == "link")
    again = read_folders(clean, raw, labels)
    assert again.placed == {"ant/new-0.jpg", "ant/new-1.jpg"}
    assert len(again.human) == 12
    ledger.undo(0)
    carry_out(ledger, clean, raw, mode, print)
    assert sorted(p.name for p in (clean / "ant").iterdir()) == [f"{n}.jpg" for n in range(6)]
    assert len(list((raw / "all").iterdir())) == 8


def test_nothing_that_is_not_ours_is_overwritten_or_removed(folders):
    clean, raw = folders
    found = read_folders(clean, raw, [])
    labels = labels_of(found.raw, [0], paths=["ant/0.jpg"])
    ledger = LabelLedger(clean / ".ledger")
    ledger.append(ROUND, {"round": 0, "labels": label_records(labels), "withdrawn": []})
    before = (clean / "ant" / "0.jpg").read_bytes()
    with pytest.raises(DataError, match="another file stands"):
        carry_out(ledger, clean, raw, "copy", print)
    ledger.undo(0)
    told = []
    carry_out(ledger, clean, raw, "copy", told.append)
    assert (clean / "ant" / "0.jpg").read_bytes() == before
    assert "not removed" in told[0]


@pytest.mark.feature("CA-63")
def test_two_files_with_one_name_both_find_a_place():
    images = [
        ("a" * 16, "x/1.jpg", "ant"),
        ("b" * 16, "y/1.jpg", "ant"),
        ("c" * 16, "1.JPG", "bee"),
    ]
    assert choose_paths(images, ["bee/1.jpg"]) == [
        "ant/1.jpg", "ant/1-bbbbbbbb.jpg", "bee/1-cccccccc.JPG"
    ]  # fmt: skip


def test_changed_images_of_models_are_refused(folders, save_image):
    clean, raw = folders
    labels = labels_of(read_folders(clean, raw, []).raw, [0], paths=["ant/5.jpg"])
    with pytest.raises(DataError, match="have changed") as told:
        read_folders(clean, raw, labels)
    assert told.value.got == "ant/5.jpg"
    (clean / "ant" / "5.jpg").unlink()
    (clean / "ant" / "5.jpg").symlink_to(raw / "gone.jpg")
    with pytest.raises(DataError, match="links to raw images that are gone"):
        read_folders(clean, raw, labels)


def test_folders_that_cannot_be_used_are_refused(folders, tmp_path, save_image):
    clean, raw = folders
    logs = tmp_path / "logs"
    for one, two, three in ((clean, clean, logs), (clean, clean / "ant", logs), (clean, raw, raw)):
        with pytest.raises(ConfigError, match="folder"):
            check_folders(one, two, three)
    with pytest.raises(DataError, match="no such folder"):
        check_folders(clean, tmp_path / "none", logs)
    save_image(clean / "cow" / "0.jpg", 300)
    with pytest.raises(DataError, match="too few images") as told:
        read_folders(clean, raw, [])
    assert told.value.got == "cow: 1"
    shutil.rmtree(clean / "cow")
    shutil.rmtree(clean / "bee")
    with pytest.raises(DataError, match="nothing to tell apart"):
        read_folders(clean, raw, [])
    save_image(clean / "loose.jpg", 301)
    with pytest.raises(DataError, match="in no class folder"):
        read_folders(clean, raw, [])
    shutil.rmtree(raw / "all")
    with pytest.raises(DataError):
        read_folders(clean, raw, [])


def test_one_raw_image_is_enough(folders):
    clean, raw = folders
    for path in sorted((raw / "all").iterdir())[1:]:
        path.unlink()
    assert len(read_folders(clean, raw, []).raw) == 1
    label = labels_of(read_folders(clean, raw, []).raw, [0])[0]
    assert replace(label, round=5).origin == "pseudo:5"
