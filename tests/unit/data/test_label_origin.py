"""What models labeled is learned from and never held out, whichever way the data comes in."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from discern.base.errors import DataError
from discern.data.fold_choice import FoldChoice
from discern.data.fold_split import FoldRule
from discern.data.label_folders import deal_folds, read_folders, write_dataset
from discern.data.label_home import standing
from discern.data.label_ledger import LEDGER_FOLDER, ROUND, GivenLabel, LabelLedger, label_records
from discern.data.manifest_files import write_manifest
from discern.data.resplit import SplitPlan, resplit
from discern.data.scan import DataRequest, scan_data


@pytest.fixture
def grown(tmp_path, save_image):
    """2 x 8 images of people, 2 x 12 that models labeled; and one raw image more."""
    clean, raw = tmp_path / "clean", tmp_path / "raw"
    labels = []
    for place, tag in enumerate(("ant", "bee")):
        for number in range(8):
            save_image(clean / tag / f"{number}.png", 100 * place + number)
        for number in range(20, 32):
            save_image(raw / f"{tag}-{number}.png", 100 * place + number)
            labels.append((tag, f"{tag}-{number}.png"))
    save_image(raw / "rest.png", 999)
    found = read_folders(clean, raw, []).raw
    ids = dict(zip(found.locations.paths.tolist(), found.ids.tolist(), strict=True))
    given = [
        GivenLabel(
            id=ids[name], source=name, path=f"{tag}/{name}", tag=tag, confidence=0.9, round=1
        )
        for tag, name in labels
    ]
    for label in given:
        (clean / label.path).write_bytes((raw / label.source).read_bytes())
    (clean / LEDGER_FOLDER).mkdir()
    ledger = LabelLedger(clean / LEDGER_FOLDER)
    ledger.append(ROUND, {"round": 1, "labels": label_records(given)})
    dealt = deal_folds(read_folders(clean, raw, given).human, 4)
    write_dataset(clean / "dataset.csv", dealt, standing(ledger), raw)
    return clean


def held_out(scanned):
    """(images, of these by models) of val and test."""
    manifest = scanned.manifest
    held = manifest.split > 0
    learned = np.char.startswith(manifest.origin, "pseudo:")
    assert 24 == learned.sum()
    return int(held.sum()), int((held & learned).sum())


@pytest.mark.parametrize("source", ["", "dataset.csv"])
def test_the_grown_folder_and_its_table_are_scored_on_images_of_people(grown, source):
    scanned = scan_data(DataRequest(train=str(grown / source)))
    assert (4, 0) == held_out(scanned)  # 15 % of 8 a class, twice
    assert any("24 images labeled by models in train alone" in note for note in scanned.notes)
    assert not scanned.warnings


def test_the_held_out_images_stay_as_the_folder_grows(grown):
    def held():
        manifest = scan_data(DataRequest(train=str(grown))).manifest
        return sorted(manifest.ids[manifest.split == 2].tolist())

    before = held()
    for path in (grown / "ant").glob("ant-2?.png"):
        path.unlink()
    assert before == held()


def test_a_fold_held_out_is_of_people(grown):
    rule = FoldRule(folds=4, held=0)
    scanned = scan_data(DataRequest(train=str(grown), held_out=rule))
    held, by_models = held_out(scanned)
    assert (True, 0) == (held >= 4, by_models)
    assert 24 <= len(scanned.manifest.positions("train"))


def test_a_new_split_holds_out_images_of_people(grown, tmp_path):
    manifest = scan_data(DataRequest(train=str(grown), split=None)).manifest
    for plan in (SplitPlan(), SplitPlan(val=0.25), SplitPlan(folds=4, val_folds=(1,)),
                 SplitPlan(val_per_class=2)):  # fmt: skip
        split, report = resplit(manifest, plan)
        learned = np.char.startswith(split.origin, "pseudo:")
        assert (split.split[learned] == 0).all()
        assert (split.split > 0).sum() >= 4
        assert any("24 images labeled by models" in note for note in report.notes)
    write_manifest(split, tmp_path / "split.parquet")
    assert not scan_data(DataRequest(train=str(tmp_path / "split.parquet"))).warnings


def test_folds_that_someone_names_are_taken_and_told(grown):
    folds = FoldChoice(val=(0,))
    scanned = scan_data(DataRequest(train=str(grown / "dataset.csv"), folds=folds))
    assert "labels were given by models" in scanned.warnings[0]
    folds = FoldChoice(val=(3,))  # the last one: of people alone
    scanned = scan_data(DataRequest(train=str(grown / "dataset.csv"), folds=folds))
    assert (0, []) == (held_out(scanned)[1], list(scanned.warnings))


def test_a_damaged_ledger_is_refused(grown):
    (grown / LEDGER_FOLDER / "entry-00000.json").write_text("{}")
    with pytest.raises(DataError, match="ledger"):
        scan_data(DataRequest(train=str(grown)))


def test_another_column_called_origin_says_nothing(grown):
    with open(grown / "dataset.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    lines = [f"{row['filepath']},{row['tag']},camera {n % 2}" for n, row in enumerate(rows)]
    (grown / "own.csv").write_text("\n".join(["path,label,origin", *lines]) + "\n")
    scanned = scan_data(DataRequest(train=str(grown / "own.csv"), label="label"))
    assert scanned.manifest.origin is None
