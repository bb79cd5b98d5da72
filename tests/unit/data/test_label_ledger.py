"""The ledger of automatic labels: appended, checked, undone."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from discern.base.errors import ConfigError, DataError
from discern.data.label_audit import draw_sample, read_verdicts, write_audit
from discern.data.label_ledger import (
    FOUND_WRONG,
    NAMED_OTHERWISE,
    ROUND,
    GivenLabel,
    LabelLedger,
)


def given(number, round_=0, tag="ant"):
    return GivenLabel(
        id=f"{number:016x}", source=f"{number}.jpg", path=f"{tag}/{number}.jpg", tag=tag,
        confidence=0.9, round=round_,
    )  # fmt: skip


def entry(number, labels, withdrawn=()):
    taken = [{**asdict(label), "reason": NAMED_OTHERWISE} for label in withdrawn]
    return {"round": number, "labels": [asdict(x) for x in labels], "withdrawn": taken}


@pytest.fixture
def ledger(tmp_path):
    found = LabelLedger(tmp_path)
    found.append(ROUND, entry(0, [given(1), given(2)]))
    found.append(ROUND, entry(1, [given(3, 1)], withdrawn=[given(1)]))
    return found


def test_what_was_appended_is_read_again(ledger, tmp_path):
    again = LabelLedger(tmp_path)
    assert list(again.state.labels) == [given(2).id, given(3).id]
    assert again.state.labels[given(3).id].origin == "pseudo:1"
    assert [e.number for e in again.state.waiting] == [0, 1]


@pytest.mark.feature("CA-62")
def test_a_round_is_undone_once_and_others_stand(ledger, tmp_path):
    assert [label.id for label in ledger.undo(0)] == [given(2).id]
    assert list(LabelLedger(tmp_path).state.labels) == [given(3).id]
    with pytest.raises(ConfigError, match="undone already"):
        ledger.undo(0)
    with pytest.raises(ConfigError, match="no such round") as told:
        ledger.undo(7)
    assert told.value.expected == "1"


def test_labels_found_wrong_by_a_person_are_not_given_again(ledger, tmp_path):
    ledger.judge({given(3, 1): False})
    ledger.withdraw([given(3, 1)], [FOUND_WRONG])
    state = LabelLedger(tmp_path).state
    assert state.barred == {given(3).id}
    assert state.verdicts == {given(3).id: (1, False)}
    ledger.undo(1)
    assert ledger.state.verdicts == {}  # what was undone tells nothing of what stands


@pytest.mark.parametrize("fault", ["changed", "lost", "cut", "version"])
def test_a_damaged_ledger_is_refused(ledger, tmp_path, fault):
    first = tmp_path / "entry-00000.json"
    record = json.loads(first.read_text())
    if fault == "changed":
        record["content"]["labels"][0]["tag"] = "bee"
        first.write_text(json.dumps(record))
    elif fault == "lost":
        first.unlink()
    elif fault == "cut":
        first.write_text(first.read_text()[:40])
    else:
        first.write_text(json.dumps({**record, "version": 9}))
    with pytest.raises(DataError, match=r"damaged|another version"):
        LabelLedger(tmp_path)


def test_two_writers_do_not_overwrite_each_other(ledger, tmp_path):
    other = LabelLedger(tmp_path)
    other.append(ROUND, entry(2, []))
    with pytest.raises(DataError, match="grown meanwhile"):
        ledger.append(ROUND, entry(2, [given(9)]))


def test_the_audit_sample_is_drawn_by_content_and_keeps_what_was_said(tmp_path):
    labels = [given(number) for number in range(50)]
    sample = draw_sample(labels, 5, 42)
    assert sample == draw_sample(labels[::-1], 5, 42)
    assert len(set(sample)) == 5
    chosen = [label for label in labels if label.id in sample]
    path = tmp_path / "audit.csv"
    write_audit(path, chosen, {}, tmp_path, tmp_path)
    words = iter(["yes", "bee", "Wrong", "ant", ""])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(line + next(words) for line in lines[1:])]) + "\n")
    said = {chosen[0].id: True, chosen[1].id: False, chosen[2].id: False, chosen[3].id: True}
    assert read_verdicts(path, ("ant", "bee")) == said
    write_audit(path, chosen, {chosen[4].id: True}, tmp_path, tmp_path)
    assert read_verdicts(path, ("ant", "bee")) == {**said, chosen[4].id: True}
    path.write_text(path.read_text().replace("Wrong", "perhaps"))
    with pytest.raises(DataError, match="verdict") as told:
        read_verdicts(path, ("ant", "bee"))
    assert told.value.got == "perhaps"
