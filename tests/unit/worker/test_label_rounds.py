"""The rounds of automatic labeling with a model that reads the answer off the file's name.

What is trained is left out: rules, ledger, folders, kills and what people do meanwhile.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import discern
from discern.base import files
from discern.base.console import Console
from discern.base.errors import ConfigError, Interrupted
from discern.config.request import Request
from discern.data.label_ledger import LabelLedger
from discern.launch.labeling import label_arguments, look_at_folders, undo_labels
from discern.worker import autolabel as verb
from discern.worker.label_rounds import (
    NOTHING_LEFT,
    NOTHING_PASSES,
    TOO_OFTEN_WRONG,
    TRIALS_DONE,
    UNKNOWN,
)
from discern.worker.label_trial import TrialOutcome

QUIET = Console(quiet=True)
CLASSES = ("ant", "bee")


def save(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(number)
    Image.fromarray(draw.integers(0, 256, (6, 6, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def place(tmp_path):
    """A folder with clean (2 x 6) and raw (ant-0 .. ant-5, bee-0 .. bee-5)."""
    for label, name in enumerate(CLASSES):
        for number in range(6):
            save(tmp_path / "clean" / name / f"{number}.png", 100 * label + number)
            save(tmp_path / "raw" / "all" / f"{name}-{number}.png", 1000 + 100 * label + number)
    return tmp_path


class NamesRead:
    """In round r it is sure of the images numbered up to 2 r + 1; `wrong` names are mistaken.

    Of people's images, too, and of the others it knows nothing: so each round has images to be
    judged by. The first `held_wrong` of them are mistaken; the first `late_wrong` from round 1 on,
    and in round 0 it is unsure of them. `sure_to`: of no raw image numbered beyond. `known`: of
    people's images it is sure of all, from the first round on.
    """

    def __init__(self, wrong=(), held_wrong=0, late_wrong=0, stop_at=None, sure_to=99, known=False):
        self.wrong, self.held_wrong, self.stop_at = wrong, held_wrong, stop_at
        self.late_wrong, self.sure_to = late_wrong, sure_to
        self.known, self.learned = known, []

    def __call__(self, number, folders, labels):
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.learned.append(len(labels))
        human = folders.human.targets
        held = np.where(np.eye(2)[human] > 0, 6.0, -6.0)
        stems = [Path(path).stem for path in folders.human.locations.paths.tolist()]
        late = [stem.isdecimal() and int(stem) > 2 * number + 1 for stem in stems]
        held[np.array(late) & (not self.known)] = 0.0
        held[: self.held_wrong] *= -1
        held[: self.late_wrong] *= -1.0 if number else 0.1
        raw = []
        for path in folders.raw.locations.paths.tolist():
            name, _, count = Path(path).stem.partition("-")
            sure = 6.0 if int(count) <= min(2 * number + 1, self.sure_to) else 0.3
            shown = CLASSES.index(name) ^ (Path(path).stem in self.wrong)
            raw.append([sure * (1 - 2 * shown), sure * (2 * shown - 1)])
        return TrialOutcome(
            run=f"clean/trial-{number}", held_logits=held, held_targets=human,
            held_ids=folders.human.ids, raw_logits=[np.array(raw).reshape(-1, 2)],
            metrics={"accuracy": 0.9},
        )  # fmt: skip


def label(place, trial, monkeypatch, **changes):
    monkeypatch.setattr(verb, "_trial", lambda *_: trial)
    return verb.autolabel(request(place, **changes), QUIET)


def request(place, **changes):
    given = {
        "data_raw": str(place / "raw"), "data_clean": str(place / "clean"),
        "runs": str(place / "logs"), "n_trials": 10, "threshold": 0.8, "precision_target": 0.9,
        "mode": "copy", "audit": 2, "folds": 3, "cross_validate": None, "fresh": False,
    }  # fmt: skip
    pairs = [("--data-clean", "data.source", str(place / "clean"))]
    return Request(verb="autolabel", arguments=label_arguments(**(given | changes)), pairs=pairs)


def tree(folder):
    """Relative path -> bytes of every file but locks, and the audit's paths made relative."""
    return {
        str(path.relative_to(folder)): path.read_bytes().replace(str(folder.parent).encode(), b"")
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def names(place, tag):
    return sorted(p.stem for p in (place / "clean" / tag).iterdir() if "-" in p.stem)


@pytest.mark.feature("CA-61")
@pytest.mark.feature("CA-62")
def test_rounds_go_on_until_nothing_is_left(place, monkeypatch):
    trial = NamesRead()
    outcome = label(place, trial, monkeypatch)
    assert outcome["stop"] == NOTHING_LEFT
    assert [(r["labeled"], r["percent"], r["remaining"]) for r in outcome["rounds"]] == [
        (4, 33.33, 8), (4, 50.0, 4), (4, 100.0, 0)
    ]  # fmt: skip
    assert trial.learned == [0, 4, 8]
    assert names(place, "ant") == [f"ant-{n}" for n in range(6)]
    assert (outcome["labels"], outcome["percent"]) == (12, 100.0)
    with open(place / "clean" / "dataset.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["origin"] for row in rows].count("pseudo:1") == 4
    again = label(place, trial, monkeypatch)
    assert (again["stop"], again["rounds"]) == (NOTHING_LEFT, [])
    assert len(list((place / "raw" / "all").iterdir())) == 12


@pytest.mark.feature("CA-61")
def test_stop_rules(place, monkeypatch):
    assert label(place, NamesRead(), monkeypatch, n_trials=1)["stop"] == TRIALS_DONE
    doubtful = label(place, NamesRead(held_wrong=4), monkeypatch, threshold=0.6)
    assert doubtful["stop"] == TOO_OFTEN_WRONG
    assert doubtful["rounds"][0]["precision"]["value"] < 0.9
    assert (doubtful["rounds"][0]["labeled"], doubtful["labels"]) == (0, 4)
    assert label(place, NamesRead(sure_to=-1), monkeypatch)["stop"] == NOTHING_PASSES
    # A probability of 1 is never stated, not of people's images either.
    assert label(place, NamesRead(), monkeypatch, threshold=1.0)["stop"] == UNKNOWN


def test_new_labels_are_judged_by_images_that_no_round_labeled_before(place, monkeypatch):
    """Two of people's images get sure in round 1 only, both wrongly: the other ten say nothing."""
    trial = NamesRead(late_wrong=2, known=True)
    outcome = label(place, trial, monkeypatch)
    assert [r["labeled"] for r in outcome["rounds"]] == [4, 0]
    told = outcome["rounds"][1]
    assert told["precision"]["value"] == 0.0
    assert 1 <= told["precision"]["count"] <= 2
    assert told["precision_of_all"]["value"] > 0.5
    assert outcome["stop"] == TOO_OFTEN_WRONG


def test_where_no_image_is_left_to_judge_new_labels_by_the_rounds_end(place, monkeypatch):
    """All of people's images pass in round 0: they say nothing of the harder rest."""
    outcome = label(place, NamesRead(known=True), monkeypatch)
    assert [r["labeled"] for r in outcome["rounds"]] == [4, 0]
    assert (None, 0) == tuple(outcome["rounds"][1]["precision"][k] for k in ("value", "count"))
    assert outcome["rounds"][1]["precision_of_all"]["value"] == 1.0
    assert outcome["stop"] == UNKNOWN


def test_an_audit_that_finds_mistakes_stops_and_takes_the_mistakes_back(place, monkeypatch):
    first = label(place, NamesRead(wrong=("ant-0",)), monkeypatch, n_trials=1, audit=99)
    assert names(place, "bee") == ["ant-0", "bee-0", "bee-1"]
    audit = Path(first["audit"])
    said = [line + ("bee" if ",bee," in line else "right") for line in audit.read_text().split()]
    text = "\n".join([said[0].removesuffix("right"), *said[1:]]).replace(
        "ant-0.png,bee", "ant-0.png,ant"
    )
    audit.write_text(text + "\n")
    outcome = label(place, NamesRead(), monkeypatch, audit=99)
    assert outcome["stop"] == TOO_OFTEN_WRONG
    assert outcome["audited"]["value"] == 0.75
    assert names(place, "bee") == ["bee-0", "bee-1"]
    undo_labels(request(place), [0], QUIET)
    assert names(place, "ant") == names(place, "bee") == []
    assert label(place, NamesRead(), monkeypatch)["labels"] == 11  # ant-0 is left to the person


def test_what_a_person_did_with_labels_counts_as_hers(place, monkeypatch):
    label(place, NamesRead(), monkeypatch, n_trials=1)
    clean = place / "clean"
    (clean / "ant" / "ant-0.png").unlink()
    (clean / "ant" / "ant-1.png").rename(clean / "bee" / "mine.png")
    outcome = label(place, NamesRead(), monkeypatch, n_trials=1)
    assert outcome["labels"] == 6
    assert names(place, "ant") == ["ant-2", "ant-3"]
    with open(outcome["dataset"], newline="") as stream:
        mine = [r for r in csv.DictReader(stream) if r["filepath"] == "bee/mine.png"]
    assert mine[0]["origin"] == "human"


def test_a_later_model_that_names_another_class_takes_a_label_back(place, monkeypatch):
    label(place, NamesRead(wrong=("ant-0",)), monkeypatch, n_trials=1)
    outcome = label(place, NamesRead(), monkeypatch, n_trials=2)
    assert [r["withdrawn"] for r in outcome["rounds"]] == [1, 0]
    assert names(place, "ant") == [f"ant-{n}" for n in range(6)]
    assert names(place, "bee") == [f"bee-{n}" for n in range(6)]


@pytest.mark.feature("CA-62")
@pytest.mark.parametrize("mode", ["link", "manifest"])
def test_links_and_lists(place, monkeypatch, mode):
    before = tree(place / "clean")
    outcome = label(place, NamesRead(), monkeypatch, mode=mode, n_trials=2)
    added = list((place / "clean").rglob("*-*.png"))
    if mode == "manifest":
        assert tree(place / "clean") == before
        assert Path(outcome["dataset"]).parent == place / "logs" / "clean" / "clean-labels"
    else:
        assert len(added) == 8
        assert all(path.is_symlink() for path in added)
        listed = request(place, mode="manifest")
        with pytest.raises(ConfigError, match="before"):
            verb.autolabel(listed, QUIET)
    undone = undo_labels(request(place), [0, 1], QUIET)
    assert [one["labels"] for one in undone["undone"]] == [4, 4]
    assert not list((place / "clean").rglob("*-*.png"))
    with pytest.raises(ConfigError, match="undone already"):
        undo_labels(request(place), [1], QUIET)


@pytest.mark.feature("CA-61")
def test_a_dry_run_writes_nothing(place):
    before = tree(place)
    told = look_at_folders(request(place), QUIET)
    assert (told["human"], told["raw"], told["classes"]) == (12, 12, {"ant": 6, "bee": 6})
    assert tree(place) == before


def killed_at(place, point):
    """Label in a child that kills itself before its write number `point`; gives whether it did."""
    child = os.fork()
    if child == 0:
        left = [point]
        real = os.replace

        def replace(*arguments):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            real(*arguments)

        files.os.replace = replace
        try:
            verb._trial = lambda *_: NamesRead()
            verb.autolabel(request(place), QUIET)
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.feature("CA-61")
def test_killed_anywhere_it_ends_as_if_undisturbed(place, monkeypatch, tmp_path_factory):
    untouched = tmp_path_factory.mktemp("untouched")
    for name in ("clean", "raw"):
        shutil.copytree(place / name, untouched / name)
    label(untouched, NamesRead(), monkeypatch)
    expected = tree(untouched / "clean")
    kills = 0
    for point in range(3, 63, 5):
        work = tmp_path_factory.mktemp("killed")
        for name in ("clean", "raw"):
            shutil.copytree(place / name, work / name)
        killed = killed_at(work, point)
        kills += killed
        outcome = label(work, NamesRead(), monkeypatch)
        assert tree(work / "clean") == expected, f"killed before write {point}"
        assert outcome["labels"] == 12
        if not killed:
            break
    assert kills >= 6


def test_the_function_of_the_package_does_the_same(place, monkeypatch):
    monkeypatch.setattr(verb, "_trial", lambda *_: NamesRead())
    outcome = discern.autolabel(
        place / "raw", place / "clean", runs=place / "logs", folds=3, threshold=0.8
    )
    assert (outcome["stop"], outcome["labels"]) == (NOTHING_LEFT, 12)
    with pytest.raises(ConfigError, match="two folders") as told:
        discern.autolabel(place / "raw", place / "clean", data={"val": "digits"})
    assert told.value.where == "data.val"


def test_an_interrupted_round_is_gone_on_with(place, monkeypatch):
    with pytest.raises(Interrupted, match="saved"):
        label(place, NamesRead(stop_at=1), monkeypatch)
    assert len(LabelLedger(place / "clean" / ".discern-autolabel").state.labels) == 4
    outcome = label(place, NamesRead(), monkeypatch)
    assert outcome["group"] == "clean/autolabel-1"
    assert [r["round"] for r in outcome["rounds"]] == [0, 1, 2]


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"threshold": 1.5}, "--threshold"),
        ({"threshold": -0.1}, "--threshold"),
        ({"threshold": float("nan")}, "--threshold"),
        ({"precision_target": 95}, "--precision-target"),
        ({"mode": "move"}, "--mode"),
        ({"folds": 1}, "--folds"),
        ({"n_trials": 0}, "--n-trials"),
    ],
)
def test_arguments_that_cannot_be_are_refused(place, changes, where):
    with pytest.raises(ConfigError) as told:
        request(place, **changes)
    assert told.value.where == where
